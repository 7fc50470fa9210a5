package director

import (
	"context"
	"errors"
	"fmt"
	"time"

	allocation "agones.dev/agones/pkg/allocation/go"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/guildhall-dev/guildhall"
	"github.com/guildhall-dev/guildhall/internal/registry"
)

// fleetLabel is the label by which Agones marks the game servers of a fleet.
const fleetLabel = "agones.dev/fleet"

const (
	// leaseWithin bounds how long an allocated host may take to show its lease. A host has one before it is Ready.
	leaseWithin = 5 * time.Second
	// allocateTimeout bounds one call. Agones collects requests for half a second and tries again by itself for up to
	// two.
	allocateTimeout = 5 * time.Second
	// allocateTries bounds the calls for one placement: "none available" is said, too, while others' requests are in
	// flight, so it is believed when it has been said this often.
	allocateTries = 6
	// The pause between two calls: it doubles up to the longest.
	firstAllocatePause = 50 * time.Millisecond
	maxAllocatePause   = 400 * time.Millisecond
	// unknownPause is how long a host may take to show that it was allocated by a call whose answer was lost.
	unknownPause = 2 * time.Second
	// lookEvery is how often the view is looked at in a pause.
	lookEvery = 25 * time.Millisecond
)

// errNobodyTakesIt says that a placement has been refused by all hosts, and by those that were allocated for it.
var errNobodyTakesIt = errors.New("every host refuses, also those just allocated")

// allocator has Agones allocate hosts.
type allocator struct {
	// Static after construction.
	client    allocation.AllocationServiceClient
	registry  *registry.Registry
	hosts     *hosts
	metrics   *metrics
	namespace string
	fleet     string
	timeout   time.Duration // of one call
	chance    func(most time.Duration) time.Duration

	// turn is held by the one placement that allocates: those that wait behind it find room on what it got, so
	// that a burst of new groups costs few allocations.
	turn mutex
	// Guarded by turn: the last failure that was believed, and when.
	failure  error
	failedAt time.Time
}

// allocate gives a host and a seat there, which the caller must settle: one that has become available meanwhile, or a
// new one.
func (a *allocator) allocate(ctx context.Context, t *try) (registry.Lease, *seat, error) {
	asked := time.Now()
	if err := a.turn.lock(ctx); err != nil {
		return registry.Lease{}, nil, fmt.Errorf("waiting for an allocation: %w", err)
	}
	defer a.turn.unlock()
	if host, kept := a.hosts.choose(a.registry.Hosts(), t.refused); kept != nil {
		return host, kept, nil
	}
	if a.failedAt.After(asked) {
		return registry.Lease{}, nil, a.failure // the one before found out while this one waited
	}
	host, kept, err := a.tryAllocate(ctx, t)
	if failed := (*allocationError)(nil); errors.As(err, &failed) && !failed.isUnknown() {
		a.failure, a.failedAt = err, time.Now() // true for all; the others were bad luck
	}
	return host, kept, err
}

// tryAllocate allocates until there is a host that has room, or the tries are used up. The caller holds the turn.
func (a *allocator) tryAllocate(ctx context.Context, t *try) (registry.Lease, *seat, error) {
	pause := firstAllocatePause
	err := errNobodyTakesIt
	for n := 1; ; n++ {
		if t.allocated >= allocationsMost {
			return registry.Lease{}, nil, err
		}
		err = a.one(ctx, t)
		rest := pause/2 + a.chance(pause/2)
		var failed *allocationError
		switch {
		case ctx.Err() != nil:
			return registry.Lease{}, nil, fmt.Errorf("allocating a host: %w", ctx.Err())
		case err == nil:
			rest = 0
		case !errors.As(err, &failed) || !failed.isWorthATry() || n == allocateTries:
			return registry.Lease{}, nil, err
		case failed.isUnknown():
			t.allocated++ // if it was, it shows as allocated in a moment
			rest = unknownPause
		}
		if err == nil {
			err = errNobodyTakesIt // unless the next look finds that somebody does
		} else {
			a.metrics.retries.WithLabelValues(failed.why()).Inc()
			pause = min(2*pause, maxAllocatePause)
		}
		if host, kept := a.look(ctx, rest, t); kept != nil {
			return host, kept, nil
		}
	}
}

// one allocates one host and waits until its lease is in view. The caller holds the turn.
func (a *allocator) one(ctx context.Context, t *try) error {
	name, err := a.call(ctx)
	if err != nil {
		return err
	}
	t.allocated++
	_, err = a.awaitLease(ctx, name)
	return err
}

// awaitLease waits until a host that was just allocated is in view.
func (a *allocator) awaitLease(ctx context.Context, name guildhall.HostName) (registry.Lease, error) {
	a.hosts.allocatedNow(name)
	ctx, cancel := context.WithTimeout(ctx, leaseWithin)
	defer cancel()
	lease, err := a.registry.AwaitHost(ctx, name, func(registry.Lease) bool { return true })
	if err != nil {
		return registry.Lease{}, fmt.Errorf("%w: %s: %w", errNoLease, name, err)
	}
	return lease, nil
}

// errNoLease says that Agones has given a host that is not there.
var errNoLease = errors.New("an allocated host shows no lease")

// look looks for a host that has room, for a while: another director may have allocated one, or a host may show that
// it was allocated by a call of ours that seemed to fail.
func (a *allocator) look(ctx context.Context, while time.Duration, t *try) (registry.Lease, *seat) {
	end := time.NewTimer(while)
	defer end.Stop()
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for {
		if host, kept := a.hosts.choose(a.registry.Hosts(), t.refused); kept != nil {
			return host, kept
		}
		select {
		case <-ticker.C:
		case <-end.C:
			return a.hosts.choose(a.registry.Hosts(), t.refused)
		case <-ctx.Done():
			return registry.Lease{}, nil
		}
	}
}

// ahead allocates one host before it is needed, if it is still wanted when it is our turn.
func (a *allocator) ahead(ctx context.Context, wanted func() bool) (registry.Lease, error) {
	if err := a.turn.lock(ctx); err != nil {
		return registry.Lease{}, err
	}
	defer a.turn.unlock()
	if !wanted() {
		return registry.Lease{}, errNotWanted
	}
	name, err := a.call(ctx)
	if err != nil {
		return registry.Lease{}, err
	}
	return a.awaitLease(ctx, name)
}

// errNotWanted says that what was to be allocated has come by another way.
var errNotWanted = errors.New("no longer wanted")

// call asks Agones for one Ready game server of the fleet. If the reply is lost the host is allocated and nobody
// knows but itself: its lease says so, and whoever needs a host uses it; otherwise it shuts itself down after its idle
// grace.
func (a *allocator) call(ctx context.Context) (guildhall.HostName, error) {
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
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
		return "", &allocationError{fleet: a.namespace + "/" + a.fleet, cause: err}
	}
	return guildhall.HostName(response.GetGameServerName()), nil
}

// allocationError says that Agones did not give a host, or did not say so.
type allocationError struct {
	fleet string
	cause error
}

// Error tells of which fleet.
func (e *allocationError) Error() string {
	return fmt.Sprintf("allocating a host of fleet %s: %v", e.fleet, e.cause)
}

// Unwrap gives what Agones said.
func (e *allocationError) Unwrap() error { return e.cause }

// isWorthATry says whether the same request may succeed later. One that Agones finds invalid never does; the code for
// that is no gRPC code but HTTP's 422.
func (e *allocationError) isWorthATry() bool {
	switch e.why() {
	case "fleet_empty", "allocation_contended", "allocator_away", "allocation_unknown":
		return true
	}
	return false
}

// isUnknown says whether a host may have been allocated all the same.
func (e *allocationError) isUnknown() bool { return e.why() == "allocation_unknown" }

// why names the failure for a metric.
func (e *allocationError) why() string {
	switch status.Code(e.cause) {
	case codes.ResourceExhausted:
		return "fleet_empty"
	case codes.Aborted:
		return "allocation_contended"
	case codes.Unavailable:
		return "allocator_away"
	case codes.DeadlineExceeded, codes.Canceled, codes.Unknown, codes.Internal:
		return "allocation_unknown"
	}
	return "allocation_refused"
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
