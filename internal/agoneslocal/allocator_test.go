package agoneslocal

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	allocation "agones.dev/agones/pkg/allocation/go"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

func text(s string) *wrapperspb.StringValue { return wrapperspb.String(s) }

// shelf is a store with so many Ready game servers, and an allocator over it that does not run.
func shelf(t *testing.T, ready int, batchWait time.Duration) (*store, *allocator) {
	t.Helper()
	m, err := newMetrics(nil)
	if err != nil {
		t.Fatal(err)
	}
	store := newStore(m)
	for i := range ready {
		store.add(candidate(fmt.Sprintf("gs-%03d", i), Ready, func(g *GameServer) {
			g.Counters["rooms"] = Counter{Capacity: 10}
			g.Lists["groups"] = List{Capacity: 10}
		}))
	}
	return store, newAllocator(store, batchWait, m)
}

func wanted() *request { return &request{Namespace: "default"} }

func TestAllocateOverTheWire(t *testing.T) {
	t.Parallel()
	b := setup(t, good, func(c *Config) {
		c.Fleet.Ports = []string{"game", "web"}
		c.Fleet.Annotations = map[string]string{"note": "any text"}
		c.Fleet.Counters = map[string]Counter{"rooms": {Count: 1, Capacity: 5}}
		c.Fleet.Lists = map[string]List{"groups": {Values: []string{"a"}, Capacity: 2}}
	})
	gs := b.ready(1)[0]
	got, err := b.allocator.Allocate(b.ctx, &request{
		Namespace:           "default",
		GameServerSelectors: []*selector{{MatchLabels: map[string]string{"agones.dev/fleet": "guildhall-rooms"}}},
		Metadata:            &allocation.MetaPatch{Labels: map[string]string{"group": "dragons"}, Annotations: map[string]string{"why": "a test"}},
		Counters:            map[string]*allocation.CounterAction{"rooms": {Action: text("Increment"), Amount: number(1)}},
		Lists:               map[string]*allocation.ListAction{"groups": {AddValues: []string{"a", "b", "c"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if got.GetGameServerName() != gs.Name || got.GetAddress() != "127.0.0.1" || got.GetSource() != "local" || got.GetNodeName() == "" {
		t.Errorf("%v", got)
	}
	if ports := got.GetPorts(); len(ports) != 2 || ports[0].GetName() != "game" || int(ports[1].GetPort()) != gs.Ports["web"] {
		t.Errorf("ports %v, want %v", ports, gs.Ports)
	}
	if addresses := got.GetAddresses(); len(addresses) == 0 || addresses[0].GetAddress() != "127.0.0.1" {
		t.Errorf("addresses %v", addresses)
	}
	labels, annotations := got.GetMetadata().GetLabels(), got.GetMetadata().GetAnnotations()
	if labels["group"] != "dragons" || labels["agones.dev/fleet"] != "guildhall-rooms" || labels["agones.dev/gameserverset"] == "" {
		t.Errorf("labels %v", labels)
	}
	if _, err := time.Parse(time.RFC3339, annotations["agones.dev/last-allocated"]); err != nil || annotations["why"] != "a test" || annotations["note"] != "any text" {
		t.Errorf("annotations %v: %v", annotations, err)
	}
	if rooms := got.GetCounters()["rooms"]; rooms.GetCount().GetValue() != 2 || rooms.GetCapacity().GetValue() != 5 {
		t.Errorf("counters %v", got.GetCounters())
	}
	if groups := got.GetLists()["groups"]; !slices.Equal(groups.GetValues(), []string{"a", "b"}) || groups.GetCapacity().GetValue() != 2 {
		t.Errorf("lists %v", got.GetLists())
	}
	b.reaches(gs.Name, Allocated)
}

func TestNeverTwice(t *testing.T) {
	t.Parallel()
	for name, batchWait := range map[string]time.Duration{"at once": 0, "in batches": 20 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, good, func(c *Config) {
				c.BatchWait = batchWait
				c.Fleet.Ready, c.Fleet.Max = 4, 4
			})
			b.ready(4)
			var mu sync.Mutex
			given, none := map[string]int{}, 0
			var callers errgroup.Group
			for range 50 {
				callers.Go(func() error {
					got, err := b.allocator.Allocate(b.ctx, wanted())
					mu.Lock()
					defer mu.Unlock()
					switch status.Code(err) {
					case codes.OK:
						given[got.GetGameServerName()]++
					case codes.ResourceExhausted:
						none++
					default:
						return err
					}
					return nil
				})
			}
			if err := callers.Wait(); err != nil {
				t.Fatal(err)
			}
			if len(given) != 4 || none != 46 || slices.Max(slices.Collect(maps.Values(given))) != 1 {
				t.Errorf("given %v, %d times none", given, none)
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	b := setup(t, good, nil)
	b.ready(1)
	for name, c := range map[string]struct {
		in      *request
		code    codes.Code
		message string
	}{
		"no namespace":      {&request{}, codes.ResourceExhausted, "there is no available GameServer to allocate"},
		"another namespace": {&request{Namespace: "elsewhere"}, codes.ResourceExhausted, "there is no available GameServer to allocate"},
		"bad label":         {&request{Namespace: "default", Metadata: &allocation.MetaPatch{Labels: map[string]string{"a": "b c"}}}, 422, `"b c"`},
		"bad selector":      {&request{Namespace: "default", GameServerSelectors: []*selector{{MatchLabels: map[string]string{"": "x"}}}}, 422, "invalid"},
		"several clusters":  {&request{Namespace: "default", MultiClusterSetting: &allocation.MultiClusterSetting{Enabled: true}}, codes.Unknown, "polic"},
	} {
		_, err := b.allocator.Allocate(b.ctx, c.in)
		if status.Code(err) != c.code || !strings.Contains(status.Convert(err).Message(), c.message) {
			t.Errorf("%s: %v", name, err)
		}
	}
	b.ready(1)
}

func TestAllocatorStandsWithHealthAndReflection(t *testing.T) {
	t.Parallel()
	b := setup(t, good, func(c *Config) { c.Fleet.Ready = 0 })
	conn := dial(t, b.AllocatorAddr())
	reply, err := healthpb.NewHealthClient(conn).Check(b.ctx, &healthpb.HealthCheckRequest{})
	if err != nil || reply.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		t.Errorf("health %v: %v", reply, err)
	}
	stream, err := reflectionpb.NewServerReflectionClient(conn).ServerReflectionInfo(b.ctx)
	if err != nil {
		t.Fatal(err)
	}
	stream.Send(&reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{}})
	services, err := stream.Recv()
	if err != nil || !strings.Contains(services.String(), "allocation.AllocationService") {
		t.Errorf("services %v: %v", services, err)
	}
	// A stream that nobody closes does not hold the stop up for ever.
	if err := b.stop(); err != nil {
		t.Error(err)
	}
}

// ask sends requests at the same virtual moment and gives what each got.
func ask(t *testing.T, a *allocator, requests ...*request) []string {
	t.Helper()
	given := make([]string, len(requests))
	var callers sync.WaitGroup
	for i, in := range requests {
		callers.Go(func() {
			got, err := a.Allocate(t.Context(), in)
			if given[i] = got.GetGameServerName(); err != nil {
				given[i] = status.Code(err).String()
			}
		})
	}
	callers.Wait()
	return given
}

// running runs an allocator for the length of a test in virtual time.
func running(t *testing.T, a *allocator) {
	ctx, cancel := context.WithCancel(t.Context())
	go a.run(ctx)
	t.Cleanup(func() {
		cancel()
		<-a.stopped
	})
}

func TestBatchesAreAnsweredTogether(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, a := shelf(t, 3, 500*time.Millisecond)
		running(t, a)
		begin := time.Now()
		given := ask(t, a, wanted(), wanted(), wanted(), wanted())
		if took := time.Since(begin); took != 500*time.Millisecond {
			t.Errorf("answered after %v, want 500ms", took)
		}
		if slices.Sort(given); !slices.Equal(given, []string{"ResourceExhausted", "gs-000", "gs-001", "gs-002"}) {
			t.Errorf("given %v", given)
		}
	})
}

// Agones cannot hold one room for one group: "who has the group, else a Ready one" gives as many game
// servers as there are requests at once, even when one has the group already.
func TestOneGroupGetsManyServersWithinABatch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, a := shelf(t, 20, 500*time.Millisecond)
		running(t, a)
		in := func() *request {
			return &request{
				Namespace: "default",
				GameServerSelectors: []*selector{
					{MatchLabels: map[string]string{"group": "dragons"}, GameServerState: allocation.GameServerSelector_ALLOCATED},
					{},
				},
				Metadata: &allocation.MetaPatch{Labels: map[string]string{"group": "dragons"}},
			}
		}
		distinct := func(given []string) int { slices.Sort(given); return len(slices.Compact(given)) }
		if n := distinct(ask(t, a, in(), in(), in(), in(), in())); n != 5 {
			t.Errorf("5 at once: %d servers, want 5", n)
		}
		var given []string
		for range 5 {
			given = append(given, ask(t, a, in())...)
		}
		if n := distinct(given); n != 1 {
			t.Errorf("5 one after the other: %d servers, want 1", n)
		}
	})
}

// ResourceExhausted does not mean that no place is free: within a batch a game server is given once.
func TestExhaustedWithFreePlaces(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, a := shelf(t, 2, 500*time.Millisecond)
		running(t, a)
		in := func() *request {
			return &request{
				Namespace: "default",
				GameServerSelectors: []*selector{
					{GameServerState: allocation.GameServerSelector_ALLOCATED, Lists: map[string]*allocation.ListSelector{"groups": {MinAvailable: 1}}},
					{},
				},
				Lists: map[string]*allocation.ListAction{"groups": {AddValues: []string{"g"}}},
			}
		}
		given := ask(t, a, in(), in(), in(), in())
		if slices.Sort(given); !slices.Equal(given[:2], []string{"ResourceExhausted", "ResourceExhausted"}) {
			t.Errorf("given %v", given)
		}
		if given := ask(t, a, in()); given[0] != "gs-000" {
			t.Errorf("the next batch got %v", given)
		}
	})
}

func TestABatchIsRefreshed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, a := shelf(t, 1, time.Second)
		running(t, a)
		requests := make([]*request, 2*refreshAfter)
		for i := range requests {
			requests[i] = &request{Namespace: "default", GameServerSelectors: []*selector{{}, {GameServerState: allocation.GameServerSelector_ALLOCATED}}}
		}
		given := slices.DeleteFunc(ask(t, a, requests...), func(s string) bool { return s == "ResourceExhausted" })
		if !slices.Equal(given, []string{"gs-000", "gs-000"}) {
			t.Errorf("given %v, want one for each %d requests", given, refreshAfter)
		}
	})
}

func TestCallerWhoLeavesIsAnsweredAllTheSame(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, a := shelf(t, 1, time.Second)
		running(t, a)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if _, err := a.Allocate(ctx, wanted()); status.Code(err) != codes.DeadlineExceeded {
			t.Errorf("error %v", err)
		}
		<-time.After(time.Second)
		if got := state(store); got != Allocated {
			t.Errorf("%s; Agones leaves it Allocated", got)
		}
	})
}

func TestStoppingAllocator(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, a := shelf(t, 1, time.Hour)
		ctx, cancel := context.WithCancel(t.Context())
		go a.run(ctx)
		var last []string
		var callers sync.WaitGroup
		callers.Go(func() { last = ask(t, a, wanted()) })
		synctest.Wait()
		cancel()
		callers.Wait()
		<-a.stopped
		if last[0] != "gs-000" {
			t.Errorf("the last batch got %v", last)
		}
		if given := ask(t, a, wanted()); given[0] != "Unavailable" {
			t.Errorf("after the end: %v", given)
		}
		canceled, leave := context.WithCancel(context.Background())
		leave()
		if _, err := newAllocator(a.store, time.Hour, a.metrics).Allocate(canceled, wanted()); status.Code(err) != codes.Canceled {
			t.Errorf("a caller who has left before: %v", err)
		}
	})
}
