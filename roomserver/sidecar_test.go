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
)

// sidecar is a small SDK server. It records what the host tells it, and shows the game server to those who watch.
type sidecar struct {
	sdk.UnimplementedSDKServer
	address string

	mu       sync.Mutex
	server   *sdk.GameServer // guarded by mu
	calls    []string        // guarded by mu: Ready, Shutdown, in order
	beats    int             // guarded by mu: signs of life
	watches  int             // guarded by mu: how often a watch was begun
	counts   []int64         // guarded by mu: what the counter was set to
	capacity int64           // guarded by mu: of the counter
	refuse   codes.Code      // guarded by mu: how UpdateCounter and Shutdown are answered
	refused  int             // guarded by mu: how often
	breaks   chan struct{}   // guarded by mu: closed to break the streams there are
	changed  chan struct{}   // guarded by mu: closed and replaced when one of the above changes
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
			Addresses: []*sdk.GameServer_Status_Address{{Type: "Hostname", Address: "node"}, {Type: "PodIP", Address: "10.0.0.7"}},
			Ports:     []*sdk.GameServer_Status_Port{{Name: "voice", Port: 1}, {Name: "room", Port: 7654}},
		},
	}
}

func startSidecar(t *testing.T, server *sdk.GameServer) *sidecar {
	t.Helper()
	s := &sidecar{server: server, breaks: make(chan struct{}), changed: make(chan struct{})}
	g := grpc.NewServer()
	sdk.RegisterSDKServer(g, s)
	beta.RegisterSDKServer(g, &counter{of: s})
	address, stop := serve(t, g)
	s.address = address
	t.Cleanup(stop)
	return s
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

// state moves the game server to a state.
func (s *sidecar) state(state string) {
	s.change(func() {
		s.server = gameServer(state)
	})
}

// breakStreams breaks the streams there are.
func (s *sidecar) breakStreams() {
	s.change(func() {
		close(s.breaks)
		s.breaks = make(chan struct{})
	})
}

func (s *sidecar) GetGameServer(context.Context, *sdk.Empty) (*sdk.GameServer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.server, nil
}

func (s *sidecar) Ready(context.Context, *sdk.Empty) (*sdk.Empty, error) {
	s.change(func() { s.calls = append(s.calls, "Ready") })
	return &sdk.Empty{}, nil
}

func (s *sidecar) Shutdown(context.Context, *sdk.Empty) (*sdk.Empty, error) {
	var err error
	s.change(func() {
		s.calls = append(s.calls, "Shutdown")
		if s.refuse != codes.OK {
			s.refused++
			err = status.Error(s.refuse, "not now")
		}
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
	if update.GetName() != "rooms" {
		return nil, status.Error(codes.NotFound, "no such counter")
	}
	var err error
	c.of.change(func() {
		if c.of.refuse != codes.OK {
			c.of.refused++
			err = status.Error(c.of.refuse, "not now")
			return
		}
		c.of.counts = append(c.of.counts, update.GetCount().GetValue())
		c.of.capacity = update.GetCapacity().GetValue()
	})
	return &beta.Counter{}, err
}
