package director

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	allocation "agones.dev/agones/pkg/allocation/go"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/guildhall-dev/guildhall"
	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
	"github.com/guildhall-dev/guildhall/internal/broker"
	"github.com/guildhall-dev/guildhall/internal/brokerlocal"
	"github.com/guildhall-dev/guildhall/internal/registry"
)

const (
	// patience bounds every wait: what takes longer has failed. It is not a time limit for the product.
	patience = time.Minute
	// lasting is a lease that does not expire within a test, however busy the machine is: hosts die when the test says so.
	lasting = time.Hour
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is what a placer acts in: a real registry on a real NATS, a small allocator and small hosts on the wire.
type world struct {
	t         *testing.T
	ctx       context.Context
	url       string
	nats      *nats.Conn
	js        jetstream.JetStream
	registry  *registry.Registry
	allocator *smallAllocator
	agones    allocation.AllocationServiceClient
}

func setup(t *testing.T) *world {
	t.Helper()
	t.Parallel()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	server, err := brokerlocal.Start(brokerlocal.Config{Folder: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	conn, js, err := broker.Connect(broker.Config{NATS: server.URL(), NATSTimeout: 5 * time.Second}, "test", nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	w := &world{t: t, ctx: ctx, url: server.URL(), nats: conn, js: js}
	w.registry = w.openRegistry()
	w.allocator = &smallAllocator{}
	server2 := grpc.NewServer()
	allocation.RegisterAllocationServiceServer(server2, w.allocator)
	w.agones = allocation.NewAllocationServiceClient(w.dial(w.serve(server2)))
	return w
}

// openRegistry opens the registry as one more process does, and keeps its view.
func (w *world) openRegistry() *registry.Registry {
	w.t.Helper()
	r, err := registry.Open(w.ctx, w.js, registry.Config{LeaseTTL: lasting, Leases: true})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	w.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Errorf("the view ended: %v", err)
		}
	})
	select {
	case <-r.Synced():
	case <-w.ctx.Done():
		w.t.Fatal("the view is never synced")
	}
	return r
}

// serve serves on a free port until the test ends.
func (w *world) serve(server *grpc.Server) (address string) {
	w.t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	w.t.Cleanup(func() {
		server.Stop()
		if err := <-done; err != nil && !errors.Is(err, grpc.ErrServerStopped) { // it may not even have begun
			w.t.Errorf("serving: %v", err)
		}
	})
	return listener.Addr().String()
}

func (w *world) dial(address string) *grpc.ClientConn {
	w.t.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			w.t.Error(err)
		}
	})
	return conn
}

// placer makes the placer of one more director.
func (w *world) placer() *Placer {
	return w.placerWith(NoHeadroom)
}

// placerWith makes a placer that keeps headroom while it runs.
func (w *world) placerWith(headroom Headroom) *Placer {
	p := NewPlacer(PlacerConfig{
		Registry: w.openRegistry(), Allocator: w.agones, Namespace: "default", Fleet: "rooms", Headroom: headroom,
	})
	w.t.Cleanup(func() {
		if err := p.hosts.forget(nil); err != nil {
			w.t.Error(err)
		}
	})
	return p
}

// leaseRest is the least time between two renewals, as a host has it.
const leaseRest = 20 * time.Millisecond

// smallHost is a host as a director sees it: a lease, and HostService on the wire.
type smallHost struct {
	guildhallv1.UnimplementedHostServiceServer
	w     *world
	lease registry.Lease
	grant *registry.Grant

	dirty  chan struct{}         // holds one: the lease has something new to say
	kept   chan struct{}         // receives each Keep, if there is room
	grace  time.Duration         // without rooms; 0 means for ever
	during func(context.Context) // what happens while OpenRoom is under way, before the room opens
	after  func()                // and after

	mu     sync.Mutex
	refuse error           // guarded by mu; what OpenRoom answers
	opened map[string]int  // guarded by mu; OpenRoom calls by group
	rooms  map[string]bool // guarded by mu
	idle   *time.Timer     // guarded by mu
}

// host starts a host. Its lease lives until the host dies.
func (w *world) host(name string, state registry.HostState, capacity int) *smallHost {
	w.t.Helper()
	h := &smallHost{w: w, opened: map[string]int{}, rooms: map[string]bool{}, dirty: make(chan struct{}, 1), kept: make(chan struct{}, 100)}
	server := grpc.NewServer()
	guildhallv1.RegisterHostServiceServer(server, h)
	address := w.serve(server)
	h.lease = registry.Lease{
		Host: guildhall.HostName(name), State: state, RoomsCapacity: capacity,
		Address: "players-" + address, InternalAddress: address, PID: 1,
	}
	var err error
	if h.grant, err = w.registry.Grant(w.ctx, h.lease); err != nil {
		w.t.Fatal(err)
	}
	h.keep()
	return h
}

// keep has the lease say what is new, until the test ends.
func (h *smallHost) keep() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-h.dirty:
			case <-ctx.Done():
				return
			}
			h.mu.Lock()
			err := h.grant.Renew(ctx, h.lease)
			h.mu.Unlock()
			if err != nil {
				return // the test has ended it
			}
			select {
			case <-time.After(leaseRest):
			case <-ctx.Done():
				return
			}
		}
	}()
	h.w.t.Cleanup(func() {
		cancel()
		<-done
	})
}

// become changes the host's state, and waits until a registry sees it.
func (h *smallHost) become(state registry.HostState, seenBy *registry.Registry) {
	h.w.t.Helper()
	h.mu.Lock()
	h.lease.State = state
	err := h.grant.Renew(h.w.ctx, h.lease)
	h.mu.Unlock()
	if err != nil {
		h.w.t.Fatal(err)
	}
	if _, err := seenBy.AwaitHost(h.w.ctx, h.lease.Host, func(l registry.Lease) bool { return l.State == state }); err != nil {
		h.w.t.Fatal(err)
	}
}

// die gives the lease up, as its expiry would.
func (h *smallHost) die() {
	h.w.t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.grant.Return(h.w.ctx); err != nil {
		h.w.t.Error(err)
	}
}

// refuseWith has OpenRoom answer with a code.
func (h *smallHost) refuseWith(code codes.Code) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.refuse = status.Error(code, "as the test wants")
}

// OpenRoom opens a room, unless the test or the capacity is against it.
func (h *smallHost) OpenRoom(ctx context.Context, request *guildhallv1.OpenRoomRequest) (*guildhallv1.OpenRoomResponse, error) {
	if h.during != nil {
		h.during(ctx)
	}
	response, err := h.open(ctx, request.GetGroup())
	if h.after != nil {
		h.after()
	}
	return response, err
}

func (h *smallHost) open(ctx context.Context, group string) (*guildhallv1.OpenRoomResponse, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.opened[group]++
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case h.refuse != nil:
		return nil, h.refuse
	case !h.rooms[group] && len(h.rooms) >= h.lease.RoomsCapacity:
		return nil, status.Error(codes.ResourceExhausted, "full")
	}
	h.rooms[group] = true
	h.given()
	return &guildhallv1.OpenRoomResponse{Rooms: uint32(len(h.rooms))}, nil
}

// given notes that somebody was given the host, and has its lease say so soon. The caller holds mu.
func (h *smallHost) given() {
	h.lease.Rooms = max(h.lease.Rooms, len(h.rooms))
	if h.lease.State == registry.HostReady {
		h.lease.State = registry.HostAllocated
	}
	select {
	case h.dirty <- struct{}{}:
	default:
	}
}

// Keep tells the test, and begins the grace anew.
func (h *smallHost) Keep(context.Context, *guildhallv1.KeepRequest) (*guildhallv1.KeepResponse, error) {
	select {
	case h.kept <- struct{}{}:
	default:
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.idle != nil {
		h.idle.Reset(h.grace)
	}
	h.given()
	return &guildhallv1.KeepResponse{IdleGrace: durationpb.New(h.grace)}, nil
}

// closeAfter has the host go when it has not been kept for a grace.
func (h *smallHost) closeAfter(grace time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.grace = grace
	gone := make(chan struct{})
	h.idle = time.AfterFunc(grace, func() {
		defer close(gone)
		h.die()
	})
	h.w.t.Cleanup(func() {
		h.mu.Lock()
		idle := h.idle
		h.idle = nil // a placer that still runs would wind it up again, for after the test
		h.mu.Unlock()
		if !idle.Stop() {
			<-gone
		}
	})
}

// Disown gives back claims that have no room.
func (h *smallHost) Disown(ctx context.Context, request *guildhallv1.DisownRequest) (*guildhallv1.DisownResponse, error) {
	response := &guildhallv1.DisownResponse{}
	for _, held := range request.GetClaims() {
		group, err := guildhall.ParseGroup(held.GetGroup())
		if err != nil {
			return nil, err
		}
		if h.has(held.GetGroup()) {
			continue
		}
		if err := h.w.registry.Release(ctx, registry.Claim{Group: group, Epoch: guildhall.Epoch(held.GetEpoch())}); err != nil {
			return nil, err
		}
		response.Disowned++
	}
	return response, nil
}

// Stats tells what rooms there are.
func (h *smallHost) Stats(context.Context, *guildhallv1.StatsRequest) (*guildhallv1.StatsResponse, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	response := &guildhallv1.StatsResponse{}
	for group := range h.rooms {
		response.Rooms = append(response.Rooms, &guildhallv1.RoomStats{Group: group, Epoch: 1, Members: 7})
	}
	return response, nil
}

func (h *smallHost) roomCount() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.rooms)
}

func (h *smallHost) has(group string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.rooms[group]
}

// smallAllocator gives out the hosts that the test has put in.
type smallAllocator struct {
	allocation.UnimplementedAllocationServiceServer
	before func() // what happens when it is asked

	mu    sync.Mutex
	ready []string                       // guarded by mu
	calls int                            // guarded by mu
	given int                            // guarded by mu
	fail  []error                        // guarded by mu; what it answers next
	lost  func(name string)              // guarded by mu; told of a host that was given by an answer that fails
	asked *allocation.AllocationRequest  // guarded by mu; the last request
	reply *allocation.AllocationResponse // guarded by mu; what it answers rather than a host, unless it is nil
}

// Allocate gives the next host.
func (a *smallAllocator) Allocate(_ context.Context, request *allocation.AllocationRequest) (*allocation.AllocationResponse, error) {
	if a.before != nil {
		a.before()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.calls++
	a.asked = request
	if label := request.GetGameServerSelectors()[0].GetMatchLabels()[fleetLabel]; label != "rooms" {
		return nil, status.Errorf(codes.InvalidArgument, "asked for fleet %q", label)
	}
	if len(a.fail) > 0 {
		err := a.fail[0]
		a.fail = a.fail[1:]
		if a.lost != nil {
			a.lost(a.next())
		}
		return nil, err
	}
	if a.reply != nil {
		return a.reply, nil
	}
	if len(a.ready) == 0 {
		return nil, status.Error(codes.ResourceExhausted, "there is no available GameServer to allocate")
	}
	return &allocation.AllocationResponse{GameServerName: a.next()}, nil
}

// next takes the next host out. The caller holds mu.
func (a *smallAllocator) next() string {
	name := a.ready[0]
	a.ready = a.ready[1:]
	a.given++
	return name
}

// failWith has the next calls fail.
func (a *smallAllocator) failWith(failures ...codes.Code) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, code := range failures {
		a.fail = append(a.fail, status.Error(code, "as the test wants"))
	}
}

func (a *smallAllocator) put(names ...string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ready = append(a.ready, names...)
}

func (a *smallAllocator) called() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.calls
}

// gave tells how many hosts it has given out.
func (a *smallAllocator) gave() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.given
}

func testGroup(i int) guildhall.Group {
	return guildhall.Group{Kind: "guild", ID: fmt.Sprint("g", i)}
}
