// Package frontend is where players come: it checks who they are, tells them where their group's room is, and
// signs the pass that admits them.
//
// A live room is answered from the registry. Otherwise the players of one group who wait at this frontend share
// one Open Match ticket: it carries this frontend's NATS inbox, where the director's answer arrives, so that a
// player who waits costs Open Match nothing.
package frontend

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"

	"github.com/nats-io/nats.go"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"open-match.dev/open-match/pkg/pb"

	"github.com/guildhall-dev/guildhall/internal/broker"
	"github.com/guildhall-dev/guildhall/internal/pass"
	"github.com/guildhall-dev/guildhall/internal/process"
	"github.com/guildhall-dev/guildhall/internal/registry"
	"github.com/guildhall-dev/guildhall/internal/secret"
)

const (
	// maxRequestBytes bounds a request: its largest part is a group's name.
	maxRequestBytes = 16 << 10
	// maxCalls is how many calls a connection carries at once. Each player who waits is one, and a gateway has few connections for
	// all of its players: the default, 250, would have it open dozens.
	maxCalls = 10_000
)

// Frontend is the service.
type Frontend struct {
	// Static after construction.
	config       Config
	logger       *slog.Logger
	admin        *process.Admin
	listener     net.Listener
	grpcListener net.Listener
	secrets      *secret.Files
	nats         *nats.Conn
	match        *grpc.ClientConn
	registry     *registry.Registry
	waits        *waits
	lobby        *lobby
}

// New validates the configuration, connects, and opens the listeners.
func New(config Config) (*Frontend, error) {
	process.FillZero(&config)
	config.FillIn()
	if err := config.check(); err != nil {
		return nil, err
	}
	var undo process.Undo
	defer undo.Run()
	f := &Frontend{config: config, logger: config.Logger, secrets: secret.New(config.Logger, config.Metrics)}
	var err error
	if f.admin, err = process.NewAdmin(&config.Common); err != nil {
		return nil, err
	}
	undo.Add(f.admin.Close)
	if f.listener, err = process.Listen("LISTEN", config.Listen); err != nil {
		return nil, err
	}
	undo.Add(f.listener.Close)
	if f.grpcListener, err = process.Listen("GRPC_LISTEN", config.GRPCListen); err != nil {
		return nil, err
	}
	undo.Add(f.grpcListener.Close)
	undo.Add(f.closeConns)
	if err := f.connect(); err != nil {
		return nil, err
	}
	if err := f.openLobby(); err != nil {
		return nil, err
	}
	undo.Cancel()
	return f, nil
}

func (f *Frontend) connect() error {
	ctx, cancel := context.WithTimeout(context.Background(), f.config.NATSTimeout)
	defer cancel()
	conn, js, err := broker.Connect(f.config.Config, "frontend", f.secrets, f.logger)
	if err != nil {
		return err
	}
	f.nats = conn
	f.registry, err = registry.Open(ctx, js, registry.Config{
		LeaseTTL: f.config.LeaseTTL, Replicas: f.config.NATSReplicas, Leases: true, Bans: true, Logger: f.logger,
	})
	if err != nil {
		return err
	}
	f.match, err = process.Dial("OPENMATCH_FRONTEND", f.config.OpenmatchFrontend, insecure.NewCredentials())
	return err
}

func (f *Frontend) openLobby() error {
	minter, err := secret.Follow(f.secrets, "pass_key", func() (*pass.Minter, error) {
		return pass.LoadMinter(f.config.PassKeyFile)
	}, f.config.PassKeyFile)
	if err != nil {
		return fmt.Errorf("GUILDHALL_PASS_KEY_FILE: %w", err)
	}
	tokenKeys, err := f.tokenKeys()
	if err != nil {
		return err
	}
	metrics := newMetrics(f.config.Metrics)
	live := newLive(f.registry)
	turns := new(turns)
	f.waits = newWaits(waitsConfig{
		match: pb.NewFrontendServiceClient(f.match), nats: f.nats, live: live, logger: f.logger, metrics: metrics,
		shards: f.config.Shards, ticketTTL: f.config.TicketTTL, lookAgain: f.config.LookAgain,
		refileAfter: f.config.RefileAfter, tracer: f.config.Tracer,
	})
	f.lobby = &lobby{
		door:   &door{keys: tokenKeys, kinds: f.config.Kinds, banned: f.registry.BanInView, turns: turns, logger: f.logger},
		turns:  turns,
		logger: f.logger,
		minter: minter.Now, live: live, waits: f.waits, metrics: metrics,
		tracer: f.config.Tracer, held: newHeld(f.config.TicketTTL), stopping: make(chan struct{}),
	}
	return nil
}

// tokenKeys gives what player tokens are checked by.
func (f *Frontend) tokenKeys() (func() pass.PublicKeys, error) {
	var extra pass.PublicKeys
	if f.config.Development {
		extra = pass.DevelopmentKeys()
	}
	file := f.config.TokenKeysFile
	if file == "" {
		return func() pass.PublicKeys { return extra }, nil
	}
	keys, err := secret.Follow(f.secrets, "token_keys", func() (pass.PublicKeys, error) {
		keys, err := pass.LoadPublicKeys(file)
		return append(keys, extra...), err
	}, file)
	if err != nil {
		return nil, fmt.Errorf("GUILDHALL_TOKEN_KEYS_FILE: %w", err)
	}
	return keys.Now, nil
}

func (f *Frontend) closeConns() error {
	if f.nats != nil {
		f.nats.Close()
	}
	if f.match != nil {
		return f.match.Close()
	}
	return nil
}

// Addr gives the address that players call.
func (f *Frontend) Addr() string { return f.listener.Addr().String() }

// GRPCAddr gives the address that is called by gRPC alone.
func (f *Frontend) GRPCAddr() string { return f.grpcListener.Addr().String() }

// AdminAddr gives the address of the admin port.
func (f *Frontend) AdminAddr() string { return f.admin.Addr() }

// Started gives a channel that is closed once the service takes work.
func (f *Frontend) Started() <-chan struct{} { return f.admin.Started() }

// Close gives up what New opened, for a service that is not run.
func (f *Frontend) Close() error {
	return errors.Join(f.closeConns(), f.listener.Close(), f.grpcListener.Close(), f.admin.Close())
}

// Run serves until ctx ends. Players who wait then are told to come back, and their tickets are withdrawn.
func (f *Frontend) Run(ctx context.Context) error {
	err := process.RunAll(ctx, f.admin, f.secrets, f.registry, f.waits, process.Func(func(ctx context.Context) error {
		select {
		case <-f.registry.Synced():
		case <-ctx.Done():
			return nil
		}
		f.admin.SetReady()
		defer f.lobby.held.dropAll()
		stop := context.AfterFunc(ctx, func() {
			f.admin.SetNotReady("stopping")
			close(f.lobby.stopping)
		})
		defer stop()
		serving, ctx := errgroup.WithContext(ctx)
		serving.Go(func() error { return process.ServeHTTP(ctx, f.httpServer(), f.listener, f.config.StopGrace) })
		serving.Go(func() error { return f.grpcServer().Serve(ctx, f.grpcListener, f.config.StopGrace) })
		return serving.Wait()
	}))
	return errors.Join(err, f.closeConns())
}
