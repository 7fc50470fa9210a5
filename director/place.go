package director

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	allocation "agones.dev/agones/pkg/allocation/go"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/singleflight"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/guildhall-dev/guildhall"
	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
	"github.com/guildhall-dev/guildhall/internal/process"
	"github.com/guildhall-dev/guildhall/internal/registry"
	"github.com/guildhall-dev/guildhall/internal/tracing"
)

// Placer finds or makes the one room of a group. It is the part of a director that knows nothing of Open Match. It is
// safe for use by any number of goroutines.
type Placer struct {
	// Static after construction.
	registry  *registry.Registry
	hosts     *hosts
	allocator *allocator
	headroom  *headroom
	reaper    *reaper
	logger    *slog.Logger
	metrics   *metrics
	tracer    tracing.Tracer

	underWay singleflight.Group // placements by group: of two matches of one group, the second gets the first's place
}

// PlacerConfig says what a placer acts on.
type PlacerConfig struct {
	// Registry has the claims and leases; its view must be kept by its Run. Required.
	Registry *registry.Registry
	// Allocator is Agones. Required.
	Allocator allocation.AllocationServiceClient
	// AllocateTimeout bounds one call of Allocator; 0 means [AgonesConfig]'s default.
	AllocateTimeout time.Duration
	// Namespace and Fleet say which game servers are ours.
	Namespace, Fleet string
	// RoomsCounter asks only for game servers whose counter of rooms has one free.
	RoomsCounter bool
	// MultiCluster has Agones look in several clusters; nil means in its own.
	MultiCluster *allocation.MultiClusterSetting
	// Headroom is how many free rooms are kept ahead of need, while Run runs; 0 means none.
	Headroom Headroom
	// Chance draws a duration below most, so that directors that see the same do not all act at once; nil means at random.
	Chance func(most time.Duration) time.Duration
	// Dial connects to a host's internal address; nil means gRPC without TLS.
	Dial func(address string) (HostConn, error)
	// Logger is told what went wrong; nil means nobody is.
	Logger *slog.Logger
	// Metrics is where the placer registers; nil means nowhere.
	Metrics prometheus.Registerer
	// Tracer makes spans of what is asked of Agones and of hosts; its zero value makes none.
	Tracer tracing.Tracer
}

// NewPlacer makes a placer.
func NewPlacer(config PlacerConfig) *Placer {
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	return newPlacer(config, newMetrics(config.Metrics))
}

func newPlacer(config PlacerConfig, metrics *metrics) *Placer {
	if config.Dial == nil {
		config.Dial = dialHost
	}
	config.AllocateTimeout = cmp.Or(config.AllocateTimeout, allocateTimeout)
	if config.Chance == nil {
		config.Chance = rand.N[time.Duration]
	}
	hosts := newHosts(config.Dial)
	allocator := &allocator{
		client: config.Allocator, registry: config.Registry, hosts: hosts, metrics: metrics,
		namespace: config.Namespace, fleet: config.Fleet, roomsCounter: config.RoomsCounter, multiCluster: config.MultiCluster,
		timeout: config.AllocateTimeout, chance: config.Chance, turn: newMutex(), tracer: config.Tracer,
	}
	return &Placer{
		registry: config.Registry, hosts: hosts, allocator: allocator, logger: config.Logger, metrics: metrics, tracer: config.Tracer,
		headroom: &headroom{
			rooms: max(0, int(config.Headroom)), registry: config.Registry, hosts: hosts, allocator: allocator,
			chance: config.Chance, logger: config.Logger, metrics: metrics,
		},
		reaper: &reaper{registry: config.Registry, hosts: hosts, logger: config.Logger, metrics: metrics},
	}
}

// Run keeps house until ctx ends: it sees to the headroom, gives back what the dead have left, and closes the
// connections to them.
func (p *Placer) Run(ctx context.Context) error {
	err := process.RunAll(ctx,
		process.Func(p.forget),
		process.Func(p.reaper.run),
		process.Func(p.headroom.watch),
		process.Func(p.headroom.keep),
	)
	return errors.Join(err, p.hosts.forget(nil))
}

// forget closes the connections to hosts that are gone, now and then.
func (p *Placer) forget(ctx context.Context) error {
	process.Every(ctx, forgetEvery, func() {
		if err := p.hosts.forget(p.registry.Hosts()); err != nil {
			p.logger.Debug("closing connections to hosts that are gone", "error", err)
		}
	})
	return nil
}

// The pause before a group whose host is on its way out is tried again: moving a room takes moments.
const movePause = 25 * time.Millisecond

// attempts bounds how often one placement begins anew. Each begins with the claim as it is then.
const attempts = 20

// allocationsMost bounds the hosts that are allocated for one placement: a group that no host takes must not empty the
// fleet.
const allocationsMost = 2

// forgetEvery is how often the connections to hosts that are gone are closed.
const forgetEvery = 10 * time.Second

// openTimeout bounds one OpenRoom. A host that takes longer is of no use to the players who wait.
const openTimeout = registry.SettleTime

// errMoving says that the group's room is being moved away from where it is.
var errMoving = errors.New("the room's host is draining or closing")

// Place gives the host that owns the group's room, having seen to it that there is one.
func (p *Placer) Place(ctx context.Context, group guildhall.Group) (*guildhallv1.Placement, error) {
	for {
		ours := false
		shared, err, _ := p.underWay.Do(group.Key(), func() (any, error) {
			ours = true
			placement, err := p.placeOnce(ctx, group)
			return attempted{placement, ctx.Err() != nil}, err
		})
		got := shared.(attempted) //nolint:forcetypeassert // ours
		if err == nil || ours || !got.late || ctx.Err() != nil {
			return got.placement, err
		}
		// It was another's placement, whose time was up; ours is not.
	}
}

// attempted is what those who place one group at once share.
type attempted struct {
	placement *guildhallv1.Placement // nil if that failed
	late      bool                   // the time of whoever made it was up
}

func (p *Placer) placeOnce(ctx context.Context, group guildhall.Group) (*guildhallv1.Placement, error) {
	t := &try{group: group, refused: map[guildhall.HostName]bool{}}
	var last error
	for range attempts {
		placement, err := p.attempt(ctx, group, t)
		if err == nil {
			return placement, nil
		}
		last = err
		var refusal *refusedError
		switch {
		case errors.As(err, &refusal):
			if refusal.isForGood() {
				return nil, err
			}
			t.refused[refusal.host] = true
		case errors.Is(err, registry.ErrClaimLost):
		case errors.Is(err, errMoving):
			process.Sleep(ctx, movePause)
		default:
			return nil, err
		}
		if ctx.Err() != nil {
			break
		}
		p.metrics.retries.WithLabelValues(why(err)).Inc()
	}
	return nil, fmt.Errorf("placing %s: gave up after %w", group, last)
}

// try is what one placement has been through.
type try struct {
	group     guildhall.Group
	refused   map[guildhall.HostName]bool
	allocated int // hosts that were allocated for it, or may have been
}

// attempt is one pass: claim, host, swap, open.
func (p *Placer) attempt(ctx context.Context, group guildhall.Group, t *try) (*guildhallv1.Placement, error) {
	claim, lease, err := p.current(ctx, group)
	if err != nil {
		return nil, err
	}
	if lease != nil {
		return p.found(ctx, claim, *lease, t)
	}
	host, kept, err := p.choose(ctx, t)
	if err != nil {
		return nil, err
	}
	defer p.hosts.settle(kept)
	if claim, err = p.take(ctx, group, host.Host, claim.Epoch); err != nil {
		return nil, err
	}
	if err := p.open(ctx, host, claim); err != nil {
		return nil, err
	}
	return claim.PlacedOn(host), nil
}

// found gives the place of a claim that is there. If it has just been written, by another director, the host may be
// about to refuse it: it is asked too, for a room that is open already is no error.
func (p *Placer) found(ctx context.Context, claim registry.Claim, host registry.Lease, t *try) (*guildhallv1.Placement, error) {
	if !claim.IsSettled() && !t.refused[host.Host] { // one that was asked and is silent has its claim
		if err := p.open(ctx, host, claim); err != nil {
			return nil, err
		}
	}
	return claim.PlacedOn(host), nil
}

// current gives the group's claim, and the lease of the host that owns it; a nil lease means that the claim, if
// there is one, may be taken over at its epoch.
func (p *Placer) current(ctx context.Context, group guildhall.Group) (registry.Claim, *registry.Lease, error) {
	claim, err := p.registry.Claim(ctx, group)
	if errors.Is(err, registry.ErrNoClaim) {
		return registry.Claim{}, nil, nil
	}
	if err != nil {
		return registry.Claim{}, nil, err
	}
	lease, err := p.registry.Host(ctx, claim.Host)
	switch {
	case errors.Is(err, registry.ErrNoLease):
		return claim, nil, nil
	case err != nil:
		return registry.Claim{}, nil, err
	case !lease.Leaving():
		return claim, &lease, nil
	case lease.Rooms == 0:
		return claim, nil, nil // it has none and will open none: a claim that it was given and never used
	}
	// The host gives the claim back itself, with everything said so far in the log.
	return registry.Claim{}, nil, errMoving
}

// choose gives a host and a seat there, which the caller must settle.
func (p *Placer) choose(ctx context.Context, t *try) (registry.Lease, *seat, error) {
	if host, kept := p.hosts.choose(p.registry.Hosts(), t.refused); kept != nil {
		return host, kept, nil
	}
	return p.allocator.allocate(ctx, t)
}

// take takes the claim, over that of an epoch or over none. Choosing a host may have taken seconds: a host that was
// silent may be back by now, and its room with it.
func (p *Placer) take(ctx context.Context, group guildhall.Group, host guildhall.HostName, over guildhall.Epoch) (registry.Claim, error) {
	if over != 0 {
		claim, lease, err := p.current(ctx, group)
		if err != nil {
			return registry.Claim{}, err
		}
		if lease != nil || claim.Epoch != over {
			return registry.Claim{}, registry.ErrClaimLost
		}
	}
	return p.registry.Take(ctx, group, host, over)
}

// open has the host open the room. A host that refuses loses the claim again. One that does not answer keeps it: the
// room may be open, and players may be in it. It opens the room when one shows a pass, or is gone and loses it.
func (p *Placer) open(ctx context.Context, host registry.Lease, claim registry.Claim) error {
	client, err := p.hosts.client(host.InternalAddress)
	if err != nil {
		return err
	}
	openCtx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	openCtx, span := p.tracer.Start(openCtx, "open room", tracing.Client)
	span.Room(string(host.Host), uint64(claim.Epoch))
	opened, err := client.OpenRoom(tracing.Outgoing(openCtx), &guildhallv1.OpenRoomRequest{Group: claim.Group.String(), Epoch: uint64(claim.Epoch)})
	span.End(err)
	if err == nil {
		p.hosts.told(host.Host, int(opened.GetRooms()))
		return nil
	}
	refusal := &refusedError{host: host.Host, cause: err}
	if refusal.isFull() {
		p.hosts.told(host.Host, host.RoomsCapacity)
	}
	if refusal.isDefinite() {
		p.giveBack(ctx, claim)
	}
	return refusal
}

// giveBack releases a claim whose room did not open. If that fails, the claim stands, as after no answer.
func (p *Placer) giveBack(ctx context.Context, claim registry.Claim) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), openTimeout)
	defer cancel()
	if err := p.registry.Release(ctx, claim); err != nil {
		p.logger.Warn("a claim could not be given back", "group", claim.Group, "host", claim.Host, "error", err)
	}
}

// refusedError says that a host did not open a room.
type refusedError struct {
	host  guildhall.HostName
	cause error
}

// Error tells who refused what.
func (e *refusedError) Error() string {
	return fmt.Sprintf("host %s did not open the room: %v", e.host, e.cause)
}

// Unwrap gives what the host said.
func (e *refusedError) Unwrap() error { return e.cause }

// isDefinite says whether the host itself has said that there is no room.
func (e *refusedError) isDefinite() bool {
	switch status.Code(e.cause) {
	case codes.ResourceExhausted, codes.FailedPrecondition, codes.Aborted, codes.InvalidArgument:
		return true
	}
	return false
}

// isFull says whether the host has no room for any group.
func (e *refusedError) isFull() bool { return status.Code(e.cause) == codes.ResourceExhausted }

// isForGood says whether every host would say the same, for example because it does not know the kind of group yet.
func (e *refusedError) isForGood() bool { return status.Code(e.cause) == codes.InvalidArgument }

// why names the refusal for a metric.
func (e *refusedError) why() string {
	switch status.Code(e.cause) {
	case codes.ResourceExhausted:
		return "host_full"
	case codes.FailedPrecondition:
		return "host_disagrees"
	case codes.Aborted:
		return "host_leaving"
	case codes.InvalidArgument:
		return "bad_request"
	}
	return "host_silent"
}

// why names for a metric why a placement began anew, or failed.
func why(err error) string {
	var refusal *refusedError
	var failed *allocationError
	switch {
	case errors.As(err, &refusal):
		return refusal.why()
	case errors.As(err, &failed):
		return failed.why()
	case errors.Is(err, registry.ErrClaimLost):
		return "claim_lost"
	case errors.Is(err, errMoving):
		return "moving"
	case errors.Is(err, errNobodyTakesIt):
		return "every_host_refuses"
	case errors.Is(err, errNoLease):
		return "no_lease"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return "timeout"
	}
	return "registry"
}
