package roomlog

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"google.golang.org/protobuf/proto"

	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
)

// TestTailIsTheFewestEntriesThatAreEnough compares a tail with what its doc says, counted the slow way.
func TestTailIsTheFewestEntriesThatAreEnough(t *testing.T) {
	t.Parallel()
	for seed := range uint64(50) {
		rng := rand.New(rand.NewPCG(seed, 1))
		var kept tail
		var all []mark
		for n := range 2000 {
			m := mark{sequence: uint64(n + 1), messages: int32(rng.IntN(3)), bytes: int32(rng.IntN(2000))}
			switch rng.IntN(50) {
			case 0:
				m.messages, m.bytes = 256, 128<<10
			case 1:
				m.messages, m.bytes = 1, 1<<20
			}
			kept.add(m)
			if m.messages > 0 {
				all = append(all, m)
			}
			if want := fewest(all); len(want) != kept.entries || len(want) > 0 && want[0].sequence != kept.begins() {
				t.Fatalf("seed %d: behind %d entries the tail has %d and begins at %d, want %d", seed, n+1, kept.entries, kept.begins(), len(want))
			}
		}
	}
}

// fewest gives the last marks that have enough messages or bytes.
func fewest(all []mark) []mark {
	messages, bytes, n := int32(0), int32(0), len(all)
	for n > 0 && messages < TailMessages && bytes < TailBytes {
		n--
		messages += all[n].messages
		bytes += all[n].bytes
	}
	return all[n:]
}

// sayMany appends messages in entries of so many, with bodies of so many bytes, and gives the number of the last.
func (b *bench) sayMany(w *Writer, messages, each, body int) {
	b.t.Helper()
	for said := 0; said < messages; said += each {
		var batch []*guildhallv1.Message
		for range min(each, messages-said) {
			batch = append(batch, &guildhallv1.Message{
				Id: fmt.Sprint(int(w.LastSeq()) + len(batch) + 1), From: "p1", Body: bytes.Repeat([]byte{'x'}, body),
			})
		}
		if err := w.Append(b.ctx, batch); err != nil {
			b.t.Fatal(err)
		}
	}
}

// checkNumbers sees that messages are these, by number and id, with no gaps.
func (b *bench) checkNumbers(what string, messages []*guildhallv1.Message, from, to int) {
	b.t.Helper()
	if len(messages) != max(0, to-from+1) {
		b.t.Errorf("%s: %d messages, want %d from number %d to %d", what, len(messages), max(0, to-from+1), from, to)
		return
	}
	for i, m := range messages {
		if m.Seq != uint64(from+i) || m.Id != fmt.Sprint(from+i) {
			b.t.Errorf("%s: message %d has number %d and id %s, want %d", what, i, m.Seq, m.Id, from+i)
			return
		}
	}
}

// Opening gives the tail, and every entry says where to find it: far enough back, and not much further.
func TestOpenGivesTheTail(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		messages, each, body int
		first                int // number of the tail
	}{
		{messages: 10, each: 3, body: 5, first: 1},
		{messages: 256, each: 1, body: 5, first: 1},
		{messages: 700, each: 1, body: 5, first: 445},
		{messages: 700, each: 7, body: 5, first: 442}, // whole entries: 259
		{messages: 2000, each: 256, body: 5, first: 1537},
		{messages: 400, each: 1, body: 8 << 10, first: 337},
		{messages: 5, each: 1, body: 600 << 10, first: 5}, // one is enough
	} {
		t.Run(fmt.Sprintf("%d by %d of %d bytes", test.messages, test.each, test.body), func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			w, _ := b.open(1)
			b.sayMany(w, test.messages, test.each, test.body)
			for range 3 { // the barriers in between are no messages
				var messages []*guildhallv1.Message
				w, messages = b.open(2)
				b.checkNumbers("the tail", messages, test.first, test.messages)
			}
			b.checkTails()
			b.sayMany(w, 1, 1, 5) // what the new writer has read, its entry says
			b.checkTails()
		})
	}
}

// checkTails sees that from each entry's tail on as many messages are found as there should be, and no more than one entry more.
func (b *bench) checkTails() {
	b.t.Helper()
	var marks []mark
	for _, e := range b.entries() {
		want := fewest(marks)
		if e.Tail == 0 && len(marks) > 0 || len(want) > 0 && e.Tail > want[0].sequence {
			b.t.Errorf("entry %d of %d messages has its tail at %d, want %d", e.sequence, len(e.Messages), e.Tail, want[0].sequence)
		}
		if earlier := fewest(marks[:max(0, len(marks)-1)]); len(earlier) > 0 && e.Tail < earlier[0].sequence {
			b.t.Errorf("entry %d has its tail at %d, want %d at least", e.sequence, e.Tail, earlier[0].sequence)
		}
		if e.Tail >= e.sequence {
			b.t.Errorf("entry %d has its tail at %d", e.sequence, e.Tail)
		}
		if len(e.Messages) > 0 {
			marks = append(marks, e.mark())
		}
	}
}

// An entry of an earlier version has no tail, and one that was restored into another stream has one that is not its own.
func TestEntryWithoutTail(t *testing.T) {
	t.Parallel()
	for name, tail := range map[string]uint64{"none": 0, "ahead": 1 << 40} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			for n := range 600 {
				m := &guildhallv1.Message{Seq: uint64(n + 1), Id: fmt.Sprint(n + 1)}
				old := encode(&guildhallv1.LogEntry{Epoch: 1, LastSeq: m.Seq, Messages: []*guildhallv1.Message{m}, Tail: tail})
				if _, err := b.js.Publish(b.ctx, b.place(dragons).subject, old); err != nil {
					t.Fatal(err)
				}
			}
			w, messages := b.open(2)
			b.checkNumbers("the tail of old entries", messages, 345, 600)
			b.sayMany(w, 1, 1, 5)
			_, messages = b.open(3)
			b.checkNumbers("the tail behind old entries", messages, 346, 601)
		})
	}
}

// The entry at which a tail begins may be dropped: then the tail begins behind it.
func TestTailThatWasDropped(t *testing.T) {
	t.Parallel()
	b := setup(t)
	w, _ := b.open(1)
	b.sayMany(w, 300, 1, 5)
	if err := w.Trim(b.ctx, TrimTo{Messages: 20}); err != nil {
		t.Fatal(err)
	}
	w, messages := b.open(2)
	b.checkNumbers("the tail", messages, 281, 300)
	b.sayMany(w, 1, 1, 5)
	if err := w.Trim(b.ctx, TrimTo{Messages: 1}); err != nil {
		t.Fatal(err)
	}
	w, messages = b.open(3)
	b.checkNumbers("the tail of one", messages, 301, 301)
	if err := w.Trim(b.ctx, TrimTo{Messages: 1}); err != nil { // now the barrier is the last entry, and all of the tail
		t.Fatal(err)
	}
	w, messages = b.open(4)
	b.checkNumbers("the tail behind a barrier", messages, 301, 301)
	b.sayMany(w, 2, 1, 5)
	_, messages = b.open(5)
	b.checkNumbers("the tail at last", messages, 301, 303)
}

// A writer that was fenced while it read back gives nothing that was said behind its barrier.
func TestTailEndsAtTheBarrier(t *testing.T) {
	t.Parallel()
	b := setup(t)
	first, _ := b.open(1)
	b.sayMany(first, 3, 1, 5)
	w := &Writer{js: b.js, place: b.place(dragons), group: dragons, epoch: 2}
	last, err := w.fence(b.ctx)
	if err != nil {
		t.Fatal(err)
	}
	later, _ := b.open(3)
	b.sayMany(later, 3, 1, 5)
	if err := later.Trim(b.ctx, TrimTo{Messages: 2}); err != nil {
		t.Fatal(err)
	}
	messages, err := w.readTail(b.ctx, last)
	if err != nil || len(messages) != 0 {
		t.Errorf("the tail of who was fenced: %v, %v; want none", messages, err)
	}
}

// An entry that is tried again is the very same, tail and all, whoever has the log in between.
func TestAppendAgainIsTheSame(t *testing.T) {
	t.Parallel()
	b := setup(t)
	w, _ := b.open(1)
	b.sayMany(w, 300, 1, 5)
	lost := *w
	b.say(&lost, "again")
	if err := w.Trim(b.ctx, TrimTo{Messages: 10}); err != nil {
		t.Fatal(err)
	}
	b.say(w, "again")
	if w.sequence != lost.sequence || w.tail != lost.tail || w.lastSeq != 301 {
		t.Errorf("who appended again knows %d and %d, who did not %d and %d", w.sequence, w.lastSeq, lost.sequence, lost.lastSeq)
	}
}

// The last entry holds the group's number, however far retention reaches.
func TestNumbersGoOnBeyondRetention(t *testing.T) {
	t.Parallel()
	b := setup(t)
	w, _ := b.open(1)
	const entries = entriesPerGroup + 50
	b.sayMany(w, entries, 1, 5)
	young, messages := b.open(2)
	b.checkNumbers("the tail", messages, entries-TailMessages+1, entries)
	b.sayMany(young, 1, 1, 5)
	if young.LastSeq() != entries+1 {
		t.Errorf("numbers go on with %d, want %d", young.LastSeq(), entries+1)
	}
}

// What a group is told of sizes is what its entries have.
func TestMarkSize(t *testing.T) {
	t.Parallel()
	e := &guildhallv1.LogEntry{Epoch: 1, LastSeq: 1, Messages: said("1"), Tail: 5}
	read, err := decode(encode(e), 7)
	if err != nil || read.mark() != (mark{sequence: 7, messages: 1, bytes: int32(proto.Size(e))}) {
		t.Errorf("mark = %+v, %v", read.mark(), err)
	}
}
