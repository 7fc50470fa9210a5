package agoneslocal

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// fleet keeps game servers: the loop of Agones' fleet, its GameServerSet and a Buffer FleetAutoscaler in one.
// What is above the buffer stays, for only a game server's own word or death ends it.
type fleet struct {
	// Static after construction.
	config  Fleet
	set     string // the name of the GameServerSet
	store   *store
	metrics *metrics
	log     *slog.Logger

	// Owned by run.
	backoff backoff
	tally   tally // as far as accounted for
}

func newFleet(config Fleet, store *store, metrics *metrics, log *slog.Logger) *fleet {
	return &fleet{
		config:  config,
		set:     config.Name + "-" + nameSuffix(),
		store:   store,
		metrics: metrics,
		log:     log.With("fleet", config.Name),
		backoff: backoff{config: config.CrashBackoff},
	}
}

// run keeps the fleet until ctx ends, and returns when its last game server is gone.
func (f *fleet) run(ctx context.Context) {
	var lives sync.WaitGroup
	defer lives.Wait()
	for ctx.Err() == nil {
		changed := f.store.nextChange()
		later := f.keep(ctx, &lives, time.Now())
		rest(ctx, changed, later)
	}
}

// rest waits for a change, for the end of ctx, or, unless it is 0, for the time later.
func rest(ctx context.Context, changed <-chan struct{}, later time.Duration) {
	var due <-chan time.Time
	if later > 0 {
		timer := time.NewTimer(later)
		defer timer.Stop()
		due = timer.C
	}
	select {
	case <-changed:
	case <-due:
	case <-ctx.Done():
	}
}

// keep starts what is missing. It gives how long to wait before it may, or 0.
func (f *fleet) keep(ctx context.Context, lives *sync.WaitGroup, now time.Time) time.Duration {
	census := f.store.census()
	f.account(census.tally, now)
	missing := f.config.missing(census)
	if missing == 0 {
		return 0
	}
	if wait := f.backoff.wait(now); wait > 0 {
		return wait
	}
	for range missing {
		f.start(ctx, lives, now)
	}
	return f.backoff.wait(now)
}

// account follows what happened since the last look.
func (f *fleet) account(tally tally, now time.Time) {
	if tally.readied > f.tally.readied {
		f.backoff.forgive()
	}
	if tally.crashed > f.tally.crashed {
		f.delay(now)
	}
	f.tally = tally
}

func (f *fleet) delay(now time.Time) {
	wait := f.backoff.crashed(now)
	f.log.Error("game servers do not get Ready; waiting before the next", "wait", wait)
}

// missing says how many game servers to start.
func (f *Fleet) missing(c census) int {
	missing := f.Ready - c.buffer
	if f.Max > 0 {
		missing = min(missing, f.Max-c.all)
	}
	return max(0, missing)
}

func (f *fleet) start(ctx context.Context, lives *sync.WaitGroup, now time.Time) {
	ports, err := freePorts(f.config.Ports, f.store.portsInUse())
	if err != nil {
		f.log.Error("cannot start a game server", "error", err)
		f.delay(now)
		return
	}
	gs := newGameServer(&f.config, f.set, ports, now)
	if f.store.add(gs) {
		lives.Go(func() { f.live(ctx, gs) })
	}
}
