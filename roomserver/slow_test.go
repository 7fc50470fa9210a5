package roomserver

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
)

// No slow client slows a room: one that does not read is dropped, and the others have every message meanwhile.
func TestAClientThatDoesNotRead(t *testing.T) {
	b := setup(t)
	h := b.host("h1")
	claim := h.openRoom(dragons)
	talker, witness := h.join("talker", claim, nil), h.join("witness", claim, nil)
	// A connection of its own, for flow control is shared within one; with the least window, so that it fills soon.
	slow := b.call(dial(t, h.address, grpc.WithInitialWindowSize(64<<10), grpc.WithInitialConnWindowSize(64<<10)), "slow")
	slow.hello(b.pass("slow", claim), nil)
	witness.told(1, "slow", guildhallv1.MemberState_MEMBER_STATE_HERE)

	body := strings.Repeat("x", b.bodyBytes)
	n := 0
	for ; witness.count("slow", guildhallv1.MemberState_MEMBER_STATE_GONE) == 0; n++ {
		if n > 20*queueLength {
			t.Fatalf("the client that does not read is still here after %d messages", n)
		}
		talker.say(fmt.Sprint(n), body)
		witness.seen(uint64(n + 1)) // one at a time: each is a frame
		talker.acked(fmt.Sprint(n))
	}
	if n < queueLength {
		t.Errorf("it was dropped after %d messages, which is less than its queue", n)
	}
	// It is told why if it begins to read in time; else its stream breaks. In both cases it has no hole before.
	err := slow.until(func() bool { return slow.closed != nil })
	switch {
	case err == nil && (slow.closed.GetCode() != guildhallv1.CloseCode_CLOSE_CODE_SLOW_CONSUMER || !slow.closed.GetReconnect()):
		t.Errorf("it was closed with %v, want SLOW_CONSUMER and to come back", slow.closed)
	case err != nil && status.Code(errors.Unwrap(err)) != codes.Unavailable:
		t.Errorf("its stream ended with %v", err)
	}
	// It comes back, resumes, and has missed nothing.
	again := h.join("slow", claim, behind(slow.lastSeen()))
	again.seen(uint64(n))
	if got := len(slow.messages) + len(again.messages); got != n {
		t.Errorf("it has %d messages, want %d", got, n)
	}
}

// A client that neither reads nor says hello holds nothing but its own stream.
func TestAClientThatSaysNothing(t *testing.T) {
	b := setup(t)
	h := b.host("h1")
	claim := h.openRoom(dragons)
	for range 20 {
		b.call(h.conn, "silent")
	}
	m := h.join("p1", claim, nil)
	m.sayMany(1, 10)
	if n := h.players.Load(); n != 1 {
		t.Errorf("the host counts %d players, want 1", n)
	}
}

// A talker has only so much on its way: the rest is not read before there are answers. When the connection breaks
// meanwhile, the seat is free, and what was read is said.
func TestATalkerWhoIsCutOffWhileTheRoomWaits(t *testing.T) {
	b := setup(t)
	h := b.hostOver("h1", b.registry, b.log) // without a lease: nothing is appended, nothing is acked
	claim := h.openRoom(dragons)
	witness := h.join("witness", claim, nil)
	m := h.join("p1", claim, nil)
	for n := range saysMost + 50 {
		m.say(fmt.Sprint(n), "and another thing")
	}
	r := h.room(dragons)
	unsaid := 0
	b.eventually("the room has all that it takes", func() bool {
		b.inside(r, func(r *room) { unsaid = len(r.unsaid) })
		return unsaid == saysMost
	})
	m.cut()
	witness.told(1, "p1", guildhallv1.MemberState_MEMBER_STATE_GONE)
	h.extend(time.Now())
	witness.seen(saysMost)
	witness.say("1", "may I?")
	if seq := witness.acked("1"); seq != saysMost+1 {
		t.Errorf("the next message got number %d, want %d: more was taken than may be", seq, saysMost+1)
	}
}

// frame is one that a room might send.
func frame(id string) *guildhallv1.JoinResponse {
	return &guildhallv1.JoinResponse{Frame: &guildhallv1.JoinResponse_Ack{Ack: &guildhallv1.Ack{Id: id}}}
}

func TestAQueueNeverBlocks(t *testing.T) {
	t.Parallel()
	s := newSession("p1")
	for n := range queueLength {
		if !s.queue(frame(fmt.Sprint(n))) {
			t.Fatalf("frame %d was not taken", n)
		}
	}
	if s.queue(frame("too many")) {
		t.Error("a frame more than the queue holds was taken")
	}
	if s.closed.GetCode() != guildhallv1.CloseCode_CLOSE_CODE_SLOW_CONSUMER || !s.closed.GetReconnect() {
		t.Errorf("the session ended with %v", s.closed)
	}
	if !s.queue(frame("later")) {
		t.Error("a session that has ended was dropped for a second time: it would be counted twice")
	}
	s.end(leftClosed)
	if s.closed.GetCode() != guildhallv1.CloseCode_CLOSE_CODE_SLOW_CONSUMER {
		t.Error("a session ended twice")
	}
	var sent []*guildhallv1.JoinResponse
	if err := s.write(func(f *guildhallv1.JoinResponse) error { sent = append(sent, f); return nil }); err != nil {
		t.Fatal(err)
	}
	if last := sent[len(sent)-1]; last.GetClosed().GetCode() != guildhallv1.CloseCode_CLOSE_CODE_SLOW_CONSUMER {
		t.Errorf("the last word was %v", last)
	}
	for n, f := range sent[:len(sent)-1] {
		if f.GetAck().GetId() != fmt.Sprint(n) {
			t.Fatalf("frame %d is %v: what is sent before the end must have no hole", n, f)
		}
	}
}

// What is queued before an orderly end is sent before it.
func TestTheQueueIsSentBeforeTheEnd(t *testing.T) {
	t.Parallel()
	s := newSession("p1")
	for n := range 10 {
		s.queue(frame(fmt.Sprint(n)))
	}
	s.end(moved)
	var sent []string
	_ = s.write(func(f *guildhallv1.JoinResponse) error {
		sent = append(sent, f.GetAck().GetId()+f.GetClosed().GetReason())
		return nil
	})
	if want := "0 1 2 3 4 5 6 7 8 9 " + moved.GetReason(); strings.Join(sent, " ") != want {
		t.Errorf("sent %v, want %s", sent, want)
	}
}

func TestAWriterEndsWithItsConnection(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for _, ended := range []bool{false, true} {
			s := newSession("p1")
			s.queue(frame("1"))
			if ended {
				s.end(moved)
			}
			written := make(chan error, 1)
			go func() { written <- s.write(func(*guildhallv1.JoinResponse) error { return io.ErrClosedPipe }) }()
			synctest.Wait()
			select {
			case err := <-written:
				if !errors.Is(err, io.ErrClosedPipe) {
					t.Errorf("the writer ended with %v", err)
				}
			default:
				t.Fatal("the writer goes on without a connection")
			}
		}
	})
}
