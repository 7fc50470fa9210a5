package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/guildhall-dev/guildhall"
	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
)

// lost is the end of a session whose connection broke.
func lost(err error) Closed {
	return Closed{Code: ConnectionLost, Reason: err.Error(), Reconnect: true}
}

// sit takes a seat and stays until the session ends. A nil error means: come back.
func (r *Room) sit(ctx context.Context, assignment *guildhallv1.Assignment) (seated bool, err error) {
	s, err := r.open(ctx, assignment)
	if s == nil {
		return false, err
	}
	r.take(s)
	closed, err := r.receive(ctx, s.stream) // waits here for most of its life: all above is kept off its stack
	s.stream.close()
	r.giveBack(s)
	if err != nil {
		return true, err
	}
	return true, r.over(ctx, closed)
}

// open dials the host and shows the pass. It gives no seat if there was no welcome.
func (r *Room) open(ctx context.Context, assignment *guildhallv1.Assignment) (*seat, error) {
	start := time.Now()
	stream, err := r.config.dial(ctx, assignment, r.patience)
	if err != nil {
		r.waited(time.Since(start))
		if errors.Is(err, errNoAddress) && !r.joined { // one who has sat waits until it is mended
			return nil, err
		}
		return nil, r.noSeat(ctx, assignment, lost(err))
	}
	_ = stream.send(&guildhallv1.JoinRequest{Frame: &guildhallv1.JoinRequest_Hello{Hello: r.hello(assignment)}}) // receive says why not
	first, err := stream.receive()
	welcome := first.response.GetWelcome()
	switch {
	case err != nil:
		r.waited(time.Since(start))
		err = r.noSeat(ctx, assignment, lost(err))
	case welcome == nil:
		err = r.noSeat(ctx, assignment, r.closing(first.response))
	case r.isOlder(guildhall.Epoch(welcome.GetEpoch())):
		err = r.noSeat(ctx, assignment, lost(errors.New("the host does not know yet that the room is elsewhere")))
	default:
		r.patience = connectTimeout
		if err = r.welcome(ctx, welcome); err == nil {
			return &seat{ctx: ctx, stream: stream, limits: welcome.GetLimits()}, nil
		}
	}
	stream.close()
	return nil, err
}

// waited notes how long a host was given that did not answer.
func (r *Room) waited(waited time.Duration) {
	if waited >= r.patience {
		r.patience = min(2*r.patience, maxConnectTimeout)
	}
}

// noSeat is the end of a session that has not begun. The registry may show a host for moments after its death: to try again
// is on the way in, and not an event.
func (r *Room) noSeat(ctx context.Context, assignment *guildhallv1.Assignment, closed Closed) error {
	if !closed.Reconnect {
		return r.over(ctx, closed)
	}
	r.config.Logger.Debug("no seat yet; trying again", "group", r.group, "host", assignment.GetHost(), "code", closed.Code, "reason", closed.Reason)
	return nil
}

// hello shows the pass, and says where to go on.
func (r *Room) hello(assignment *guildhallv1.Assignment) *guildhallv1.Hello {
	hello := &guildhallv1.Hello{Pass: assignment.GetPass(), After: r.resumePoint()}
	if hello.After == nil {
		hello.Last = uint32(max(r.config.Last, 0))
	}
	return hello
}

// resumePoint gives the number to resume behind; nil if the caller wants nothing from before.
func (r *Room) resumePoint() *uint64 {
	if !r.joined && r.config.After == nil {
		return nil
	}
	after := uint64(r.lastSeq)
	return &after
}

// olderFor is how long a host may believe that it has a room that is another's by now: that long may a node of NATS that is
// cut off say so. If all hosts go on to, it is the registry that was lost, and epochs begin anew.
const olderFor = time.Minute

// isOlder says whether a room is of an epoch before the one that this client has been in. What it tells of the log is old,
// too.
func (r *Room) isOlder(epoch guildhall.Epoch) bool {
	if epoch >= r.epoch {
		r.epoch, r.olderSince = epoch, time.Time{}
		return false
	}
	if r.olderSince.IsZero() {
		r.olderSince = time.Now()
	}
	if time.Since(r.olderSince) < olderFor {
		return true
	}
	r.epoch, r.olderSince = epoch, time.Time{}
	return false
}

// welcome notes the seat and tells the caller.
func (r *Room) welcome(ctx context.Context, w *guildhallv1.Welcome) error {
	members := make([]guildhall.PlayerID, len(w.GetMembers()))
	for i, member := range w.GetMembers() {
		members[i] = guildhall.PlayerID(member)
	}
	epoch, truncated := guildhall.Epoch(w.GetEpoch()), guildhall.Seq(w.GetHistoryTruncated())
	after := r.lastSeq
	wasJoined := r.joined
	r.beginsBy = 0
	if !r.joined && r.config.After == nil {
		r.lastSeq = guildhall.Seq(w.GetLastSeq())
		if last := min(guildhall.Seq(max(r.config.Last, 0)), r.lastSeq); last > 0 {
			r.beginsBy = r.lastSeq + 1
			r.lastSeq -= last // where to resume if the connection breaks before the first of them
		}
	}
	if last := guildhall.Seq(w.GetLastSeq()); last < r.lastSeq {
		// The log is not the one this client has seen: it was lost, and numbers begin anew.
		r.lastSeq, truncated = last, last
	}
	r.lastSeq = max(r.lastSeq, truncated)
	r.joined, r.player = true, w.GetPlayer()
	if wasJoined {
		return r.emit(ctx, Resumed{After: after, Epoch: epoch, Members: members, TruncatedTo: truncated})
	}
	return r.emit(ctx, Joined{Group: r.group, Epoch: epoch, Members: members, LastSeq: guildhall.Seq(w.GetLastSeq()), TruncatedTo: truncated})
}

// receive hands on what the room sends until the session ends.
func (r *Room) receive(ctx context.Context, stream stream) (Closed, error) {
	for {
		frame, err := stream.receive()
		if err != nil {
			if ctx.Err() != nil {
				return Closed{}, ctx.Err()
			}
			return lost(err), nil
		}
		switch f := frame.response.GetFrame().(type) {
		case nil:
			if err = r.happened(ctx, frame.events); errors.Is(err, errGap) {
				return lost(err), nil
			}
		case *guildhallv1.JoinResponse_Ack:
			err = r.acked(ctx, f.Ack.GetId(), guildhall.Seq(f.Ack.GetSeq()))
		case *guildhallv1.JoinResponse_Refused:
			err = r.refused(ctx, f.Refused)
		case *guildhallv1.JoinResponse_History:
			r.told(f.History)
		case *guildhallv1.JoinResponse_Closed:
			return r.closing(frame.response), nil
		}
		if err != nil {
			return Closed{}, err
		}
	}
}

// closing reads the frame that ends a session.
func (r *Room) closing(frame *guildhallv1.JoinResponse) Closed {
	closed := frame.GetClosed()
	if closed == nil {
		return lost(errors.New("the host answered the hello with neither welcome nor closed"))
	}
	return Closed{
		Code: codeName(closed.GetCode()), Reason: closed.GetReason(),
		// One who floods a room would do it again.
		Reconnect: closed.GetReconnect() && closed.GetCode() != guildhallv1.CloseCode_CLOSE_CODE_FLOOD,
	}
}

// errGap says that a message is missing. It must not happen; resuming mends it.
var errGap = errors.New("a message is missing")

// happened hands on events: each message once, and none before the one with the number below.
func (r *Room) happened(ctx context.Context, events []Event) error {
	for _, event := range events {
		switch e := event.(type) {
		case hidden:
			if _, err := r.counts(e.seq); err != nil {
				return err
			}
			continue
		case Message:
			isNew, err := r.counts(e.Seq)
			if err != nil {
				return err
			}
			if !isNew {
				continue
			}
			if string(e.From) == r.player { // what comes back is durable, whatever became of its ack
				if err := r.acked(ctx, e.ID, e.Seq); err != nil {
					return err
				}
			}
		}
		if err := r.emit(ctx, event); err != nil {
			return err
		}
	}
	return nil
}

// counts notes the number of a message, and says whether it is the next one. It is an error if one is missing.
func (r *Room) counts(seq guildhall.Seq) (isNew bool, err error) {
	if r.beginsBy > 0 {
		if seq > 0 && seq <= r.beginsBy {
			r.lastSeq = seq - 1
		}
		r.beginsBy = 0
	}
	if seq <= r.lastSeq {
		return false, nil
	}
	if seq != r.lastSeq+1 {
		return false, fmt.Errorf("%w: number %d came behind %d", errGap, seq, r.lastSeq)
	}
	r.lastSeq = seq
	return true, nil
}
