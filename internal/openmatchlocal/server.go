// Package openmatchlocal is a stand-in for Open Match 1.8: its FrontendService, BackendService and
// QueryService as real gRPC servers, with everything kept in memory. It calls match functions over gRPC at the
// address that a director names, as Open Match does.
//
// It keeps Open Match's contract, and the suite in test/conformance/openmatch runs against both. What differs
// on purpose:
//
//   - FetchMatches is driven by events. It has no synchronizer cycle: it runs the match function at once, and
//     a call that finds nothing waits for a ticket rather than for an interval.
//   - A proposal with a ticket that is gone, assigned or pending is dropped. In Open Match only the cycle
//     keeps such proposals away.
//   - Scores decide between the proposals of one call. Between calls the first to finish wins, and match ids
//     may repeat.
//   - Assignments are pushed to who watches, not polled.
//   - A backfill that expires is deleted at that moment, not by the next cycle.
//   - Unassigned tickets can be made to expire.
//   - Match functions are called over gRPC only; there are no HTTP routes, and health is grpc.health.v1.
//
// A [Server] and all that belongs to it are safe for concurrent use.
package openmatchlocal

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"
	"open-match.dev/open-match/pkg/pb"
)

// stopGrace is how long calls that are under way may take to end when the server stops. Only a caller that
// does not read can need it: everything that waits is woken.
const stopGrace = 2 * time.Second

// Server is Open Match in one process, behind three sockets.
type Server struct {
	// Static after construction.
	cfg       Config
	store     *store
	functions *matchFunctions
	frontend  *endpoint
	backend   *endpoint
	query     *endpoint
	stopping  chan struct{} // closed when the server stops

	mu sync.Mutex
	// Guarded by mu.
	started bool
	closed  bool
}

// endpoint is one of the three services: a listener and what serves it.
type endpoint struct {
	listener net.Listener
	grpc     *grpc.Server
	health   *health.Server
	grace    time.Duration
}

// New checks the configuration and opens the listeners; nothing is served before Run. Whoever does not call
// Run must call Close.
func New(cfg Config) (*Server, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	m := newMetrics()
	s := &Server{
		cfg:       cfg,
		store:     newStore(cfg, m),
		functions: newMatchFunctions(),
		stopping:  make(chan struct{}),
	}
	if err := s.open(m); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Server) open(m *metrics) error {
	for _, e := range []struct {
		into   **endpoint
		listen string
	}{
		{&s.frontend, s.cfg.FrontendListen},
		{&s.backend, s.cfg.BackendListen},
		{&s.query, s.cfg.QueryListen},
	} {
		opened, err := newEndpoint(e.listen, s.cfg.stopGrace)
		if err != nil {
			return err
		}
		*e.into = opened
	}
	pb.RegisterFrontendServiceServer(s.frontend.grpc, &frontend{store: s.store, stopping: s.stopping})
	pb.RegisterQueryServiceServer(s.query.grpc, &query{store: s.store, pageSize: s.cfg.QueryPageSize})
	pb.RegisterBackendServiceServer(s.backend.grpc, &backend{
		store:              s.store,
		functions:          s.functions,
		fetchWait:          s.cfg.FetchWait,
		collectionInterval: s.cfg.ProposalCollectionInterval,
		stopping:           s.stopping,
		log:                s.cfg.Logger,
		metrics:            m,
	})
	for _, e := range s.endpoints() {
		// Last, for it lists what is registered.
		reflection.Register(e.grpc)
	}
	return m.register(s.cfg.Metrics, s.store)
}

func newEndpoint(listen string, grace time.Duration) (*endpoint, error) {
	listener, err := net.Listen("tcp", listen)
	if err != nil {
		return nil, fmt.Errorf("openmatchlocal: %w", err)
	}
	e := &endpoint{
		listener: listener,
		// Open Match's policy, so that a client tuned for it is not turned away here.
		grpc: grpc.NewServer(grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{
			MinTime:             10 * time.Second,
			PermitWithoutStream: true,
		})),
		health: health.NewServer(),
		grace:  grace,
	}
	grpc_health_v1.RegisterHealthServer(e.grpc, e.health)
	return e, nil
}

// endpoints gives those that are open, in the order in which they were opened.
func (s *Server) endpoints() []*endpoint {
	var open []*endpoint
	for _, e := range []*endpoint{s.frontend, s.backend, s.query} {
		if e != nil {
			open = append(open, e)
		}
	}
	return open
}

// FrontendAddr is the host:port of the FrontendService.
func (s *Server) FrontendAddr() string { return s.frontend.listener.Addr().String() }

// BackendAddr is the host:port of the BackendService.
func (s *Server) BackendAddr() string { return s.backend.listener.Addr().String() }

// QueryAddr is the host:port of the QueryService.
func (s *Server) QueryAddr() string { return s.query.listener.Addr().String() }

// Run serves until ctx ends, and returns nil then, when every call and every goroutine has ended. Streams that
// wait end with Unavailable at once. It can be called once.
func (s *Server) Run(ctx context.Context) error {
	if err := s.start(); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, e := range s.endpoints() {
		group.Go(e.serve)
	}
	group.Go(func() error {
		<-ctx.Done()
		return s.Close()
	})
	return group.Wait()
}

func (s *Server) start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.started || s.closed {
		return errors.New("openmatchlocal: the server has run or is closed")
	}
	s.started = true
	return nil
}

// Close stops a server that was never Run; one that runs is stopped as by the end of Run's context. It can be
// called again.
func (s *Server) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	close(s.stopping)
	var group errgroup.Group
	for _, e := range s.endpoints() {
		group.Go(func() error { e.stop(); return nil })
	}
	_ = group.Wait() // stop cannot fail
	s.store.close()
	return s.functions.close()
}

func (e *endpoint) serve() error {
	err := e.grpc.Serve(e.listener)
	if errors.Is(err, grpc.ErrServerStopped) {
		// Stopped before it served.
		return nil
	}
	return err
}

// stop refuses new calls, waits for those under way, and cuts them off after the grace.
func (e *endpoint) stop() {
	e.health.Shutdown()
	force := time.AfterFunc(e.grace, e.grpc.Stop)
	defer force.Stop()
	e.grpc.GracefulStop()
	// GracefulStop knows the listener only if Serve was called.
	_ = e.listener.Close()
}
