package director

import (
	"context"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
	"google.golang.org/protobuf/proto"
	"open-match.dev/open-match/pkg/pb"

	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
	"github.com/guildhall-dev/guildhall/internal/process"
	"github.com/guildhall-dev/guildhall/internal/ticket"
	"github.com/guildhall-dev/guildhall/internal/tracing"
)

const (
	// assignTimeout bounds one call to Open Match.
	assignTimeout = 5 * time.Second
	// assignTries is how often an assignment is tried before Open Match is left to its timeouts.
	assignTries = 3
	// assignPause is the rest between two tries.
	assignPause = 50 * time.Millisecond
	// assignBatch bounds how many matches one call assigns.
	assignBatch = 500
)

// assigner assigns matches that have been placed and tells the frontends that filed their tickets. While one
// call to Open Match is under way, what is placed meanwhile makes up the next: one call for many matches is
// several times cheaper.
type assigner struct {
	backend pb.BackendServiceClient
	nats    *nats.Conn
	logger  *slog.Logger
	metrics *metrics
	tracer  tracing.Tracer
	placed  chan placed
}

// placed is a match whose group has been placed.
type placed struct {
	match     *pb.Match
	placement *guildhallv1.Placement
	trace     string // of the placement
	since     time.Time
}

func newAssigner(backend pb.BackendServiceClient, conn *nats.Conn, logger *slog.Logger, metrics *metrics) *assigner {
	return &assigner{backend: backend, nats: conn, logger: logger, metrics: metrics, placed: make(chan placed, assignBatch)}
}

// assign hands a match over.
func (a *assigner) assign(ctx context.Context, match *pb.Match, placement *guildhallv1.Placement) {
	select {
	case a.placed <- placed{match, placement, tracing.Parent(ctx), time.Now()}:
	case <-ctx.Done():
	}
}

// Run assigns until ctx ends, and then what has been handed over.
func (a *assigner) Run(ctx context.Context) error {
	for {
		select {
		case first := <-a.placed:
			a.flush(ctx, first)
		case <-ctx.Done():
			select {
			case first := <-a.placed:
				a.flush(ctx, first)
			default:
				return nil
			}
		}
	}
}

// flush assigns a match and all that wait behind it.
func (a *assigner) flush(ctx context.Context, first placed) {
	batch := []placed{first}
	for len(batch) < assignBatch {
		select {
		case next := <-a.placed:
			batch = append(batch, next)
			continue
		default:
		}
		break
	}
	start := time.Now()
	missing, err := a.call(context.WithoutCancel(ctx), batch)
	a.metrics.assignSeconds.Observe(time.Since(start).Seconds())
	outcome := "assigned"
	if err != nil {
		// The rooms are live all the same, and the players are told. The tickets come back after Open Match's pending
		// timeout, unless their frontends delete them before, and find their rooms.
		a.logger.Error("assigning tickets failed", "matches", len(batch), "error", err)
		outcome = "assign_failed"
	}
	for _, p := range batch {
		a.answer(p, missing, outcome)
		a.end(ctx, p, err)
	}
}

// end notes in its trace that a match has been assigned and told of.
func (a *assigner) end(ctx context.Context, p placed, err error) {
	_, span := a.tracer.StartFrom(ctx, p.trace, "assign", tracing.Producer, p.since)
	span.End(err)
}

// call assigns a batch and gives the tickets that Open Match no longer has.
func (a *assigner) call(ctx context.Context, batch []placed) (missing map[string]bool, err error) {
	request := a.request(batch)
	for try := 1; ; try++ {
		callCtx, cancel := context.WithTimeout(ctx, assignTimeout)
		response, err := a.backend.AssignTickets(callCtx, request)
		cancel()
		if err == nil {
			missing = map[string]bool{}
			for _, failure := range response.GetFailures() {
				missing[failure.GetTicketId()] = true
			}
			return missing, nil
		}
		if try == assignTries {
			return nil, err
		}
		a.logger.Warn("assigning tickets failed; trying again", "matches", len(batch), "error", err)
		process.Sleep(ctx, assignPause)
	}
}

// request makes one call of a batch. A ticket that stands in two matches of it, because it came back between two
// fetches, goes into the first only: twice in one call is an error.
func (a *assigner) request(batch []placed) *pb.AssignTicketsRequest {
	request := &pb.AssignTicketsRequest{}
	seen := map[string]bool{}
	for _, p := range batch {
		assignment, err := ticket.Assignment(p.placement)
		if err != nil {
			a.logger.Error("a placement cannot be written", "group", p.placement.GetGroup(), "error", err)
			continue
		}
		group := &pb.AssignmentGroup{Assignment: assignment}
		for _, id := range ticketIDs(p.match) {
			if !seen[id] {
				seen[id] = true
				group.TicketIds = append(group.TicketIds, id)
			}
		}
		if len(group.GetTicketIds()) > 0 {
			request.Assignments = append(request.Assignments, group)
		}
	}
	return request
}

// answer tells each frontend that waits for a ticket of the match where its group is. An answer may be lost: the
// frontend looks for itself after a while.
func (a *assigner) answer(p placed, missing map[string]bool, outcome string) {
	for _, t := range p.match.GetTickets() {
		if missing[t.GetId()] {
			a.metrics.tickets.WithLabelValues("gone").Inc()
			continue
		}
		a.metrics.tickets.WithLabelValues(outcome).Inc()
		details, err := ticket.Read(t)
		if err != nil || details.Inbox == "" {
			continue // filed by something else than our frontend, which watches the assignment itself
		}
		answer, err := proto.Marshal(&guildhallv1.Assigned{TicketId: t.GetId(), Placement: p.placement})
		if err == nil {
			err = a.nats.Publish(details.Inbox, answer)
		}
		if err != nil {
			a.logger.Warn("a frontend could not be told; it will look for itself", "ticket", t.GetId(), "error", err)
		}
	}
}
