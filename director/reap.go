package director

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/guildhall-dev/guildhall"
	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
	"github.com/guildhall-dev/guildhall/internal/process"
	"github.com/guildhall-dev/guildhall/internal/registry"
)

const (
	// reapEvery is how often claims are looked through.
	reapEvery = 10 * time.Second
	// disownTimeout bounds asking one host about its claims.
	disownTimeout = 2 * time.Second
	// askedAtOnce is how many hosts are asked at once.
	askedAtOnce = 16
)

// reaper gives back claims that nobody serves: their host is gone, and nobody of the group has come back to have it taken
// over; or the host lives and has no room for it, for a director died before it had the room opened, or the registry was away
// when it ended. Any number of directors may reap: a claim is released at its epoch or not at all.
type reaper struct {
	// Static after construction.
	registry *registry.Registry
	hosts    *hosts
	logger   *slog.Logger
	metrics  *metrics

	// Owned by run.
	dead  map[guildhall.Epoch]bool // claims whose host had no lease at the last look
	known map[guildhall.Epoch]bool // claims that were there at the last look
}

// run reaps until ctx ends.
func (r *reaper) run(ctx context.Context) error {
	process.Every(ctx, reapEvery, func() { r.look(ctx) })
	return nil
}

// look reaps once, and notes how that went.
func (r *reaper) look(ctx context.Context) {
	err := r.reap(ctx)
	if ctx.Err() != nil {
		return
	}
	r.metrics.reaps.WithLabelValues(outcome("passed", err)).Inc()
	if err != nil {
		r.logger.Warn("claims that nobody serves could not all be reaped", "error", err)
	}
}

// reap looks through all claims. One that cannot be looked at, or not be released, stops none of the others.
func (r *reaper) reap(ctx context.Context) error {
	claims, err := r.registry.Claims(ctx)
	if err != nil {
		return err
	}
	dead, known := map[guildhall.Epoch]bool{}, map[guildhall.Epoch]bool{}
	living := map[guildhall.HostName][]registry.Claim{}
	var errs []error
	for _, claim := range claims {
		known[claim.Epoch] = true
		isDead, err := r.isDead(ctx, claim.Host)
		switch {
		case err != nil:
			errs = append(errs, err)
		case isDead && r.dead[claim.Epoch]: // twice in a row: once may be a host that is late
			errs = append(errs, r.release(ctx, claim))
			dead[claim.Epoch] = true
		case isDead:
			dead[claim.Epoch] = true
		case r.known[claim.Epoch]: // not one whose room is about to be opened
			living[claim.Host] = append(living[claim.Host], claim)
		}
	}
	r.dead, r.known = dead, known
	return errors.Join(append(errs, r.askAll(ctx, living))...)
}

// askAll asks the hosts about their claims, some at once: one that does not answer takes its time, and with thousands of them
// a look would take longer than the pause until the next.
func (r *reaper) askAll(ctx context.Context, living map[guildhall.HostName][]registry.Claim) error {
	hosts := slices.Sorted(maps.Keys(living))
	errs := make([]error, len(hosts))
	var asking errgroup.Group
	asking.SetLimit(askedAtOnce)
	for n, host := range hosts {
		asking.Go(func() error {
			errs[n] = r.ask(ctx, host, living[host])
			return nil
		})
	}
	return errors.Join(asking.Wait(), errors.Join(errs...))
}

func (r *reaper) isDead(ctx context.Context, host guildhall.HostName) (bool, error) {
	if _, alive := r.registry.HostInView(host); alive {
		return false, nil
	}
	_, err := r.registry.Host(ctx, host)
	if errors.Is(err, registry.ErrNoLease) {
		return true, nil
	}
	return false, err
}

// release gives back the claim of a dead host.
func (r *reaper) release(ctx context.Context, claim registry.Claim) error {
	if err := r.registry.Release(ctx, claim); err != nil {
		return err
	}
	r.metrics.reaped.WithLabelValues("dead_host").Inc()
	return nil
}

// ask has a living host give back those of its claims that it has no room for. It alone knows.
func (r *reaper) ask(ctx context.Context, name guildhall.HostName, claims []registry.Claim) error {
	host, alive := r.registry.HostInView(name)
	if !alive {
		return nil // it has just gone
	}
	client, err := r.hosts.client(host.InternalAddress)
	if err != nil {
		return err
	}
	request := &guildhallv1.DisownRequest{}
	for _, claim := range claims {
		request.Claims = append(request.Claims, &guildhallv1.HeldClaim{Group: claim.Group.String(), Epoch: uint64(claim.Epoch)})
	}
	ctx, cancel := context.WithTimeout(ctx, disownTimeout)
	defer cancel()
	response, err := client.Disown(ctx, request)
	if err != nil {
		return fmt.Errorf("asking host %s about its claims: %w", name, err)
	}
	r.metrics.reaped.WithLabelValues("no_room").Add(float64(response.GetDisowned()))
	return nil
}
