package client

import (
	"bytes"
	"fmt"
	"reflect"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
)

// said gives a message as a host tells it.
func said(seq uint64) *guildhallv1.Message {
	return &guildhallv1.Message{
		Seq: seq, From: fmt.Sprint("player-", seq%7), Id: fmt.Sprint("id-", seq), Body: bytes.Repeat([]byte{'x'}, 120),
		SaidAt: timestamppb.New(time.Unix(1_800_000_000, int64(seq))),
	}
}

// told gives a frame with events.
func told(t testing.TB, events ...*guildhallv1.Event) []byte {
	t.Helper()
	encoded, err := proto.Marshal(&guildhallv1.JoinResponse{Frame: &guildhallv1.JoinResponse_Events{Events: &guildhallv1.Events{Events: events}}})
	if err != nil {
		t.Fatal(err)
	}
	return encoded
}

func saidEvent(m *guildhallv1.Message) *guildhallv1.Event {
	return &guildhallv1.Event{Event: &guildhallv1.Event_Message{Message: m}}
}

// sparse are events that are not what a room mostly tells.
func sparse() []*guildhallv1.Event {
	hides, private, text, early := &guildhallv1.Message{Seq: 4, Hidden: true}, said(5), said(6), said(7)
	private.To = []string{"p1", "p2"}
	text.Body, text.Text = nil, "as text"
	early.SaidAt = timestamppb.New(time.Unix(-5, 999_999_999))
	early.ContentType = "application/json"
	return []*guildhallv1.Event{
		{}, saidEvent(&guildhallv1.Message{}), saidEvent(hides), saidEvent(private), saidEvent(text), saidEvent(early),
		{Event: &guildhallv1.Event_Member{Member: &guildhallv1.Member{Player: "p1", State: guildhallv1.MemberState_MEMBER_STATE_HERE}}},
		{Event: &guildhallv1.Event_Signal{Signal: &guildhallv1.Signal{From: "p1", Topic: "typing", Text: "yes"}}},
	}
}

// What a room mostly tells is read on the short way, in three pieces of memory for each message and one for all. It keeps
// nothing of what it was read from.
func TestFramesOfMessages(t *testing.T) {
	const messages = 20
	var events []*guildhallv1.Event
	for seq := range uint64(messages) {
		events = append(events, saidEvent(said(seq+1)))
	}
	encoded := told(t, events...)
	want, err := decodeAny(encoded)
	if err != nil || len(want.events) != messages {
		t.Fatalf("decoded %d events: %v", len(want.events), err)
	}
	got, err := decodeEvents(encoded)
	if err != nil {
		t.Fatal(err)
	}
	if !raceEnabled {
		if allocs := testing.AllocsPerRun(100, func() { _, _ = decodeEvents(encoded) }); allocs > 3*messages+1 {
			t.Errorf("%d messages took %v pieces of memory", messages, allocs)
		}
	}
	clear(encoded)
	if !reflect.DeepEqual(got, want.events) {
		t.Errorf("read as\n%v, want\n%v", got, want.events)
	}
}

// What else a room tells is read as well.
func TestFramesOfOtherEvents(t *testing.T) {
	t.Parallel()
	f, err := decodeFrame(told(t, sparse()...))
	if err != nil {
		t.Fatal(err)
	}
	kinds := ""
	for _, e := range f.events {
		kinds += fmt.Sprintf("%T ", e)
	}
	const want = "client.Message client.hidden client.Message client.Message client.Message client.Member client.Signal "
	if kinds != want {
		t.Errorf("read as %s, want %s", kinds, want)
	}
	if m, _ := f.events[2].(Message); len(m.To) != 2 || m.To[1] != "p2" {
		t.Errorf("a message for two is for %v", m.To)
	}
	if m, _ := f.events[3].(Message); string(m.Body) != "as text" {
		t.Errorf("a body that came as text is %q", m.Body)
	}
}

// However a frame is written, the short way reads the same as the long one, or nothing.
func FuzzFrame(f *testing.F) {
	f.Add([]byte{})
	f.Add(told(f, saidEvent(said(1)), saidEvent(said(2))))
	for _, e := range sparse() {
		f.Add(told(f, e))
		f.Add(append(told(f, e), told(f, saidEvent(said(9)))...))
	}
	f.Fuzz(func(t *testing.T, encoded []byte) {
		want, err := decodeAny(encoded)
		got, unusual := decodeEvents(encoded)
		if unusual != nil {
			return
		}
		if err != nil {
			t.Fatalf("what is no frame (%v) was read as %v", err, got)
		}
		if want.response != nil || len(got) != len(want.events) {
			t.Fatalf("read as %v, want %v", got, want)
		}
		for i, e := range want.events {
			m, isMessage := e.(Message)
			short, isShort := got[i].(Message)
			if !isMessage || !isShort || !bytes.Equal(m.Body, short.Body) || !m.SaidAt.Equal(short.SaidAt) {
				t.Fatalf("event %d was read as %v, want %v", i, got[i], e)
			}
			m.Body, short.Body, m.SaidAt, short.SaidAt = nil, nil, time.Time{}, time.Time{}
			if !reflect.DeepEqual(m, short) {
				t.Fatalf("event %d was read as %v, want %v", i, short, m)
			}
		}
	})
}

func BenchmarkFrame(b *testing.B) {
	const messages = 20
	var events []*guildhallv1.Event
	for seq := range uint64(messages) {
		events = append(events, saidEvent(said(seq+1)))
	}
	encoded := told(b, events...)
	for name, decode := range map[string]func([]byte) error{
		"short": func(b []byte) error { _, err := decodeEvents(b); return err },
		"long":  func(b []byte) error { _, err := decodeAny(b); return err },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := decode(encoded); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/messages, "ns/message")
		})
	}
}
