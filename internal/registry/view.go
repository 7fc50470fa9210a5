package registry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/guildhall-dev/guildhall"
	"github.com/guildhall-dev/guildhall/internal/process"
)

const (
	// rewatchAfter is how long a broken watch rests before it is begun anew.
	rewatchAfter = 250 * time.Millisecond
	// watchWithin bounds how long NATS may take to begin a watch: a reply that was lost would be waited for for ever.
	watchWithin = 5 * time.Second
)

// view is what a watch has told of a bucket. It is safe for use by any number of goroutines.
type view[K comparable, V any] struct {
	// Static after construction.
	bucket jetstream.KeyValue
	apply  func(items map[K]V, told jetstream.KeyValueEntry) // called by follow's goroutine only
	// silence is how long a watch may tell nothing before it is begun anew. The client library itself takes 10 s to notice
	// that the node that told it is gone.
	silence time.Duration
	synced  chan struct{} // closed once items holds what is in the bucket

	mu      sync.RWMutex
	items   map[K]V       // guarded by mu
	keys    []K           // guarded by mu; those of items, in order; nil when one has come or gone, and never written into
	changed chan struct{} // guarded by mu; closed and replaced when items changes
}

func newView[K comparable, V any](bucket jetstream.KeyValue, silence time.Duration, apply func(map[K]V, jetstream.KeyValueEntry)) *view[K, V] {
	return &view[K, V]{
		bucket: bucket, apply: apply, silence: silence, synced: make(chan struct{}),
		items: map[K]V{}, changed: make(chan struct{}),
	}
}

// follow keeps the view until ctx ends.
func (v *view[K, V]) follow(ctx context.Context, conn *nats.Conn) {
	for ctx.Err() == nil {
		_ = v.watch(ctx, conn) // whatever broke it, it is begun anew
		process.Sleep(ctx, rewatchAfter)
	}
}

// watch keeps the view until ctx ends, the watch breaks or is silent for too long, or the connection was lost and is
// back: what expired meanwhile is told to nobody, so that a view that only went on would keep what is gone.
func (v *view[K, V]) watch(ctx context.Context, conn *nats.Conn) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	back := conn.StatusChanged(nats.CONNECTED)
	defer conn.RemoveStatusListener(back)
	late := time.AfterFunc(watchWithin, cancel)
	watcher, err := v.bucket.WatchAll(ctx)
	late.Stop()
	if err != nil {
		return fmt.Errorf("watching %s: %w", v.bucket.Bucket(), err)
	}
	defer func() { _ = watcher.Stop() }() // it only ends the subscription
	silent := time.NewTimer(v.silence)
	defer silent.Stop()
	fresh := map[K]V{}
	current := false
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-back:
			return errors.New("the connection was lost")
		case <-silent.C:
			return errors.New("the watch is silent")
		case told, open := <-watcher.Updates():
			silent.Reset(v.silence)
			switch {
			case !open:
				return errors.New("the watch broke")
			case told == nil: // all that was there has been told
				current = true
				v.replace(fresh)
			case current:
				v.update(told)
			default:
				v.apply(fresh, told)
			}
		}
	}
}

func (v *view[K, V]) replace(items map[K]V) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.items, v.keys = items, nil
	v.announce()
	select {
	case <-v.synced:
	default:
		close(v.synced)
	}
}

func (v *view[K, V]) update(told jetstream.KeyValueEntry) {
	v.mu.Lock()
	defer v.mu.Unlock()
	before := len(v.items)
	if v.apply(v.items, told); len(v.items) != before { // what is told is of one key
		v.keys = nil
	}
	v.announce()
}

// announce wakes whoever waits for a change. The caller holds mu.
func (v *view[K, V]) announce() {
	close(v.changed)
	v.changed = make(chan struct{})
}

// get reads one item, and gives a channel that is closed when the view has changed.
func (v *view[K, V]) get(key K) (item V, found bool, changed <-chan struct{}) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	item, found = v.items[key]
	return item, found, v.changed
}

// all copies every item, and gives a channel that is closed when the view has changed.
func (v *view[K, V]) all() (items map[K]V, changed <-chan struct{}) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return maps.Clone(v.items), v.changed
}

// inOrder copies every item, by key. The order is kept: with ten thousand hosts, sorting them for each placement cost more than
// all the rest of it.
func (v *view[K, V]) inOrder(compare func(a, b K) int) []V {
	v.mu.RLock()
	for v.keys == nil && len(v.items) > 0 { // another may come while they are put in order
		v.mu.RUnlock()
		v.order(compare)
		v.mu.RLock()
	}
	defer v.mu.RUnlock()
	values := make([]V, 0, len(v.items))
	for _, key := range v.keys {
		values = append(values, v.items[key])
	}
	return values
}

// order puts the keys in order.
func (v *view[K, V]) order(compare func(a, b K) int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.keys = slices.SortedFunc(maps.Keys(v.items), compare)
}

// Run keeps the views that [Config] asks for until ctx ends. It may be called once.
func (r *Registry) Run(ctx context.Context) error {
	var following sync.WaitGroup
	synced := true
	if r.seenLeases != nil {
		following.Go(func() { r.seenLeases.follow(ctx, r.conn) })
		synced = await(ctx, r.seenLeases.synced)
	}
	if synced && r.seenBans != nil {
		following.Go(func() { r.seenBans.follow(ctx, r.conn) })
		synced = await(ctx, r.seenBans.synced)
	}
	if synced {
		close(r.synced)
	}
	<-ctx.Done()
	following.Wait()
	return nil
}

// await waits for a signal; it is false if ctx ended before.
func await(ctx context.Context, signal <-chan struct{}) bool {
	select {
	case <-signal:
		return true
	case <-ctx.Done():
		return false
	}
}

// Synced gives a channel that is closed once the views hold what is in the registry.
func (r *Registry) Synced() <-chan struct{} { return r.synced }

func applyLease(leases map[guildhall.HostName]Lease, told jetstream.KeyValueEntry) {
	lease, err := decodeLease(told)
	if told.Operation() != jetstream.KeyValuePut || err != nil {
		delete(leases, guildhall.HostName(told.Key()))
		return
	}
	leases[lease.Host] = lease
}

// Hosts lists the leases of the view, by name.
func (r *Registry) Hosts() []Lease {
	return r.seenLeases.inOrder(cmp.Compare[guildhall.HostName])
}

// HostInView reads a lease from the view, which may lag behind the registry by moments.
func (r *Registry) HostInView(name guildhall.HostName) (Lease, bool) {
	lease, found, _ := r.seenLeases.get(name)
	return lease, found
}

// AwaitHost waits until the view has a lease for which ok is true, or ctx ends.
func (r *Registry) AwaitHost(ctx context.Context, name guildhall.HostName, ok func(Lease) bool) (Lease, error) {
	for {
		lease, found, changed := r.seenLeases.get(name)
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
