// Package agoneslocal stands in for Agones on one machine: an AllocationService on a real socket, the same in the form
// of the Kubernetes API on another if it is asked for, and one fleet whose game servers are child processes, each with an SDK server of its own on a loopback port. Game
// servers and directors speak to it exactly as they speak to a cluster; nothing of theirs imports it.
//
// What happens to a game server:
//
//	New ── Run ──▶ fleet keeps a buffer of Ready ones ──▶ live: ports, SDK server, child process
//	                       ▲                                 │
//	                       │ wakes on each change            ▼ SDK: Ready, Health, Shutdown, counters …
//	 AllocationService ──▶ store (every game server, one lock) ◀── health, exit of the process
//
// All methods of a [Server] may be called from any goroutine at any time.
package agoneslocal

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"sync"
	"time"

	allocation "agones.dev/agones/pkg/allocation/go"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"
)

// callGrace is how long calls in flight may take once their server stops.
const callGrace = time.Second

// Server is the stand-in. [New] opens it, [Server.Run] serves.
type Server struct {
	// Static after construction.
	listener   net.Listener
	grpc       *grpc.Server
	health     *health.Server
	kubernetes *kubernetes // nil if there is none
	store      *store
	fleet      *fleet
	allocator  *allocator

	stopOnce sync.Once
}

// New checks the configuration and opens the allocator's listener. It starts nothing; what it opened is
// closed by [Server.Run] or by [Server.Close].
func New(config Config) (*Server, error) {
	if err := config.complete(); err != nil {
		return nil, fmt.Errorf("agoneslocal: %w", err)
	}
	metrics, err := newMetrics(config.Metrics)
	if err != nil {
		return nil, fmt.Errorf("agoneslocal: register metrics: %w", err)
	}
	listener, err := net.Listen("tcp", config.AllocatorListen)
	if err != nil {
		return nil, fmt.Errorf("agoneslocal: listen for the allocator: %w", err)
	}
	store := newStore(metrics)
	s := &Server{
		listener:  listener,
		grpc:      newGRPCServer(config.AllocatorTLS),
		health:    health.NewServer(),
		store:     store,
		fleet:     newFleet(config.Fleet, store, metrics, config.Logger),
		allocator: newAllocator(store, config.BatchWait, metrics),
	}
	allocation.RegisterAllocationServiceServer(s.grpc, s.allocator)
	healthpb.RegisterHealthServer(s.grpc, s.health)
	reflection.Register(s.grpc)
	if config.KubernetesListen == "" {
		return s, nil
	}
	if s.kubernetes, err = newKubernetes(&config, s.allocator); err != nil {
		listener.Close()
		return nil, fmt.Errorf("agoneslocal: listen for the Kubernetes API: %w", err)
	}
	return s, nil
}

func newGRPCServer(config *tls.Config) *grpc.Server {
	if config == nil {
		return grpc.NewServer()
	}
	return grpc.NewServer(grpc.Creds(credentials.NewTLS(config)))
}

// AllocatorAddr gives the address of the AllocationService.
func (s *Server) AllocatorAddr() string { return s.listener.Addr().String() }

// KubernetesAddr gives the address of the form of the Kubernetes API, "" if there is none.
func (s *Server) KubernetesAddr() string {
	if s.kubernetes == nil {
		return ""
	}
	return s.kubernetes.listener.Addr().String()
}

// Run starts the fleet, keeps it, and answers allocations until ctx ends. Then the allocator stops, every
// game server gets SIGTERM, and SIGKILL after the fleet's grace. Run returns when no process and no
// goroutine is left. It can be called once.
func (s *Server) Run(ctx context.Context) error {
	running, ctx := errgroup.WithContext(ctx)
	running.Go(func() error {
		if err := s.grpc.Serve(s.listener); err != nil {
			return fmt.Errorf("agoneslocal: serve the allocator: %w", err)
		}
		return nil
	})
	if s.kubernetes != nil {
		running.Go(s.kubernetes.serve)
	}
	running.Go(func() error {
		<-ctx.Done()
		s.stopAllocator()
		return nil
	})
	running.Go(func() error {
		s.allocator.run(ctx)
		return nil
	})
	running.Go(func() error {
		s.fleet.run(ctx)
		return nil
	})
	return running.Wait()
}

// Close gives up the listener of a Server that does not run.
func (s *Server) Close() error {
	s.stopAllocator()
	return nil
}

func (s *Server) stopAllocator() {
	s.stopOnce.Do(func() {
		s.health.Shutdown()
		if s.kubernetes != nil {
			s.kubernetes.stop()
		}
		stopGracefully(s.grpc)
		s.listener.Close() // a server that never served does not know its listener
	})
}

// KillAll kills every game server at once, with SIGKILL, and lets the fleet start no other: for the second
// Ctrl-C. It does not wait.
func (s *Server) KillAll() { s.store.killAll() }

// GameServers gives every game server as it is now, sorted by name.
func (s *Server) GameServers() []GameServer { return s.store.snapshot() }

// Wait returns when the fleet is as done wants it, or when ctx ends. done sees the game servers as
// [Server.GameServers] gives them, once at the beginning and after each change; a state that lasts for less
// than it takes to look can be missed.
func (s *Server) Wait(ctx context.Context, done func([]GameServer) bool) error {
	for {
		changed := s.store.nextChange()
		if done(s.store.snapshot()) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// stopGracefully lets calls in flight end for callGrace. A stream that nobody closes (health, a watch)
// would otherwise hold a graceful stop for ever.
func stopGracefully(server *grpc.Server) {
	force := time.AfterFunc(callGrace, server.Stop)
	defer force.Stop()
	server.GracefulStop()
}
