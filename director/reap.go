package director

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/guildhall-dev/guildhall"
	"github.com/guildhall-dev/guildhall/internal/process"
	"github.com/guildhall-dev/guildhall/internal/registry"
)

// reapEvery is how often claims of the dead are looked for.
const reapEvery = 10 * time.Second

// reaper gives back claims whose host is gone: nobody of the group has come back to have it taken over. Any number of
// directors may reap, for a claim is released at its epoch or not at all.
type reaper struct {
	// Static after construction.
	registry *registry.Registry
	logger   *slog.Logger
	metrics  *metrics

	// Owned by run.
	dead map[guildhall.Epoch]bool // claims whose host had no lease at the last look
}

// run reaps until ctx ends.
func (r *reaper) run(ctx context.Context) error {
	process.Every(ctx, reapEvery, func() {
		if err := r.reap(ctx); err != nil && ctx.Err() == nil {
			r.logger.Warn("claims of dead hosts could not be reaped", "error", err)
		}
	})
	return nil
}

// reap releases the claims whose host has had no lease twice in a row: once may be a host that is late.
func (r *reaper) reap(ctx context.Context) error {
	claims, err := r.registry.Claims(ctx)
	if err != nil {
		return err
	}
	dead := map[guildhall.Epoch]bool{}
	for _, claim := range claims {
		if _, alive := r.registry.HostInView(claim.Host); alive {
			continue
		}
		switch _, err := r.registry.Host(ctx, claim.Host); {
		case err == nil:
			continue
		case !errors.Is(err, registry.ErrNoLease):
			return err
		}
		if !r.dead[claim.Epoch] {
			dead[claim.Epoch] = true
			continue
		}
		if err := r.registry.Release(ctx, claim); err != nil {
			return err
		}
		r.metrics.reaped.Inc()
	}
	r.dead = dead
	return nil
}
