package agoneslocal

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"agones.dev/agones/pkg/sdk"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

var empty = &sdk.Empty{}

// desk is a game server without a process, and its SDK server without a socket.
func desk(t *testing.T, fleet Fleet) (*store, *sidecar, *betaSidecar) {
	t.Helper()
	config := Config{Fleet: fleet}
	config.Fleet.Command = inRole(good)
	if err := config.complete(); err != nil {
		t.Fatal(err)
	}
	m, err := newMetrics(nil)
	if err != nil {
		t.Fatal(err)
	}
	store := newStore(m)
	gs := newGameServer(&config.Fleet, "set-abcde", map[string]int{}, time.Now())
	store.add(gs)
	return store, &sidecar{store: store, gs: gs, log: slog.New(slog.DiscardHandler)}, &betaSidecar{store: store, gs: gs}
}

// state gives the state of the one game server of a desk.
func state(s *store) State { return s.snapshot()[0].State }

func TestStatesOfTheSDK(t *testing.T) {
	t.Parallel()
	type call func(*sidecar) error
	ready := func(s *sidecar) error { _, err := s.Ready(t.Context(), empty); return err }
	take := func(s *sidecar) error { _, err := s.Allocate(t.Context(), empty); return err }
	shutdown := func(s *sidecar) error { _, err := s.Shutdown(t.Context(), empty); return err }
	reserve := func(s *sidecar) error { _, err := s.Reserve(t.Context(), &sdk.Duration{}); return err }
	die := func(s *sidecar) error { s.store.move(s.gs, Unhealthy); return nil }
	for _, c := range []struct {
		calls []call
		want  State
	}{
		{nil, Starting},
		{[]call{ready}, Ready},
		{[]call{take}, Allocated},
		{[]call{ready, take}, Allocated},
		{[]call{ready, take, ready}, Ready},
		{[]call{ready, reserve}, Reserved},
		{[]call{reserve, take}, Allocated},
		{[]call{ready, shutdown}, Shutdown},
		{[]call{shutdown, ready}, Shutdown},
		{[]call{shutdown, reserve}, Shutdown},
		{[]call{ready, die, take}, Unhealthy},
		{[]call{die, shutdown}, Unhealthy},
	} {
		store, sidecar, _ := desk(t, Fleet{})
		for i, call := range c.calls {
			if err := call(sidecar); err != nil {
				t.Errorf("call %d: %v", i, err)
			}
		}
		if got := state(store); got != c.want {
			t.Errorf("after %d calls: %s, want %s", len(c.calls), got, c.want)
		}
	}
}

func TestReadyAgainKeepsWhatWasSet(t *testing.T) {
	t.Parallel()
	_, s, b := desk(t, Fleet{Lists: map[string]List{"groups": {Capacity: 2}}})
	s.Allocate(t.Context(), empty)
	s.SetLabel(t.Context(), &sdk.KeyValue{Key: "map", Value: "hall"})
	b.changeList("groups", func(l List) (List, error) { return l.add("dragons"), nil })
	s.Ready(t.Context(), empty)
	gs, err := s.GetGameServer(t.Context(), empty)
	if err != nil {
		t.Fatal(err)
	}
	if gs.GetStatus().GetState() != "Ready" || gs.GetObjectMeta().GetLabels()["agones.dev/sdk-map"] != "hall" {
		t.Errorf("%v", gs)
	}
	if values := gs.GetStatus().GetLists()["groups"].GetValues(); !slices.Equal(values, []string{"dragons"}) {
		t.Errorf("list %v", values)
	}
}

// until takes the watcher's messages up to a state, and tells how long that took.
func until(t *testing.T, w *watcher, want State) time.Duration {
	t.Helper()
	begin := time.Now()
	for {
		<-w.ready
		for _, message := range w.take() {
			if message.GetStatus().GetState() == string(want) {
				return time.Since(begin)
			}
		}
	}
}

func TestReservationEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, s, _ := desk(t, Fleet{})
		w := store.watch(s.gs)
		s.Reserve(t.Context(), &sdk.Duration{Seconds: 30})
		if took := until(t, w, Ready); took != 30*time.Second {
			t.Errorf("Ready after %v, want 30s", took)
		}
	})
}

func TestReservationIsReplacedByTheNext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, s, _ := desk(t, Fleet{})
		w := store.watch(s.gs)
		s.Reserve(t.Context(), &sdk.Duration{Seconds: 10})
		s.Reserve(t.Context(), &sdk.Duration{Seconds: 30})
		if took := until(t, w, Ready); took != 30*time.Second {
			t.Errorf("Ready after %v, want 30s", took)
		}
	})
}

func TestAllocateEndsTheReservation(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, s, _ := desk(t, Fleet{})
		s.Reserve(t.Context(), &sdk.Duration{Seconds: 10})
		s.Allocate(t.Context(), empty)
		<-time.After(time.Minute)
		if got := state(store); got != Allocated {
			t.Errorf("%s, want Allocated", got)
		}
	})
}

func TestReservationWithoutEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, s, _ := desk(t, Fleet{})
		s.Reserve(t.Context(), &sdk.Duration{})
		<-time.After(24 * time.Hour)
		if got := state(store); got != Reserved {
			t.Errorf("%s, want Reserved", got)
		}
	})
}

func TestReservationEndsWithTheGameServer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, s, _ := desk(t, Fleet{})
		s.Reserve(t.Context(), &sdk.Duration{Seconds: 10})
		store.remove(s.gs)
		<-time.After(time.Minute)
		if s.gs.State != Reserved {
			t.Errorf("a game server that is gone became %s", s.gs.State)
		}
	})
}

func TestHealthFailsInTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, s, _ := desk(t, Fleet{Health: Health{Period: 2 * time.Second, FailureThreshold: 3}})
		begin := time.Now()
		check := time.NewTicker(2 * time.Second)
		defer check.Stop()
		for range 10 { // healthy for 20 s
			<-check.C
			store.checkHealth(s.gs)
			store.beat(s.gs)
		}
		for state(store) != Unhealthy {
			<-check.C
			store.checkHealth(s.gs)
		}
		// At 22 s the last sign of life is exactly a period old, which is in time.
		if got, want := time.Since(begin), 28*time.Second; got != want {
			t.Errorf("Unhealthy after %v, want %v", got, want)
		}
	})
}

func TestLabelsAndAnnotations(t *testing.T) {
	t.Parallel()
	store, s, _ := desk(t, Fleet{})
	set := func(kv *sdk.KeyValue) (codes.Code, codes.Code) {
		_, label := s.SetLabel(t.Context(), kv)
		_, annotation := s.SetAnnotation(t.Context(), kv)
		return status.Code(label), status.Code(annotation)
	}
	for _, c := range []struct {
		key, value        string
		label, annotation codes.Code
		stored            bool
	}{
		{"map", "hall", codes.OK, codes.OK, true},
		{"empty", "", codes.OK, codes.OK, true},
		{"", "x", codes.InvalidArgument, codes.InvalidArgument, false},
		{"two words", "x", codes.InvalidArgument, codes.InvalidArgument, false},
		{"words", "any text, in an annotation", codes.InvalidArgument, codes.OK, true},
		{"long", strings.Repeat("x", 64), codes.InvalidArgument, codes.OK, true},
		{"example.com/map", "x", codes.OK, codes.OK, false},       // two slashes with the prefix
		{strings.Repeat("k", 63), "x", codes.OK, codes.OK, false}, // too long with the prefix
	} {
		label, annotation := set(&sdk.KeyValue{Key: c.key, Value: c.value})
		if label != c.label || annotation != c.annotation {
			t.Errorf("%q=%q: %v and %v, want %v and %v", c.key, c.value, label, annotation, c.label, c.annotation)
		}
		if _, ok := store.snapshot()[0].Annotations["agones.dev/sdk-"+c.key]; ok != c.stored {
			t.Errorf("%q: stored %t, want %t", c.key, ok, c.stored)
		}
	}
	gs := store.snapshot()[0]
	if gs.Labels["agones.dev/sdk-map"] != "hall" {
		t.Errorf("labels %v", gs.Labels)
	}
	if value, ok := gs.Labels["agones.dev/sdk-empty"]; !ok || value != "" {
		t.Errorf("labels %v", gs.Labels)
	}
}

func TestWatchOverTheWire(t *testing.T) {
	t.Parallel()
	b := setup(t, good, func(c *Config) {
		c.Fleet.Ports = []string{"game"}
		c.Fleet.Counters = map[string]Counter{"rooms": {Capacity: 3}}
	})
	gs := b.ready(1)[0]
	client, _ := b.sdk(gs)
	stream, err := client.WatchGameServer(b.ctx, empty)
	if err != nil {
		t.Fatal(err)
	}
	first, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	if first.GetObjectMeta().GetName() != gs.Name || first.GetStatus().GetState() != "Ready" {
		t.Errorf("first message %v", first)
	}
	if port := first.GetStatus().GetPorts()[0]; port.GetName() != "game" || int(port.GetPort()) != gs.Ports["game"] {
		t.Errorf("port %v, want %v", port, gs.Ports)
	}
	if first.GetSpec().GetHealth().GetPeriodSeconds() != 5 || first.GetStatus().GetCounters()["rooms"].GetCapacity() != 3 {
		t.Errorf("first message %v", first)
	}
	client.Allocate(b.ctx, empty)
	client.Ready(b.ctx, empty)
	client.Shutdown(b.ctx, empty)
	var states []string
	for {
		message, err := stream.Recv()
		if err != nil {
			break // the game server is gone
		}
		states = append(states, message.GetStatus().GetState())
	}
	if want := []string{"Allocated", "RequestReady", "Ready", "Shutdown"}; !slices.Equal(states[:min(4, len(states))], want) {
		t.Errorf("states %v, want %v", states, want)
	}
}

func TestHealthStreamEndsInGoodOrder(t *testing.T) {
	t.Parallel()
	b := setup(t, good, nil)
	client, _ := b.sdk(b.ready(1)[0])
	stream, err := client.Health(b.ctx)
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
	ctx, cancel := context.WithCancel(b.ctx)
	broken, err := client.Health(ctx)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := broken.CloseAndRecv(); status.Code(err) != codes.Canceled {
		t.Errorf("error %v", err)
	}
}

func TestWatcherDropsTheOldest(t *testing.T) {
	t.Parallel()
	w := newWatcher()
	for i := range 2 * maxWatchBacklog {
		w.push(&sdk.GameServer{ObjectMeta: &sdk.GameServer_ObjectMeta{Generation: int64(i)}})
	}
	<-w.ready
	messages := w.take()
	if len(messages) != maxWatchBacklog || messages[len(messages)-1].GetObjectMeta().GetGeneration() != 2*maxWatchBacklog-1 {
		t.Errorf("%d messages, the last %v", len(messages), messages[len(messages)-1])
	}
}

func TestVersionsGrow(t *testing.T) {
	t.Parallel()
	_, s, _ := desk(t, Fleet{})
	before, _ := s.GetGameServer(t.Context(), empty)
	s.Ready(t.Context(), empty)
	after, _ := s.GetGameServer(t.Context(), empty)
	if after.GetObjectMeta().GetGeneration() <= before.GetObjectMeta().GetGeneration() ||
		after.GetObjectMeta().GetResourceVersion() == before.GetObjectMeta().GetResourceVersion() {
		t.Errorf("from %v to %v", before.GetObjectMeta(), after.GetObjectMeta())
	}
	if uid := after.GetObjectMeta().GetUid(); len(uid) != 36 || uid != before.GetObjectMeta().GetUid() {
		t.Errorf("uid %q", uid)
	}
}
