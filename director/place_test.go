package director

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/guildhall-dev/guildhall"
	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
	"github.com/guildhall-dev/guildhall/internal/registry"
)

// mustPlace places a group and checks that the registry agrees.
func (w *world) mustPlace(p *Placer, group guildhall.Group) *guildhallv1.Placement {
	w.t.Helper()
	placement, err := p.Place(w.ctx, group)
	if err != nil {
		w.t.Fatalf("placing %s: %v", group, err)
	}
	claim, err := w.registry.Claim(w.ctx, group)
	if err != nil || string(claim.Host) != placement.GetHost() || uint64(claim.Epoch) != placement.GetEpoch() {
		w.t.Fatalf("placed at %v, but the claim is %+v, %v", placement, claim, err)
	}
	return placement
}

// await waits until a registry's view has a host.
func (w *world) await(p *Placer, hosts ...*smallHost) {
	w.t.Helper()
	for _, h := range hosts {
		if _, err := p.registry.AwaitHost(w.ctx, h.lease.Host, func(registry.Lease) bool { return true }); err != nil {
			w.t.Fatal(err)
		}
	}
}

func TestPlaceOnAnAllocatedHost(t *testing.T) {
	w := setup(t)
	h, p := w.host("h1", registry.HostAllocated, 10), w.placer()
	w.await(p, h)
	first := w.mustPlace(p, testGroup(1))
	if first.GetHost() != "h1" || first.GetAddress() != h.lease.Address || h.opened["guild:g1"] != 1 {
		t.Errorf("placed at %v with %d OpenRoom", first, h.opened["guild:g1"])
	}
	if again := w.mustPlace(p, testGroup(1)); again.GetEpoch() != first.GetEpoch() || h.roomCount() != 1 {
		t.Errorf("a live room was placed again: %v, %d OpenRoom", again, h.opened["guild:g1"])
	}
	if w.allocator.called() != 0 {
		t.Error("a host was allocated although one had room")
	}
}

func TestPlaceOnTheFullestThatHasRoom(t *testing.T) {
	w := setup(t)
	full, fuller, empty := w.host("full", registry.HostAllocated, 5), w.host("fuller", registry.HostAllocated, 5), w.host("empty", registry.HostAllocated, 5)
	p := w.placer()
	w.await(p, full, fuller, empty)
	for h, rooms := range map[*smallHost]int{full: 5, fuller: 3} {
		h.mu.Lock()
		h.lease.Rooms = rooms
		h.mu.Unlock()
		h.become(registry.HostAllocated, p.registry)
		if _, err := p.registry.AwaitHost(w.ctx, h.lease.Host, func(l registry.Lease) bool { return l.Rooms == rooms }); err != nil {
			t.Fatal(err)
		}
	}
	if got := w.mustPlace(p, testGroup(1)); got.GetHost() != "fuller" {
		t.Errorf("placed on %s, want the fullest that has room", got.GetHost())
	}
}

func TestPlaceTakesOverFromTheDead(t *testing.T) {
	w := setup(t)
	dead, alive, p := w.host("dead", registry.HostAllocated, 10), w.host("alive", registry.HostAllocated, 10), w.placer()
	w.await(p, dead, alive)
	old, err := w.registry.Take(w.ctx, testGroup(1), "dead", 0)
	if err != nil {
		t.Fatal(err)
	}
	dead.die()
	dead.refuseWith(codes.Aborted) // a view may show it for a moment yet
	got := w.mustPlace(p, testGroup(1))
	if got.GetHost() != "alive" || got.GetEpoch() <= uint64(old.Epoch) {
		t.Errorf("taken over at %v, want on alive behind epoch %d", got, old.Epoch)
	}
}

func TestPlaceElsewhereWhenAHostRefuses(t *testing.T) {
	for code, reason := range map[codes.Code]string{
		codes.ResourceExhausted:  "host_full",
		codes.Aborted:            "host_leaving", // draining or closing, before its lease says so
		codes.FailedPrecondition: "host_disagrees",
	} {
		t.Run(reason, func(t *testing.T) {
			w := setup(t)
			a, b, p := w.host("a", registry.HostAllocated, 10), w.host("b", registry.HostAllocated, 10), w.placer()
			w.await(p, a, b)
			a.refuseWith(code)
			for i := range 3 {
				if got := w.mustPlace(p, testGroup(i)); got.GetHost() != "b" {
					t.Errorf("placed on %s, which refuses", got.GetHost())
				}
			}
			// Of two empty hosts the first by name is asked first, and from then on the fuller.
			if n := counted(t, p.metrics.retries, reason); n != 1 {
				t.Errorf("%v refusals are counted as %s, want 1", n, reason)
			}
		})
	}
}

// A host that says that it is full is left alone for a moment: its lease may be late.
func TestAFullHostIsNotAskedByEveryGroup(t *testing.T) {
	w := setup(t)
	full, p := w.host("full", registry.HostAllocated, 10), w.placer()
	w.await(p, full)
	full.refuseWith(codes.ResourceExhausted)
	w.ready(p, 10, "next")
	for i := range 3 {
		w.mustPlace(p, testGroup(i))
	}
	if len(full.opened) != 1 {
		t.Errorf("it was asked for %v", full.opened)
	}
}

// Somebody else takes the claim while a host is being allocated: whoever loses the swap finds the winner's room.
func TestPlaceLosesTheSwap(t *testing.T) {
	w := setup(t)
	p := w.placer()
	w.ready(p, 10, "ours")
	winner := w.host("winner", registry.HostAllocated, 0) // alive, and not to be chosen
	w.await(p, winner)
	w.allocator.before = sync.OnceFunc(func() {
		if _, err := w.registry.Take(w.ctx, testGroup(1), "winner", 0); err != nil {
			t.Error(err)
		}
		winner.mu.Lock()
		defer winner.mu.Unlock()
		winner.rooms[testGroup(1).String()] = true
	})
	if got := w.mustPlace(p, testGroup(1)); got.GetHost() != "winner" {
		t.Errorf("placed on %s", got.GetHost())
	}
	if n := counted(t, p.metrics.retries, "claim_lost"); n != 1 {
		t.Errorf("%v lost swaps are counted, want 1", n)
	}
	w.mustPlace(p, testGroup(2)) // on the host that was allocated for nothing
	if n := w.allocator.called(); n != 1 {
		t.Errorf("%d allocations", n)
	}
}

// A host that no director reaches, and that lives, keeps the claim that it was given: it opens the room when a player
// comes. If it dies the claim is taken over.
func TestUnreachableHost(t *testing.T) {
	w := setup(t)
	h, p := w.host("h", registry.HostAllocated, 10), w.placer()
	h.mu.Lock()
	h.lease.InternalAddress = "127.0.0.1:1" // nobody is there
	h.mu.Unlock()
	h.become(registry.HostAllocated, p.registry)
	if _, err := p.registry.AwaitHost(w.ctx, "h", func(l registry.Lease) bool { return l.InternalAddress == "127.0.0.1:1" }); err != nil {
		t.Fatal(err)
	}
	w.mustPlace(p, testGroup(1))
	if n := counted(t, p.metrics.retries, "host_silent"); n != 1 {
		t.Errorf("%v silent hosts are counted, want 1", n)
	}
	h.die()
	w.ready(p, 10, "next")
	w.awaitGone(p.registry, h)
	if got := w.mustPlace(p, testGroup(1)); got.GetHost() != "next" {
		t.Errorf("placed on %s", got.GetHost())
	}
}

// A group that no host takes does not empty the fleet.
func TestRefusalsCostFewAllocations(t *testing.T) {
	for code, most := range map[codes.Code]int{codes.InvalidArgument: 1, codes.FailedPrecondition: allocationsMost} {
		t.Run(code.String(), func(t *testing.T) {
			w := setup(t)
			p := w.placer()
			for _, name := range []string{"a", "b", "c", "d"} {
				h := w.host(name, registry.HostReady, 10)
				h.refuseWith(code)
				w.await(p, h)
				w.allocator.put(name)
			}
			if got, err := p.Place(w.ctx, testGroup(1)); err == nil {
				t.Errorf("placed at %v", got)
			}
			if n := w.allocator.called(); n > most {
				t.Errorf("one group cost %d hosts, want at most %d", n, most)
			}
			if _, err := w.registry.Claim(w.ctx, testGroup(1)); !errors.Is(err, registry.ErrNoClaim) {
				t.Errorf("a claim is left: %v", err)
			}
		})
	}
}

// Why a placement failed is told by a metric.
func TestWhyPlacementsFail(t *testing.T) {
	t.Parallel()
	refusal := func(code codes.Code) error { return &refusedError{host: "h", cause: status.Error(code, "no")} }
	for want, err := range map[string]error{
		"host_full":          fmt.Errorf("gave up after %w", refusal(codes.ResourceExhausted)),
		"bad_request":        refusal(codes.InvalidArgument),
		"host_silent":        refusal(codes.DeadlineExceeded), // the host's, not the placement's
		"fleet_empty":        &allocationError{cause: status.Error(codes.ResourceExhausted, "no")},
		"claim_lost":         fmt.Errorf("gave up after %w", registry.ErrClaimLost),
		"moving":             fmt.Errorf("gave up after %w", errMoving),
		"every_host_refuses": errNobodyTakesIt,
		"no_lease":           fmt.Errorf("%w: h: %w", errNoLease, context.DeadlineExceeded),
		"timeout":            fmt.Errorf("waiting for an allocation: %w", context.DeadlineExceeded),
		"registry":           errors.New("nats: no responders"),
	} {
		if got := why(err); got != want {
			t.Errorf("%v counts as %s, want %s", err, got, want)
		}
	}
}

// A host that does not answer may have opened the room: its claim stands, and players are sent there.
func TestSilentHostKeepsItsClaim(t *testing.T) {
	for _, code := range []codes.Code{codes.Unavailable, codes.DeadlineExceeded, codes.Internal} {
		t.Run(code.String(), func(t *testing.T) {
			w := setup(t)
			silent, p := w.host("silent", registry.HostAllocated, 10), w.placer()
			w.await(p, silent)
			silent.refuseWith(code)
			first := w.mustPlace(p, testGroup(1))
			if first.GetHost() != "silent" {
				t.Errorf("placed at %v, and the silent host may have the room", first)
			}
		})
	}
}

// A host that was silent is back before its claim is taken over: it keeps its room.
func TestTakeLooksAgainBeforeTakingOver(t *testing.T) {
	w := setup(t)
	p := w.placer()
	claim, err := w.registry.Take(w.ctx, testGroup(1), "late", 0)
	if err != nil {
		t.Fatal(err)
	}
	w.host("late", registry.HostAllocated, 10)
	if _, err := p.take(w.ctx, testGroup(1), "other", claim.Epoch); !errors.Is(err, registry.ErrClaimLost) {
		t.Errorf("taken over from a living host: %v", err)
	}
}

// A claim that a leaving host was given and never used is free: such a host opens nothing any more.
func TestPlaceTakesOverFromALeavingHostWithoutRooms(t *testing.T) {
	w := setup(t)
	leaving, next, p := w.host("leaving", registry.HostAllocated, 10), w.host("next", registry.HostAllocated, 10), w.placer()
	w.await(p, leaving, next)
	if _, err := w.registry.Take(w.ctx, testGroup(1), "leaving", 0); err != nil {
		t.Fatal(err)
	}
	leaving.become(registry.HostDraining, p.registry)
	if got := w.mustPlace(p, testGroup(1)); got.GetHost() != "next" {
		t.Errorf("placed on %s", got.GetHost())
	}
}

func TestPlaceFailsWhenNobodyTakesTheRoom(t *testing.T) {
	w := setup(t)
	h, p := w.host("h", registry.HostAllocated, 10), w.placer()
	w.await(p, h)
	h.refuseWith(codes.ResourceExhausted)
	_, err := p.Place(w.ctx, testGroup(1))
	if status.Code(errors.Unwrap(err)) != codes.ResourceExhausted {
		t.Errorf("failed with %v, want what Agones said", err)
	}
	if claim, err := w.registry.Claim(w.ctx, testGroup(1)); !errors.Is(err, registry.ErrNoClaim) {
		t.Errorf("a claim is left: %+v, %v", claim, err)
	}
}

func TestPlaceWaitsForARoomThatMoves(t *testing.T) {
	w := setup(t)
	leaving, next, p := w.host("leaving", registry.HostAllocated, 10), w.host("next", registry.HostAllocated, 10), w.placer()
	w.await(p, leaving, next)
	claim, err := w.registry.Take(w.ctx, testGroup(1), "leaving", 0)
	if err != nil {
		t.Fatal(err)
	}
	leaving.lease.Rooms = 1
	leaving.become(registry.HostDraining, p.registry)
	if _, err := p.attempt(w.ctx, testGroup(1), &try{}); !errors.Is(err, errMoving) {
		t.Fatalf("a draining host's room: %v, want errMoving", err)
	}
	if err := w.registry.Release(w.ctx, claim); err != nil {
		t.Fatal(err)
	}
	if got := w.mustPlace(p, testGroup(1)); got.GetHost() != "next" {
		t.Errorf("moved to %s", got.GetHost())
	}
}

// One room: two directors and a hundred placements of one group.
func TestPlaceOneGroupOnce(t *testing.T) {
	w := setup(t)
	hosts := []*smallHost{w.host("a", registry.HostAllocated, 10), w.host("b", registry.HostAllocated, 10), w.host("c", registry.HostAllocated, 10)}
	directors := []*Placer{w.placer(), w.placer()}
	for _, p := range directors {
		w.await(p, hosts...)
	}
	placements := make([]*guildhallv1.Placement, 100)
	var placing sync.WaitGroup
	for i := range placements {
		placing.Go(func() {
			var err error
			if placements[i], err = directors[i%2].Place(w.ctx, testGroup(1)); err != nil {
				t.Error(err)
			}
		})
	}
	placing.Wait()
	for _, got := range placements {
		if got.GetHost() != placements[0].GetHost() || got.GetEpoch() != placements[0].GetEpoch() {
			t.Errorf("two rooms: %v and %v", placements[0], got)
		}
	}
}

// A burst of new groups is packed on few hosts by few allocations.
func TestBurstCostsOneAllocation(t *testing.T) {
	const burst, capacity = 30, 60 // a room that is being opened may be counted twice for a moment: by us, and by the lease
	w := setup(t)
	a, b, p := w.host("a", registry.HostReady, capacity), w.host("b", registry.HostReady, capacity), w.placer()
	w.await(p, a, b)
	w.allocator.put("a", "b")
	var placing sync.WaitGroup
	for i := range burst {
		placing.Go(func() {
			if got, err := p.Place(w.ctx, testGroup(i)); err != nil || got.GetHost() != "a" {
				t.Errorf("group %d: %v, %v", i, got, err)
			}
		})
	}
	placing.Wait()
	if w.allocator.called() != 1 || a.roomCount() != burst {
		t.Errorf("%d allocations, %d rooms on a", w.allocator.called(), a.roomCount())
	}
	for i := range capacity - burst {
		if got := w.mustPlace(p, testGroup(burst+i)); got.GetHost() != "a" || w.allocator.called() != 1 {
			t.Errorf("group %d was placed at %v by %d allocations", burst+i, got, w.allocator.called())
		}
	}
	if got := w.mustPlace(p, testGroup(capacity)); got.GetHost() != "b" || w.allocator.called() != 2 {
		t.Errorf("the next one was placed at %v by %d allocations", got, w.allocator.called())
	}
}

func TestReadyHostsAreNotUsedUnallocated(t *testing.T) {
	w := setup(t)
	h, p := w.host("h", registry.HostReady, 10), w.placer()
	w.await(p, h)
	if got, err := p.Place(w.ctx, testGroup(1)); err == nil {
		t.Errorf("placed at %v, which Agones may take away at any time", got)
	}
}

func TestAllocatedHostWithoutALease(t *testing.T) {
	w := setup(t)
	p := w.placer()
	w.allocator.put("ghost")
	if got, err := p.Place(w.ctx, testGroup(1)); err == nil {
		t.Errorf("placed at %v, which has no lease", got)
	}
	if _, err := w.registry.Claim(w.ctx, testGroup(1)); !errors.Is(err, registry.ErrNoClaim) {
		t.Errorf("a claim is left: %v", err)
	}
}

// A claim that another director has just written may be about to be refused: whoever finds it asks the host too, and sends
// nobody there before the host has said yes.
func TestYoungClaimOfAnotherDirector(t *testing.T) {
	w := setup(t)
	full, free, p := w.host("full", registry.HostAllocated, 1), w.host("free", registry.HostAllocated, 10), w.placer()
	w.await(p, full, free)
	full.refuseWith(codes.ResourceExhausted)
	claim, err := w.registry.Take(w.ctx, testGroup(1), "full", 0) // the other director is about to call OpenRoom
	if err != nil {
		t.Fatal(err)
	}
	got := w.mustPlace(p, testGroup(1))
	if got.GetHost() != "free" || got.GetEpoch() <= uint64(claim.Epoch) {
		t.Errorf("placed at %v, and that host is full", got)
	}
}

// Two matches of one group share a placement: when the first one's time is up, the second goes on by itself.
func TestTheSecondDoesNotInheritTheFirstsDeadline(t *testing.T) {
	w := setup(t)
	p := w.placer()
	first, cancel := context.WithCancel(w.ctx)
	asked := make(chan struct{})
	w.allocator.before = sync.OnceFunc(func() { close(asked) })
	failed := make(chan error, 1)
	go func() { // no host is to be had: it tries on
		_, err := p.Place(first, testGroup(1))
		failed <- err
	}()
	<-asked
	placed := make(chan error, 1)
	go func() {
		_, err := p.Place(w.ctx, testGroup(1))
		placed <- err
	}()
	cancel()
	if err := <-failed; !errors.Is(err, context.Canceled) {
		t.Errorf("the first ended with %v", err)
	}
	w.ready(p, 10, "host")
	if err := <-placed; err != nil {
		t.Errorf("the second, who has all the time, ended with %v", err)
	}
}
