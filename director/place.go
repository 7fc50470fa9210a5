package director

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/guildhall-dev/guildhall"
	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
	"github.com/guildhall-dev/guildhall/internal/registry"
)

// placer finds or makes the one room of a group. It is safe for use by any number of goroutines.
type placer struct {
	registry  *registry.Registry
	hosts     *hosts
	allocator *allocator
	logger    *slog.Logger
	metrics   *metrics
}

// The pause before a group whose host is on its way out is tried again: moving a room takes moments.
const movePause = 25 * time.Millisecond

// attempts bounds how often one placement begins anew. Each begins with the claim as it is then.
const attempts = 20

// openTimeout bounds one OpenRoom. A host that takes longer is of no use to the players who wait.
const openTimeout = 3 * time.Second

// errMoving says that the group's room is being moved away from where it is.
var errMoving = errors.New("the room's host is draining or closing")

// place gives the host that owns the group's room, having seen to it that there is one.
func (p *placer) place(ctx context.Context, group guildhall.Group) (*guildhallv1.Placement, error) {
	refused := map[guildhall.HostName]bool{}
	var last error
	for range attempts {
		placement, err := p.attempt(ctx, group, refused)
		if err == nil {
			return placement, nil
		}
		last = err
		var refusal *refusedError
		switch {
		case errors.As(err, &refusal):
			p.metrics.retries.WithLabelValues(refusal.why()).Inc()
			refused[refusal.host] = true
		case errors.Is(err, registry.ErrClaimLost):
			p.metrics.retries.WithLabelValues("claim_lost").Inc()
		case errors.Is(err, errMoving):
			p.metrics.retries.WithLabelValues("moving").Inc()
			sleep(ctx, movePause)
		default:
			return nil, err
		}
		if ctx.Err() != nil {
			break
		}
	}
	return nil, fmt.Errorf("placing %s: gave up after %w", group, last)
}

// attempt is one pass: claim, host, swap, open.
func (p *placer) attempt(ctx context.Context, group guildhall.Group, refused map[guildhall.HostName]bool) (*guildhallv1.Placement, error) {
	claim, lease, err := p.current(ctx, group)
	if err != nil {
		return nil, err
	}
	if lease != nil {
		return placementOf(claim, *lease), nil
	}
	host, err := p.choose(ctx, group, refused)
	if err != nil {
		return nil, err
	}
	placed := false
	defer func() { p.hosts.settle(host.Host, group, placed) }()
	claim, err = p.registry.Take(ctx, group, host.Host, claim.Epoch)
	if err != nil {
		return nil, err
	}
	if err := p.open(ctx, host, claim); err != nil {
		p.giveBack(ctx, claim)
		return nil, err
	}
	placed = true
	return placementOf(claim, host), nil
}

// current gives the group's claim, and the lease of the host that owns it; a nil lease means that the claim, if
// there is one, may be taken over at its epoch.
func (p *placer) current(ctx context.Context, group guildhall.Group) (registry.Claim, *registry.Lease, error) {
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
	case lease.State == registry.HostDraining, lease.State == registry.HostClosing:
		// The host gives the claim back itself, with everything said so far in the log.
		return registry.Claim{}, nil, errMoving
	}
	return claim, &lease, nil
}

// choose gives a host for the group and keeps a seat for it there; the caller must settle it.
func (p *placer) choose(ctx context.Context, group guildhall.Group, refused map[guildhall.HostName]bool) (registry.Lease, error) {
	if host, found := p.hosts.choose(p.registry.Hosts(), group, refused); found {
		return host, nil
	}
	return p.allocator.allocate(ctx, p.hosts, group, refused)
}

// open has the host open the room.
func (p *placer) open(ctx context.Context, host registry.Lease, claim registry.Claim) error {
	client, err := p.hosts.client(host.InternalAddress)
	if err != nil {
		return &refusedError{host: host.Host, cause: err}
	}
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	_, err = client.OpenRoom(ctx, &guildhallv1.OpenRoomRequest{Group: claim.Group.String(), Epoch: uint64(claim.Epoch)})
	if err != nil {
		return &refusedError{host: host.Host, cause: err}
	}
	return nil
}

// giveBack releases a claim whose room did not open. If that fails too, the claim stands: whoever comes next
// finds it, and the host opens the room when a player shows a pass for it, or is gone and loses it.
func (p *placer) giveBack(ctx context.Context, claim registry.Claim) {
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

// why names the refusal for a metric.
func (e *refusedError) why() string {
	switch status.Code(e.cause) {
	case codes.ResourceExhausted:
		return "host_full"
	case codes.FailedPrecondition:
		return "host_disagrees"
	case codes.Unavailable:
		return "host_unavailable"
	}
	return "host_failed"
}

func placementOf(claim registry.Claim, host registry.Lease) *guildhallv1.Placement {
	return &guildhallv1.Placement{
		Group: claim.Group.String(), Host: string(claim.Host), Address: host.Address, Epoch: uint64(claim.Epoch),
	}
}
