package director

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"

	"github.com/guildhall-dev/guildhall"
	"github.com/guildhall-dev/guildhall/internal/logtest"
	"github.com/guildhall-dev/guildhall/internal/process"
	"github.com/guildhall-dev/guildhall/internal/registry"
)

// run runs a placer until the test ends.
func (w *world) run(p *Placer) {
	w.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	w.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Errorf("the placer ended: %v", err)
		}
	})
}

// keptFor waits until a host has been kept so often that a time has passed since the first.
func (h *smallHost) keptFor(d time.Duration) {
	h.w.t.Helper()
	var first time.Time
	for first.IsZero() || time.Since(first) < d {
		select {
		case <-h.kept:
			if first.IsZero() {
				first = time.Now()
			}
		case <-h.w.ctx.Done():
			h.w.t.Fatalf("host %s is not kept", h.lease.Host)
		}
	}
}

// awaitGone waits until a host has no lease any more.
func (w *world) awaitGone(r *registry.Registry, h *smallHost) {
	w.t.Helper()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for {
		if _, there := r.HostInView(h.lease.Host); !there {
			return
		}
		select {
		case <-ticker.C:
		case <-w.ctx.Done():
			w.t.Fatalf("host %s stays", h.lease.Host)
		}
	}
}

func TestHeadroomIsDecoded(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Headroom{"10": 10, "1": 1, "0": NoHeadroom, "none": NoHeadroom} {
		var got Headroom
		if err := got.Decode(text); err != nil || got != want {
			t.Errorf("%q is read as %d, %v; want %d", text, got, err, want)
		}
		var again Headroom
		if err := again.Decode(got.String()); err != nil || again != got {
			t.Errorf("%d is written as %q and read as %d, %v", got, got, again, err)
		}
	}
	for _, text := range []string{"", "-1", "many", "1.5"} {
		if err := new(Headroom).Decode(text); err == nil {
			t.Errorf("%q was taken for a headroom", text)
		}
	}
	for given, want := range map[Headroom]Headroom{0: 10, NoHeadroom: NoHeadroom, 3: 3} {
		config := Config{Headroom: given}
		process.FillZero(&config)
		if environ := process.Environ(&config); config.Headroom != want || !slices.Contains(environ, "GUILDHALL_HEADROOM="+want.String()) {
			t.Errorf("%d became %d, and %v; want %d", given, config.Headroom, environ, want)
		}
	}
}

// allocated makes a lease for a view.
func allocated(name, version string, rooms, capacity int) registry.Lease {
	return registry.Lease{Host: guildhall.HostName(name), State: registry.HostAllocated, Version: version, Rooms: rooms, RoomsCapacity: capacity}
}

// inState changes a lease's state.
func inState(lease registry.Lease, state registry.HostState) registry.Lease {
	lease.State = state
	return lease
}

func TestWhatMakesUpTheHeadroom(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		leases []registry.Lease
		rooms  int
		free   int
		keeps  string
	}{
		"nothing":                  {nil, 10, 0, ""},
		"one idle host":            {[]registry.Lease{allocated("a", "v1.0.0", 0, 50)}, 10, 50, "a"},
		"one is enough":            {[]registry.Lease{allocated("a", "v1.0.0", 0, 50), allocated("b", "v1.0.0", 0, 50)}, 10, 100, "a"},
		"two are needed":           {[]registry.Lease{allocated("a", "v1.0.0", 0, 5), allocated("b", "v1.0.0", 0, 5), allocated("c", "v1.0.0", 0, 5)}, 10, 15, "a b"},
		"those in use come first":  {[]registry.Lease{allocated("a", "v1.0.0", 0, 50), allocated("b", "v1.0.0", 40, 50)}, 10, 60, ""},
		"those in use do not do":   {[]registry.Lease{allocated("a", "v1.0.0", 0, 50), allocated("b", "v1.0.0", 41, 50)}, 10, 59, "a"},
		"full ones do not count":   {[]registry.Lease{allocated("a", "v1.0.0", 50, 50), allocated("b", "v1.0.0", 60, 50), allocated("c", "v1.0.0", 0, 50)}, 10, 50, "c"},
		"none is wanted":           {[]registry.Lease{allocated("a", "v1.0.0", 0, 50)}, 0, 50, ""},
		"ready ones are Agones'":   {[]registry.Lease{inState(allocated("a", "v1.0.0", 0, 50), registry.HostReady)}, 10, 0, ""},
		"leaving ones do not stay": {[]registry.Lease{inState(allocated("a", "v1.0.0", 0, 50), registry.HostDraining), inState(allocated("b", "v1.0.0", 0, 50), registry.HostClosing)}, 10, 0, ""},
		"a newer version is here": {[]registry.Lease{
			allocated("a", "v1.0.0", 0, 50), allocated("b", "v1.0.0", 20, 50), inState(allocated("c", "v1.1.0", 0, 50), registry.HostReady),
		}, 10, 0, ""},
		"a newer version is in use": {[]registry.Lease{
			allocated("a", "v1.0.0", 0, 50), allocated("b", "v1.1.0", 0, 5), allocated("c", "v1.1.0", 1, 50), inState(allocated("d", "v1.1.0", 0, 50), registry.HostReady),
		}, 10, 54, ""},
		"a newer version was rolled back": {[]registry.Lease{
			allocated("a", "v1.0.0", 0, 50), allocated("b", "v1.1.0", 45, 50), inState(allocated("c", "v1.0.0", 0, 50), registry.HostReady),
		}, 10, 55, "a"},
		"nobody knows the version": {[]registry.Lease{allocated("a", "", 0, 50), inState(allocated("b", "devel", 0, 50), registry.HostReady)}, 10, 50, "a"},
	} {
		if free := newHosts(dialHost).free(test.leases); free != test.free {
			t.Errorf("%s: %d rooms are free, want %d", name, free, test.free)
		}
		var keeps []string
		for _, lease := range idleWanted(test.leases, test.rooms) {
			keeps = append(keeps, string(lease.Host))
		}
		if got := strings.Join(keeps, " "); got != test.keeps {
			t.Errorf("%s: %q are kept, want %q", name, got, test.keeps)
		}
	}
}

// The headroom is there before anybody comes: a burst of new groups costs no allocation on the players' path.
func TestABurstOnHeadroom(t *testing.T) {
	w := setup(t)
	p := w.placerWith(10)
	hosts := w.ready(p, 8, "a", "b", "c", "d")
	w.run(p)
	hosts[0].keptFor(0)
	hosts[1].keptFor(0) // 16 rooms are free: two hosts make up ten
	if n := w.allocator.called(); n != 2 {
		t.Errorf("%d hosts were allocated for a headroom of two", n)
	}
	w.allocator.failWith(codes.Internal, codes.Internal, codes.Internal) // from here on nothing can be had
	var placing sync.WaitGroup
	for i := range 10 {
		placing.Go(func() {
			if got, err := p.Place(w.ctx, testGroup(i)); err != nil {
				t.Errorf("group %d: %v, %v", i, got, err)
			}
		})
	}
	placing.Wait()
	for _, reason := range []string{"allocation_unknown", "fleet_empty"} {
		if n := counted(t, p.metrics.retries, reason); n != 0 {
			t.Errorf("%v allocations on the players' path failed as %s", n, reason)
		}
	}
}

// An idle host of the headroom is kept over many graces, and the surplus is given back.
func TestHeadroomStaysAndTheSurplusGoes(t *testing.T) {
	const grace = 1500 * time.Millisecond
	w := setup(t)
	wanted, surplus := w.host("a-wanted", registry.HostAllocated, 50), w.host("b-surplus", registry.HostAllocated, 50)
	wanted.grace = grace // it does not go: a machine that is too busy to keep it in time is no mistake
	surplus.closeAfter(grace)
	directors := []*Placer{w.placerWith(10), w.placerWith(10)}
	for _, p := range directors {
		w.await(p, wanted, surplus)
		w.run(p)
	}
	wanted.keptFor(3 * grace)
	w.awaitGone(w.registry, surplus)
	if n := w.allocator.called(); n != 0 {
		t.Errorf("%d allocations, and there was headroom all the time", n)
	}
	if len(surplus.kept) > 0 {
		t.Error("the surplus was kept")
	}
}

// Nothing leaks: when the directors are gone, what they kept goes, too.
func TestHeadroomGoesWithTheDirectors(t *testing.T) {
	w := setup(t)
	h := w.host("h", registry.HostAllocated, 50)
	p := w.placerWith(10)
	w.await(p, h)
	h.grace = time.Second
	ctx, cancel := context.WithCancel(w.ctx)
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	h.keptFor(0)
	h.closeAfter(time.Second)
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	w.awaitGone(w.registry, h)
}

func TestNoHeadroomAllocatesNothing(t *testing.T) {
	w := setup(t)
	p := w.placer()
	h := w.ready(p, 50, "a")[0]
	idle := w.host("idle", registry.HostAllocated, 50)
	w.await(p, idle)
	idle.closeAfter(time.Second)
	w.run(p)
	w.awaitGone(p.registry, idle)
	if n := w.allocator.called(); n != 0 || len(h.kept)+len(idle.kept) != 0 {
		t.Errorf("%d allocations, %d hosts were kept", n, len(h.kept)+len(idle.kept))
	}
}

// Several directors see at once that rooms are missing: they wait by chance and look again, and what two of them still
// allocate goes back. In any case it is few.
func TestDirectorsShareTheHeadroom(t *testing.T) {
	w := setup(t)
	placers := []*Placer{w.placerWith(10), w.placerWith(10), w.placerWith(10)}
	hosts := w.ready(placers[0], 50, "a", "b", "c", "d", "e", "f")
	hosts[0].grace = time.Second
	for _, p := range placers {
		w.await(p, hosts...)
		w.run(p)
	}
	hosts[0].keptFor(time.Second)
	if n := w.allocator.called(); n > len(placers) {
		t.Errorf("three directors made %d allocations for one host", n)
	}
}

// A fleet that has nothing to give is not asked all the time, and nobody is told twice.
func TestHeadroomOfAnEmptyFleet(t *testing.T) {
	w := setup(t)
	p := w.placerWith(10)
	h := p.headroom
	if h.canGrow() {
		t.Error("Agones would be asked, and no host has a lease that could be given")
	}
	ready := w.host("ready", registry.HostReady, 50) // by its lease; Agones has nothing
	w.await(p, ready)
	if !h.canGrow() {
		t.Error("Agones would not be asked")
	}
	for n, want := range []time.Duration{firstAheadPause, 2 * firstAheadPause, 4 * firstAheadPause} {
		h.grow(w.ctx)
		if h.pause != want || h.canGrow() {
			t.Errorf("after %d refusals Agones is asked again in %s, want %s", n+1, h.pause, want)
		}
	}
	w.allocator.put("ready")
	h.grow(w.ctx)
	if h.pause != 0 || h.missing() != 0 {
		t.Errorf("with a host, %d rooms are missing, and the pause is %s", h.missing(), h.pause)
	}
}

// What somebody has to see to is said at once; that a fleet has nothing to give is not worth a word each time.
func TestHeadroomThatIsRefusedForGood(t *testing.T) {
	w := setup(t)
	p := w.placerWith(10)
	w.await(p, w.host("ready", registry.HostReady, 50))
	for code, warns := range map[codes.Code]bool{
		codes.PermissionDenied: true, codes.Unauthenticated: true, codes.InvalidArgument: true,
		codes.ResourceExhausted: false, codes.Aborted: false, codes.Unavailable: false,
	} {
		var log logtest.Buffer
		p.headroom.logger = slog.New(slog.NewTextHandler(&log, nil))
		w.allocator.failWith(code)
		p.headroom.grow(w.ctx)
		if got := strings.Contains(log.String(), "level=WARN"); got != warns {
			t.Errorf("%s: warned %t, want %t: %s", code, got, warns, log.String())
		}
	}
}

// While a fleet is replaced Agones may give hosts of the old version. They are no headroom, and they are not taken one
// after the other.
func TestHeadroomDoesNotEatAnOldFleet(t *testing.T) {
	w := setup(t)
	p := w.placerWith(10)
	versions := map[string]string{"old1": "v1.0.0", "old2": "v1.0.0", "new": "v1.1.0"}
	for _, name := range []string{"old1", "old2", "new"} {
		h := w.host(name, registry.HostReady, 50)
		h.mu.Lock()
		h.lease.Version = versions[name]
		h.mu.Unlock()
		h.become(registry.HostReady, p.registry)
		if _, err := p.registry.AwaitHost(w.ctx, h.lease.Host, func(l registry.Lease) bool { return l.Version == versions[name] }); err != nil {
			t.Fatal(err)
		}
		w.allocator.put(name)
	}
	p.headroom.grow(w.ctx)
	if p.headroom.pause == 0 || p.headroom.missing() != 10 {
		t.Errorf("an old host counts: %d missing, pause %s", p.headroom.missing(), p.headroom.pause)
	}
	p.headroom.grow(w.ctx)
	p.headroom.grow(w.ctx)
	if p.headroom.pause != 0 || p.headroom.missing() != 0 {
		t.Errorf("the new host does not count: %d missing, pause %s", p.headroom.missing(), p.headroom.pause)
	}
}

// Allocated hosts that nobody uses are shown, and what room there is.
func TestGaugesOfTheHeadroom(t *testing.T) {
	w := setup(t)
	p := w.placerWith(10)
	used, idle, ready := w.host("a-used", registry.HostAllocated, 10), w.host("idle", registry.HostAllocated, 10), w.host("ready", registry.HostReady, 10)
	w.await(p, used, idle, ready)
	w.mustPlace(p, testGroup(1))
	if _, err := p.registry.AwaitHost(w.ctx, "a-used", func(l registry.Lease) bool { return l.Rooms == 1 }); err != nil {
		t.Fatal(err)
	}
	p.headroom.measure()
	for name, gauge := range map[string]struct {
		gauge prometheus.Gauge
		want  float64
	}{"idle hosts": {p.metrics.idleHosts, 1}, "free rooms": {p.metrics.freeRooms, 19}, "headroom": {p.metrics.headroom, 10}} {
		if shown := counted(t, gauge.gauge, ""); shown != gauge.want {
			t.Errorf("%s: %v are shown, want %v", name, shown, gauge.want)
		}
	}
}

// What was allocated meanwhile is not allocated again.
func TestAheadLooksAgainWhenItIsItsTurn(t *testing.T) {
	w := setup(t)
	p := w.placer()
	if _, err := p.allocator.ahead(w.ctx, func() bool { return false }); !errors.Is(err, errNotWanted) || w.allocator.called() != 0 {
		t.Errorf("%v after %d calls", err, w.allocator.called())
	}
}

// A host that cannot be kept is tried again; nothing else is held up by it.
func TestAHostThatCannotBeKept(t *testing.T) {
	w := setup(t)
	p := w.placerWith(10)
	gone := registry.Lease{Host: "gone", InternalAddress: "127.0.0.1:1"}
	if again := p.headroom.keepHost(w.ctx, gone); again != keepPause {
		t.Errorf("it is tried again in %s", again)
	}
	short, long := w.host("short", registry.HostAllocated, 5), w.host("long", registry.HostAllocated, 5)
	short.grace, long.grace = time.Second, time.Minute
	for h, want := range map[*smallHost]time.Duration{short: time.Second / 3, long: keepEvery} {
		if again := p.headroom.keepHost(w.ctx, h.lease); again != want {
			t.Errorf("%s is kept again in %s, want %s", h.lease.Host, again, want)
		}
	}
}
