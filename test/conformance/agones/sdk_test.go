package agones

import (
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"agones.dev/agones/pkg/sdk"
	"agones.dev/agones/pkg/sdk/beta"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/guildhall-dev/guildhall/internal/agoneslocal"
)

var empty = &sdk.Empty{}

// sidecar is the sidecar under test.
type sidecar struct {
	gameServer
	t    *testing.T
	ctx  context.Context
	kind kind
}

type kind string

const (
	standIn   kind = "the stand-in"
	localMode kind = "the local mode of the sidecar"
	inCluster kind = "a sidecar in a cluster"
)

// setupSDK gives a sidecar of the test's own, or the real one, which the tests then ask one after the other.
func setupSDK(t *testing.T) *sidecar {
	t.Helper()
	address := os.Getenv("GUILDHALL_TEST_AGONES_SDK")
	if address == "" {
		t.Parallel()
	}
	s := &sidecar{t: t, ctx: bounded(t), kind: standIn}
	if address == "" {
		address = servers(t, s.ctx, startStandIn(t, s.ctx, 1, nil), agoneslocal.Scheduled, 1)[0].SDKAddress
		s.gameServer = connect(t, address)
		return s
	}
	s.gameServer = connect(t, address)
	s.kind = inCluster
	if s.get().GetObjectMeta().GetLabels()["islocal"] == "true" {
		s.kind = localMode
	}
	return s
}

// not skips a test on a kind of sidecar.
func (s *sidecar) not(kind kind, why string) {
	s.t.Helper()
	if s.kind == kind {
		s.t.Skipf("not asked of %s: %s", kind, why)
	}
}

func (s *sidecar) get() *sdk.GameServer {
	s.t.Helper()
	gs, err := s.sdk.GetGameServer(s.ctx, empty)
	if err != nil {
		s.t.Fatal(err)
	}
	return gs
}

// until watches until the game server is as done wants it. A call is answered before it has had its effect.
func (s *sidecar) until(what string, done func(*sdk.GameServer) bool) *sdk.GameServer {
	s.t.Helper()
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	stream, err := s.sdk.WatchGameServer(ctx, empty)
	if err != nil {
		s.t.Fatal(err)
	}
	var last *sdk.GameServer
	for {
		gs, err := stream.Recv()
		if err != nil {
			s.t.Fatalf("waiting for %s: %v; last seen %v", what, err, last)
		}
		if last = gs; done(gs) {
			return gs
		}
	}
}

func (s *sidecar) reaches(state string) *sdk.GameServer {
	s.t.Helper()
	return s.until(state, func(gs *sdk.GameServer) bool { return gs.GetStatus().GetState() == state })
}

// must takes what a call returns.
func must[T any](t *testing.T) func(T, error) T {
	return func(reply T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return reply
	}
}

func (s *sidecar) ok(_ *sdk.Empty, err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func unique() string { return "v" + strconv.FormatInt(time.Now().UnixNano(), 36) }

func TestGetGameServer(t *testing.T) {
	s := setupSDK(t)
	gs := s.get()
	if meta := gs.GetObjectMeta(); meta.GetName() == "" || meta.GetNamespace() == "" || meta.GetUid() == "" || meta.GetCreationTimestamp() == 0 {
		t.Errorf("object_meta %v", meta)
	}
	if health := gs.GetSpec().GetHealth(); !health.GetDisabled() && (health.GetPeriodSeconds() == 0 || health.GetFailureThreshold() == 0) {
		t.Errorf("health %v", health)
	}
	if s := gs.GetStatus(); s.GetState() == "" || s.GetAddress() == "" || len(s.GetPorts()) == 0 || s.GetPorts()[0].GetPort() == 0 {
		t.Errorf("status %v", s)
	}
}

func TestWatchBeginsWithTheCurrentState(t *testing.T) {
	s := setupSDK(t)
	stream, err := s.sdk.WatchGameServer(s.ctx, empty)
	if err != nil {
		t.Fatal(err)
	}
	first := must[*sdk.GameServer](t)(stream.Recv())
	if first.GetObjectMeta().GetName() != s.get().GetObjectMeta().GetName() {
		t.Errorf("first message %v", first)
	}
	// What changes then comes without being asked for.
	value := unique()
	s.ok(s.sdk.SetAnnotation(s.ctx, &sdk.KeyValue{Key: "watched", Value: value}))
	for {
		gs := must[*sdk.GameServer](t)(stream.Recv())
		if gs.GetObjectMeta().GetAnnotations()["agones.dev/sdk-watched"] == value {
			return
		}
	}
}

func TestMetadataGetsThePrefix(t *testing.T) {
	s := setupSDK(t)
	value := unique()
	s.ok(s.sdk.SetLabel(s.ctx, &sdk.KeyValue{Key: "version", Value: value}))
	s.ok(s.sdk.SetAnnotation(s.ctx, &sdk.KeyValue{Key: "note", Value: "any text, " + value}))
	s.until("both", func(gs *sdk.GameServer) bool {
		meta := gs.GetObjectMeta()
		return meta.GetLabels()["agones.dev/sdk-version"] == value &&
			meta.GetAnnotations()["agones.dev/sdk-note"] == "any text, "+value
	})
}

func TestInvalidMetadataIsRefused(t *testing.T) {
	s := setupSDK(t)
	s.not(localMode, "it looks at no key and no value")
	for _, kv := range []*sdk.KeyValue{{Key: "", Value: "x"}, {Key: "a b", Value: "x"}, {Key: "a", Value: "b c"}, {Key: "a", Value: strings.Repeat("x", 64)}} {
		if _, err := s.sdk.SetLabel(s.ctx, kv); status.Code(err) != codes.InvalidArgument {
			t.Errorf("label %v: %v", kv, err)
		}
	}
	if _, err := s.sdk.SetAnnotation(s.ctx, &sdk.KeyValue{Key: "a b", Value: "x"}); status.Code(err) != codes.InvalidArgument {
		t.Errorf("annotation: %v", err)
	}
}

func TestReadyAndAllocate(t *testing.T) {
	s := setupSDK(t)
	s.ok(s.sdk.Ready(s.ctx, empty))
	s.reaches("Ready")
	s.ok(s.sdk.Allocate(s.ctx, empty))
	gs := s.reaches("Allocated")
	if s.kind == localMode {
		return // it sets no annotation
	}
	if _, err := time.Parse(time.RFC3339, gs.GetObjectMeta().GetAnnotations()["agones.dev/last-allocated"]); err != nil {
		t.Errorf("annotations %v: %v", gs.GetObjectMeta().GetAnnotations(), err)
	}
}

func TestReadyAfterAllocatedKeepsLabelsAndLists(t *testing.T) {
	s := setupSDK(t)
	before := s.list()
	value := unique()
	s.ok(s.sdk.Allocate(s.ctx, empty))
	s.ok(s.sdk.SetLabel(s.ctx, &sdk.KeyValue{Key: "group", Value: value}))
	must[*beta.List](t)(s.beta.AddListValue(s.ctx, &beta.AddListValueRequest{Name: listName, Value: value}))
	s.until("all of it", func(gs *sdk.GameServer) bool {
		return gs.GetStatus().GetState() == "Allocated" && gs.GetObjectMeta().GetLabels()["agones.dev/sdk-group"] == value
	})
	s.ok(s.sdk.Ready(s.ctx, empty))
	gs := s.until("Ready, with label and value", func(gs *sdk.GameServer) bool {
		return gs.GetStatus().GetState() == "Ready" && slices.Contains(gs.GetStatus().GetLists()[listName].GetValues(), value)
	})
	if got := gs.GetObjectMeta().GetLabels()["agones.dev/sdk-group"]; got != value {
		t.Errorf("label %q, want %q", got, value)
	}
	if got, want := len(s.list().GetValues()), len(before.GetValues())+1; got != want {
		t.Errorf("%d values, want %d", got, want)
	}
	must[*beta.List](t)(s.beta.RemoveListValue(s.ctx, &beta.RemoveListValueRequest{Name: listName, Value: value}))
}

func TestReservedForATime(t *testing.T) {
	s := setupSDK(t)
	s.ok(s.sdk.Ready(s.ctx, empty))
	s.reaches("Ready")
	begin := time.Now()
	s.ok(s.sdk.Reserve(s.ctx, &sdk.Duration{Seconds: 2}))
	s.reaches("Reserved")
	s.reaches("Ready")
	if took := time.Since(begin); took < 2*time.Second {
		t.Errorf("Ready again after %v", took)
	}
}

func TestAllocateEndsAReservation(t *testing.T) {
	s := setupSDK(t)
	s.ok(s.sdk.Reserve(s.ctx, &sdk.Duration{Seconds: 3}))
	s.reaches("Reserved")
	s.ok(s.sdk.Allocate(s.ctx, empty))
	s.reaches("Allocated")
	// By then the reservation would have ended.
	stream, err := s.sdk.WatchGameServer(s.ctx, empty)
	if err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(3500*time.Millisecond, func() {
		s.sdk.SetAnnotation(s.ctx, &sdk.KeyValue{Key: "later", Value: "1"})
	})
	defer timer.Stop()
	for {
		gs := must[*sdk.GameServer](t)(stream.Recv())
		if state := gs.GetStatus().GetState(); state != "Allocated" {
			t.Fatalf("state %s", state)
		}
		if gs.GetObjectMeta().GetAnnotations()["agones.dev/sdk-later"] == "1" {
			return
		}
	}
}

func TestHealthStream(t *testing.T) {
	s := setupSDK(t)
	stream, err := s.sdk.Health(s.ctx)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := stream.Send(empty); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := stream.CloseAndRecv(); err != nil && !errors.Is(err, io.EOF) {
		t.Error(err)
	}
}

// counter reads the counter, and skips where the game server has none.
func (s *sidecar) counter() *beta.Counter {
	s.t.Helper()
	counter, err := s.beta.GetCounter(s.ctx, &beta.GetCounterRequest{Name: counterName})
	if err != nil {
		s.t.Skipf("the game server has no counter %q: %v", counterName, err)
	}
	return counter
}

// list reads the list, and skips where the game server has none.
func (s *sidecar) list() *beta.List {
	s.t.Helper()
	list, err := s.beta.GetList(s.ctx, &beta.GetListRequest{Name: listName})
	if err != nil {
		s.t.Skipf("the game server has no list %q: %v", listName, err)
	}
	return list
}

func TestShutdown(t *testing.T) {
	s := setupSDK(t)
	s.not(inCluster, "it ends the game server, and the sidecar with it")
	stream, err := s.sdk.WatchGameServer(s.ctx, empty)
	if err != nil {
		t.Fatal(err)
	}
	s.ok(s.sdk.Shutdown(s.ctx, empty))
	for {
		gs := must[*sdk.GameServer](t)(stream.Recv())
		if gs.GetStatus().GetState() == "Shutdown" {
			return
		}
	}
}

// settled gives the list when the game server's status has what was done to it. A real sidecar keeps changes
// for half a second to write them together, and UpdateList drops those of its list that are still kept.
func (s *sidecar) settled() *beta.List {
	s.t.Helper()
	list := s.list()
	s.until("the list to be in the status", func(gs *sdk.GameServer) bool {
		status := gs.GetStatus().GetLists()[listName]
		return status.GetCapacity() == list.GetCapacity() && slices.Equal(status.GetValues(), list.GetValues())
	})
	return list
}

func TestCountersAndListsAreInTheStatus(t *testing.T) {
	s := setupSDK(t)
	counter := s.counter()
	s.settled()
	s.until("the counter", func(gs *sdk.GameServer) bool {
		c := gs.GetStatus().GetCounters()[counterName]
		return c.GetCapacity() == counter.GetCapacity() && c.GetCount() == counter.GetCount()
	})
}
