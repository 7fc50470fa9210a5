package roomserver

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"time"

	"github.com/guildhall-dev/guildhall/internal/process"
	"github.com/guildhall-dev/guildhall/internal/registry"
)

const (
	// leaseRest is the least time between two renewals: a burst of new rooms costs few.
	leaseRest = 20 * time.Millisecond
	// grantPause is how long a refused grant rests before it is tried again.
	grantPause = 250 * time.Millisecond
	// returnTimeout bounds giving the lease back.
	returnTimeout = 2 * time.Second
)

// keepLease holds the host's lease until ctx ends, and then gives it back.
func (h *host) keepLease(ctx context.Context) error {
	for ctx.Err() == nil {
		grant, err := h.grantLease(ctx)
		if err != nil {
			return nil // ctx has ended
		}
		if err := h.renewLease(ctx, grant); err != nil {
			h.metrics.leaseLosses.Inc()
			h.logger.Error("the lease is lost: rooms are suspended until there is a new one", "error", err)
			continue
		}
		returnCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), returnTimeout)
		defer cancel()
		return grant.Return(returnCtx)
	}
	return nil
}

// grantLease gets a lease, and tries until it has one or ctx ends.
func (h *host) grantLease(ctx context.Context) (*registry.Grant, error) {
	for {
		sent := time.Now()
		grant, err := h.registry.Grant(ctx, h.lease())
		if err == nil {
			h.grants.Add(1)
			h.extend(sent)
			select {
			case <-h.leased:
			default:
				close(h.leased)
			}
			return grant, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		h.logger.Warn("no lease yet; trying again", "error", err)
		process.Sleep(ctx, grantPause)
	}
}

// renewLease renews the lease three times within its time to live, and whenever there is something new to say. At the
// start and once in each time to live it checks the rooms against the registry: they may be from before this lease, and
// a director may have believed the host dead. It returns nil when ctx ends, and an error when the lease is lost.
func (h *host) renewLease(ctx context.Context, grant *registry.Grant) error {
	period := h.registry.LeaseTTL() / 3
	ticker := time.NewTicker(period)
	defer ticker.Stop()
	var verify time.Time // when to check the rooms again
	for {
		if !time.Now().Before(verify) {
			verifyCtx, cancel := context.WithTimeout(ctx, period)
			err := h.verifyRooms(verifyCtx)
			cancel()
			h.metrics.audited(err)
			if err != nil {
				h.logger.Warn("rooms could not be checked against the registry; trying again", "error", err)
			} else {
				verify = time.Now().Add(h.registry.LeaseTTL())
			}
		}
		select {
		case <-ticker.C:
		case <-h.dirty:
		case <-ctx.Done():
			return nil
		}
		skip(ticker.C) // one renewal says it all
		skip(h.dirty)
		sent := time.Now()
		// It is answered also when ctx ends meanwhile: by a revision that is not the last, no lease can be returned.
		renewCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), period)
		err := grant.Renew(renewCtx, h.lease())
		cancel()
		switch {
		case err == nil:
			h.extend(sent)
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, registry.ErrLeaseLost):
			return err
		default:
			h.logger.Warn("the lease could not be renewed; trying again", "error", err)
		}
		select {
		case <-time.After(leaseRest):
		case <-ctx.Done():
			return nil
		}
	}
}

// skip takes what is in a channel, if there is something.
func skip[T any](c <-chan T) {
	select {
	case <-c:
	default:
	}
}

// extend lets the host serve on the strength of a renewal sent at the given instant.
func (h *host) extend(sent time.Time) {
	h.serveUntil.Store(int64(h.registry.ServeUntil(sent).Sub(h.began)))
	if h.cutOff == nil {
		h.cutOff = time.AfterFunc(h.holdOn(), h.sendAway)
		return
	}
	h.cutOff.Reset(h.holdOn())
}

// holdTTLs is for how many times the life of a lease a host without one holds its members.
const holdTTLs = 10

// holdOn gives how long a host without a lease holds its members, in case that it is not alone: when all hosts have lost
// NATS there is nowhere to go. Each holds them for another while, or they would all come at once.
func (h *host) holdOn() time.Duration {
	spread := fnv.New32a()
	_, _ = spread.Write([]byte(h.name)) // it never fails
	most := holdTTLs * h.registry.LeaseTTL()
	return most + most/2*time.Duration(spread.Sum32()%100)/100
}

// sendAway has the members of a host that has been cut off for long enter again: it may be the only one, and their rooms
// may be elsewhere. Claims that are still its own when it is back are good for whoever is sent here again.
func (h *host) sendAway() {
	for _, r := range h.openRooms() {
		r.stop(endCutOff)
	}
}

// mayServe says whether the host's lease surely still stands.
func (h *host) mayServe() bool {
	return int64(time.Since(h.began)) < h.serveUntil.Load()
}

// verifyRooms sends the members of rooms away whose claim is not ours any more. The log would refuse what they say, but
// who only listens would never know. A claim that is still ours at its epoch was never anybody else's.
func (h *host) verifyRooms(ctx context.Context) error {
	var errs []error
	for _, r := range h.openRooms() {
		claim, err := h.registry.Claim(ctx, r.group)
		switch {
		case err == nil && claim.Host == h.name && claim.Epoch == r.epoch:
		case err == nil && claim.Epoch < r.epoch: // a node of NATS that is cut off and does not know
			errs = append(errs, fmt.Errorf("room %s: the registry answers with epoch %d, and there is %d", r.group, claim.Epoch, r.epoch))
		case err == nil, errors.Is(err, registry.ErrNoClaim):
			r.stop(endFenced)
		default:
			errs = append(errs, fmt.Errorf("room %s: %w", r.group, err))
		}
	}
	return errors.Join(errs...)
}
