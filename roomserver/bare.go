package roomserver

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/guildhall-dev/guildhall"
	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
	"github.com/guildhall-dev/guildhall/internal/pass"
	"github.com/guildhall-dev/guildhall/internal/process"
	"github.com/guildhall-dev/guildhall/internal/registry"
	"github.com/guildhall-dev/guildhall/internal/roomlog"
	"github.com/guildhall-dev/guildhall/internal/tracing"
	"github.com/guildhall-dev/guildhall/internal/transport"
)

// Host is a host without sockets and without Agones: rooms, a lease, and what serves players and directors for whoever has a
// transport for them. [Server] puts it on the network.
type Host struct {
	host     *host
	doors    *door
	sessions sync.WaitGroup
}

// HostConfig says what a host is.
type HostConfig struct {
	// Name is the game server's; Address is where players dial it, InternalAddress where directors do.
	Name                     guildhall.HostName
	Address, InternalAddress string
	// Capacity is how many rooms it carries at most.
	Capacity int
	Kinds    guildhall.Kinds
	// IdleGrace is how long it stays allocated without rooms.
	IdleGrace time.Duration
	// BodyBytes is the largest message body.
	BodyBytes int
	Limits    Limits
	Registry  *registry.Registry
	Log       *roomlog.Log
	// PassKeys gives the keys that passes are checked by, as they are when it is called. It must not wait.
	PassKeys func() pass.PublicKeys
	// Logger is told what happens; nil means nobody is.
	Logger *slog.Logger
	// Metrics is where the host registers; nil means nowhere.
	Metrics prometheus.Registerer
	// Tracer makes spans of rooms that are opened and of players who join; its zero value makes none.
	Tracer tracing.Tracer
}

// NewHost makes a host that nobody has been given yet.
func NewHost(config HostConfig) *Host {
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	return newBareHost(config, newMetrics(config.Metrics))
}

func newBareHost(config HostConfig, metrics *metrics) *Host {
	config.Limits.fill()
	h := newHost(hostConfig{
		name: config.Name, address: config.Address, internalAddress: config.InternalAddress, capacity: config.Capacity,
		kinds: config.Kinds, idleGrace: config.IdleGrace, bodyBytes: config.BodyBytes, limits: config.Limits,
		registry: config.Registry, log: config.Log, logger: config.Logger.With("host", string(config.Name)), metrics: metrics,
		tracer: config.Tracer,
	})
	return &Host{host: h, doors: &door{host: h, keys: config.PassKeys}}
}

// Run keeps the registry's views, holds the lease until ctx ends, moves the rooms away, waits until the sessions have ended, and gives the lease
// back.
func (h *Host) Run(ctx context.Context) error {
	return process.RunAll(ctx,
		h.host.registry,
		process.Func(h.host.evictBanned),
		process.Func(h.host.keepLease),
		process.Func(func(ctx context.Context) error {
			<-ctx.Done()
			defer h.sessions.Wait()
			return h.host.drain(context.WithoutCancel(ctx))
		}),
	)
}

// Allocated tells the host that Agones has given it to somebody.
func (h *Host) Allocated() { h.host.allocated() }

// Leased gives a channel that is closed once the host has its first lease.
func (h *Host) Leased() <-chan struct{} { return h.host.leased }

// Closing gives a channel that is closed once the host is of no use to anybody and wants to be shut down.
func (h *Host) Closing() <-chan struct{} { return h.host.closing }

// Serve serves a player's session until it has ended.
func (h *Host) Serve(stream transport.Stream) {
	h.sessions.Add(1)
	defer h.sessions.Done()
	h.doors.serve(stream)
}

// HostService is for directors.
func (h *Host) HostService() guildhallv1.HostServiceServer { return &hostService{host: h.host} }
