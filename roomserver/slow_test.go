package roomserver

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/guildhall-dev/guildhall"
	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
	"github.com/guildhall-dev/guildhall/internal/transport"
)

// kernelMost is more than what the kernel and the client's own buffers hold for one client, beside transport's queue.
const kernelMost = 16 << 20

// No slow client slows a room: one that does not read is dropped, and the others have every message meanwhile.
func TestAClientThatDoesNotRead(t *testing.T) { onEachWire(t, testAClientThatDoesNotRead) }

func testAClientThatDoesNotRead(t *testing.T, b *bundle) {
	b.limits = unlimited
	h := b.host("h1")
	claim := h.openRoom(dragons)
	talker, witness := h.join("talker", claim, nil), h.join("witness", claim, nil)
	slow := h.callSlow("slow")
	slow.hello(b.pass("slow", claim), nil)
	witness.told(1, "slow", guildhallv1.MemberState_MEMBER_STATE_HERE)

	body := strings.Repeat("x", b.bodyBytes)
	n := 0
	for ; witness.count("slow", guildhallv1.MemberState_MEMBER_STATE_GONE) == 0; n++ {
		if n*b.bodyBytes > transport.QueueBytes+kernelMost {
			t.Fatalf("the client that does not read is still here after %d messages", n)
		}
		talker.say(fmt.Sprint(n), body)
		witness.seen(uint64(n + 1)) // one at a time: each is a frame
		talker.acked(fmt.Sprint(n))
	}
	if n*b.bodyBytes < transport.QueueBytes {
		t.Errorf("it was dropped after %d messages, which is less than its queue", n)
	}
	// It is told why if it begins to read in time; else its stream breaks. In both cases it has no hole before.
	err := slow.until(func() bool { return slow.closed != nil })
	if err == nil && (slow.closed.GetCode() != guildhallv1.CloseCode_CLOSE_CODE_SLOW_CONSUMER || !slow.closed.GetReconnect()) {
		t.Errorf("it was closed with %v, want SLOW_CONSUMER and to come back", slow.closed)
	}
	if b.wire == overGRPC && err != nil && status.Code(errors.Unwrap(err)) != codes.Unavailable && status.Code(errors.Unwrap(err)) != codes.Canceled {
		t.Errorf("its stream ended with %v", err)
	}
	if dropped := h.metric("guildhall_host_dropped_sessions_total"); dropped != 1 {
		t.Errorf("%v sessions were counted as dropped, want 1", dropped)
	}
	// It comes back, resumes, and has missed nothing.
	again := h.join("slow", claim, behind(slow.lastSeen()))
	again.seen(uint64(n))
	if got := len(slow.messages) + len(again.messages); got != n {
		t.Errorf("it has %d messages, want %d", got, n)
	}
}

// callSlow opens a stream whose client takes little before it has to read.
func (h *running) callSlow(player guildhall.PlayerID) *member {
	h.b.t.Helper()
	if h.b.wire == overGRPC {
		// A connection of its own, for flow control is shared within one; with the least window, so that it fills soon.
		return h.b.callOver(dial(h.b.t, h.address, grpc.WithInitialWindowSize(64<<10), grpc.WithInitialConnWindowSize(64<<10)), player)
	}
	m := h.call(player)
	if err := m.link.(*wsLink).conn.(*net.TCPConn).SetReadBuffer(16 << 10); err != nil {
		h.b.t.Fatal(err)
	}
	return m
}

// A client that neither reads nor says hello holds nothing but its own stream.
func TestAClientThatSaysNothing(t *testing.T) {
	b := setup(t)
	h := b.host("h1")
	claim := h.openRoom(dragons)
	for range 20 {
		h.call("silent")
	}
	m := h.join("p1", claim, nil)
	m.sayMany(1, 10)
	if n := h.players.Load(); n != 1 {
		t.Errorf("the host counts %d players, want 1", n)
	}
}

// A talker has only so much on its way: the rest is not read before there are answers. When the connection breaks
// meanwhile, the seat is free as soon as the room has something to tell them, and what was read is said.
func TestATalkerWhoIsCutOffWhileTheRoomWaits(t *testing.T) {
	onEachWire(t, testATalkerWhoIsCutOffWhileTheRoomWaits)
}

func testATalkerWhoIsCutOffWhileTheRoomWaits(t *testing.T, b *bundle) {
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
	for n := 0; witness.count("p1", guildhallv1.MemberState_MEMBER_STATE_GONE) == 0; n++ {
		passer := h.join("p2", claim, nil) // who comes and goes is something to tell
		witness.told(n+1, "p2", guildhallv1.MemberState_MEMBER_STATE_HERE)
		passer.leave()
		passer.ends()
		witness.told(n+1, "p2", guildhallv1.MemberState_MEMBER_STATE_GONE)
	}
	h.extend(time.Now())
	witness.seen(saysMost)
	witness.say("1", "may I?")
	if seq := witness.acked("1"); seq != saysMost+1 {
		t.Errorf("the next message got number %d, want %d: more was taken than may be", seq, saysMost+1)
	}
}
