package roomlog

import (
	"errors"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
)

// corrupt are bytes that are no entry.
var corrupt = map[string][]byte{
	"no protobuf":             []byte("\xff\xff\xff"),
	"cut off":                 encode(&guildhallv1.LogEntry{Epoch: 1, LastSeq: 1, Messages: said("a long enough id")})[:12],
	"more messages than said": encode(&guildhallv1.LogEntry{Epoch: 1, LastSeq: 1, Messages: said("1", "2")}),
}

func encode(e *guildhallv1.LogEntry) []byte {
	data, err := proto.Marshal(e)
	if err != nil {
		panic(err)
	}
	return data
}

func TestCorruptEntry(t *testing.T) {
	t.Parallel()
	for name, data := range corrupt {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			writer, _ := b.open(1)
			b.say(writer, "1")
			ack, err := b.js.Publish(b.ctx, b.place(dragons).subject, data)
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err := b.Open(b.ctx, dragons, 2); err == nil || errors.Is(err, ErrFenced) || !strings.Contains(err.Error(), "entry 3") {
				t.Errorf("Open behind a corrupt entry: %v, want an error that names the entry", err)
			}
			if err := writer.Append(b.ctx, said("2")); err == nil || errors.Is(err, ErrFenced) {
				t.Errorf("Append behind a corrupt entry: %v, want an error that is not final", err)
			}
			// A sound entry behind it: now the corrupt one is met while reading back.
			sound := encode(&guildhallv1.LogEntry{Epoch: 1, LastSeq: 2, Messages: said("2")})
			if _, err := b.js.Publish(b.ctx, b.place(dragons).subject, sound); err != nil {
				t.Fatal(err)
			}
			if _, _, err := b.Open(b.ctx, dragons, 2); err == nil || ack.Sequence != 3 || !strings.Contains(err.Error(), "entry 3") {
				t.Errorf("Open over a corrupt entry: %v, want an error that names the entry", err)
			}
		})
	}
}

func TestReopeningTheStreamKeepsIt(t *testing.T) {
	t.Parallel()
	b := setup(t)
	writer, _ := b.open(1)
	b.say(writer, "1")
	again, err := Open(b.ctx, b.js, Config{Replicas: 1})
	if err != nil {
		t.Fatal(err)
	}
	_, messages, err := again.Open(b.ctx, dragons, 2)
	if err != nil {
		t.Fatal(err)
	}
	b.checkIDs("the log", messages, "1")
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte{}, uint64(0))
	f.Add(encode(&guildhallv1.LogEntry{Epoch: 3, LastSeq: 2, Messages: said("1", "2"), Tail: 5}), uint64(7))
	for _, data := range corrupt {
		f.Add(data, uint64(1))
	}
	f.Fuzz(func(t *testing.T, data []byte, sequence uint64) {
		read, err := decode(data, sequence)
		if err != nil {
			return
		}
		if read.sequence != sequence || uint64(len(read.Messages)) > read.LastSeq || read.size != len(data) {
			t.Errorf("decode gave entry %d of %d bytes with %d messages up to %d", read.sequence, read.size, len(read.Messages), read.LastSeq)
		}
		if read.tail() > 0 && read.tail() >= sequence {
			t.Errorf("entry %d has its tail at %d", sequence, read.tail())
		}
		if read.firstSeq()+uint64(len(read.Messages)) != read.LastSeq+1 {
			t.Errorf("an entry up to %d with %d messages begins with %d", read.LastSeq, len(read.Messages), read.firstSeq())
		}
		for _, m := range read.Messages {
			if m == nil {
				t.Error("decode gave a message that is none")
			}
		}
		if again, err := decode(encode(read.LogEntry), sequence); err != nil || !proto.Equal(again.LogEntry, read.LogEntry) {
			t.Errorf("encoding and decoding again gives another entry: %v", err)
		}
	})
}
