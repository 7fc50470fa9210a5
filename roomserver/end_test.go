package roomserver

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

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

// The last one out turns off the light.
func TestAnIdleRoomEndsAndGivesItsClaimBack(t *testing.T) {
	b := setup(t)
	b.rules.IdleGrace = soon
	h := b.host("h1")
	claim := b.claim(dragons, "h1")
	m := h.join("p1", claim, nil)
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
	again := h.join("p1", h.openRoom(dragons), behind(0))
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
	claim := b.claim(dragons, "h1")
	m := h.join("p1", claim, nil)
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
	claim := b.claim(dragons, "h1")
	m := h.join("p1", claim, nil)
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
func TestDrainMovesEverybody(t *testing.T) {
	const rooms, each = 5, 10
	b := setup(t)
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

// A room that ends says so to each of many members by its own code: nobody's queue is filled with farewells.
func TestAMoveOfManyFillsNoQueue(t *testing.T) {
	b := setup(t)
	h := b.host("h1")
	r := h.open(b.claim(dragons, "h1"))
	var sessions []*session
	b.inside(r, func(r *room) {
		for _, name := range players(queueLength + 100) { // nobody reads
			s := newSession(name)
			(&sit{session: s, refused: make(chan *guildhallv1.Closed, 1)}).apply(r)
			sessions = append(sessions, s)
			for len(s.frames) > 0 {
				<-s.frames
			}
			for _, before := range sessions {
				for len(before.frames) > 0 {
					<-before.frames
				}
			}
		}
	})
	if err := h.drain(b.ctx); err != nil {
		t.Fatal(err)
	}
	for _, s := range sessions {
		b.closed("the session ends", s.ended)
		if s.closed != moved || len(s.frames) != 0 {
			t.Fatalf("%s was closed with %v behind %d frames, want MOVED behind none", s.player, s.closed, len(s.frames))
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
	claim := b.claim(dragons, "h1")
	m := h.join("p1", claim, nil)
	m.say("1", "before the drain")
	m.say("", "refused behind it")
	m.must("the refusal", func() bool { return len(m.refusals) == 1 })
	drained := make(chan error, 1)
	go func() { drained <- h.drain(b.ctx) }()
	h.await("the host drains", func() bool { return h.lease().State == registry.HostDraining })
	h.extend(time.Now())
	if err := <-drained; err != nil {
		t.Fatal(err)
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
	h.fill(b.ctx, dragons, s)
	if err := <-drained; err != nil {
		t.Fatalf("draining: %v", err)
	}
	b.released(claim)
}
