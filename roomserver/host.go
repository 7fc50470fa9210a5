package roomserver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/guildhall-dev/guildhall"
	"github.com/guildhall-dev/guildhall/internal/process"
	"github.com/guildhall-dev/guildhall/internal/registry"
	"github.com/guildhall-dev/guildhall/internal/roomlog"
	"github.com/guildhall-dev/guildhall/internal/tracing"
)

// Why a host does not open a room.
var (
	errHostFull    = errors.New("the host carries as many rooms as it can")
	errHostLeaving = errors.New("the host is draining or closing")
	errNotClaimed  = errors.New("the registry does not give this room to this host")
)

type hostConfig struct {
	name            guildhall.HostName
	address         string
	internalAddress string
	capacity        int
	kinds           guildhall.Kinds
	idleGrace       time.Duration
	bodyBytes       int
	limits          Limits
	registry        *registry.Registry
	log             *roomlog.Log
	logger          *slog.Logger
	metrics         *metrics
	tracer          tracing.Tracer
}

// host carries rooms. Its methods are safe for use by any number of goroutines.
type host struct {
	hostConfig
	leased     chan struct{} // closed once the lease is held for the first time
	closing    chan struct{} // closed when the state becomes closing
	dirty      chan struct{} // holds one: the lease has something new to say
	serveUntil atomic.Int64  // in nanoseconds on the clock of began
	grants     atomic.Int64  // leases that it has had
	cutOff     *time.Timer   // fires when the lease has been lost for long; owned by keepLease
	began      time.Time
	players    atomic.Int64
	work       context.Context //nolint:containedctx // of all rooms, which end later than any call: ends when a stop has had its grace
	force      context.CancelFunc

	mu      sync.Mutex
	state   registry.HostState        // guarded by mu
	slots   map[guildhall.Group]*slot // guarded by mu
	changed chan struct{}             // guarded by mu; closed and replaced when state or slots change
	idle    *time.Timer               // guarded by mu; runs while the host may close and has no slots
	closeAt time.Time                 // guarded by mu; when idle is due
	used    bool                      // guarded by mu; whether there was ever a room
	running sync.WaitGroup            // rooms that run
}

// slot is where a room of the host is being opened, is open, or is being closed.
type slot struct {
	epoch  guildhall.Epoch
	opened chan struct{} // closed when room or err is set
	gone   chan struct{} // closed when the slot is free again
	room   *room
	err    error
}

func newHost(config hostConfig) *host {
	work, force := context.WithCancel(context.Background())
	h := &host{
		hostConfig: config, began: time.Now(), state: registry.HostReady, work: work, force: force,
		leased: make(chan struct{}), closing: make(chan struct{}), dirty: make(chan struct{}, 1),
		slots: map[guildhall.Group]*slot{}, changed: make(chan struct{}),
	}
	config.metrics.follow(func() bool { return !h.mayServe() }, h.isDraining)
	return h
}

// open gives the group's room of an epoch, and opens it if the registry says that it is this host's.
func (h *host) open(ctx context.Context, group guildhall.Group, epoch guildhall.Epoch) (*room, error) {
	for {
		s, mine, err := h.take(group, epoch)
		if errors.Is(err, errHostFull) || errors.Is(err, errHostLeaving) {
			h.disown(ctx, group, epoch)
		}
		if err != nil {
			return nil, err
		}
		if mine {
			h.fill(group, s)
			return s.room, s.err
		}
		select {
		case <-s.opened:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if s.epoch == epoch {
			return s.room, s.err
		}
		if err := h.supersede(ctx, group, s, epoch); err != nil {
			return nil, err
		}
	}
}

// supersede ends a room of ours that has lost its claim without our knowing, if the registry says that ours is the
// later one by which the room is wanted now. Nobody else would tell it: its log is not fenced before the later room
// opens, and that cannot open before this one has gone.
func (h *host) supersede(ctx context.Context, group guildhall.Group, s *slot, epoch guildhall.Epoch) error {
	if _, err := h.claim(ctx, group, epoch); err != nil {
		return err
	}
	if s.room != nil {
		s.room.stop(endFenced)
	}
	select {
	case <-s.gone:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// disown gives back a claim of this host for a room that it cannot open: its group would have no place for as long as
// the host lives.
func (h *host) disown(ctx context.Context, group guildhall.Group, epoch guildhall.Epoch) {
	claim, err := h.claim(ctx, group, epoch)
	if err == nil {
		err = h.registry.Release(ctx, claim)
	}
	if err != nil && !errors.Is(err, errNotClaimed) {
		h.logger.Warn("a claim that cannot be served could not be given back", "group", group, "error", err)
	}
}

// disownUnused gives a claim back if its room is neither here nor being opened. The slot is taken meanwhile: whoever comes
// for the room waits, and finds it gone.
func (h *host) disownUnused(ctx context.Context, group guildhall.Group, epoch guildhall.Epoch) (unused bool) {
	s, mine, err := h.take(group, epoch)
	if err == nil && !mine || errors.Is(err, errNotClaimed) {
		return false // it is here, or a later one is
	}
	h.disown(ctx, group, epoch)
	if mine {
		s.err = errNotClaimed
		h.free(group, s)
		close(s.opened)
	}
	return true
}

// take gives the group's slot: a new one, for the caller to fill, or the one that is there.
func (h *host) take(group guildhall.Group, epoch guildhall.Epoch) (s *slot, mine bool, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s := h.slots[group]; s != nil {
		if s.epoch > epoch {
			return nil, false, fmt.Errorf("%w: epoch %d is over, %d is open", errNotClaimed, epoch, s.epoch)
		}
		return s, false, nil
	}
	switch {
	case h.state.Leaving():
		return nil, false, errHostLeaving
	case len(h.slots) >= h.capacity:
		return nil, false, errHostFull
	}
	s = &slot{epoch: epoch, opened: make(chan struct{}), gone: make(chan struct{})}
	h.slots[group] = s
	h.changeLocked()
	return s, true, nil
}

// openTimeout bounds opening a room.
const openTimeout = 10 * time.Second

// fill opens a slot's room; the slot is free again if that fails. It does not end with its caller, for others may be
// waiting for the same room.
func (h *host) fill(group guildhall.Group, s *slot) {
	ctx, cancel := context.WithTimeout(h.work, openTimeout)
	defer cancel()
	start := time.Now()
	s.room, s.err = h.openRoom(ctx, group, s.epoch)
	h.metrics.opened(time.Since(start), s.err)
	if s.err != nil {
		h.free(group, s)
		close(s.opened)
		return
	}
	h.allocated() // whoever gave us a room was given us by Agones, even if we have not heard yet
	h.use()
	h.running.Go(func() {
		s.room.run()
		h.free(group, s)
	})
	close(s.opened)
	h.change() // drain may be waiting for this very room to be one that it can stop
}

func (h *host) openRoom(ctx context.Context, group guildhall.Group, epoch guildhall.Epoch) (*room, error) {
	if err := h.kinds.Check(group); err != nil {
		return nil, err
	}
	claim, err := h.claim(ctx, group, epoch)
	if err != nil {
		return nil, err
	}
	writer, history, err := h.log.Open(ctx, group, epoch)
	if errors.Is(err, roomlog.ErrFenced) {
		return nil, fmt.Errorf("%w: %w", errNotClaimed, err)
	}
	if err != nil {
		return nil, err
	}
	return newRoom(h, claim, writer, history), nil
}

// claim reads the group's claim; errNotClaimed if it is not this host's at the epoch.
func (h *host) claim(ctx context.Context, group guildhall.Group, epoch guildhall.Epoch) (registry.Claim, error) {
	claim, err := h.registry.Claim(ctx, group)
	if errors.Is(err, registry.ErrNoClaim) || err == nil && (claim.Host != h.name || claim.Epoch != epoch) {
		return registry.Claim{}, errNotClaimed
	}
	return claim, err
}

func (h *host) free(group guildhall.Group, s *slot) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.slots, group)
	h.changeLocked()
	close(s.gone)
}

func (h *host) change() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.changeLocked()
}

// changeLocked tells the lease and whoever waits that state or slots have changed, and minds the idle timer. The
// caller holds mu.
func (h *host) changeLocked() {
	close(h.changed)
	h.changed = make(chan struct{})
	h.metrics.rooms.Set(float64(len(h.slots)))
	h.touch()
	idle := h.mayClose() && len(h.slots) == 0
	switch {
	case idle && (h.idle == nil || h.state == registry.HostDraining): // nobody comes to a host that drains: it need not wait
		h.beginGrace()
	case !idle && h.idle != nil:
		h.idle.Stop()
		h.idle = nil
	}
}

// beginGrace has the host close when its grace is over, counted from now. The caller holds mu.
func (h *host) beginGrace() {
	if h.idle != nil {
		h.idle.Stop()
	}
	grace := h.idleGrace
	if h.state == registry.HostDraining {
		grace = 0
	}
	h.closeAt = time.Now().Add(grace)
	h.idle = time.AfterFunc(grace, h.closeIfIdle)
}

// touch has the lease renewed soon.
func (h *host) touch() {
	select {
	case h.dirty <- struct{}{}:
	default:
	}
}

// allocated notes that somebody has been given this host.
func (h *host) allocated() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.state == registry.HostReady {
		h.state = registry.HostAllocated
		h.changeLocked()
	}
}

// mayClose says whether the host ends by itself once it is idle: a Ready one is Agones' to keep. The caller holds mu.
func (h *host) mayClose() bool {
	return h.state == registry.HostAllocated || h.state == registry.HostDraining
}

// use notes that the host has been of use.
func (h *host) use() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.used = true
}

// keep begins the idle grace anew: the host is wanted as headroom.
func (h *host) keep() error {
	h.allocated() // whoever keeps us was given us by Agones, even if we have not heard yet
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.state.Leaving() {
		return errHostLeaving
	}
	if h.idle != nil {
		h.beginGrace()
	}
	return nil
}

// closeIfIdle ends an allocated or drained host that nobody uses, or ever used. The timer may have fired just before
// the grace began anew: then another comes.
func (h *host) closeIfIdle() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.mayClose() && len(h.slots) == 0 && h.idle != nil && !time.Now().Before(h.closeAt) {
		if h.state == registry.HostAllocated {
			h.metrics.closedIdle(h.used)
		}
		h.state = registry.HostClosing
		h.changeLocked()
		close(h.closing)
	}
}

// countRooms gives the number of rooms, and a channel that is closed when it may have changed.
func (h *host) countRooms() (int, <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.slots), h.changed
}

// openRooms lists the rooms that are open, by group.
func (h *host) openRooms() []*room {
	h.mu.Lock()
	defer h.mu.Unlock()
	var rooms []*room
	for _, s := range h.slots {
		select {
		case <-s.opened:
			if s.room != nil {
				rooms = append(rooms, s.room)
			}
		default:
		}
	}
	slices.SortFunc(rooms, func(a, b *room) int { return cmp.Compare(a.group.Key(), b.group.Key()) })
	return rooms
}

// room gives a group's room if it is open here.
func (h *host) room(group guildhall.Group) *room {
	for _, r := range h.openRooms() {
		if r.group == group {
			return r
		}
	}
	return nil
}

// evictBanned sends away, until ctx ends, whoever is here and banned. Whoever comes later is refused by the room.
func (h *host) evictBanned(ctx context.Context) error {
	return h.registry.WatchBans(ctx, func(group guildhall.Group, player guildhall.PlayerID, ban registry.Ban) {
		if r := h.room(group); r != nil {
			r.post(ctx.Done(), &evict{player: player, reason: cmp.Or(ban.Reason, "you are banned from this room"), evicted: make(chan int, 1)})
		}
	})
}

// drain takes no more rooms and moves those that are here away; it returns when the last one has gone.
func (h *host) drain(ctx context.Context) error {
	h.mu.Lock()
	if h.state != registry.HostClosing {
		h.state = registry.HostDraining
	}
	h.changeLocked()
	h.mu.Unlock()
	for {
		for _, r := range h.openRooms() {
			r.stop(endMoved)
		}
		rooms, changed := h.countRooms()
		if rooms == 0 {
			h.running.Wait()
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// isDraining says whether the host moves its rooms away.
func (h *host) isDraining() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.state == registry.HostDraining
}

// drainWithin drains for a stop: what rooms still wait for when the grace is over is given up. What is lost by that is not
// acked, and whose claim could not be given back is free once the lease is.
func (h *host) drainWithin(ctx context.Context, grace time.Duration) error {
	forced := time.AfterFunc(grace, h.force)
	defer forced.Stop()
	return h.drain(context.WithoutCancel(ctx))
}

// lease says what the host is now.
func (h *host) lease() registry.Lease {
	h.mu.Lock()
	defer h.mu.Unlock()
	return registry.Lease{
		Host: h.name, State: h.state, Version: process.Version(), Rooms: len(h.slots), RoomsCapacity: h.capacity,
		Players: int(h.players.Load()), Address: h.address, InternalAddress: h.internalAddress, PID: os.Getpid(),
	}
}
