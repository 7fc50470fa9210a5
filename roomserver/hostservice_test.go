package roomserver

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/guildhall-dev/guildhall"
	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
	"github.com/guildhall-dev/guildhall/internal/registry"
)

// asksToOpen calls OpenRoom and gives its code.
func (h *running) asksToOpen(group string, epoch guildhall.Epoch) codes.Code {
	_, err := h.internal.OpenRoom(h.b.ctx, &guildhallv1.OpenRoomRequest{Group: group, Epoch: uint64(epoch)})
	return status.Code(err)
}

func TestOpenRoomAnswers(t *testing.T) {
	b := setup(t)
	b.capacity = 2
	h := b.host("h1")
	claim := b.claim(dragons, "h1")
	foreign := b.claim(otherGroup, "h2")
	full := guildhall.Group{Kind: "party", ID: "full"}
	filler := guildhall.Group{Kind: "party", ID: "filler"}
	fillerClaim, fullClaim := b.claim(filler, "h1"), b.claim(full, "h1")
	for _, step := range []struct {
		what  string
		group string
		epoch guildhall.Epoch
		want  codes.Code
	}{
		{"no group", "", claim.Epoch, codes.InvalidArgument},
		{"no kind", "dragons", claim.Epoch, codes.InvalidArgument},
		{"an unknown kind", "clan:dragons", claim.Epoch, codes.InvalidArgument},
		{"no claim at all", "guild:none", 1, codes.FailedPrecondition},
		{"no epoch", "guild:dragons", 0, codes.FailedPrecondition},
		{"another host's claim", otherGroup.String(), foreign.Epoch, codes.FailedPrecondition},
		{"an epoch that never was", "guild:dragons", claim.Epoch + 1000, codes.FailedPrecondition},
		{"its claim", "guild:dragons", claim.Epoch, codes.OK},
		{"its claim again", "guild:dragons", claim.Epoch, codes.OK},
		{"an earlier epoch while it is open", "guild:dragons", claim.Epoch - 1, codes.FailedPrecondition},
		{"a later epoch while it is open", "guild:dragons", claim.Epoch + 1000, codes.FailedPrecondition},
		{"a second room", filler.String(), fillerClaim.Epoch, codes.OK},
		{"one too many", full.String(), fullClaim.Epoch, codes.ResourceExhausted},
		{"an open one while full", "guild:dragons", claim.Epoch, codes.OK},
	} {
		if got := h.asksToOpen(step.group, step.epoch); got != step.want {
			t.Errorf("OpenRoom with %s: %s, want %s", step.what, got, step.want)
		}
	}
	if n, _ := h.countRooms(); n != 2 {
		t.Errorf("the host has %d rooms, want 2", n)
	}
	h.room(filler).stop(endMoved)
	h.await("a room has ended", func() bool { return h.room(filler) == nil })
	if _, err := b.registry.Claim(b.ctx, full); !errors.Is(err, registry.ErrNoClaim) {
		t.Errorf("a full host has kept a claim that it cannot serve: %v", err)
	}
	if got := h.asksToOpen(full.String(), b.claim(full, "h1").Epoch); got != codes.OK {
		t.Errorf("OpenRoom with a place that is free again: %s", got)
	}
	if _, err := h.internal.Drain(b.ctx, &guildhallv1.DrainRequest{}); err != nil {
		t.Fatal(err)
	}
	if got := h.asksToOpen("guild:dragons", b.claim(dragons, "h1").Epoch); got != codes.Aborted {
		t.Errorf("OpenRoom on a drained host: %s, want Aborted", got)
	}
	if _, err := b.registry.Claim(b.ctx, dragons); !errors.Is(err, registry.ErrNoClaim) {
		t.Errorf("a drained host has kept a claim that it cannot serve: %v", err)
	}
	if _, err := h.internal.Drain(b.ctx, &guildhallv1.DrainRequest{}); err != nil {
		t.Errorf("draining again: %v", err)
	}
}

// One room: fifty directors and players at once open one, behind one barrier.
func TestFiftyOpensMakeOneRoom(t *testing.T) {
	b := setup(t)
	h := b.host("h1")
	claim := b.claim(dragons, "h1")
	rooms := make([]*room, 50)
	var opening sync.WaitGroup
	for i := range rooms {
		opening.Go(func() {
			var err error
			if rooms[i], err = h.host.open(b.ctx, dragons, claim.Epoch); err != nil {
				t.Errorf("opening: %v", err)
			}
		})
	}
	opening.Wait()
	for _, r := range rooms {
		if r != rooms[0] {
			t.Fatal("two rooms of one group")
		}
	}
	stream, err := b.js.Stream(b.ctx, "guildhall_log_0")
	if err != nil {
		t.Fatal(err)
	}
	if info, err := stream.Info(b.ctx); err != nil || info.State.Msgs != 1 {
		t.Errorf("the log has %d entries, %v; want one barrier", info.State.Msgs, err)
	}
}

// One who gives up while opening a room does not spoil it for those who wait for the same one.
func TestAnOpenerWhoGoesAway(t *testing.T) {
	b := setup(t)
	h := b.host("h1")
	claim := b.claim(dragons, "h1")
	s, mine, err := h.take(dragons, claim.Epoch)
	if err != nil || !mine {
		t.Fatalf("taking the slot: %v, %v", mine, err)
	}
	opened := make(chan error, 1)
	go func() {
		_, err := h.host.open(b.ctx, dragons, claim.Epoch)
		opened <- err
	}()
	gone, cancel := context.WithCancel(b.ctx)
	cancel()
	if _, err := h.host.open(gone, dragons, claim.Epoch); !errors.Is(err, context.Canceled) {
		t.Errorf("one who waits and gives up: %v", err)
	}
	h.fill(dragons, s)
	if err := <-opened; err != nil {
		t.Errorf("waiting beside somebody who gave up: %v", err)
	}
}

// A room that fails to open leaves its place free.
func TestAFailedOpenLeavesNothing(t *testing.T) {
	b := setup(t)
	b.capacity = 1
	h := b.host("h1")
	for range 5 {
		if got := h.asksToOpen("guild:none", 7); got != codes.FailedPrecondition {
			t.Errorf("OpenRoom without a claim: %s", got)
		}
	}
	if h.openRoom(dragons); h.lease().Rooms != 1 {
		t.Errorf("the lease counts %d rooms, want 1", h.lease().Rooms)
	}
}

// Kick holds: every session of the player is ended, and nobody else's.
func TestEvict(t *testing.T) { onEachWire(t, testEvict) }

func testEvict(t *testing.T, b *bundle) {
	h := b.host("h1")
	claim := h.openRoom(dragons)
	witness := h.join("witness", claim, nil)
	phone, laptop := h.join("p1", claim, nil), h.join("p1", claim, nil)
	evict := func(group, player string) (uint32, codes.Code) {
		got, err := h.internal.Evict(b.ctx, &guildhallv1.EvictRequest{Group: group, Player: player})
		return got.GetSessions(), status.Code(err)
	}
	if n, code := evict("guild:dragons", "p1"); n != 2 || code != codes.OK {
		t.Errorf("evicting p1: %d sessions, %s; want 2", n, code)
	}
	phone.say("1", "I am still here")
	phone.endsWith(guildhallv1.CloseCode_CLOSE_CODE_EVICTED, false)
	laptop.endsWith(guildhallv1.CloseCode_CLOSE_CODE_EVICTED, false)
	witness.told(1, "p1", guildhallv1.MemberState_MEMBER_STATE_GONE)
	for _, c := range []struct {
		group, player string
		want          codes.Code
	}{
		{"guild:dragons", "p1", codes.OK}, {"guild:none", "p1", codes.NotFound}, {"dragons", "p1", codes.InvalidArgument},
		{"guild:dragons", "", codes.InvalidArgument}, {"guild:dragons", "p 1", codes.InvalidArgument},
	} {
		if n, code := evict(c.group, c.player); n != 0 || code != c.want {
			t.Errorf("evicting %q from %q: %d sessions, %s; want none and %s", c.player, c.group, n, code, c.want)
		}
	}
	witness.say("1", "quiet now")
	if seq := witness.acked("1"); seq != 1 || len(phone.acks) != 0 {
		t.Errorf("the first message got number %d; p1 was acked %v", seq, phone.acks)
	}
	if n := witness.count("p1", guildhallv1.MemberState_MEMBER_STATE_GONE); n != 1 {
		t.Errorf("p1 went %d times", n)
	}
}

func TestStats(t *testing.T) {
	b := setup(t)
	h := b.host("h1")
	stats := func() []*guildhallv1.RoomStats {
		got, err := h.internal.Stats(b.ctx, &guildhallv1.StatsRequest{})
		if err != nil {
			t.Fatal(err)
		}
		return got.GetRooms()
	}
	if got := stats(); len(got) != 0 {
		t.Errorf("an empty host tells of %v", got)
	}
	second, first := h.openRoom(otherGroup), h.openRoom(dragons)
	m := h.join("p1", first, nil)
	h.join("p1", first, nil)
	h.join("p2", first, nil)
	m.sayMany(1, 3)
	got := stats()
	if len(got) != 2 || !slices.IsSortedFunc(got, func(a, b *guildhallv1.RoomStats) int {
		return slices.Compare([]byte(a.GetGroup()), []byte(b.GetGroup()))
	}) {
		t.Fatalf("the host tells of %v, want two rooms by group", got)
	}
	if r := got[0]; r.GetGroup() != "guild:dragons" || r.GetEpoch() != uint64(first.Epoch) || r.GetMembers() != 2 || r.GetLastSeq() != 3 {
		t.Errorf("of the dragons it tells %v", r)
	}
	if r := got[1]; r.GetEpoch() != uint64(second.Epoch) || r.GetMembers() != 0 || r.GetLastSeq() != 0 {
		t.Errorf("of the others it tells %v", r)
	}
}

// An allocated host that nobody uses, or ever used, closes after its grace; one that nobody was given stays.
func TestTheGraceOfAnIdleHost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := lonelyDoor().host
		h.idleGrace = time.Minute
		h.capacity = 1
		passes := func(d time.Duration) bool { // whether the host closes meanwhile
			select {
			case <-h.closing:
				return true
			case <-time.After(d):
				return false
			}
		}
		if passes(24 * time.Hour) {
			t.Fatal("a host that is ready closed by itself")
		}
		s, _, err := h.take(dragons, 1) // its first room comes before Agones says Allocated
		if err != nil {
			t.Fatal(err)
		}
		h.allocated()
		h.allocated() // the watch says so again and again
		if passes(24 * time.Hour) {
			t.Fatal("a host with a room closed")
		}
		h.free(dragons, s)
		if passes(59 * time.Second) {
			t.Fatal("the host closed before its grace")
		}
		if s, _, err = h.take(dragons, 2); err != nil {
			t.Fatal(err)
		}
		if passes(time.Hour) {
			t.Fatal("the host closed by a grace that was over")
		}
		h.free(dragons, s)
		start := time.Now()
		if !passes(time.Hour) || time.Since(start) != time.Minute {
			t.Fatalf("the host closed after %s, want a minute", time.Since(start))
		}
		if _, _, err := h.take(dragons, 3); status.Code(err) == codes.OK || h.lease().State != registry.HostClosing {
			t.Errorf("a host that is %s took a room: %v", h.lease().State, err)
		}
	})
}

// A claim of this host that has no room here is given back; one that has, or that is another by now, is left alone.
func TestDisown(t *testing.T) {
	b := setup(t)
	h := b.host("h1")
	open, unused, elsewhere := h.openRoom(dragons), b.claim(otherGroup, "h1"), b.claim(group(1), "h1")
	later := b.claim(group(1), "h2")
	m := h.join("p1", open, nil)
	request := &guildhallv1.DisownRequest{}
	for _, claim := range []registry.Claim{open, unused, elsewhere} {
		request.Claims = append(request.Claims, &guildhallv1.HeldClaim{Group: claim.Group.String(), Epoch: uint64(claim.Epoch)})
	}
	for _, want := range []uint32{2, 2} { // two have no room; asking again is no harm
		response, err := h.internal.Disown(b.ctx, request)
		if err != nil || response.GetDisowned() != want {
			t.Errorf("Disown: %v, %v; want %d", response, err, want)
		}
	}
	if claim, err := b.registry.Claim(b.ctx, otherGroup); !errors.Is(err, registry.ErrNoClaim) {
		t.Errorf("the claim without a room is %+v, %v", claim, err)
	}
	if claim, err := b.registry.Claim(b.ctx, group(1)); err != nil || claim.Epoch != later.Epoch {
		t.Errorf("the claim of another host is %+v, %v", claim, err)
	}
	m.say("1", "the room goes on")
	m.acked("1")
	h.open(b.claim(otherGroup, "h1"))
	if rooms, _ := h.countRooms(); rooms != 2 {
		t.Errorf("%d rooms, want 2", rooms)
	}
}

// Whoever comes for a room whose claim is being given back finds it opened or gone, never both.
func TestDisownRacesOpening(t *testing.T) {
	b := setup(t)
	h := b.host("h1")
	for n := range 30 {
		claim := b.claim(group(n), "h1")
		var racing sync.WaitGroup
		racing.Go(func() { h.disownUnused(b.ctx, claim.Group, claim.Epoch) })
		var err error
		racing.Go(func() { _, err = h.host.open(b.ctx, claim.Group, claim.Epoch) })
		racing.Wait()
		now, claimErr := b.registry.Claim(b.ctx, claim.Group)
		switch {
		case err == nil && (claimErr != nil || now.Epoch != claim.Epoch):
			t.Fatalf("round %d: the room is open and its claim is gone: %v", n, claimErr)
		case err != nil && !errors.Is(err, errNotClaimed):
			t.Fatalf("round %d: %v", n, err)
		case err != nil && !errors.Is(claimErr, registry.ErrNoClaim):
			t.Fatalf("round %d: no room, and the claim is %+v, %v", n, now, claimErr)
		}
	}
}
