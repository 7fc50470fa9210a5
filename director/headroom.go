package director

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/mod/semver"

	"github.com/guildhall-dev/guildhall"
	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
	"github.com/guildhall-dev/guildhall/internal/process"
	"github.com/guildhall-dev/guildhall/internal/registry"
)

// Headroom is a number of free rooms that are kept ahead of need, or [NoHeadroom].
type Headroom int

// NoHeadroom has no host allocated before a group needs it.
const NoHeadroom Headroom = -1

// Decode reads a number, or none.
func (h *Headroom) Decode(text string) error {
	n, err := strconv.Atoi(text)
	switch {
	case text == "none", err == nil && n == 0:
		*h = NoHeadroom
	case err != nil || n < 0:
		return errors.New("not a number of rooms, and not none")
	default:
		*h = Headroom(n)
	}
	return nil
}

// String gives the form that [Headroom.Decode] reads.
func (h Headroom) String() string {
	if h <= 0 {
		return "none"
	}
	return strconv.Itoa(int(h))
}

const (
	// lookAtHeadroomEvery is how often the view is looked at.
	lookAtHeadroomEvery = 250 * time.Millisecond
	// aheadDelay is the longest that a director waits, by chance, before it looks again and allocates: several see the
	// same at the same moment, and one host for all of them is enough.
	aheadDelay = 500 * time.Millisecond
	// The pause after an allocation that brought no headroom: it doubles up to the longest.
	firstAheadPause = 2 * time.Second
	maxAheadPause   = 30 * time.Second
	// shortFor is how long headroom is missing before it is worth a word: a fleet takes its time to start.
	shortFor = 10 * time.Second
	// keepEvery is how often a host is kept, or three times within its idle grace if that is sooner.
	keepEvery = 5 * time.Second
	// keepTimeout bounds one Keep, keepPause is the rest after one that failed.
	keepTimeout = 2 * time.Second
	keepPause   = time.Second
)

// headroom keeps free rooms on allocated hosts, so that a new group waits for no allocation. It allocates what is
// missing, and keeps hosts that are idle from shutting down; what nobody keeps goes by itself, so that nothing is left
// when directors die.
type headroom struct {
	// Static after construction.
	rooms     int // how many; 0 for none
	registry  *registry.Registry
	hosts     *hosts
	allocator *allocator
	chance    func(most time.Duration) time.Duration
	logger    *slog.Logger
	metrics   *metrics

	// Owned by watch.
	pause time.Duration // after the last allocation that brought nothing; 0 if it brought something
	next  time.Time     // when to allocate at the earliest
	short time.Time     // since when rooms are missing; zero if none are
	said  bool          // that they are

	// Owned by keep.
	due map[guildhall.HostName]time.Time // when a host that is wanted is kept next
}

// watch sees until ctx ends that there are enough free rooms.
func (h *headroom) watch(ctx context.Context) error {
	process.Every(ctx, lookAtHeadroomEvery, func() {
		h.measure()
		if h.missing() == 0 {
			h.fulfilled()
			return
		}
		h.tellOnce()
		if h.canGrow() {
			h.grow(ctx)
		}
	})
	return nil
}

// measure shows what there is.
func (h *headroom) measure() {
	leases := h.registry.Hosts()
	idle := 0
	for _, lease := range leases {
		if lease.State == registry.HostAllocated && lease.Rooms == 0 {
			idle++
		}
	}
	h.metrics.idleHosts.Set(float64(idle))
	h.metrics.freeRooms.Set(float64(h.hosts.free(leases)))
	h.metrics.headroom.Set(float64(h.rooms))
}

// missing gives how many free rooms there are too few.
func (h *headroom) missing() int { return max(0, h.rooms-h.hosts.free(h.registry.Hosts())) }

// canGrow says whether there is a host to be had, and it is time to ask for it. A host has its lease before it is
// Ready, so that Agones is not asked for what cannot be there.
func (h *headroom) canGrow() bool {
	return !time.Now().Before(h.next) && slices.ContainsFunc(h.registry.Hosts(), func(lease registry.Lease) bool {
		return lease.State == registry.HostReady
	})
}

// grow allocates one host if rooms are still missing after a moment.
func (h *headroom) grow(ctx context.Context) {
	process.Sleep(ctx, h.chance(aheadDelay))
	if ctx.Err() != nil || h.missing() == 0 {
		return
	}
	host, err := h.allocator.ahead(ctx, func() bool { return h.missing() > 0 })
	if errors.Is(err, errNotWanted) || ctx.Err() != nil {
		return
	}
	h.metrics.ahead.WithLabelValues(outcome("allocated", err)).Inc()
	if err == nil {
		h.logger.Info("host allocated as headroom", "host", host.Host)
		h.keepHost(ctx, host) // it says at once that it is allocated, and the other directors see it
	}
	if err == nil && h.counts(host.Host) {
		h.pause = 0
		return
	}
	// Refused; or given a host of an old version, of which a whole fleet would not do.
	h.pause = min(max(2*h.pause, firstAheadPause), maxAheadPause)
	h.next = time.Now().Add(h.pause)
	level := slog.LevelDebug // a fleet that is empty or busy, for which tellOnce has a word
	if failed := (*allocationError)(nil); errors.As(err, &failed) && !failed.isWorthATry() {
		level = slog.LevelWarn // somebody has to see to it
	}
	h.logger.Log(ctx, level, "no headroom by an allocation", "error", err, "again_in", h.pause)
}

// counts says whether a host's rooms count as headroom.
func (h *headroom) counts(host guildhall.HostName) bool {
	return slices.ContainsFunc(current(h.registry.Hosts()), func(lease registry.Lease) bool { return lease.Host == host })
}

// fulfilled notes that there are enough free rooms.
func (h *headroom) fulfilled() {
	if h.said {
		h.logger.Info("the headroom is there again", "rooms", h.rooms)
	}
	h.short, h.said = time.Time{}, false
}

// tellOnce tells that rooms have been missing for a while, once.
func (h *headroom) tellOnce() {
	switch {
	case h.short.IsZero():
		h.short = time.Now()
	case !h.said && time.Since(h.short) > shortFor:
		h.said = true
		h.logger.Warn("the fleet has no host for the headroom: new groups may have to wait for one", "rooms", h.rooms, "missing", h.missing())
	}
}

// keep keeps, until ctx ends, the idle hosts that make up the headroom.
func (h *headroom) keep(ctx context.Context) error {
	h.due = map[guildhall.HostName]time.Time{}
	process.Every(ctx, lookAtHeadroomEvery, func() { h.keepWanted(ctx) })
	return nil
}

// keepWanted keeps those of the wanted hosts that are due.
func (h *headroom) keepWanted(ctx context.Context) {
	wanted := idleWanted(h.registry.Hosts(), h.rooms)
	names := map[guildhall.HostName]bool{}
	var mu sync.Mutex // guards due while hosts are being kept
	var keeping sync.WaitGroup
	now := time.Now()
	for _, host := range wanted {
		names[host.Host] = true
		mu.Lock()
		isDue := !now.Before(h.due[host.Host])
		mu.Unlock()
		if isDue {
			keeping.Go(func() {
				next := now.Add(h.keepHost(ctx, host))
				mu.Lock()
				defer mu.Unlock()
				h.due[host.Host] = next
			})
		}
	}
	keeping.Wait()
	maps.DeleteFunc(h.due, func(name guildhall.HostName, _ time.Time) bool { return !names[name] })
}

// keepHost has one host stay, and gives when it should be kept again. One that cannot be kept goes when it is idle, and
// is allocated anew.
func (h *headroom) keepHost(ctx context.Context, host registry.Lease) time.Duration {
	kept, err := h.callKeep(ctx, host)
	h.metrics.keeps.WithLabelValues(outcome("kept", err)).Inc()
	if err != nil {
		h.logger.Debug("a host of the headroom was not kept", "host", host.Host, "error", err)
		return keepPause
	}
	if grace := kept.GetIdleGrace().AsDuration(); grace > 0 {
		return min(keepEvery, grace/3)
	}
	return keepEvery
}

func (h *headroom) callKeep(ctx context.Context, host registry.Lease) (*guildhallv1.KeepResponse, error) {
	client, err := h.hosts.client(host.InternalAddress)
	if err != nil {
		return nil, fmt.Errorf("host %s: %w", host.Host, err)
	}
	ctx, cancel := context.WithTimeout(ctx, keepTimeout)
	defer cancel()
	return client.Keep(ctx, &guildhallv1.KeepRequest{})
}

// idleWanted gives the idle hosts among those that make up so many free rooms, in the order in which placement would
// fill them. All directors that see the same leases want the same hosts: what none of them wants goes.
func idleWanted(leases []registry.Lease, rooms int) []registry.Lease {
	candidates := slices.DeleteFunc(current(leases), func(lease registry.Lease) bool {
		return lease.State != registry.HostAllocated
	})
	slices.SortFunc(candidates, func(a, b registry.Lease) int {
		return cmp.Or(semver.Compare(b.Version, a.Version), cmp.Compare(b.Rooms, a.Rooms), cmp.Compare(a.Host, b.Host))
	})
	var idle []registry.Lease
	for _, lease := range candidates {
		if rooms <= 0 {
			break
		}
		rooms -= max(0, lease.RoomsCapacity-lease.Rooms)
		if lease.Rooms == 0 {
			idle = append(idle, lease)
		}
	}
	return idle
}
