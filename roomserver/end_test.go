package roomserver

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/guildhall-dev/guildhall"
	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
	"github.com/guildhall-dev/guildhall/internal/registry"
)

// soon is a grace that a test waits for.
const soon = 30 * time.Millisecond

// released checks that nobody has a group's claim.
func (b *bundle) released(claim registry.Claim) {
	b.t.Helper()
	if now, err := b.registry.Claim(b.ctx, claim.Group); !errors.Is(err, registry.ErrNoClaim) {
		b.t.Errorf("the claim of %s is %+v, %v; want none", claim.Group, now, err)
	}
}

// comes has a player enter, with a new claim as often as the room ends before they have their seat: its grace is short.
func (h *running) comes(player guildhall.PlayerID, group guildhall.Group, after *uint64) (*member, registry.Claim) {
	h.b.t.Helper()
	for {
		claim := h.b.claim(group, h.name)
		m := h.show(h.b.pass(player, claim), after)
		if m.player = player; m.welcome != nil {
			return m, claim
		}
		if m.closed.GetCode() != guildhallv1.CloseCode_CLOSE_CODE_MOVED {
			h.b.t.Fatalf("%s did not get a seat: %v", player, m.closed)
		}
	}
}

// The last one out turns off the light.
func TestAnIdleRoomEndsAndGivesItsClaimBack(t *testing.T) {
	b := setup(t)
	b.rules.IdleGrace = soon
	h := b.host("h1")
	m, claim := h.comes("p1", dragons, nil)
	m.sayMany(1, 3)
	r := h.room(dragons)
	m.leave()
	m.endsWith(guildhallv1.CloseCode_CLOSE_CODE_LEFT, false)
	h.await("the room is gone", func() bool { return h.room(dragons) == nil })
	b.closed("the room is over", r.over)
	b.released(claim)
	// Its pass is good for a minute, and the room is not.
	if got := h.show(b.pass("p1", claim), nil).ends(); got.GetCode() != guildhallv1.CloseCode_CLOSE_CODE_MOVED {
		t.Errorf("a pass for the closed room was closed with %v, want MOVED", got)
	}
	again, _ := h.comes("p1", dragons, behind(0))
	if again.seen(3); again.welcome.GetEpoch() <= uint64(claim.Epoch) {
		t.Errorf("the room came back at epoch %d, which is not behind %d", again.welcome.GetEpoch(), claim.Epoch)
	}
}

// A room that was opened and that nobody came to ends too.
func TestARoomThatNobodyCameTo(t *testing.T) {
	b := setup(t)
	b.rules.IdleGrace = soon
	h := b.host("h1")
	claim := h.openRoom(dragons)
	h.await("the room is gone", func() bool { return h.room(dragons) == nil })
	b.released(claim)
}

// A room in which somebody is does not end, however silent they are, and however often the grace has passed.
func TestASilentRoomStays(t *testing.T) {
	b := setup(t)
	b.rules.IdleGrace = soon
	h := b.host("h1")
	m, _ := h.comes("p1", dragons, nil)
	other := b.claim(otherGroup, "h1")
	for range 3 { // graces: each is the life of an empty room beside
		h.open(other)
		h.await("the other room is gone", func() bool { return h.room(otherGroup) == nil })
		other = b.claim(otherGroup, "h1")
	}
	m.sayMany(1, 1)
}

// What was said last is said, and the room goes: also when the log did not answer until the grace had passed.
func TestAnIdleRoomWaitsForItsLogAndThenEnds(t *testing.T) {
	b := setup(t)
	b.rules.IdleGrace = soon
	h := b.hostOver("h1", b.registry, b.log) // without a lease: nothing is appended
	m, claim := h.comes("p1", dragons, nil)
	m.say("1", "last words")
	m.leave()
	m.ends()
	h.open(b.claim(otherGroup, "h1")) // its life is one grace, from now on
	h.await("the other room is gone", func() bool { return h.room(otherGroup) == nil })
	r := h.room(dragons)
	if r == nil || !b.inside(r, func(r *room) {
		if len(r.unsaid) != 1 {
			t.Errorf("%d messages wait for the log, want 1", len(r.unsaid))
		}
	}) {
		t.Fatal("the room has ended with something unsaid")
	}
	h.extend(time.Now())
	h.await("the room is gone", func() bool { return h.room(dragons) == nil })
	b.released(claim)
	if end := b.logEnd(dragons); end.GetLastSeq() != 1 {
		t.Errorf("the log ends with %d, want 1", end.GetLastSeq())
	}
}

// Deploys don't hurt: a drained host moves its members, with everything said in the log and the claims given back.
func TestDrainMovesEverybody(t *testing.T) { onEachWire(t, testDrainMovesEverybody) }

func testDrainMovesEverybody(t *testing.T, b *bundle) {
	const rooms, each = 5, 10
	h := b.host("h1")
	var members []*member
	var claims []registry.Claim
	for g := range rooms {
		claim := h.openRoom(group(g))
		claims = append(claims, claim)
		for _, name := range players(each) {
			members = append(members, h.join(name, claim, nil))
		}
	}
	var talking sync.WaitGroup
	for _, m := range members {
		talking.Go(func() { // until it is sent away, each has something more to say
			for n := 0; m.closed == nil; n++ {
				m.say(fmt.Sprint(n), "on and on")
				if err := m.until(func() bool { return len(m.acks) > n || m.closed != nil }); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	if _, err := h.internal.Drain(b.ctx, &guildhallv1.DrainRequest{}); err != nil {
		t.Fatalf("draining: %v", err)
	}
	talking.Wait()
	for _, m := range members {
		m.endsWith(guildhallv1.CloseCode_CLOSE_CODE_MOVED, true)
		if len(m.members) > each {
			t.Errorf("%s was told %d times of others who came and went: a move is no farewell", m.player, len(m.members))
		}
	}
	for _, claim := range claims {
		b.released(claim)
	}
	h2 := b.host("h2")
	for i, m := range members {
		again := h2.join(m.player, b.have(h2, claims[i/each]), behind(0))
		again.seen(again.welcome.GetLastSeq())
		again.acks = m.acks
		again.checkAcks()
		if len(again.acks) > 0 && again.welcome.GetLastSeq() == 0 {
			t.Errorf("%s was acked %d messages and the new room is empty", m.player, len(m.acks))
		}
	}
}

// have gives the claim of a group on a host, and takes it if nobody has it.
func (b *bundle) have(h *running, old registry.Claim) registry.Claim {
	b.t.Helper()
	if claim, err := b.registry.Claim(b.ctx, old.Group); err == nil {
		return claim
	}
	return h.openRoom(old.Group)
}

// A room that ends says so to each of many members by its own code, and that alone: a move is no farewell of all to all.
func TestAMoveOfManyIsToldOnceToEach(t *testing.T) {
	const many = 600
	b := setup(t)
	h := b.host("h1")
	r := h.open(b.claim(dragons, "h1"))
	streams := make([]*injected, many)
	for i, name := range players(many) {
		streams[i] = newInjected(t)
		b.inside(r, func(r *room) {
			s := newSession(streams[i])
			s.player = name
			(&sit{session: s, answer: make(chan missed, 1)}).apply(r)
		})
	}
	b.inside(r, func(r *room) { r.round() }) // all have been told who came
	for _, stream := range streams {
		stream.mu.Lock()
		stream.sent = nil
		stream.mu.Unlock()
	}
	if err := h.drain(b.ctx); err != nil {
		t.Fatal(err)
	}
	for i, stream := range streams {
		if got := stream.got(); len(got) != 1 || got[0].GetClosed().GetCode() != moved.GetCode() {
			t.Fatalf("member %d was told %v, want MOVED and nothing else", i, got)
		}
	}
	if n := h.players.Load(); n != 0 {
		t.Errorf("the host counts %d players, want none", n)
	}
	if n := h.metric("guildhall_host_sessions"); n != 0 {
		t.Errorf("the metric counts %v sessions, want none", n)
	}
}

// What was said while the log did not answer is appended before the room moves, or not acked.
func TestDrainFlushesWhatWasSaid(t *testing.T) {
	b := setup(t)
	h := b.hostOver("h1", b.registry, b.log) // without a lease: nothing is appended
	m := h.join("p1", b.claim(dragons, "h1"), nil)
	m.say("1", "before the drain")
	m.say("", "refused behind it")
	m.must("the refusal", func() bool { return len(m.refusals) == 1 })
	drained := make(chan error, 1)
	go func() { drained <- h.drain(b.ctx) }()
	h.await("the host drains", func() bool { return h.lease().State == registry.HostDraining })
	if h.metric("guildhall_host_draining") != 1 {
		t.Error("a host that drains is not shown as such")
	}
	h.extend(time.Now())
	if err := <-drained; err != nil {
		t.Fatal(err)
	}
	if n := h.counted("guildhall_host_ended_rooms_total", "moved"); n != 1 {
		t.Errorf("%v rooms moved, want 1", n)
	}
	m.endsWith(guildhallv1.CloseCode_CLOSE_CODE_MOVED, true)
	if m.acks["1"] != 1 || b.logEnd(dragons).GetLastSeq() != 1 {
		t.Errorf("it was acked with %d and the log ends with %d, want 1 and 1", m.acks["1"], b.logEnd(dragons).GetLastSeq())
	}
}

// A drain that comes while a room is being opened waits for it and moves it, too.
func TestDrainMeetsARoomThatIsBeingOpened(t *testing.T) {
	b := setup(t)
	h := b.host("h1")
	claim := b.claim(dragons, "h1")
	s, mine, err := h.take(dragons, claim.Epoch)
	if err != nil || !mine {
		t.Fatalf("taking the slot: %v, %v", mine, err)
	}
	drained := make(chan error, 1)
	go func() { drained <- h.drain(b.ctx) }()
	h.await("the host drains", func() bool { return h.lease().State == registry.HostDraining })
	h.fill(dragons, s)
	if err := <-drained; err != nil {
		t.Fatalf("draining: %v", err)
	}
	b.released(claim)
}
