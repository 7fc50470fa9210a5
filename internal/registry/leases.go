package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/guildhall-dev/guildhall"
	"github.com/guildhall-dev/guildhall/internal/broker"
)

// ErrNoLease says that the host is not alive, as far as the registry knows: its claims may be taken over.
var ErrNoLease = errors.New("registry: the host has no lease")

// ErrLeaseLost says that the lease has run out or is another process's: what was held by it must not be served
// before [Registry.Grant] has granted a new one.
var ErrLeaseLost = errors.New("registry: the lease is lost")

// HostState is what a host is to a director.
type HostState string

// The states of a host, in the order of its life.
const (
	// HostReady is a host that Agones may give to anybody, or take away.
	HostReady HostState = "ready"
	// HostAllocated is a host that takes rooms.
	HostAllocated HostState = "allocated"
	// HostDraining is a host that takes none and moves those that it has.
	HostDraining HostState = "draining"
	// HostClosing is a host without rooms that is about to go.
	HostClosing HostState = "closing"
)

// Leaving says whether a host in this state takes no more rooms and will be gone.
func (s HostState) Leaving() bool { return s == HostDraining || s == HostClosing }

// Lease is a host's sign of life, and what it says of itself.
type Lease struct {
	Host    guildhall.HostName `json:"host"`
	State   HostState          `json:"state"`
	Version string             `json:"version"`
	// Rooms and RoomsCapacity count rooms; Players counts who is connected.
	Rooms         int `json:"rooms"`
	RoomsCapacity int `json:"rooms_capacity"`
	Players       int `json:"players"`
	// Address is where players dial, InternalAddress where directors do; host:port both.
	Address         string `json:"address"`
	InternalAddress string `json:"internal_address"`
	PID             int    `json:"pid"`
}

// Leaving says whether the host takes no more rooms and will be gone.
func (l Lease) Leaving() bool { return l.State.Leaving() }

// Grant is a lease that this process holds. It belongs to one goroutine.
type Grant struct {
	registry *Registry
	host     guildhall.HostName
	revision uint64
}

// Grant gives a host its first lease, or a new one after [ErrLeaseLost]. While another process of that name
// holds one, it is [ErrLeaseLost]: try again after a moment.
func (r *Registry) Grant(ctx context.Context, lease Lease) (*Grant, error) {
	value, err := json.Marshal(lease)
	if err != nil {
		return nil, fmt.Errorf("encoding the lease of %s: %w", lease.Host, err)
	}
	grant := &Grant{registry: r, host: lease.Host}
	grant.revision, err = broker.Write(ctx, func(ctx context.Context) (uint64, error) {
		return r.leases.Create(ctx, string(lease.Host), value)
	})
	if isConflict(err) { // perhaps with our own, from a grant whose reply was lost: it would be in our way until it expires
		err = grant.over(ctx, lease, value)
	}
	if errors.Is(err, ErrLeaseLost) {
		return nil, err
	}
	if err != nil {
		return nil, fmt.Errorf("granting the lease of %s: %w", lease.Host, err)
	}
	return grant, nil
}

// Renew renews the lease and says what is new of the host. [ErrLeaseLost] is final for this grant; after any
// other error the lease may or may not have been renewed.
func (g *Grant) Renew(ctx context.Context, lease Lease) error {
	value, err := json.Marshal(lease)
	if err != nil {
		return fmt.Errorf("encoding the lease of %s: %w", g.host, err)
	}
	err = g.update(ctx, value)
	if isConflict(err) {
		err = g.over(ctx, lease, value)
	}
	if err != nil && !errors.Is(err, ErrLeaseLost) {
		return fmt.Errorf("renewing the lease of %s: %w", g.host, err)
	}
	return err
}

// update writes the lease behind the revision that this grant knows.
func (g *Grant) update(ctx context.Context, value []byte) error {
	revision, err := broker.Write(ctx, func(ctx context.Context) (uint64, error) {
		return g.registry.leases.Update(ctx, string(g.host), value, g.revision)
	})
	if err == nil {
		g.revision = revision
	}
	return err
}

// over writes the lease over what is there, if that is our own.
func (g *Grant) over(ctx context.Context, lease Lease, value []byte) error {
	if err := g.adopt(ctx, lease); err != nil {
		return err
	}
	return g.update(ctx, value)
}

// adopt looks whether a conflict was with our own earlier write whose reply was lost, and takes its revision if
// so. That is no renewal yet: the lease lives on from that earlier write, the host would reckon from this one. The
// lease carries the process id, which two processes of one name on one machine do not share.
func (g *Grant) adopt(ctx context.Context, lease Lease) error {
	entry, err := get(ctx, g.registry.leases, string(g.host))
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return fmt.Errorf("%w: %s", ErrLeaseLost, g.host)
	}
	if err != nil {
		return fmt.Errorf("reading the lease of %s: %w", g.host, err)
	}
	var stored Lease
	if json.Unmarshal(entry.Value(), &stored) != nil || stored.PID != lease.PID || stored.InternalAddress != lease.InternalAddress {
		return fmt.Errorf("%w: %s is held by another process", ErrLeaseLost, g.host)
	}
	g.revision = entry.Revision()
	return nil
}

// Return gives the lease back: the host is gone.
func (g *Grant) Return(ctx context.Context) error {
	err := g.registry.purge(ctx, leasesBucket, string(g.host), g.revision)
	if err != nil && !isConflict(err) {
		return fmt.Errorf("returning the lease of %s: %w", g.host, err)
	}
	return nil
}

// Host reads the lease of a host from the registry itself, not from the view; [ErrNoLease] if there is none.
func (r *Registry) Host(ctx context.Context, name guildhall.HostName) (Lease, error) {
	entry, err := get(ctx, r.leases, string(name))
	if errors.Is(err, jetstream.ErrKeyNotFound) || errors.Is(err, jetstream.ErrKeyDeleted) {
		return Lease{}, ErrNoLease
	}
	if err != nil {
		return Lease{}, fmt.Errorf("reading the lease of %s: %w", name, err)
	}
	return decodeLease(entry)
}

func decodeLease(entry jetstream.KeyValueEntry) (Lease, error) {
	var lease Lease
	if err := json.Unmarshal(entry.Value(), &lease); err != nil {
		return Lease{}, fmt.Errorf("registry: the lease of %s does not decode: %w", entry.Key(), err)
	}
	return lease, nil
}

// ServeUntil gives the instant, by this process's monotonic clock, until which a host may serve on the strength
// of a renewal that it sent at the given instant. The margin covers what this clock may lag behind NATS's.
func (r *Registry) ServeUntil(sent time.Time) time.Time {
	return sent.Add(r.leaseTTL - r.leaseTTL/6)
}
