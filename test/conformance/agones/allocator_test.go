package agones

import (
	"context"
	"crypto/tls"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	allocation "agones.dev/agones/pkg/allocation/go"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/guildhall-dev/guildhall/internal/agoneslocal"
	"github.com/guildhall-dev/guildhall/internal/certtest"
)

type (
	request  = allocation.AllocationRequest
	response = allocation.AllocationResponse
	selector = allocation.GameServerSelector
	labels   = map[string]string
)

// together is a batch in which requests that are made at once meet, on a busy machine too.
const together = 2 * time.Second

const noServer = "there is no available GameServer to allocate"

// setupAllocator gives an allocator with at least so many Ready game servers, of the test's own or real.
func setupAllocator(t *testing.T, ready int, batchWait time.Duration) (*allocator, context.Context) {
	t.Helper()
	t.Parallel()
	ctx := bounded(t)
	if address := os.Getenv("GUILDHALL_TEST_AGONES_ALLOCATOR"); address != "" {
		return realAllocator(t, address), ctx
	}
	authority := certtest.New(t)
	server := startStandIn(t, ctx, ready, func(c *agoneslocal.Config) {
		c.BatchWait = batchWait
		c.AllocatorTLS = &tls.Config{
			Certificates: []tls.Certificate{authority.Pair(certtest.Leaf{Host: "127.0.0.1"})},
			ClientAuth:   tls.RequireAndVerifyClientCert, ClientCAs: authority.Pool(),
		}
	})
	makeReady(t, ctx, server, ready)
	conn := dial(t, server.AllocatorAddr(), credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{authority.Pair(certtest.Leaf{})}, RootCAs: authority.Pool(),
	}))
	return &allocator{
		AllocationServiceClient: allocation.NewAllocationServiceClient(conn),
		namespace:               "default",
		fleet:                   "guildhall-rooms",
		standIn:                 server,
		conn:                    conn,
	}, ctx
}

func realAllocator(t *testing.T, address string) *allocator {
	t.Helper()
	a := &allocator{namespace: os.Getenv("GUILDHALL_TEST_AGONES_NAMESPACE"), fleet: os.Getenv("GUILDHALL_TEST_AGONES_FLEET")}
	if a.fleet == "" {
		t.Fatal("GUILDHALL_TEST_AGONES_FLEET must name the fleet of the allocator")
	}
	if a.namespace == "" {
		a.namespace = "default"
	}
	a.conn = secured(t, address)
	a.AllocationServiceClient = allocation.NewAllocationServiceClient(a.conn)
	return a
}

// onlyStandIn gives the stand-in, and skips if the allocator is a real one.
func (a *allocator) onlyStandIn(t *testing.T, why string) *agoneslocal.Server {
	t.Helper()
	if a.standIn == nil {
		t.Skipf("not asked of a real allocator: %s", why)
	}
	return a.standIn
}

// ready selects a Ready game server of the fleet.
func (a *allocator) ready() *selector {
	return &selector{MatchLabels: labels{"agones.dev/fleet": a.fleet}}
}

// allocated selects an Allocated one that has the group.
func (a *allocator) allocated(group string) *selector {
	return &selector{
		GameServerState: allocation.GameServerSelector_ALLOCATED,
		MatchLabels:     labels{"agones.dev/fleet": a.fleet, "group": group},
	}
}

// claim asks for a game server and labels it with the group.
func (a *allocator) claim(group string, selectors ...*selector) *request {
	return &request{
		Namespace:           a.namespace,
		GameServerSelectors: selectors,
		Metadata:            &allocation.MetaPatch{Labels: labels{"group": group}, Annotations: labels{"guildhall.dev/why": "a test, and any text"}},
	}
}

// take allocates, and asks a real allocator again while it has nobody Ready.
func (a *allocator) take(t *testing.T, ctx context.Context, in *request) *response {
	t.Helper()
	for {
		got, err := a.Allocate(ctx, in)
		if a.standIn == nil && (status.Code(err) == codes.ResourceExhausted || status.Code(err) == codes.Aborted) {
			continue // each try takes its batch wait
		}
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
}

func TestAllocation(t *testing.T) {
	a, ctx := setupAllocator(t, 1, 0)
	group := unique()
	got := a.take(t, ctx, a.claim(group, a.ready()))
	if got.GetGameServerName() == "" || got.GetAddress() == "" || got.GetNodeName() == "" || got.GetSource() != "local" {
		t.Errorf("%v", got)
	}
	if ports := got.GetPorts(); len(ports) == 0 || ports[0].GetName() == "" || ports[0].GetPort() == 0 {
		t.Errorf("ports %v", ports)
	}
	if !slices.ContainsFunc(got.GetAddresses(), func(x *allocation.AllocationResponse_GameServerStatusAddress) bool {
		return x.GetAddress() == got.GetAddress()
	}) {
		t.Errorf("%q is not among the addresses %v", got.GetAddress(), got.GetAddresses())
	}
	metadata := got.GetMetadata()
	if metadata.GetLabels()["agones.dev/fleet"] != a.fleet || metadata.GetLabels()["group"] != group || metadata.GetLabels()["agones.dev/gameserverset"] == "" {
		t.Errorf("labels %v", metadata.GetLabels())
	}
	if metadata.GetAnnotations()["guildhall.dev/why"] != "a test, and any text" {
		t.Errorf("annotations %v", metadata.GetAnnotations())
	}
	if _, err := time.Parse(time.RFC3339, metadata.GetAnnotations()["agones.dev/last-allocated"]); err != nil {
		t.Error(err)
	}
	if name := got.GetGameServerName(); !strings.HasPrefix(name, a.fleet+"-") || strings.Count(strings.TrimPrefix(name, a.fleet), "-") != 2 {
		t.Errorf("name %q", name)
	}
}

func TestNoServerIsResourceExhausted(t *testing.T) {
	a, ctx := setupAllocator(t, 1, 0)
	for name, in := range map[string]*request{
		"label":     a.claim(unique(), &selector{MatchLabels: labels{"no": "where"}}),
		"state":     a.claim(unique(), a.allocated(unique())),
		"namespace": {Namespace: "guildhall-no-such-namespace"},
		"counter":   a.claim(unique(), &selector{Counters: map[string]*allocation.CounterSelector{"missing": {}}}),
		"list":      a.claim(unique(), &selector{Lists: map[string]*allocation.ListSelector{"missing": {}}}),
	} {
		got, err := a.Allocate(ctx, in)
		if status.Code(err) != codes.ResourceExhausted || status.Convert(err).Message() != noServer {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

func TestInvalidRequestsAreCode422(t *testing.T) {
	a, ctx := setupAllocator(t, 1, 0)
	withAction := a.claim(unique(), a.ready())
	withAction.Counters = map[string]*allocation.CounterAction{counterName: {Amount: wrapperspb.Int64(1)}}
	withPriority := a.claim(unique(), a.ready())
	withPriority.Priorities = []*allocation.Priority{{}}
	for name, in := range map[string]*request{
		"label value":    {Namespace: a.namespace, Metadata: &allocation.MetaPatch{Labels: labels{"group": "guild:dragons"}}},
		"label key":      {Namespace: a.namespace, Metadata: &allocation.MetaPatch{Labels: labels{"a group": "x"}}},
		"annotation key": {Namespace: a.namespace, Metadata: &allocation.MetaPatch{Annotations: labels{"a note": "x"}}},
		"selector":       a.claim(unique(), &selector{MatchLabels: labels{"group": "guild:dragons"}}),
		"counter":        a.claim(unique(), &selector{Counters: map[string]*allocation.CounterSelector{counterName: {MinCount: -1}}}),
		"list":           a.claim(unique(), &selector{Lists: map[string]*allocation.ListSelector{listName: {MinAvailable: 2, MaxAvailable: 1}}}),
		"action":         withAction,
		"priority":       withPriority,
	} {
		if got, err := a.Allocate(ctx, in); status.Code(err) != 422 {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

// all sends requests at once, and gives the names that they got; none is "".
func (a *allocator) all(t *testing.T, ctx context.Context, n int, in func() *request) []string {
	t.Helper()
	names := make([]string, n)
	var callers sync.WaitGroup
	for i := range n {
		callers.Go(func() {
			got, err := a.Allocate(ctx, in())
			switch status.Code(err) {
			case codes.OK, codes.ResourceExhausted, codes.Aborted:
				names[i] = got.GetGameServerName()
			default:
				t.Error(err)
			}
		})
	}
	callers.Wait()
	return slices.DeleteFunc(names, func(name string) bool { return name == "" })
}

func distinct(names []string) int {
	return len(slices.Compact(slices.Sorted(slices.Values(names))))
}

func TestAReadyServerIsGivenOnce(t *testing.T) {
	a, ctx := setupAllocator(t, 3, 0)
	got := a.all(t, ctx, 10, func() *request { return a.claim(unique(), a.ready()) })
	if distinct(got) != len(got) || a.standIn != nil && len(got) != 3 {
		t.Errorf("given %v", got)
	}
}

func TestAnAllocatedServerIsFoundAgain(t *testing.T) {
	a, ctx := setupAllocator(t, 2, 0)
	group := unique()
	first := a.take(t, ctx, a.claim(group, a.allocated(group), a.ready()))
	for range 3 {
		if again := a.take(t, ctx, a.claim(group, a.allocated(group), a.ready())); again.GetGameServerName() != first.GetGameServerName() {
			t.Errorf("%q, want %q again", again.GetGameServerName(), first.GetGameServerName())
		}
	}
}

// This is why Guildhall finds a group's room by its own registry, and not by a label of the game server.
func TestSelectorsDoNotHoldOneServerForAGroup(t *testing.T) {
	a, ctx := setupAllocator(t, 4, together)
	group := unique()
	a.take(t, ctx, a.claim(group, a.allocated(group), a.ready()))
	got := a.all(t, ctx, 3, func() *request { return a.claim(group, a.allocated(group), a.ready()) })
	if distinct(got) != len(got) || a.standIn != nil && len(got) != 3 {
		t.Errorf("given %v, want a server each", got)
	}
}

func TestExhaustedDoesNotMeanFull(t *testing.T) {
	a, ctx := setupAllocator(t, 1, together)
	group := unique()
	a.take(t, ctx, a.claim(group, a.allocated(group), a.ready()))
	got := a.all(t, ctx, 3, func() *request { return a.claim(group, a.allocated(group)) })
	if len(got) != 1 {
		t.Errorf("%d of 3 got the one server, want 1", len(got))
	}
	a.take(t, ctx, a.claim(group, a.allocated(group)))
}

func TestDeprecatedFields(t *testing.T) {
	a, ctx := setupAllocator(t, 2, 0)
	group := unique()
	metadata := &allocation.MetaPatch{Labels: labels{"group": group}}
	in := &request{Namespace: a.namespace, RequiredGameServerSelector: a.ready(), MetaPatch: metadata} //nolint:staticcheck // it is what is tested
	first := a.take(t, ctx, in)
	if got := first.GetMetadata().GetLabels()["group"]; got != group {
		t.Errorf("label %q, want %q", got, group)
	}
	preferred := []*selector{{MatchLabels: labels{"no": "where"}}, a.allocated(group)}
	in = &request{Namespace: a.namespace, PreferredGameServerSelectors: preferred, RequiredGameServerSelector: a.ready()} //nolint:staticcheck // it is what is tested
	second := a.take(t, ctx, in)
	if second.GetGameServerName() != first.GetGameServerName() {
		t.Errorf("%q, want the preferred %q", second.GetGameServerName(), first.GetGameServerName())
	}
}

func TestCounterAndListActions(t *testing.T) {
	a, ctx := setupAllocator(t, 1, 0)
	group := unique()
	got := a.take(t, ctx, a.claim(group, a.ready()))
	counter, list := got.GetCounters()[counterName], got.GetLists()[listName]
	if counter == nil || list == nil {
		t.Skipf("the fleet has no counter %q or no list %q", counterName, listName)
	}
	act := func(c *allocation.CounterAction, l *allocation.ListAction) *response {
		in := a.claim(group, a.allocated(group))
		in.Counters = map[string]*allocation.CounterAction{counterName: c}
		in.Lists = map[string]*allocation.ListAction{listName: l}
		return a.take(t, ctx, in)
	}
	values := list.GetValues()

	got = act(
		&allocation.CounterAction{Action: wrapperspb.String("Increment"), Amount: wrapperspb.Int64(1000), Capacity: wrapperspb.Int64(5)},
		&allocation.ListAction{AddValues: append([]string{group}, values...), Capacity: wrapperspb.Int64(int64(len(values)) + 1)},
	)
	if c := got.GetCounters()[counterName]; c.GetCount().GetValue() != 5 || c.GetCapacity().GetValue() != 5 {
		t.Errorf("counter %v, want 5 of 5", c)
	}
	if l := got.GetLists()[listName]; !slices.Equal(l.GetValues(), append(slices.Clone(values), group)) {
		t.Errorf("list %v, want each value once", l)
	}

	got = act(
		&allocation.CounterAction{Action: wrapperspb.String("Decrement"), Amount: wrapperspb.Int64(1000)},
		&allocation.ListAction{AddValues: []string{"one too many"}},
	)
	if c := got.GetCounters()[counterName]; c.GetCount().GetValue() != 0 {
		t.Errorf("counter %v, want 0", c)
	}
	if l := got.GetLists()[listName]; slices.Contains(l.GetValues(), "one too many") {
		t.Errorf("list %v is over its capacity", l)
	}

	got = act(&allocation.CounterAction{}, &allocation.ListAction{DeleteValues: []string{group, "not in it"}})
	if l := got.GetLists()[listName]; !slices.Equal(l.GetValues(), values) {
		t.Errorf("list %v, want %v", l, values)
	}
}

func TestListAndCounterSelectors(t *testing.T) {
	a, ctx := setupAllocator(t, 1, 0)
	group := unique()
	first := a.take(t, ctx, a.claim(group, a.ready()))
	if first.GetCounters()[counterName] == nil || first.GetLists()[listName] == nil {
		t.Skipf("the fleet has no counter %q or no list %q", counterName, listName)
	}
	in := a.claim(group, a.allocated(group))
	in.Counters = map[string]*allocation.CounterAction{counterName: {Capacity: wrapperspb.Int64(10), Action: wrapperspb.String("Decrement"), Amount: wrapperspb.Int64(1000)}}
	in.Lists = map[string]*allocation.ListAction{listName: {AddValues: []string{group}}}
	a.take(t, ctx, in)

	with := func(c *allocation.CounterSelector, l *allocation.ListSelector) codes.Code {
		s := a.allocated(group)
		if c != nil {
			s.Counters = map[string]*allocation.CounterSelector{counterName: c}
		}
		if l != nil {
			s.Lists = map[string]*allocation.ListSelector{listName: l}
		}
		_, err := a.Allocate(ctx, a.claim(group, s))
		return status.Code(err)
	}
	for name, c := range map[string]struct{ got, want codes.Code }{
		"has the value":      {with(nil, &allocation.ListSelector{ContainsValue: group}), codes.OK},
		"has not the value":  {with(nil, &allocation.ListSelector{ContainsValue: "another"}), codes.ResourceExhausted},
		"list has room":      {with(nil, &allocation.ListSelector{MinAvailable: 1}), codes.OK},
		"list has no room":   {with(nil, &allocation.ListSelector{MinAvailable: 1001}), codes.ResourceExhausted},
		"counter has room":   {with(&allocation.CounterSelector{MinAvailable: 10}, nil), codes.OK},
		"counter lacks room": {with(&allocation.CounterSelector{MinAvailable: 11}, nil), codes.ResourceExhausted},
		"counter is low":     {with(&allocation.CounterSelector{MinCount: 1}, nil), codes.ResourceExhausted},
	} {
		if c.got != c.want {
			t.Errorf("%s: %v, want %v", name, c.got, c.want)
		}
	}
}

// A client that shows no certificate of the allocator's, or none at all, has no connection.
func TestForeignClientsAreUnavailable(t *testing.T) {
	a, ctx := setupAllocator(t, 1, 0)
	if a.standIn == nil && os.Getenv("GUILDHALL_TEST_AGONES_TLS_DIR") == "" {
		t.Skip("the allocator speaks plaintext")
	}
	for name, config := range map[string]*tls.Config{
		"none":    {},
		"foreign": {Certificates: []tls.Certificate{certtest.New(t).Pair(certtest.Leaf{CommonName: "somebody"})}},
	} {
		config.InsecureSkipVerify = true // the other side is what is tested
		conn := dial(t, a.conn.Target(), credentials.NewTLS(config))
		got, err := allocation.NewAllocationServiceClient(conn).Allocate(ctx, a.claim(unique(), a.ready()))
		if status.Code(err) != codes.Unavailable {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

func TestAllocatorHasAHealthService(t *testing.T) {
	a, ctx := setupAllocator(t, 1, 0)
	reply, err := healthpb.NewHealthClient(a.conn).Check(ctx, &healthpb.HealthCheckRequest{})
	if err != nil || reply.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		t.Errorf("%v, %v", reply, err)
	}
}
