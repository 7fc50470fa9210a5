package roomserver

import (
	"context"
	"io"
	"sync"
	"testing"

	"agones.dev/agones/pkg/sdk"
	"agones.dev/agones/pkg/sdk/beta"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// sidecar is a small SDK server. It records what the host tells it, and shows the game server to those who watch.
type sidecar struct {
	sdk.UnimplementedSDKServer
	address string

	mu      sync.Mutex
	server  *sdk.GameServer               // guarded by mu
	calls   []string                      // guarded by mu: Ready, Shutdown, in order
	beats   int                           // guarded by mu: signs of life
	watches int                           // guarded by mu: how often a watch was begun
	counts  []int64                       // guarded by mu: what the counter was set to
	mute    bool                          // guarded by mu: a watch tells how the game server is at its beginning, and nothing more
	refuse  codes.Code                    // guarded by mu: how the calls but Health and WatchGameServer are answered
	refused int                           // guarded by mu: how often
	hear    func(context.Context, string) // static: if set, called with Ready and Shutdown before they are answered
	breaks  chan struct{}                 // guarded by mu: closed to break the streams there are
	changed chan struct{}                 // guarded by mu: closed and replaced when one of the above changes
}

// counter is the beta half of the sidecar.
type counter struct {
	beta.UnimplementedSDKServer
	of *sidecar
}

// gameServer is one whose players dial 192.0.2.7:7654.
func gameServer(state string) *sdk.GameServer {
	return &sdk.GameServer{
		ObjectMeta: &sdk.GameServer_ObjectMeta{Name: "gs-1"},
		Spec:       &sdk.GameServer_Spec{Health: &sdk.GameServer_Spec_Health{PeriodSeconds: 1}},
		Status: &sdk.GameServer_Status{
			State: state, Address: "192.0.2.7",
			Counters:  map[string]*sdk.GameServer_Status_CounterStatus{roomsCounter: {Count: 0, Capacity: 10}},
			Addresses: []*sdk.GameServer_Status_Address{{Type: "Hostname", Address: "node"}, {Type: "PodIP", Address: "10.0.0.7"}},
			Ports:     []*sdk.GameServer_Status_Port{{Name: "voice", Port: 1}, {Name: "room", Port: 7654}},
		},
	}
}

func newSidecar(server *sdk.GameServer) *sidecar {
	return &sidecar{server: server, breaks: make(chan struct{}), changed: make(chan struct{})}
}

func startSidecar(t testing.TB, server *sdk.GameServer) *sidecar {
	t.Helper()
	s := newSidecar(server)
	t.Cleanup(s.start(t))
	return s
}

// start serves on a free port until the returned function is called.
func (s *sidecar) start(t testing.TB) (stop func()) {
	t.Helper()
	s.address, stop = serve(t, s.grpc())
	return stop
}

func (s *sidecar) grpc() *grpc.Server {
	g := grpc.NewServer()
	sdk.RegisterSDKServer(g, s)
	beta.RegisterSDKServer(g, &counter{of: s})
	return g
}

// change changes something under the lock and wakes whoever waits.
func (s *sidecar) change(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
	close(s.changed)
	s.changed = make(chan struct{})
}

// await waits until yes, which is called under the lock, is true.
func (s *sidecar) await(b *bundle, what string, yes func() bool) {
	b.t.Helper()
	for {
		s.mu.Lock()
		ok, changed := yes(), s.changed
		s.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-b.ctx.Done():
			b.t.Fatalf("it never came about that %s", what)
		}
	}
}

// alter changes the game server, as whoever changes it in the cluster does.
func (s *sidecar) alter(f func(*sdk.GameServer)) {
	s.change(func() { s.alterLocked(f) })
}

// alterLocked leaves what was sent as it is. The caller holds mu.
func (s *sidecar) alterLocked(f func(*sdk.GameServer)) {
	s.server = proto.Clone(s.server).(*sdk.GameServer)
	f(s.server)
}

// state moves the game server to a state.
func (s *sidecar) state(state string) {
	s.alter(func(server *sdk.GameServer) { server.Status.State = state })
}

// shows says whether Agones has so many rooms of so many. The caller holds mu.
func (s *sidecar) shows(count, capacity int64) bool {
	c := s.server.GetStatus().GetCounters()[roomsCounter]
	return c.GetCount() == count && c.GetCapacity() == capacity
}

// breakStreams breaks the streams there are.
func (s *sidecar) breakStreams() {
	s.change(func() {
		close(s.breaks)
		s.breaks = make(chan struct{})
	})
}

func (s *sidecar) GetGameServer(context.Context, *sdk.Empty) (*sdk.GameServer, error) {
	var server *sdk.GameServer
	var err error
	s.change(func() { server, err = s.server, s.refusal() })
	return server, err
}

// refusal is how a call is answered. The caller holds mu.
func (s *sidecar) refusal() error {
	if s.refuse == codes.OK {
		return nil
	}
	s.refused++
	return status.Error(s.refuse, "not now")
}

func (s *sidecar) Ready(ctx context.Context, _ *sdk.Empty) (*sdk.Empty, error) {
	return s.called(ctx, "Ready")
}

func (s *sidecar) Shutdown(ctx context.Context, _ *sdk.Empty) (*sdk.Empty, error) {
	return s.called(ctx, "Shutdown")
}

func (s *sidecar) called(ctx context.Context, what string) (*sdk.Empty, error) {
	if s.hear != nil {
		s.hear(ctx, what)
	}
	var err error
	s.change(func() {
		s.calls = append(s.calls, what)
		err = s.refusal()
	})
	return &sdk.Empty{}, err
}

func (s *sidecar) Health(stream sdk.SDK_HealthServer) error {
	s.mu.Lock()
	breaks := s.breaks
	s.mu.Unlock()
	received := make(chan error, 1)
	go func() { // ends with the stream, which ends when this function returns
		for {
			if _, err := stream.Recv(); err != nil {
				received <- err
				return
			}
			s.change(func() { s.beats++ })
		}
	}()
	select {
	case err := <-received:
		if err == io.EOF {
			return stream.SendAndClose(&sdk.Empty{})
		}
		return err
	case <-breaks:
		return status.Error(codes.Unavailable, "the sidecar restarts")
	}
}

func (s *sidecar) WatchGameServer(_ *sdk.Empty, stream sdk.SDK_WatchGameServerServer) error {
	s.change(func() { s.watches++ })
	s.mu.Lock()
	breaks := s.breaks
	s.mu.Unlock()
	for {
		s.mu.Lock()
		server, changed := s.server, s.changed
		if s.mute {
			changed = nil
		}
		s.mu.Unlock()
		if err := stream.Send(server); err != nil {
			return err
		}
		select {
		case <-changed:
		case <-breaks:
			return status.Error(codes.Unavailable, "the sidecar restarts")
		case <-stream.Context().Done():
			return stream.Context().Err()
		}
	}
}

func (c *counter) UpdateCounter(_ context.Context, request *beta.UpdateCounterRequest) (*beta.Counter, error) {
	update := request.GetCounterUpdateRequest()
	var err error
	c.of.change(func() {
		if err = c.of.refusal(); err != nil {
			return
		}
		if c.of.server.GetStatus().GetCounters()[update.GetName()] == nil {
			err = status.Error(codes.Unknown, "counter not found: "+update.GetName())
			c.of.refused++
			return
		}
		c.of.counts = append(c.of.counts, update.GetCount().GetValue())
		c.of.alterLocked(func(server *sdk.GameServer) {
			server.Status.Counters[update.GetName()] = &sdk.GameServer_Status_CounterStatus{
				Count: update.GetCount().GetValue(), Capacity: update.GetCapacity().GetValue(),
			}
		})
	})
	return &beta.Counter{}, err
}
