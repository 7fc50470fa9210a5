package director

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"open-match.dev/open-match/pkg/pb"

	"github.com/guildhall-dev/guildhall"
	"github.com/guildhall-dev/guildhall/internal/process"
	"github.com/guildhall-dev/guildhall/internal/ticket"
	"github.com/guildhall-dev/guildhall/internal/tracing"
)

// A fetch that ends sooner than this without a match would make the loop spin: Open Match takes its registration
// interval, the stand-in waits for a ticket.
const leastFetch = 20 * time.Millisecond

// fetchTimeout bounds one fetch: a backend that has vanished without a word would hold the loop for hours. Open Match
// collects proposals for 20 s at most.
const fetchTimeout = time.Minute

// The pause after a fetch that failed: it doubles up to the longest.
const (
	firstFetchPause = 50 * time.Millisecond
	maxFetchPause   = 2 * time.Second
)

// loop fetches the matches of one profile, again and again. It is one goroutine.
type loop struct {
	director *Director
	profile  *pb.MatchProfile
	work     *work
}

func (l *loop) run(ctx context.Context) error {
	pause := firstFetchPause
	for ctx.Err() == nil {
		start := time.Now()
		matches, err := l.cycle(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			l.director.metrics.fetches.WithLabelValues("failed").Inc()
			l.director.logger.Warn("fetching matches failed", "profile", l.profile.GetName(), "error", err, "again_in", pause)
			process.Sleep(ctx, pause)
			pause = min(2*pause, maxFetchPause)
		default:
			l.director.metrics.fetches.WithLabelValues("ok").Inc()
			pause = firstFetchPause
			if matches == 0 {
				process.Sleep(ctx, leastFetch-time.Since(start))
			}
		}
	}
	return nil
}

// cycle is one fetch. Each match is worked on as soon as it arrives.
func (l *loop) cycle(ctx context.Context) (matches int, err error) {
	d := l.director
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	stream, err := d.backend.FetchMatches(ctx, &pb.FetchMatchesRequest{Config: d.function, Profile: l.profile})
	if err != nil {
		return 0, fmt.Errorf("calling FetchMatches: %w", err)
	}
	for {
		response, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return matches, nil
		}
		if err != nil {
			return matches, fmt.Errorf("receiving matches: %w", err)
		}
		matches++
		l.work.do(func(ctx context.Context) { d.handle(ctx, response.GetMatch()) })
	}
}

// handle sees one match through: its tickets end up assigned, released or deleted. Should this process die
// before, Open Match releases them by itself after its pending timeout.
func (d *Director) handle(ctx context.Context, match *pb.Match) {
	details, err := ticket.ReadMatch(match)
	if err != nil {
		d.logger.Error("a match that is not ours was fetched by our profile; its tickets go back", "error", err)
		d.release(ctx, match)
		return
	}
	if details.GetExpired() {
		d.deleteExpired(ctx, match)
		return
	}
	group, err := guildhall.ParseGroup(details.GetGroup())
	if err != nil {
		d.logger.Error("a match for what is no group; its tickets go back", "error", err)
		d.release(ctx, match)
		return
	}
	d.metrics.fetched(match)
	ctx, span := d.trace(ctx, match, group)
	start := time.Now()
	placeCtx, cancel := context.WithTimeout(ctx, d.config.PlaceTimeout)
	placement, err := d.placer.Place(placeCtx, group)
	cancel()
	d.metrics.placed(time.Since(start), err)
	span.Room(placement.GetHost(), placement.GetEpoch())
	span.End(err)
	if err != nil {
		d.logger.Warn("a group could not be placed; its tickets go back", "group", group, "tickets", len(match.GetTickets()), "error", err)
		d.release(ctx, match)
		return
	}
	d.assigner.assign(ctx, match, placement)
}

// trace begins the step of a placement in the trace of the match's first ticket. Those of its other tickets, filed at
// other frontends, are referred to.
func (d *Director) trace(ctx context.Context, match *pb.Match, group guildhall.Group) (context.Context, tracing.Span) {
	if !d.config.Tracer.IsOn() {
		return ctx, tracing.Span{}
	}
	traces := append(ticket.Traceparents(match.GetTickets()), "")
	ctx, span := d.config.Tracer.StartFrom(ctx, traces[0], "place", tracing.Consumer, time.Time{})
	span.Kind(group.Kind)
	for _, other := range traces[1:] {
		span.Link(other)
	}
	return ctx, span
}

// release gives the tickets of a match back after a rest: at once, they would be matched at once.
func (d *Director) release(ctx context.Context, match *pb.Match) {
	process.Sleep(ctx, d.config.RetryAfter)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), assignTimeout)
	defer cancel()
	if _, err := d.backend.ReleaseTickets(ctx, &pb.ReleaseTicketsRequest{TicketIds: ticketIDs(match)}); err != nil {
		d.logger.Warn("releasing tickets failed; they come back after Open Match's pending timeout", "error", err)
		return
	}
	d.metrics.tickets.WithLabelValues("released").Add(float64(len(match.GetTickets())))
}

// deleteExpired deletes tickets that nobody waits for. Open Match never would.
func (d *Director) deleteExpired(ctx context.Context, match *pb.Match) {
	for _, id := range ticketIDs(match) {
		callCtx, cancel := context.WithTimeout(ctx, assignTimeout)
		_, err := d.frontend.DeleteTicket(callCtx, &pb.DeleteTicketRequest{TicketId: id})
		cancel()
		if err != nil {
			d.logger.Warn("deleting an expired ticket failed; it will be tried again", "ticket", id, "error", err)
			continue
		}
		d.metrics.tickets.WithLabelValues("expired").Inc()
	}
}

func ticketIDs(match *pb.Match) []string {
	ids := make([]string, len(match.GetTickets()))
	for i, t := range match.GetTickets() {
		ids[i] = t.GetId()
	}
	return ids
}

// work runs what was fetched, so much at once at most. It outlives the loops: what has been fetched is finished
// when intake has stopped, within the grace.
type work struct {
	ctx   context.Context //nolint:containedctx // the context of all the work, later to end than that of intake
	stop  context.CancelFunc
	slots chan struct{}
	group sync.WaitGroup
	grace time.Duration
}

func newWork(intake context.Context, most int, grace time.Duration) *work {
	ctx, stop := context.WithCancel(context.WithoutCancel(intake))
	return &work{ctx: ctx, stop: stop, slots: make(chan struct{}, most), grace: grace}
}

// do runs f in a goroutine as soon as there is a free slot.
func (w *work) do(f func(ctx context.Context)) {
	w.slots <- struct{}{}
	w.group.Go(func() {
		defer func() { <-w.slots }()
		f(w.ctx)
	})
}

// wait waits for all the work, and forces it after the grace.
func (w *work) wait() {
	force := time.AfterFunc(w.grace, w.stop)
	defer force.Stop()
	w.group.Wait()
	w.stop()
}
