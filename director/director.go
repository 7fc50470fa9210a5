// Package director fetches matches from Open Match, one for each group that waits, places each group on a host,
// and assigns its tickets there.
//
// Placing a group is: read its claim; if a live host has it, that is the place. Otherwise choose an allocated
// host that has room, or have Agones allocate one; take the claim by compare-and-swap; open the room on the
// host. Whoever loses the swap reads the winner's claim, so directors need no leader: docs/designs/placement.md
// has the argument.
package director

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/nats-io/nats.go"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"open-match.dev/open-match/pkg/pb"

	"github.com/guildhall-dev/guildhall/internal/broker"
	"github.com/guildhall-dev/guildhall/internal/process"
	"github.com/guildhall-dev/guildhall/internal/registry"
	"github.com/guildhall-dev/guildhall/internal/secret"
	"github.com/guildhall-dev/guildhall/internal/ticket"
)

// Director is the service.
type Director struct {
	// Static after construction.
	config   Config
	logger   *slog.Logger
	admin    *process.Admin
	listener net.Listener
	conns    []io.Closer
	nats     *nats.Conn
	secrets  *secret.Files
	registry *registry.Registry
	placer   *Placer
	assigner *assigner
	metrics  *metrics
	backend  pb.BackendServiceClient
	frontend pb.FrontendServiceClient
	function *pb.FunctionConfig
}

// New validates the configuration, connects, and opens the listeners.
func New(config Config) (*Director, error) {
	process.FillZero(&config)
	config.FillIn()
	if err := config.check(); err != nil {
		return nil, err
	}
	var undo process.Undo
	defer undo.Run()
	d := &Director{config: config, logger: config.Logger, metrics: newMetrics(config.Metrics)}
	d.secrets = secret.New(config.Logger, config.Metrics)
	d.function, _ = functionConfig(config.MatchfunctionAdvertise) // checked above
	var err error
	if d.admin, err = process.NewAdmin(&config.Common); err != nil {
		return nil, err
	}
	undo.Add(d.admin.Close)
	if d.listener, err = process.Listen("LISTEN", config.Listen); err != nil {
		return nil, err
	}
	undo.Add(d.listener.Close)
	undo.Add(d.closeConns)
	if err := d.connect(); err != nil {
		return nil, err
	}
	undo.Cancel()
	return d, nil
}

// connect opens the way to everything that a director talks to.
func (d *Director) connect() error {
	ctx, cancel := context.WithTimeout(context.Background(), d.config.NATSTimeout)
	defer cancel()
	conn, js, err := broker.Connect(d.config.Config, "director", d.secrets, d.logger)
	if err != nil {
		return err
	}
	d.nats = conn
	d.registry, err = registry.Open(ctx, js, registry.Config{
		LeaseTTL: d.config.LeaseTTL, Replicas: d.config.NATSReplicas, Leases: true, Logger: d.logger,
	})
	if err != nil {
		return err
	}
	backend, err := d.dial("OPENMATCH_BACKEND", d.config.OpenmatchBackend)
	if err != nil {
		return err
	}
	frontend, err := d.dial("OPENMATCH_FRONTEND", d.config.OpenmatchFrontend)
	if err != nil {
		return err
	}
	agones, err := openDoor(&d.config.AgonesConfig, d.secrets, d.metrics)
	if err != nil {
		return err
	}
	d.conns = append(d.conns, agones)
	d.backend = pb.NewBackendServiceClient(backend)
	d.frontend = pb.NewFrontendServiceClient(frontend)
	d.placer = newPlacer(PlacerConfig{
		Registry: d.registry, Allocator: agones, AllocateTimeout: d.config.AgonesTimeout,
		Namespace: d.config.AgonesNamespace, Fleet: d.config.AgonesFleet, RoomsCounter: d.config.AgonesRoomsCounter,
		MultiCluster: d.config.multiCluster(), Headroom: d.config.Headroom, Logger: d.logger, Tracer: d.config.Tracer,
	}, d.metrics)
	d.assigner = newAssigner(d.backend, d.nats, d.logger, d.metrics)
	d.assigner.tracer = d.config.Tracer
	return nil
}

func (d *Director) dial(variable, address string) (*grpc.ClientConn, error) {
	conn, err := process.Dial(variable, address, insecure.NewCredentials(),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)))
	if err != nil {
		return nil, err
	}
	d.conns = append(d.conns, conn)
	return conn, nil
}

func (d *Director) closeConns() error {
	var errs []error
	for _, conn := range d.conns {
		errs = append(errs, conn.Close())
	}
	if d.placer != nil {
		errs = append(errs, d.placer.hosts.forget(nil))
	}
	if d.nats != nil {
		d.nats.Close()
	}
	return errors.Join(errs...)
}

// Addr gives the address of OperatorService.
func (d *Director) Addr() string { return d.listener.Addr().String() }

// AdminAddr gives the address of the admin port.
func (d *Director) AdminAddr() string { return d.admin.Addr() }

// Started gives a channel that is closed once the service takes work.
func (d *Director) Started() <-chan struct{} { return d.admin.Started() }

// Close gives up what New opened, for a service that is not run.
func (d *Director) Close() error {
	return errors.Join(d.closeConns(), d.listener.Close(), d.admin.Close())
}

// Run serves until ctx ends. The parts stop in reverse: no new matches, then what is being placed is placed and
// assigned, then the view of the hosts goes.
func (d *Director) Run(ctx context.Context) error {
	server := &http.Server{
		Handler: d.operatorHandler(), Protocols: process.CleartextHTTP2(), ReadHeaderTimeout: 10 * time.Second,
	}
	err := process.RunAll(ctx,
		d.admin,
		d.secrets,
		d.registry,
		process.Func(func(ctx context.Context) error {
			return process.ServeHTTP(ctx, server, d.listener, d.config.StopGrace)
		}),
		d.placer,
		d.assigner,
		process.Func(d.fetch),
	)
	return errors.Join(err, d.closeConns())
}

// fetch runs a loop for each profile until ctx ends.
func (d *Director) fetch(ctx context.Context) error {
	select {
	case <-d.registry.Synced():
	case <-ctx.Done():
		return nil
	}
	d.admin.SetReady()
	defer context.AfterFunc(ctx, func() { d.admin.SetNotReady("stopping") })()
	work := newWork(ctx, d.config.Placements, d.config.StopGrace)
	var loops []process.Service
	for _, kind := range d.config.Kinds.Names() {
		for shard := range d.config.Shards {
			l := &loop{director: d, profile: ticket.Profile(kind, shard), work: work}
			loops = append(loops, process.Func(l.run))
		}
	}
	err := process.RunAll(ctx, loops...)
	work.wait()
	return err
}
