package roomserver

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
	"github.com/guildhall-dev/guildhall/internal/registry"
)

// After a long round the next one rests as long as that one took, and no longer than the longest rest; what happens meanwhile
// goes out together.
func TestALongRoundIsFollowedByARest(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ takes, rest time.Duration }{
		{restFrom - 1, 0}, {restFrom, restFrom}, {5 * time.Millisecond, 5 * time.Millisecond}, {time.Second, restMost},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := unitRoom(t)
			stream := newInjected(t)
			r.takesSeat("p1", stream)
			r.round()
			sends := stream.sends
			stream.takes = c.takes
			defer r.lives()()
			r.does(func(r *room) { r.hears(message("p1", 1)) })
			start := time.Now()
			told := func() int { stream.mu.Lock(); defer stream.mu.Unlock(); return stream.sends - sends }
			for range 3 { // while the first round is being told, or behind it
				r.does(func(r *room) { r.hears(message("p1", 2)) })
			}
			for told() < 2 {
				<-time.After(time.Microsecond)
				synctest.Wait()
			}
			if took := time.Since(start); took < 2*c.takes+c.rest || took > 2*c.takes+c.rest+time.Millisecond {
				t.Errorf("rounds of %s: the second was told after %s, want %s", c.takes, took, 2*c.takes+c.rest)
			}
			<-time.After(time.Minute)
			synctest.Wait()
			if got := count(stream.events())[0]; got != 4 {
				t.Errorf("%d messages were told, want 4", got)
			}
			if n := told(); c.rest > 0 && n != 2 {
				t.Errorf("they were told in %d rounds, want 2", n)
			}
		})
	}
}

// An answer that is for one alone does not wait for the round.
func TestAnswersDoNotRest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := unitRoom(t)
		stream := newInjected(t)
		s := r.takesSeat("p1", stream)
		r.round()
		defer r.lives()()
		r.does(func(r *room) {
			r.nextRound = time.Now().Add(never)
			r.hears(message("p1", 1))
			r.ack(s, "1", 1)
		})
		synctest.Wait()
		if got := stream.got(); len(got) != 1 || got[0].GetAck().GetSeq() != 1 {
			t.Errorf("while the round rests, p1 was told %v, want its ack", got)
		}
	})
}

// Who leaves is told first what happened until then, also if the next round is not due.
func TestWhoLeavesHasSeenWhatTheySaid(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := unitRoom(t)
		stream, other := newInjected(t), newInjected(t)
		s := r.takesSeat("p1", stream)
		r.takesSeat("p2", other)
		r.round()
		before, othersBefore := len(stream.got()), len(other.got())
		defer r.lives()()
		r.does(func(r *room) {
			r.nextRound = time.Now().Add(never)
			r.hears(message("p1", 1))
			r.ack(s, "1", 1)
		})
		r.post(nil, &leave{session: s})
		<-s.ended
		got := stream.got()[before:]
		if n := len(got); n != 3 || got[0].GetAck().GetSeq() != 1 || got[1].GetEvents().GetEvents()[0].GetMessage().GetSeq() != 1 ||
			got[2].GetClosed().GetCode() != guildhallv1.CloseCode_CLOSE_CODE_LEFT {
			t.Errorf("who left was told %v, want the ack, the message and the end", got)
		}
		if got := other.got()[othersBefore:]; len(got) != 0 {
			t.Errorf("while the round rests, p2 was told %v", got)
		}
	})
}

// What was said at last is told before the end, whatever the end and however long the round would have rested.
func TestTheLastRoundIsToldAtTheEnd(t *testing.T) { onEachWire(t, testTheLastRoundIsToldAtTheEnd) }

func testTheLastRoundIsToldAtTheEnd(t *testing.T, b *bundle) {
	ends := map[string]func(*running){
		"drain":   func(h *running) { _ = h.drain(b.ctx) }, // what follows shows whether it was drained
		"fenced":  func(h *running) { h.room(dragons).stop(endFenced) },
		"cut off": func(h *running) { h.room(dragons).stop(endCutOff) },
		"evicted": func(h *running) {
			if _, err := h.internal.Evict(b.ctx, &guildhallv1.EvictRequest{Group: dragons.String(), Player: "p3"}); err != nil {
				t.Error(err)
			}
			h.room(dragons).stop(endMoved)
		},
	}
	for what, ends := range ends {
		h := b.host("h1")
		claim := h.openRoom(dragons)
		talker, listener := h.join("p1", claim, nil), h.join("p2", claim, nil)
		b.inside(h.room(dragons), func(r *room) { r.nextRound = time.Now().Add(never) })
		talker.say(what, "at last")
		seq := uint64(talker.acked(what))
		if len(listener.messages) != 0 {
			t.Fatal("the round did not rest")
		}
		ends(h)
		for _, m := range []*member{talker, listener} {
			m.endsWith(guildhallv1.CloseCode_CLOSE_CODE_MOVED, true)
			if m.lastSeen() != seq {
				t.Errorf("%s: %s was closed and has seen number %d, want %d", what, m.player, m.lastSeen(), seq)
			}
		}
		h.stop()
	}
}

// However much was said at once, those who read are told all of it in frames that a client can take, and nobody who reads is
// dropped for it.
func TestMuchAtTheEndDropsNobody(t *testing.T) { onEachWire(t, testMuchAtTheEndDropsNobody) }

func testMuchAtTheEndDropsNobody(t *testing.T, b *bundle) {
	const said = 250 // of 4 KiB: twice what may wait for one client
	b.limits = unlimited
	h := b.hostOver("h1", b.registry, b.log) // without a lease: nothing is appended
	claim := h.openRoom(dragons)
	talker, listener := h.join("p1", claim, nil), h.join("p2", claim, nil)
	body := strings.Repeat("x", b.bodyBytes)
	for n := range said {
		talker.say(fmt.Sprint(n), body)
	}
	talker.say("", "refused behind it")
	talker.must("the refusal", func() bool { return len(talker.refusals) == 1 })
	drained := make(chan error, 1)
	go func() { drained <- h.drain(b.ctx) }()
	h.await("the host drains", func() bool { return h.lease().State == registry.HostDraining })
	h.extend(time.Now())
	read := make(chan struct{})
	go func() {
		defer close(read)
		talker.endsWith(guildhallv1.CloseCode_CLOSE_CODE_MOVED, true)
	}()
	listener.endsWith(guildhallv1.CloseCode_CLOSE_CODE_MOVED, true)
	<-read
	if err := <-drained; err != nil {
		t.Fatal(err)
	}
	if end := b.logEnd(dragons).GetLastSeq(); end != said || listener.lastSeen() != said || len(talker.acks) != said {
		t.Errorf("the log ends with %d, the listener has seen %d and the talker has %d acks; want %d", end, listener.lastSeen(), len(talker.acks), said)
	}
}

// A round of much is told in frames of a bounded size, to each.
func TestFramesOfARoundAreBounded(t *testing.T) {
	t.Parallel()
	r := unitRoom(t)
	streams := []*injected{newInjected(t), newInjected(t), newInjected(t)}
	for i, stream := range streams {
		r.takesSeat(players(3)[i], stream)
	}
	r.round()
	for n := range 300 {
		m := message("p000", n)
		m.Body = make([]byte, 4096)
		if n == 7 {
			m.To = []string{"p001"}
		}
		r.hears(m)
	}
	r.round()
	for i, stream := range streams {
		if got := count(stream.events())[0]; got != 300 {
			t.Errorf("member %d was told %d messages, want 300", i, got)
		}
		for _, frame := range stream.sent {
			if len(frame) > frameBytes+2*4096 {
				t.Errorf("member %d was sent a frame of %d bytes", i, len(frame))
			}
		}
	}
}
