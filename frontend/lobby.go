package frontend

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/guildhall-dev/guildhall"
	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
	"github.com/guildhall-dev/guildhall/internal/pass"
	"github.com/guildhall-dev/guildhall/internal/tracing"
)

// lobby answers LobbyService, whatever carries it. Its errors are connect's, whose codes are gRPC's by number.
type lobby struct {
	// Static after construction.
	door     *door
	minter   func() *pass.Minter // as it is now
	turns    *turns
	live     *live
	waits    *waits
	held     *held
	metrics  *metrics
	logger   *slog.Logger
	tracer   tracing.Tracer
	stopping chan struct{} // closed when players who wait have to go elsewhere
}

var errStopping = connect.NewError(connect.CodeUnavailable, errors.New("this frontend is stopping: call again to reach another"))

// caller is what the headers of a call say.
type caller struct{ authorization, traceparent string }

// fileTicket answers with an assignment, or with a ticket that this frontend holds for a while.
func (l *lobby) fileTicket(ctx context.Context, from caller, request *guildhallv1.FileTicketRequest) (_ *guildhallv1.FileTicketResponse, err error) {
	who, err := l.door.check(from, request.GetGroup())
	if err != nil {
		return nil, l.refuse("FileTicket", err)
	}
	ctx, span := l.trace(ctx, from, "FileTicket", who)
	defer func() { endTrace(span, err) }()
	id := newTicketID(who.group)
	response := &guildhallv1.FileTicketResponse{TicketId: id.String(), ExpiresAt: timestamppb.New(time.Now().Add(l.held.ttl))}
	placement, live, err := l.find(ctx, who.group)
	if err != nil {
		return nil, l.refuse("FileTicket", err)
	}
	if live {
		if response.Assignment, err = l.admit(ctx, who, placement, pathLive, time.Now()); err != nil {
			return nil, l.refuse("FileTicket", err)
		}
		return response, nil
	}
	l.held.hold(id, who, l.waits.join(ctx, who.group))
	return response, nil
}

// watchAssignment tells the state of a ticket until it is assigned.
func (l *lobby) watchAssignment(ctx context.Context, from caller, request *guildhallv1.WatchAssignmentRequest, send func(*guildhallv1.WatchAssignmentResponse) error) (err error) {
	id, who, err := l.ticket(from, request.GetTicketId())
	if err != nil {
		return l.refuse("WatchAssignment", err)
	}
	seat, err := l.held.watch(id, who)
	if err != nil {
		return l.refuse("WatchAssignment", err)
	}
	defer l.held.unwatch(id)
	ctx, span := l.trace(ctx, from, "WatchAssignment", who)
	defer func() { endTrace(span, err) }()
	return l.see(ctx, "WatchAssignment", id, who, seat,
		func(w *guildhallv1.Waiting) error {
			return send(&guildhallv1.WatchAssignmentResponse{State: &guildhallv1.WatchAssignmentResponse_Waiting{Waiting: w}})
		},
		func(a *guildhallv1.Assignment) error {
			return send(&guildhallv1.WatchAssignmentResponse{State: &guildhallv1.WatchAssignmentResponse_Assignment{Assignment: a}})
		})
}

// cancelTicket withdraws a ticket that this frontend holds. One that it does not hold lives as long as its stream, or is
// at another frontend, which drops it when nobody watches.
func (l *lobby) cancelTicket(from caller, request *guildhallv1.CancelTicketRequest) (*guildhallv1.CancelTicketResponse, error) {
	id, who, err := l.ticket(from, request.GetTicketId())
	if err != nil {
		return nil, l.refuse("CancelTicket", err)
	}
	if err := l.held.cancel(id, who); err != nil {
		return nil, l.refuse("CancelTicket", err)
	}
	return &guildhallv1.CancelTicketResponse{}, nil
}

// enter files a ticket, watches it, and withdraws it when the caller goes away.
func (l *lobby) enter(ctx context.Context, from caller, request *guildhallv1.EnterRequest, send func(*guildhallv1.EnterResponse) error) (err error) {
	who, err := l.door.check(from, request.GetGroup())
	if err != nil {
		return l.refuse("Enter", err)
	}
	ctx, span := l.trace(ctx, from, "Enter", who)
	defer func() { endTrace(span, err) }()
	return l.see(ctx, "Enter", newTicketID(who.group), who, nil,
		func(w *guildhallv1.Waiting) error {
			return send(&guildhallv1.EnterResponse{State: &guildhallv1.EnterResponse_Waiting{Waiting: w}})
		},
		func(a *guildhallv1.Assignment) error {
			return send(&guildhallv1.EnterResponse{State: &guildhallv1.EnterResponse_Assignment{Assignment: a}})
		})
}

// see sees a ticket through: the assignment at once if the room is live, otherwise when its wait is over. A ticket
// that has no seat, because it is new or was filed at another frontend, takes one here and leaves it.
func (l *lobby) see(ctx context.Context, method string, id ticketID, who visitor, seat *seat, waiting func(*guildhallv1.Waiting) error, assigned func(*guildhallv1.Assignment) error) error {
	start := time.Now()
	placement, path, err := l.place(ctx, id, who.group, seat, waiting)
	if err != nil {
		return l.refuse(method, err)
	}
	assignment, err := l.admit(ctx, who, placement, path, start)
	if err != nil {
		return l.refuse(method, err)
	}
	return assigned(assignment)
}

// place gives where the group's room is, now or once a wait is over, and by which of the two paths.
func (l *lobby) place(ctx context.Context, id ticketID, group guildhall.Group, seat *seat, waiting func(*guildhallv1.Waiting) error) (placement *guildhallv1.Placement, path string, err error) {
	if seat == nil {
		if seat = l.waits.joinRunning(ctx, group); seat != nil {
			defer seat.leave()
			placement, err = l.await(ctx, id, seat, waiting)
			return placement, pathTicket, err
		}
	}
	placement, live, err := l.find(ctx, group)
	if err != nil || live {
		return placement, pathLive, err
	}
	if seat != nil {
		tracing.Current(ctx).Link(seat.wait.trace)
	}
	if seat == nil || seat.wait.isOver() { // the place it found is gone again
		seat = l.waits.join(ctx, group)
		defer seat.leave()
	}
	placement, err = l.await(ctx, id, seat, waiting)
	return placement, pathTicket, err
}

// await tells the player that they wait, and gives where the room is once it is known.
func (l *lobby) await(ctx context.Context, id ticketID, seat *seat, waiting func(*guildhallv1.Waiting) error) (*guildhallv1.Placement, error) {
	start := time.Now()
	placement, err := l.awaitPlacement(ctx, id, seat, waiting)
	end := "placed"
	switch {
	case errors.Is(err, errStopping):
		end = "sent_away"
	case err != nil:
		end = "left"
	}
	l.metrics.waited.WithLabelValues(end).Observe(time.Since(start).Seconds())
	return placement, err
}

// awaitPlacement is await without the clock.
func (l *lobby) awaitPlacement(ctx context.Context, id ticketID, seat *seat, waiting func(*guildhallv1.Waiting) error) (*guildhallv1.Placement, error) {
	for {
		state, changed := seat.state()
		if err := waiting(&guildhallv1.Waiting{TicketId: id.String(), Players: seat.wait.players.Load(), State: state}); err != nil {
			return nil, err
		}
		select {
		case <-changed:
		case <-seat.wait.done:
			if seat.wait.placement == nil {
				return nil, errStopping
			}
			return seat.wait.placement, nil
		case <-l.stopping:
			return nil, errStopping
		case <-l.held.cancelled(id):
			return nil, connect.NewError(connect.CodeNotFound, errCancelled)
		case <-ctx.Done():
			return nil, contextError(ctx)
		}
	}
}

// find gives the group's room if it is live.
func (l *lobby) find(ctx context.Context, group guildhall.Group) (*guildhallv1.Placement, bool, error) {
	placement, live, err := l.live.find(ctx, group)
	if err != nil {
		if ctx.Err() != nil {
			return nil, false, contextError(ctx)
		}
		l.logger.Error("the registry does not answer", "group", group, "error", err)
		return nil, false, connect.NewError(connect.CodeUnavailable, errors.New("the registry does not answer: try again"))
	}
	return placement, live, nil
}

// trace begins the trace of a call, or goes on with the caller's.
func (l *lobby) trace(ctx context.Context, from caller, method string, who visitor) (context.Context, tracing.Span) {
	ctx, span := l.tracer.StartFrom(ctx, from.traceparent, method, tracing.Server, time.Time{})
	span.Kind(who.group.Kind)
	return ctx, span
}

// endTrace ends it.
func endTrace(span tracing.Span, err error) { span.End(grpcError(err)) }

// admit signs a pass.
func (l *lobby) admit(ctx context.Context, who visitor, placement *guildhallv1.Placement, path string, since time.Time) (*guildhallv1.Assignment, error) {
	if err := l.door.checkBan(who); err != nil { // they may have waited long
		return nil, err
	}
	admitted := pass.Pass{
		Player: who.player, Group: who.group,
		Host: guildhall.HostName(placement.GetHost()), Epoch: guildhall.Epoch(placement.GetEpoch()),
		Traceparent: tracing.Parent(ctx),
	}
	var signed string
	var expires time.Time
	var err error
	l.turns.do(func() { signed, expires, err = l.minter().Mint(admitted) })
	if err != nil {
		l.logger.Error("a pass could not be signed", "error", err)
		return nil, connect.NewError(connect.CodeInternal, errors.New("no pass could be signed"))
	}
	l.metrics.entered(path, time.Since(since))
	span := tracing.Current(ctx)
	span.Path(path)
	span.Room(placement.GetHost(), placement.GetEpoch())
	return &guildhallv1.Assignment{
		Group: who.group.String(), Host: placement.GetHost(), Address: placement.GetAddress(), Epoch: placement.GetEpoch(),
		Pass: signed, PassExpiresAt: timestamppb.New(expires), WebsocketUrl: websocketURL(placement.GetAddress()),
	}, nil
}

// websocketURL gives where a host takes WebSocket connections: on the port where it takes gRPC.
func websocketURL(address string) string {
	return "ws://" + address + guildhallv1.RoomService_Join_FullMethodName
}

// ticket checks that a ticket is the caller's to ask for.
func (l *lobby) ticket(from caller, text string) (ticketID, visitor, error) {
	id, err := parseTicketID(text)
	if err != nil {
		return ticketID{}, visitor{}, connect.NewError(connect.CodeInvalidArgument, err)
	}
	who, err := l.door.check(from, id.group.String())
	return id, who, err
}

// refuse counts a refusal and gives it on.
func (l *lobby) refuse(method string, err error) error {
	l.metrics.refused.WithLabelValues(method, connect.CodeOf(err).String()).Inc()
	return err
}

// contextError says in a call's own terms why its context has ended.
func contextError(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return connect.NewError(connect.CodeDeadlineExceeded, ctx.Err())
	}
	return connect.NewError(connect.CodeCanceled, ctx.Err())
}
