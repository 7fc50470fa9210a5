package roomserver

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
	"github.com/guildhall-dev/guildhall/internal/registry"
)

// shortLease is the shortest that there is: tests wait until it has run out.
const shortLease = registry.MinLeaseTTL

// isDead says whether the registry has no lease of a host: from here on its claims may be taken over.
func (b *bundle) isDead(h *running) bool {
	_, err := b.registry.Host(b.ctx, h.name)
	return errors.Is(err, registry.ErrNoLease)
}

// holds has a host that is cut off hold its members for as long as a busy machine takes for the rest of the test.
func (h *running) holds() { h.cutOff.Stop() }

// servesThroughout has a host serve until the test ends, whatever becomes of its lease.
func (h *running) servesThroughout() {
	h.extend(time.Now().Add(never))
	h.holds()
}

// A host stops serving before its lease can have run out, by its own clock.
func TestAHostThatCannotRenewStopsFirst(t *testing.T) {
	b := setupLease(t, shortLease)
	c := b.cable()
	h, _ := b.leasedHost(c)
	for _, sever := range []func(){c.cut, c.freeze} {
		b.eventually("the host serves", h.mayServe)
		sever()
		b.eventually("the lease has run out", func() bool {
			served := h.mayServe()
			dead := b.isDead(h) // asked behind it: if this is true, serving was over before
			if dead && served {
				t.Error("the lease has run out and the host served until just now")
			}
			return dead
		})
		c.mend()
		c.thaw()
	}
}

// A host without a lease acks nothing; when it is back and the claim is still its own, it goes on: an outage is a
// pause, not a stampede.
func TestAnOutageIsAPause(t *testing.T) {
	b := setupLease(t, shortLease)
	c := b.cable()
	h, _ := b.leasedHost(c)
	claim := h.openRoom(dragons)
	m := h.join("p1", claim, nil)
	m.sayMany(1, 1)
	c.cut()
	b.eventually("the host is suspended", func() bool { return !h.mayServe() })
	h.holds()
	if h.metric("guildhall_host_suspended") != 1 {
		t.Error("a host without a lease is not shown as suspended")
	}
	b.eventually("an audit has failed", func() bool { return h.counted("guildhall_host_audits_total", "failed") > 0 })
	m.say("2", "during the outage")
	m.say("", "refused behind it")
	m.must("the refusal", func() bool { return len(m.refusals) == 1 })
	b.inside(h.room(dragons), func(r *room) {
		if r.append.busy || len(r.unsaid) != 1 {
			t.Errorf("a suspended room has %d messages to say, want 1; appends: %t", len(r.unsaid), r.append.busy)
		}
	})
	b.eventually("the lease has run out", func() bool { return b.isDead(h) })
	if len(m.acks) != 1 {
		t.Errorf("a host without a lease has acked %v", m.acks)
	}
	c.mend()
	if seq := m.acked("2"); seq != 2 {
		t.Errorf("after the outage it was acked with %d, want 2", seq)
	}
	if now, err := b.registry.Claim(b.ctx, dragons); err != nil || now.Epoch != claim.Epoch {
		t.Errorf("the claim is %+v, %v; want the one from before", now, err)
	}
	if h.metric("guildhall_host_lease_losses_total") < 1 {
		t.Error("the loss of the lease was not counted")
	}
	b.eventually("an audit has passed since", func() bool { return h.counted("guildhall_host_audits_total", "passed") > 0 })
	b.eventually("it is no longer shown as suspended", func() bool { return h.metric("guildhall_host_suspended") == 0 })
}

// A host that was cut off and is back: rooms that were given away are ended, the others go on.
func TestLeaseLostAndRegranted(t *testing.T) {
	b := setupLease(t, shortLease)
	c := b.cable()
	h, _ := b.leasedHost(c)
	taken, kept := h.openRoom(dragons), h.openRoom(otherGroup)
	m := h.join("p1", taken, nil)
	other := h.join("p1", kept, nil)
	listener := h.join("p1", h.openRoom(group(1)), nil) // nobody will speak here: the log has nothing to refuse
	m.sayMany(1, 1)
	c.cut()
	b.eventually("the lease has run out", func() bool { return b.isDead(h) })
	h.holds()
	m.say("2", "to a room that is elsewhere")
	other.say("1", "to a room that is still here")
	h2 := b.host("h2")
	h2.servesThroughout() // its lease is not what this is about
	moved := h2.openRoom(dragons)
	h2.openRoom(group(1))
	m2 := h2.join("p2", moved, behind(0))
	m2.say("1", "in the new room")
	if seq := m2.acked("1"); seq != 2 {
		t.Errorf("the new room went on with %d, want 2", seq)
	}
	c.mend()
	m.endsWith(guildhallv1.CloseCode_CLOSE_CODE_MOVED, true)
	listener.endsWith(guildhallv1.CloseCode_CLOSE_CODE_MOVED, true)
	if m.acks["2"] != 0 {
		t.Error("a host that had lost its lease acked a message")
	}
	b.eventually("both are counted as lost with the lease", func() bool { return h.counted("guildhall_host_fenced_rooms_total", "lost") == 2 })
	if n := h.counted("guildhall_host_fenced_rooms_total", "held"); n != 0 {
		t.Errorf("%v rooms are counted as lost for no reason", n)
	}
	if seq := other.acked("1"); seq != 1 {
		t.Errorf("the room that was kept acked with %d, want 1", seq)
	}
	again := h2.join("p1", moved, behind(m.lastSeen()))
	again.say("2", "to a room that is elsewhere")
	if seq := again.acked("2"); seq != 3 {
		t.Errorf("said again, it got number %d, want 3", seq)
	}
}

// A process that was paused with an append on its way wakes up in a world in which its room is elsewhere: the log
// refuses what it sent long ago.
func TestAnAppendFromThePast(t *testing.T) {
	b := setupLease(t, shortLease)
	c := b.cable()
	h, _ := b.leasedHost(c)
	m := h.join("p1", h.openRoom(dragons), nil)
	m.sayMany(1, 1)
	b.eventually("the host serves", h.mayServe)
	h.extend(time.Now().Add(never)) // it believes that it may, whatever happens
	c.freeze()
	m.say("2", "on its way")
	m.say("", "refused behind it")
	m.must("the refusal", func() bool { return len(m.refusals) == 1 })
	b.eventually("the lease has run out", func() bool { return b.isDead(h) })
	h.holds()
	h2 := b.host("h2")
	h2.servesThroughout()
	moved := h2.openRoom(dragons)
	m2 := h2.join("p2", moved, behind(0))
	m2.say("1", "in the new room")
	m2.acked("1")
	c.thaw()
	m.endsWith(guildhallv1.CloseCode_CLOSE_CODE_MOVED, true)
	if m.acks["2"] != 0 || m.lastSeen() > 1 {
		t.Errorf("two rooms at once: the old one acked %v and showed %v", m.acks, m.bodies())
	}
	again := h2.join("p1", moved, behind(m.lastSeen()))
	again.say("2", "on its way")
	again.acked("2")
	m2.seen(3)
	if got := m2.bodies(); !slices.Equal(got, []string{"1 p1: message 1", "2 p2: in the new room", "3 p1: on its way"}) {
		t.Errorf("the new room heard %v", got)
	}
}

// A host that alone is cut off holds its members for a while, and then lets them go: their room may be elsewhere.
func TestAHostThatStaysCutOffSendsItsMembersAway(t *testing.T) {
	b := setupLease(t, shortLease)
	c := b.cable()
	h, _ := b.leasedHost(c)
	listener := h.join("p1", h.openRoom(dragons), nil)
	c.cut()
	listener.endsWith(guildhallv1.CloseCode_CLOSE_CODE_MOVED, true)
	if h.mayServe() || !b.isDead(h) {
		t.Error("it was sent away by a host that has its lease")
	}
	c.mend()
	b.eventually("the host serves again", h.mayServe)
	claim, err := b.registry.Claim(b.ctx, dragons)
	if err != nil || claim.Host != h.name {
		t.Fatalf("the claim is %+v, %v; nobody else wanted it", claim, err)
	}
	h.join("p1", claim, nil)
}

// The claim is another's and this host does not know: the log tells it, and it sends its members away.
func TestAFencedRoomAcksNothingMore(t *testing.T) { onEachWire(t, testAFencedRoomAcksNothingMore) }

func testAFencedRoomAcksNothingMore(t *testing.T, b *bundle) {
	h1, h2 := b.host("h1"), b.host("h2")
	old := h1.openRoom(dragons)
	m, listener := h1.join("p1", old, nil), h1.join("p2", old, nil)
	m.sayMany(1, 1)
	claim := h2.openRoom(dragons)
	m.say("2", "to the old room")
	m.endsWith(guildhallv1.CloseCode_CLOSE_CODE_MOVED, true)
	listener.endsWith(guildhallv1.CloseCode_CLOSE_CODE_MOVED, true)
	if m.acks["2"] != 0 || m.lastSeen() > 1 || listener.lastSeen() > 1 {
		t.Errorf("the old room acked %v and showed %v and %v", m.acks, m.bodies(), listener.bodies())
	}
	h1.await("the old room is gone", func() bool { return h1.room(dragons) == nil })
	if n := h1.counted("guildhall_host_append_failures_total", "fenced"); n != 1 {
		t.Errorf("%v appends were counted as refused, want 1", n)
	}
	if now, err := b.registry.Claim(b.ctx, dragons); err != nil || now.Epoch != claim.Epoch {
		t.Errorf("the claim is %+v, %v; the old room has given back what is not its own", now, err)
	}
	again := h2.join("p1", claim, behind(1))
	again.say("2", "to the old room")
	if seq := again.acked("2"); seq != 2 {
		t.Errorf("said again, it got number %d, want 2", seq)
	}
	// The log knows as well when somebody comes with the old claim.
	if _, err := h1.host.open(b.ctx, dragons, old.Epoch); !errors.Is(err, errNotClaimed) {
		t.Errorf("the old room opened again: %v", err)
	}
}

// A claim that was lost and came back to the same host is another room: the old one makes way for it.
func TestALaterClaimOnTheSameHost(t *testing.T) { onEachWire(t, testALaterClaimOnTheSameHost) }

func testALaterClaimOnTheSameHost(t *testing.T, b *bundle) {
	h := b.host("h1")
	m := h.join("p1", h.openRoom(dragons), nil)
	m.sayMany(1, 2)
	later := b.claim(dragons, "h1")
	again := h.join("p2", later, behind(0))
	m.endsWith(guildhallv1.CloseCode_CLOSE_CODE_MOVED, true)
	if again.seen(2); again.welcome.GetEpoch() != uint64(later.Epoch) {
		t.Errorf("p2 sits at epoch %d, want %d", again.welcome.GetEpoch(), later.Epoch)
	}
	if now, err := b.registry.Claim(b.ctx, dragons); err != nil || now.Epoch != later.Epoch {
		t.Errorf("the claim is %+v, %v; the old room has given back what is not its own", now, err)
	}
}

// The lease says what the host is, and is gone with it.
func TestTheLeaseTellsOfTheHost(t *testing.T) {
	b := setup(t)
	h := b.hostOver("h1", b.registry, b.log)
	stop := h.keep()
	b.closed("the first lease", h.leased)
	is := func(what string, want registry.Lease) {
		t.Helper()
		b.eventually(what, func() bool {
			got, err := b.registry.Host(b.ctx, "h1")
			return err == nil && got.State == want.State && got.Rooms == want.Rooms && got.Players == want.Players &&
				got.RoomsCapacity == b.capacity && got.Address == h.hostConfig.address && got.InternalAddress == h.internalAddress
		})
	}
	is("it is ready", registry.Lease{State: registry.HostReady})
	claim := h.openRoom(dragons)
	is("it has a room", registry.Lease{State: registry.HostAllocated, Rooms: 1})
	h.join("p1", claim, nil)
	h.touch()
	is("it has a player", registry.Lease{State: registry.HostAllocated, Rooms: 1, Players: 1})
	if err := h.drain(b.ctx); err != nil {
		t.Fatal(err)
	}
	is("it has drained", registry.Lease{State: registry.HostClosing})
	stop()
	if !b.isDead(h) {
		t.Error("the host is gone and its lease is not")
	}
}

// While another process of its name lives, a host has no lease; then it gets one.
func TestASuccessorWaitsForTheLease(t *testing.T) {
	b := setup(t)
	first := b.hostOver("h1", b.registry, b.log)
	stop := first.keep()
	b.closed("the first lease", first.leased)
	second := b.hostOver("h1", b.registry, b.log)
	second.keep()
	select {
	case <-second.leased:
		t.Error("two processes hold one lease")
	default:
	}
	if second.mayServe() {
		t.Error("a host without a lease serves")
	}
	stop()
	b.closed("the successor's lease", second.leased)
}

// A room whose claim could not be read is not ended: nobody knows that it is lost.
func TestARegistryThatDoesNotAnswerEndsNoRoom(t *testing.T) {
	b := setup(t)
	h := b.host("h1")
	m := h.join("p1", h.openRoom(dragons), nil)
	gone, cancel := context.WithCancel(b.ctx)
	cancel()
	if err := h.verifyRooms(gone); err == nil {
		t.Error("rooms were checked against a registry that does not answer")
	}
	m.sayMany(1, 1)
}
