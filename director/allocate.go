package director

import (
	"context"
	"fmt"
	"time"

	allocation "agones.dev/agones/pkg/allocation/go"
	"google.golang.org/grpc/status"

	"github.com/guildhall-dev/guildhall"
	"github.com/guildhall-dev/guildhall/internal/registry"
)

// fleetLabel is the label by which Agones marks the game servers of a fleet.
const fleetLabel = "agones.dev/fleet"

// leaseWithin bounds how long an allocated host may take to show its lease. A host has one before it is Ready.
const leaseWithin = 5 * time.Second

// allocator has Agones allocate hosts.
type allocator struct {
	// Static after construction.
	client    allocation.AllocationServiceClient
	registry  *registry.Registry
	metrics   *metrics
	namespace string
	fleet     string

	// turn is held by the one placement that allocates: those that wait behind it find room on what it got, so
	// that a burst of new groups costs few allocations.
	turn mutex
}

// allocate gives a host and a seat there, which the caller must settle: one that has become available meanwhile, or a new one.
func (a *allocator) allocate(ctx context.Context, hosts *hosts, refused map[guildhall.HostName]bool) (registry.Lease, *seat, error) {
	if err := a.turn.lock(ctx); err != nil {
		return registry.Lease{}, nil, fmt.Errorf("waiting for an allocation: %w", err)
	}
	defer a.turn.unlock()
	if host, kept := hosts.choose(a.registry.Hosts(), refused); kept != nil {
		return host, kept, nil
	}
	name, err := a.call(ctx)
	if err != nil {
		return registry.Lease{}, nil, err
	}
	hosts.allocatedNow(name)
	leaseCtx, cancel := context.WithTimeout(ctx, leaseWithin)
	defer cancel()
	if _, err := a.registry.AwaitHost(leaseCtx, name, func(registry.Lease) bool { return true }); err != nil {
		return registry.Lease{}, nil, fmt.Errorf("allocated host %s shows no lease: %w", name, err)
	}
	host, kept := hosts.choose(a.registry.Hosts(), refused)
	if kept == nil {
		return registry.Lease{}, nil, fmt.Errorf("allocated host %s takes no rooms", name)
	}
	return host, kept, nil
}

// call asks Agones for one Ready game server of the fleet. If the reply is lost the host is allocated and nobody
// knows; it shuts itself down after its idle grace.
func (a *allocator) call(ctx context.Context) (guildhall.HostName, error) {
	start := time.Now()
	response, err := a.client.Allocate(ctx, &allocation.AllocationRequest{
		Namespace:  a.namespace,
		Scheduling: allocation.AllocationRequest_Packed,
		GameServerSelectors: []*allocation.GameServerSelector{{
			MatchLabels:     map[string]string{fleetLabel: a.fleet},
			GameServerState: allocation.GameServerSelector_READY,
		}},
	})
	a.metrics.allocated(time.Since(start), status.Code(err))
	if err != nil {
		return "", fmt.Errorf("allocating a host of fleet %s/%s: %w", a.namespace, a.fleet, err)
	}
	return guildhall.HostName(response.GetGameServerName()), nil
}

// mutex is a lock that a context can end the wait for.
type mutex struct{ held chan struct{} }

func newMutex() mutex { return mutex{held: make(chan struct{}, 1)} }

func (m mutex) lock(ctx context.Context) error {
	select {
	case m.held <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (m mutex) unlock() { <-m.held }
