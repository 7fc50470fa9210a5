package frontend

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"open-match.dev/open-match/pkg/pb"

	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
	"github.com/guildhall-dev/guildhall/internal/ticket"
)

const (
	// callTimeout bounds one call to Open Match.
	callTimeout = 5 * time.Second
	// The pause before a ticket that could not be filed is tried again: it doubles up to the longest.
	firstFilePause = 50 * time.Millisecond
	maxFilePause   = 2 * time.Second
)

// run files the group's ticket, keeps it filed, and gives where the group was placed; nil if ctx ended first. It
// also gives the ticket that is left in Open Match, if any, for the caller to withdraw.
func (w *waits) run(ctx context.Context, shared *wait) (placement *guildhallv1.Placement, id string) {
	pause := firstFilePause
	filings, renewal := 0, false
	file := time.NewTimer(0) // when to file: now, again after a failure, or anew
	defer file.Stop()
	look := time.NewTicker(w.lookAgain)
	defer look.Stop()
	for {
		select {
		case placement := <-shared.answers:
			w.metrics.answers.WithLabelValues("told").Inc()
			return placement, id
		case <-file.C:
			filed, err := w.create(ctx, shared)
			w.answered(shared, err)
			if err != nil {
				w.metrics.filed.WithLabelValues("failed").Inc()
				w.logger.Warn("filing a ticket failed; trying again", "group", shared.group, "error", err, "again_in", pause)
				file.Reset(pause)
				pause = min(2*pause, maxFilePause)
				continue
			}
			w.metrics.filed.WithLabelValues("filed").Inc()
			if id != "" && !renewal {
				w.metrics.refiled.Inc()
			}
			w.withdraw(ctx, id) // the one that this one replaces
			id, pause = filed, firstFilePause
			filings++
			var stays time.Duration
			stays, renewal = w.stays(filings)
			file.Reset(stays)
		case <-look.C:
			placement, gone := w.look(ctx, shared, id)
			if placement != nil {
				w.metrics.answers.WithLabelValues("found").Inc()
				return placement, id
			}
			if gone {
				renewal = false
				file.Reset(0)
			}
		case <-ctx.Done():
			return nil, id
		}
	}
}

// stays gives how long the nth ticket of a wait stays before it is filed anew, and whether that is no more than the
// renewal that keeps it from expiring. A director that died with a match in its hands leaves the tickets to Open Match's
// pending timeout, a minute: a new ticket is matched at once. It doubles because a fleet that has no room would only be
// asked more often.
func (w *waits) stays(n int) (stays time.Duration, renewal bool) {
	stays, longest := w.refileAfter, w.ticketTTL*2/3
	for ; n > 1 && stays < longest; n-- {
		stays *= 2
	}
	return min(stays, longest), stays >= longest
}

// create creates one ticket. It is not called off with ctx: a call that was would leave a ticket in Open Match of
// which nobody knows the id.
func (w *waits) create(ctx context.Context, shared *wait) (string, error) {
	wanted, err := ticket.New(ticket.Details{Group: shared.group, Inbox: w.inbox, ExpiresAt: time.Now().Add(w.ticketTTL), Traceparent: shared.trace}, w.shards)
	if err != nil {
		return "", err
	}
	callCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
	defer cancel()
	created, err := w.match.CreateTicket(callCtx, &pb.CreateTicketRequest{Ticket: wanted})
	if err != nil {
		return "", err
	}
	return created.GetId(), nil
}

// look is for when the word of an assignment was lost: it looks whether the group's room is live by now, and
// whether the ticket is still there.
func (w *waits) look(ctx context.Context, shared *wait, id string) (placement *guildhallv1.Placement, gone bool) {
	placement, live, err := w.live.find(ctx, shared.group)
	if err != nil {
		w.logger.Warn("looking for a room failed", "group", shared.group, "error", err)
	}
	if live || id == "" {
		return placement, false
	}
	callCtx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	found, err := w.match.GetTicket(callCtx, &pb.GetTicketRequest{TicketId: id})
	if status.Code(err) == codes.NotFound {
		return nil, true
	}
	w.answered(shared, err)
	if err != nil {
		return nil, false
	}
	// Assigned, but the room is not live any more: this ticket will never be matched again.
	return nil, found.GetAssignment() != nil
}

// withdraw deletes a ticket. One that stays because Open Match does not answer expires.
func (w *waits) withdraw(ctx context.Context, id string) {
	if id == "" {
		return
	}
	callCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
	defer cancel()
	if _, err := w.match.DeleteTicket(callCtx, &pb.DeleteTicketRequest{TicketId: id}); err != nil {
		w.metrics.withdrawn.WithLabelValues("failed").Inc()
		w.logger.Warn("withdrawing a ticket failed; it will expire", "ticket", id, "error", err)
		return
	}
	w.metrics.withdrawn.WithLabelValues("withdrawn").Inc()
}
