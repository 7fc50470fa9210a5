package director

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"

	"github.com/guildhall-dev/guildhall/internal/registry"
)

// counted gives the value of a counter or gauge that has one label, or none.
func counted(t *testing.T, metric prometheus.Collector, label string) float64 {
	t.Helper()
	families := prometheus.NewRegistry()
	families.MustRegister(metric)
	gathered, err := families.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range gathered {
		for _, m := range family.GetMetric() {
			if len(m.GetLabel()) == 0 || m.GetLabel()[0].GetValue() == label {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return 0
}

// ready starts hosts that Agones can give.
func (w *world) ready(p *Placer, capacity int, names ...string) []*smallHost {
	w.t.Helper()
	var hosts []*smallHost
	for _, name := range names {
		h := w.host(name, registry.HostReady, capacity)
		w.await(p, h)
		w.allocator.put(name)
		hosts = append(hosts, h)
	}
	return hosts
}

// Agones refuses for reasons that pass: another's request was in flight, the same host was wanted twice, the allocator
// was being replaced. None of these costs the group its place, or a second host.
func TestAllocationIsTriedAgain(t *testing.T) {
	for code, reason := range map[codes.Code]string{
		codes.ResourceExhausted: "fleet_empty", codes.Aborted: "allocation_contended", codes.Unavailable: "allocator_away",
	} {
		overDoors(t, code.String(), func(w *world, _ *doorway) {
			t, p := w.t, w.placer()
			w.ready(p, 10, "a", "b")
			w.allocator.failWith(code, code, code)
			if got := w.mustPlace(p, testGroup(1)); got.GetHost() != "a" || w.allocator.gave() != 1 {
				t.Errorf("placed on %s with %d hosts", got.GetHost(), w.allocator.gave())
			}
			if n := counted(t, p.metrics.retries, reason); n != 3 {
				t.Errorf("%v retries are counted as %s, want 3", n, reason)
			}
		})
	}
}

// What Agones finds wrong with a request stays wrong, and what it forbids stays forbidden; the code for the first is not
// even one of gRPC's.
func TestRefusedAllocationIsNotTriedAgain(t *testing.T) {
	for code, reason := range map[codes.Code]string{
		422: "allocation_refused", codes.InvalidArgument: "allocation_refused", codes.PermissionDenied: "allocation_denied",
		codes.Unauthenticated: "allocation_denied", codes.Unimplemented: "allocator_missing",
	} {
		overDoors(t, fmt.Sprint(uint32(code)), func(w *world, _ *doorway) {
			t, p := w.t, w.placer()
			w.ready(p, 10, "a")
			w.allocator.failWith(code)
			_, err := p.Place(w.ctx, testGroup(1))
			if err == nil || why(err) != reason || w.allocator.called() != 1 {
				t.Errorf("failed with %v after %d calls; it counts as %s, want %s", err, w.allocator.called(), why(err), reason)
			}
		})
	}
}

// "None available" is believed in the end, and those who waited meanwhile believe it too: the calls do not add up.
func TestAnEmptyFleetIsBelieved(t *testing.T) {
	w := setup(t)
	p := w.placer()
	var placing sync.WaitGroup
	for i := range 20 {
		placing.Go(func() {
			if got, err := p.Place(w.ctx, testGroup(i)); err == nil || why(err) != "fleet_empty" {
				t.Errorf("placed at %v, %v", got, err)
			}
		})
	}
	placing.Wait()
	if n := w.allocator.called(); n > 2*allocateTries {
		t.Errorf("20 groups cost %d calls of an empty fleet", n)
	}
	w.ready(p, 10, "late")
	w.mustPlace(p, testGroup(1)) // nobody believes it for ever
}

// A host becomes available while Agones says that there is none: another director has allocated it.
func TestAHostOfAnotherDirectorIsFoundMeanwhile(t *testing.T) {
	w := setup(t)
	p := w.placer()
	theirs := w.host("theirs", registry.HostReady, 10)
	w.await(p, theirs)
	once := sync.OnceFunc(func() { theirs.become(registry.HostAllocated, w.registry) })
	w.allocator.before = once
	if got := w.mustPlace(p, testGroup(1)); got.GetHost() != "theirs" || w.allocator.gave() != 0 {
		t.Errorf("placed on %s with %d hosts of our own", got.GetHost(), w.allocator.gave())
	}
}

// The answer of an allocation is lost: the host shows that it was allocated, and no second one is.
func TestLostAnswerOfAnAllocation(t *testing.T) {
	for _, code := range []codes.Code{codes.DeadlineExceeded, codes.Unavailable, codes.Unknown, codes.Internal} {
		overDoors(t, code.String(), func(w *world, _ *doorway) {
			t, p := w.t, w.placer()
			hosts := w.ready(p, 10, "a", "b", "c", "d")
			w.allocator.failWith(code)
			w.allocator.lost = func(string) { hosts[0].become(registry.HostAllocated, w.registry) }
			if got := w.mustPlace(p, testGroup(1)); got.GetHost() != "a" || w.allocator.gave() != 1 {
				t.Errorf("placed on %s with %d hosts", got.GetHost(), w.allocator.gave())
			}
		})
	}
}

// Every answer is lost, and no host ever shows: one group does not empty the fleet.
func TestLostAnswersDoNotEmptyTheFleet(t *testing.T) {
	w := setup(t)
	p := w.placer()
	w.ready(p, 10, "a", "b", "c", "d", "e")
	for range 5 {
		w.allocator.failWith(codes.DeadlineExceeded)
	}
	w.allocator.lost = func(string) {}
	if got, err := p.Place(w.ctx, testGroup(1)); err == nil || why(err) != "allocation_unknown" {
		t.Errorf("placed at %v, %v", got, err)
	}
	if w.allocator.gave() > allocationsMost {
		t.Errorf("one group cost %d hosts", w.allocator.gave())
	}
}

// An allocator that does not answer at all costs one attempt's time, not the placement.
func TestSilentAllocator(t *testing.T) {
	overDoors(t, "", func(w *world, _ *doorway) {
		t, p := w.t, w.placer()
		p.allocator.timeout = 100 * time.Millisecond
		hosts := w.ready(p, 10, "a")
		release := make(chan struct{})
		t.Cleanup(func() { close(release) })
		var once sync.Once
		w.allocator.before = func() {
			once.Do(func() {
				hosts[0].become(registry.HostAllocated, w.registry)
				<-release
			})
		}
		if got := w.mustPlace(p, testGroup(1)); got.GetHost() != "a" {
			t.Errorf("placed on %s", got.GetHost())
		}
		if n := counted(t, p.metrics.retries, "allocation_unknown"); n != 1 {
			t.Errorf("%v retries are counted, want 1", n)
		}
	})
}

// Whoever is called off while it waits for its turn goes at once, and leaves no claim.
func TestCalledOffWhileWaitingForTheTurn(t *testing.T) {
	w := setup(t)
	p := w.placer()
	if err := p.allocator.turn.lock(w.ctx); err != nil {
		t.Fatal(err)
	}
	defer p.allocator.turn.unlock()
	ctx, cancel := context.WithCancel(w.ctx)
	cancel()
	if _, err := p.Place(ctx, testGroup(1)); !errors.Is(err, context.Canceled) {
		t.Errorf("placing ended with %v", err)
	}
}

// Three directors place a burst on a small fleet: all of it has room, no host is allocated beyond what is needed, and
// hosts that refuse leave no claim behind.
func TestABurstOfThreeDirectors(t *testing.T) {
	const groups, capacity, needed = 120, 40, 3
	w := setup(t)
	placers := []*Placer{w.placer(), w.placer(), w.placer()}
	hosts := w.ready(placers[0], capacity, "a", "b", "c")
	for _, p := range placers {
		w.await(p, hosts...)
	}
	var placing sync.WaitGroup
	for i := range groups {
		placing.Go(func() {
			for { // a director gives the tickets back and gets them again
				_, err := placers[i%3].Place(w.ctx, testGroup(i))
				if err == nil {
					return
				}
				if why(err) != "fleet_empty" {
					t.Errorf("group %d: %v", i, err)
					return
				}
			}
		})
	}
	placing.Wait()
	claims, err := w.registry.Claims(w.ctx)
	if err != nil || len(claims) != groups {
		t.Errorf("%d claims, %v; want %d", len(claims), err, groups)
	}
	unopened := 0.0
	for _, claim := range claims {
		if h := hosts[claim.Host[0]-'a']; !h.has(claim.Group.String()) {
			unopened++
		}
	}
	silent := 0.0 // on a machine that is busy a host may take too long: its claim stands, and a player opens the room
	for _, p := range placers {
		silent += counted(t, p.metrics.retries, "host_silent")
	}
	if unopened > silent {
		t.Errorf("%v claims are left by hosts that refused", unopened-silent)
	}
	if w.allocator.gave() != needed {
		t.Errorf("%d hosts were allocated, want %d", w.allocator.gave(), needed)
	}
}
