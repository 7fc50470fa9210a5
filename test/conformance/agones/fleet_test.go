package agones

import (
	"testing"

	allocation "agones.dev/agones/pkg/allocation/go"
	"agones.dev/agones/pkg/sdk"
	"agones.dev/agones/pkg/sdk/beta"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/guildhall-dev/guildhall/internal/agoneslocal"
)

func TestPrioritiesDecideAmongServers(t *testing.T) {
	a, ctx := setupAllocator(t, 3, 0)
	server := a.onlyStandIn(t, "it needs game servers whose counters it can set")
	var byRooms []string
	for i, gs := range servers(t, ctx, server, agoneslocal.Ready, 3) {
		update := &beta.CounterUpdateRequest{Name: counterName, Count: number(int64(i * 2))}
		must[*beta.Counter](t)(connect(t, gs.SDKAddress).beta.UpdateCounter(ctx, &beta.UpdateCounterRequest{CounterUpdateRequest: update}))
		byRooms = append(byRooms, gs.Name)
	}
	take := func(order allocation.Priority_Order, scheduling allocation.AllocationRequest_SchedulingStrategy) string {
		in := a.claim(unique(), a.ready())
		in.Priorities = []*allocation.Priority{{Type: allocation.Priority_Counter, Key: counterName, Order: order}}
		in.Scheduling = scheduling
		return a.take(t, ctx, in).GetGameServerName()
	}
	if got := take(allocation.Priority_Ascending, allocation.AllocationRequest_Packed); got != byRooms[2] {
		t.Errorf("ascending: %q, want the fullest %q", got, byRooms[2])
	}
	if got := take(allocation.Priority_Descending, allocation.AllocationRequest_Distributed); got != byRooms[0] {
		t.Errorf("descending: %q, want the emptiest %q", got, byRooms[0])
	}
}

func TestGameServerSeesItsAllocation(t *testing.T) {
	a, ctx := setupAllocator(t, 1, 0)
	gs := servers(t, ctx, a.onlyStandIn(t, "it needs the sidecar of the very server that is given"), agoneslocal.Ready, 1)[0]
	stream, err := connect(t, gs.SDKAddress).sdk.WatchGameServer(ctx, empty)
	if err != nil {
		t.Fatal(err)
	}
	must[*sdk.GameServer](t)(stream.Recv())
	group := unique()
	a.take(t, ctx, a.claim(group, a.ready()))
	seen := must[*sdk.GameServer](t)(stream.Recv())
	if seen.GetStatus().GetState() != "Allocated" || seen.GetObjectMeta().GetLabels()["group"] != group {
		t.Errorf("%v", seen)
	}
}

func TestReadyAgainCanBeAllocatedAgain(t *testing.T) {
	a, ctx := setupAllocator(t, 1, 0)
	server := a.onlyStandIn(t, "it needs the sidecar of the very server that is given")
	gs := servers(t, ctx, server, agoneslocal.Ready, 1)[0]
	group := unique()
	a.take(t, ctx, a.claim(group, a.ready()))
	if _, err := connect(t, gs.SDKAddress).sdk.Ready(ctx, empty); err != nil {
		t.Fatal(err)
	}
	servers(t, ctx, server, agoneslocal.Ready, 1)
	kept := a.ready()
	kept.MatchLabels["group"] = group
	if got := a.take(t, ctx, a.claim(group, kept)); got.GetGameServerName() != gs.Name {
		t.Errorf("%q, want %q", got.GetGameServerName(), gs.Name)
	}
}

func TestServersThatAreNotReadyAreNotGiven(t *testing.T) {
	a, ctx := setupAllocator(t, 3, 0)
	server := a.onlyStandIn(t, "it needs the sidecar of every server")
	all := servers(t, ctx, server, agoneslocal.Ready, 3)
	calls := []func(sdk.SDKClient) error{
		func(c sdk.SDKClient) error { _, err := c.Allocate(ctx, empty); return err },
		func(c sdk.SDKClient) error { _, err := c.Reserve(ctx, &sdk.Duration{}); return err },
		func(c sdk.SDKClient) error { _, err := c.Shutdown(ctx, empty); return err },
	}
	for i, call := range calls {
		if err := call(connect(t, all[i].SDKAddress).sdk); err != nil {
			t.Fatal(err)
		}
	}
	servers(t, ctx, server, agoneslocal.Ready, 0)
	if got, err := a.Allocate(ctx, a.claim(unique(), a.ready())); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("%v, %v", got, err)
	}
}

func TestShutdownBringsSIGTERMAndASuccessor(t *testing.T) {
	a, ctx := setupAllocator(t, 1, 0)
	server := a.onlyStandIn(t, "it needs the sidecar of the very server that is given")
	gs := servers(t, ctx, server, agoneslocal.Ready, 1)[0]
	a.take(t, ctx, a.claim(unique(), a.ready()))
	if _, err := connect(t, gs.SDKAddress).sdk.Shutdown(ctx, empty); err != nil {
		t.Fatal(err)
	}
	// The child ends at SIGTERM and at nothing else, and nobody kills it within the grace of 30 s.
	next := servers(t, ctx, server, agoneslocal.Scheduled, 1)[0]
	if next.Name == gs.Name || next.PID == gs.PID {
		t.Errorf("%+v follows %+v", next, gs)
	}
}
