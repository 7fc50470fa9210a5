package director

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	allocation "agones.dev/agones/pkg/allocation/go"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/guildhall-dev/guildhall"
	"github.com/guildhall-dev/guildhall/internal/registry"
	"github.com/guildhall-dev/guildhall/internal/tracing"
)

const (
	// fleetLabel is the label by which Agones marks the game servers of a fleet.
	fleetLabel = "agones.dev/fleet"
	// roomsCounter is the Agones counter in which a host counts its rooms.
	roomsCounter = "rooms"
	// purposeLabel says on a game server what it was allocated for: group or headroom.
	purposeLabel = "guildhall.dev/allocated-for"
	// groupKey is the group that needed the host: the annotation has its name. The label, whose value must be short and
	// of few characters, has the hash of it: the first 32 hexadecimal digits of SHA-256.
	groupKey = "guildhall.dev/group"
	// noneAvailable is what the allocator service says when it has no game server. Its code for that is configurable, and
	// is lost where Agones speaks for another cluster's allocator.
	noneAvailable = "there is no available GameServer to allocate"
)

const (
	// leaseWithin bounds how long an allocated host may take to show its lease. A host has one before it is Ready.
	leaseWithin = 5 * time.Second
	// allocateTimeout bounds one call, unless another bound is configured. Agones collects requests for half a second and
	// tries again by itself for up to two.
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
	client       allocation.AllocationServiceClient
	registry     *registry.Registry
	hosts        *hosts
	metrics      *metrics
	tracer       tracing.Tracer
	namespace    string
	fleet        string
	roomsCounter bool                            // whether to select by it
	multiCluster *allocation.MultiClusterSetting // nil for one cluster
	timeout      time.Duration                   // of one call
	chance       func(most time.Duration) time.Duration

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
	given, err := a.call(ctx, t.group)
	if err != nil {
		return err
	}
	t.allocated++
	_, err = a.awaitLease(ctx, given)
	return err
}

// awaitLease waits until a host that was just allocated is in view.
func (a *allocator) awaitLease(ctx context.Context, given *allocation.AllocationResponse) (registry.Lease, error) {
	name := guildhall.HostName(given.GetGameServerName())
	a.hosts.allocatedNow(name)
	ctx, cancel := context.WithTimeout(ctx, leaseWithin)
	defer cancel()
	lease, err := a.registry.AwaitHost(ctx, name, func(registry.Lease) bool { return true })
	if err != nil {
		return registry.Lease{}, fmt.Errorf("%w: %s%s: %w", errNoLease, name, elsewhere(given.GetSource()), err)
	}
	return lease, nil
}

// elsewhere tells of another cluster, if a host is there: its lease comes by the same NATS or not at all.
func elsewhere(source string) string {
	if source == "" || source == "local" {
		return ""
	}
	return fmt.Sprintf(" (of the cluster whose allocator is %.100q; do its hosts use the same NATS?)", source)
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
	given, err := a.call(ctx, guildhall.Group{})
	if err != nil {
		return registry.Lease{}, err
	}
	return a.awaitLease(ctx, given)
}

// errNotWanted says that what was to be allocated has come by another way.
var errNotWanted = errors.New("no longer wanted")

// call asks Agones for one Ready game server of the fleet, for a group, or as headroom for no group. If the reply is lost
// the host is allocated and nobody knows but itself: its lease says so, and whoever needs a host uses it; otherwise it
// shuts itself down after its idle grace.
func (a *allocator) call(ctx context.Context, group guildhall.Group) (*allocation.AllocationResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	start := time.Now()
	ctx, span := a.tracer.Start(ctx, "allocate", tracing.Client)
	response, err := a.client.Allocate(tracing.Outgoing(ctx), a.request(group))
	if err == nil && response.GetGameServerName() == "" {
		err = status.Error(codes.Unknown, "the reply names no game server")
	}
	a.metrics.allocated(time.Since(start), status.Code(err))
	span.Room(response.GetGameServerName(), 0)
	span.End(err)
	if err != nil {
		return nil, &allocationError{fleet: a.namespace + "/" + a.fleet, cause: err}
	}
	return response, nil
}

// request is what Agones is asked, by either door. A selector by the counter of rooms is not there unless it is asked
// for: it narrows nothing, for no host that is Ready has rooms; it leaves out all hosts of a fleet that has no such
// counter; and where Agones runs without CountsAndLists the Kubernetes API refuses it.
func (a *allocator) request(group guildhall.Group) *allocation.AllocationRequest {
	selector := &allocation.GameServerSelector{
		MatchLabels:     map[string]string{fleetLabel: a.fleet},
		GameServerState: allocation.GameServerSelector_READY,
	}
	if a.roomsCounter {
		selector.Counters = map[string]*allocation.CounterSelector{roomsCounter: {MinAvailable: 1}}
	}
	return &allocation.AllocationRequest{
		Namespace:           a.namespace,
		Scheduling:          allocation.AllocationRequest_Packed,
		GameServerSelectors: []*allocation.GameServerSelector{selector},
		MultiClusterSetting: a.multiCluster,
		Metadata:            marks(group),
	}
}

// marks gives what a game server is marked with, for people who look at the cluster: nothing of ours reads it, and
// the host carries the rooms of other groups, too, in time.
func marks(group guildhall.Group) *allocation.MetaPatch {
	if group == (guildhall.Group{}) {
		return &allocation.MetaPatch{Labels: map[string]string{purposeLabel: "headroom"}}
	}
	hash := sha256.Sum256([]byte(group.String()))
	return &allocation.MetaPatch{
		Labels:      map[string]string{purposeLabel: "group", groupKey: hex.EncodeToString(hash[:16])},
		Annotations: map[string]string{groupKey: group.String()},
	}
}

// allocationError says that Agones did not give a host, or did not say so.
type allocationError struct {
	fleet string
	cause error
}

// Error tells of which fleet.
func (e *allocationError) Error() string {
	advice := ""
	if e.why() == "allocator_tls" {
		advice = " (certificates are read again, from the files in GUILDHALL_AGONES_…_FILE, at the next try)"
	}
	return fmt.Sprintf("allocating a host of fleet %s: %s: %s%s", e.fleet, e.why(), status.Convert(e.cause).Message(), advice)
}

// Unwrap gives what Agones said.
func (e *allocationError) Unwrap() error { return e.cause }

// isWorthATry says whether the same request may succeed in a moment. One that Agones finds invalid never does, one that
// is not allowed does when somebody has seen to it, and certificates that do not match do when they have been replaced.
func (e *allocationError) isWorthATry() bool {
	switch e.why() {
	case "fleet_empty", "allocation_contended", "allocator_away", "allocation_unknown":
		return true
	}
	return false
}

// isUnknown says whether a host may have been allocated all the same.
func (e *allocationError) isUnknown() bool { return e.why() == "allocation_unknown" }

// why names the failure, for a metric too. The doors translate what they hear into codes of gRPC; the code for an invalid
// request is none of those but HTTP's 422, which is refused as what else nobody expects.
func (e *allocationError) why() string {
	said := status.Convert(e.cause)
	if strings.Contains(said.Message(), noneAvailable) {
		return "fleet_empty"
	}
	switch said.Code() {
	case codes.ResourceExhausted:
		return "fleet_empty"
	case codes.Aborted:
		return "allocation_contended"
	case codes.Unavailable:
		if isTLS(said.Message()) {
			return "allocator_tls"
		}
		return "allocator_away"
	case codes.NotFound, codes.Unimplemented:
		return "allocator_missing"
	case codes.Unauthenticated, codes.PermissionDenied:
		return "allocation_denied"
	case codes.DeadlineExceeded, codes.Canceled, codes.Unknown, codes.Internal:
		return "allocation_unknown"
	}
	return "allocation_refused"
}

// isTLS says whether there was no connection because of certificates. gRPC keeps of such an error only its text, in which
// Go's packages for TLS and certificates give their names.
func isTLS(message string) bool {
	return strings.Contains(message, "tls: ") || strings.Contains(message, "x509: ")
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
