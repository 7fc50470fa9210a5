package registry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/guildhall-dev/guildhall"
)

const (
	// rewatchAfter is how long a broken watch rests before it is begun anew.
	rewatchAfter = 250 * time.Millisecond
	// watchWithin bounds how long NATS may take to begin a watch: a reply that was lost would be waited for for ever.
	watchWithin = 5 * time.Second
)

// Run keeps the view of the leases until ctx ends.
func (r *Registry) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		_ = r.watch(ctx) // whatever broke it, it is begun anew
		select {
		case <-ctx.Done():
		case <-time.After(rewatchAfter):
		}
	}
	return nil
}

// watch keeps the view until ctx ends, the watch breaks, or the connection was lost and is back: what expired
// meanwhile is told to nobody, so that a view that only went on would keep hosts that are gone.
func (r *Registry) watch(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	back := r.conn.StatusChanged(nats.CONNECTED)
	defer r.conn.RemoveStatusListener(back)
	late := time.AfterFunc(watchWithin, cancel)
	watcher, err := r.leases.WatchAll(ctx)
	late.Stop()
	if err != nil {
		return fmt.Errorf("watching leases: %w", err)
	}
	defer func() { _ = watcher.Stop() }() // it only ends the subscription
	fresh := map[guildhall.HostName]Lease{}
	current := false
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-back:
			return errors.New("watching leases: the connection was lost")
		case entry, open := <-watcher.Updates():
			switch {
			case !open:
				return errors.New("watching leases: the watch broke")
			case entry == nil: // all that was there has been told
				current = true
				r.replaceView(fresh)
			case current:
				r.updateView(entry)
			default:
				apply(fresh, entry)
			}
		}
	}
}

func apply(view map[guildhall.HostName]Lease, entry jetstream.KeyValueEntry) {
	lease, err := decodeLease(entry)
	if entry.Operation() != jetstream.KeyValuePut || err != nil {
		delete(view, guildhall.HostName(entry.Key()))
		return
	}
	view[lease.Host] = lease
}

func (r *Registry) replaceView(view map[guildhall.HostName]Lease) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.view = view
	r.announce()
	select {
	case <-r.synced:
	default:
		close(r.synced)
	}
}

func (r *Registry) updateView(entry jetstream.KeyValueEntry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	apply(r.view, entry)
	r.announce()
}

// announce wakes whoever waits for a change. The caller holds mu.
func (r *Registry) announce() {
	close(r.changed)
	r.changed = make(chan struct{})
}

// Synced gives a channel that is closed once the view holds what is in the registry.
func (r *Registry) Synced() <-chan struct{} { return r.synced }

// Hosts lists the leases of the view, by name.
func (r *Registry) Hosts() []Lease {
	r.mu.RLock()
	defer r.mu.RUnlock()
	hosts := make([]Lease, 0, len(r.view))
	for _, lease := range r.view {
		hosts = append(hosts, lease)
	}
	slices.SortFunc(hosts, func(a, b Lease) int { return cmp.Compare(a.Host, b.Host) })
	return hosts
}

// HostInView reads a lease from the view, which may lag behind the registry by moments.
func (r *Registry) HostInView(name guildhall.HostName) (Lease, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	lease, found := r.view[name]
	return lease, found
}

// AwaitHost waits until the view has a lease for which ok is true, or ctx ends.
func (r *Registry) AwaitHost(ctx context.Context, name guildhall.HostName, ok func(Lease) bool) (Lease, error) {
	for {
		r.mu.RLock()
		lease, found := r.view[name]
		changed := r.changed
		r.mu.RUnlock()
		if found && ok(lease) {
			return lease, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return Lease{}, fmt.Errorf("waiting for host %s: %w", name, ctx.Err())
		}
	}
}
