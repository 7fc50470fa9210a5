// Package roomserver is a host: one Agones game server that carries the live rooms of many groups.
//
// A host serves a room while it holds the room's claim and its own lease, and the log refuses it when it does
// not, whatever it believes. Players come with a pass; directors open rooms through the internal HostService.
package roomserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"

	"github.com/nats-io/nats.go"

	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
	"github.com/guildhall-dev/guildhall/internal/broker"
	"github.com/guildhall-dev/guildhall/internal/pass"
	"github.com/guildhall-dev/guildhall/internal/process"
	"github.com/guildhall-dev/guildhall/internal/registry"
	"github.com/guildhall-dev/guildhall/internal/roomlog"
	"github.com/guildhall-dev/guildhall/internal/secret"
	"github.com/guildhall-dev/guildhall/internal/transport"
)

// Server is the service.
type Server struct {
	// Static after construction.
	config    Config
	logger    *slog.Logger
	admin     *process.Admin
	public    net.Listener
	internal  net.Listener
	nats      *nats.Conn
	registry  *registry.Registry
	log       *roomlog.Log
	secrets   *secret.Files
	passKeys  *secret.Value[pass.PublicKeys]
	lifecycle *lifecycle
	metrics   *metrics
}

// New validates the configuration, connects, and opens the listeners.
func New(config Config) (*Server, error) {
	process.FillZero(&config)
	config.FillIn()
	if err := config.Check(); err != nil {
		return nil, err
	}
	var undo process.Undo
	defer undo.Run()
	s := &Server{config: config, logger: config.Logger, metrics: newMetrics(config.Metrics)}
	var err error
	s.secrets = secret.New(config.Logger, config.Metrics)
	if s.passKeys, err = secret.Follow(s.secrets, "pass_keys", func() (pass.PublicKeys, error) {
		return pass.LoadPublicKeys(config.PassKeysFile)
	}, config.PassKeysFile); err != nil {
		return nil, fmt.Errorf("GUILDHALL_PASS_KEYS_FILE: %w", err)
	}
	if s.admin, err = process.NewAdmin(&config.Common); err != nil {
		return nil, err
	}
	undo.Add(s.admin.Close)
	if s.public, err = process.Listen("LISTEN", config.Listen); err != nil {
		return nil, err
	}
	undo.Add(s.public.Close)
	if s.internal, err = process.Listen("INTERNAL_LISTEN", config.InternalListen); err != nil {
		return nil, err
	}
	undo.Add(s.internal.Close)
	undo.Add(s.closeConns)
	if s.lifecycle, err = newLifecycle(config); err != nil {
		return nil, err
	}
	if err := s.connect(); err != nil {
		return nil, err
	}
	undo.Cancel()
	return s, nil
}

func (s *Server) connect() error {
	ctx, cancel := context.WithTimeout(context.Background(), s.config.NATSTimeout)
	defer cancel()
	conn, js, err := broker.Connect(s.config.Config, "roomserver", s.secrets, s.logger)
	if err != nil {
		return err
	}
	s.nats = conn
	s.registry, err = registry.Open(ctx, js, registry.Config{
		LeaseTTL: s.config.LeaseTTL, Replicas: s.config.NATSReplicas, Bans: true, Logger: s.logger,
	})
	if err != nil {
		return err
	}
	s.log, err = roomlog.Open(ctx, js, roomlog.Config{Replicas: s.config.NATSReplicas, Streams: s.config.LogStreams})
	return err
}

func (s *Server) closeConns() error {
	if s.nats != nil {
		s.nats.Close()
	}
	if s.lifecycle != nil {
		return s.lifecycle.close()
	}
	return nil
}

// Run serves until ctx ends. The start: learn from Agones who we are, take the lease, serve, say Ready. The stop,
// in reverse: no new rooms, move those that are here within the grace, tell Agones that this host is done, let the sessions
// end, give the lease back.
func (s *Server) Run(ctx context.Context) error {
	return errors.Join(s.run(ctx), s.closeConns())
}

func (s *Server) run(ctx context.Context) error {
	var undo process.Undo
	defer undo.Run()
	undo.Add(s.admin.Close)
	undo.Add(s.public.Close)
	undo.Add(s.internal.Close)
	self, err := s.lifecycle.identify(ctx)
	if ctx.Err() != nil {
		return nil // a stop that was asked for
	}
	if err != nil {
		return err
	}
	internal, err := s.internalAddress(self)
	if err != nil {
		return err
	}
	undo.Cancel() // from here on the listeners are their servers'
	return s.serve(ctx, newBareHost(HostConfig{
		Name: self.name, Address: self.address, InternalAddress: internal, Capacity: s.config.RoomsPerHost,
		Kinds: s.config.Kinds, IdleGrace: s.config.HostIdleGrace, BodyBytes: s.config.BodyBytes, Limits: s.config.Player,
		Registry: s.registry, Log: s.log, PassKeys: s.passKeys.Now, Logger: s.logger, Tracer: s.config.Tracer,
	}, s.metrics))
}

func (s *Server) serve(ctx context.Context, bare *Host) error {
	host := bare.host
	public := transport.NewServer(transport.Config{
		Handle: bare.Serve, MaxMessage: maxFrame(s.config.BodyBytes), QueueBytes: queueBytes(s.config.BodyBytes), Logger: s.logger,
	})
	internal := process.NewGRPC(s.config.Reflection)
	guildhallv1.RegisterHostServiceServer(internal, bare.HostService())
	return process.RunAll(ctx,
		s.admin,
		s.secrets,
		s.registry,
		process.Func(host.evictBanned),
		process.Func(host.keepLease),
		process.Func(s.sweep),
		process.Func(func(ctx context.Context) error { return s.tidy(ctx, host) }),
		process.Func(func(ctx context.Context) error {
			return internal.Serve(ctx, s.internal, s.config.StopGrace)
		}),
		process.Func(func(ctx context.Context) error {
			return public.Serve(ctx, s.public, s.config.StopGrace)
		}),
		process.Func(func(ctx context.Context) error { return s.lifecycle.live(ctx, host) }),
		process.Func(func(ctx context.Context) error {
			<-ctx.Done()
			s.admin.SetNotReady("stopping")
			defer s.lifecycle.depart(context.WithoutCancel(ctx))
			return host.drainWithin(ctx, s.config.StopGrace)
		}),
		process.Func(func(ctx context.Context) error { return s.lifecycle.run(ctx, host, s.admin) }),
	)
}

// internalAddress gives where directors reach this host.
func (s *Server) internalAddress(self identity) (string, error) {
	if s.config.InternalAdvertise != "" {
		return s.config.InternalAdvertise, nil
	}
	address, err := netip.ParseAddrPort(s.internal.Addr().String())
	if err != nil {
		return "", fmt.Errorf("the internal listener's address: %w", err)
	}
	if !address.Addr().IsUnspecified() {
		return address.String(), nil
	}
	if self.podIP == "" {
		return "", errors.New("GUILDHALL_INTERNAL_ADVERTISE is not set and the game server has no address of type PodIP: directors could not reach this host")
	}
	return net.JoinHostPort(self.podIP, fmt.Sprint(address.Port())), nil
}
