package process

import (
	"context"
	"errors"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"
)

// GRPC is a gRPC server with the health service.
type GRPC struct {
	*grpc.Server
	health *health.Server
}

// NewGRPC makes a server; with reflection, for development, grpcurl needs no protos.
func NewGRPC(withReflection bool, options ...grpc.ServerOption) *GRPC {
	server := &GRPC{Server: grpc.NewServer(options...), health: health.NewServer()}
	grpc_health_v1.RegisterHealthServer(server.Server, server.health)
	if withReflection {
		reflection.Register(server.Server)
	}
	return server
}

// Serve serves until ctx ends, says meanwhile that it is healthy, then lets calls finish for the grace before it
// cuts them off.
func (s *GRPC) Serve(ctx context.Context, listener net.Listener, grace time.Duration) error {
	failed := make(chan error, 1)
	go func() { failed <- s.Server.Serve(listener) }()
	select {
	case err := <-failed:
		s.Stop()
		return err
	case <-ctx.Done():
	}
	s.health.Shutdown()
	force := time.AfterFunc(grace, s.Stop)
	defer force.Stop()
	s.GracefulStop()
	if err := <-failed; !errors.Is(err, grpc.ErrServerStopped) { // the stop came before the start
		return err
	}
	return nil
}
