package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	"github.com/guildhall-dev/guildhall"
	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
)

// connectTimeout bounds how long a host may take to answer a connection.
const connectTimeout = 3 * time.Second

// lost is the end of a session whose connection broke.
func lost(err error) Closed {
	return Closed{Code: ConnectionLost, Reason: err.Error(), Reconnect: true}
}

// sit dials the host, shows the pass and stays until the session ends. seated says whether there was a welcome.
func (r *Room) sit(ctx context.Context, assignment *guildhallv1.Assignment) (seated bool, closed Closed, err error) {
	conn, err := grpc.NewClient(assignment.GetAddress(),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.DefaultConfig, MinConnectTimeout: connectTimeout}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 5 * time.Second}))
	if err != nil {
		return false, Closed{}, fmt.Errorf("the host's address %q: %w", assignment.GetAddress(), err)
	}
	defer conn.Close()
	ctx, cancel := context.WithCancel(ctx) // ends the stream, and with it the sender
	defer cancel()
	stream, err := guildhallv1.NewRoomServiceClient(conn).Join(ctx)
	if err != nil {
		return false, lost(err), nil
	}
	hello := &guildhallv1.Hello{Pass: assignment.GetPass(), After: r.resumePoint()}
	if err := stream.Send(&guildhallv1.JoinRequest{Frame: &guildhallv1.JoinRequest_Hello{Hello: hello}}); err != nil {
		return false, lost(streamError(stream, err)), nil
	}
	first, err := stream.Recv()
	if err != nil {
		return false, lost(err), nil
	}
	if first.GetWelcome() == nil {
		return false, r.closing(first), nil
	}
	if r.isOlder(guildhall.Epoch(first.GetWelcome().GetEpoch())) {
		return false, lost(errors.New("the host does not know yet that the room is elsewhere")), nil
	}
	if err := r.welcome(ctx, first.GetWelcome()); err != nil {
		return true, Closed{}, err
	}
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		r.send(ctx, stream, first.GetWelcome().GetLimits())
	}()
	closed, err = r.receive(ctx, stream)
	cancel()
	<-sent
	return true, closed, err
}

// streamError gives why a stream broke: Send says only EOF, Recv says why.
func streamError(stream guildhallv1.RoomService_JoinClient, err error) error {
	if _, recvErr := stream.Recv(); recvErr != nil {
		return recvErr
	}
	return err
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
	if !r.joined && r.config.After == nil {
		r.lastSeq = guildhall.Seq(w.GetLastSeq())
	}
	if last := guildhall.Seq(w.GetLastSeq()); last < r.lastSeq {
		// The log is not the one this client has seen: it was lost, and numbers begin anew.
		r.lastSeq, truncated = last, last
	}
	r.lastSeq = max(r.lastSeq, truncated)
	r.joined = true
	r.mu.Lock()
	r.sent = 0 // all that is not acked is said again
	r.mu.Unlock()
	if wasJoined {
		return r.emit(ctx, Resumed{After: after, Epoch: epoch, Members: members, TruncatedTo: truncated})
	}
	return r.emit(ctx, Joined{Group: r.group, Epoch: epoch, Members: members, LastSeq: guildhall.Seq(w.GetLastSeq()), TruncatedTo: truncated})
}

// send says what is to be said, and leaves once the caller wants to and nothing is left to be acked. It ends with
// the stream. A body beyond the limits is refused here: one beyond what the transport takes as well would break the
// connection, again and again.
func (r *Room) send(ctx context.Context, stream guildhallv1.RoomService_JoinClient, limits *guildhallv1.Limits) {
	for {
		frame, changed := r.nextFrame()
		if frame == nil {
			select {
			case <-changed:
				continue
			case <-ctx.Done():
				return
			}
		}
		if say := frame.GetSay(); limits != nil && len(say.GetBody()) > int(limits.GetBodyBytes()) {
			if r.refused(ctx, &guildhallv1.Refused{
				Id: say.GetId(), Code: guildhallv1.RefuseCode_REFUSE_CODE_BODY_TOO_LARGE, Reason: "the message is too long",
			}) != nil {
				return
			}
			continue
		}
		if err := stream.Send(frame); err != nil {
			return // the receiver finds out why
		}
		if frame.GetLeave() != nil {
			return
		}
	}
}

// nextFrame gives what to send next; nil and a channel to wait for if that is nothing.
func (r *Room) nextFrame() (*guildhallv1.JoinRequest, <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.sent < len(r.unacked):
		say := r.unacked[r.sent].say
		r.sent++
		return &guildhallv1.JoinRequest{Frame: &guildhallv1.JoinRequest_Say{Say: say}}, nil
	case r.leaving && len(r.unacked) == 0:
		return &guildhallv1.JoinRequest{Frame: &guildhallv1.JoinRequest_Leave{Leave: &guildhallv1.Leave{}}}, nil
	}
	return nil, r.changed
}

// receive hands on what the room sends until the session ends.
func (r *Room) receive(ctx context.Context, stream guildhallv1.RoomService_JoinClient) (Closed, error) {
	for {
		frame, err := stream.Recv()
		if err != nil {
			if ctx.Err() != nil {
				return Closed{}, ctx.Err()
			}
			return lost(err), nil
		}
		switch f := frame.GetFrame().(type) {
		case *guildhallv1.JoinResponse_Events:
			if err := r.happened(ctx, f.Events.GetEvents()); err != nil {
				if errors.Is(err, errGap) {
					return lost(err), nil
				}
				return Closed{}, err
			}
		case *guildhallv1.JoinResponse_Ack:
			seq := guildhall.Seq(f.Ack.GetSeq())
			r.answer(f.Ack.GetId(), seq, nil)
			err = r.emit(ctx, Acked{ID: f.Ack.GetId(), Seq: seq})
		case *guildhallv1.JoinResponse_Refused:
			err = r.refused(ctx, f.Refused)
		case *guildhallv1.JoinResponse_Closed:
			return r.closing(frame), nil
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
	return Closed{Code: codeName(closed.GetCode()), Reason: closed.GetReason(), Reconnect: closed.GetReconnect()}
}

// errGap says that a message is missing. It must not happen; resuming mends it.
var errGap = errors.New("a message is missing")

// happened hands on events: each message once, and none before the one with the number below.
func (r *Room) happened(ctx context.Context, events []*guildhallv1.Event) error {
	for _, event := range events {
		var out Event
		switch e := event.GetEvent().(type) {
		case *guildhallv1.Event_Message:
			m := e.Message
			seq := guildhall.Seq(m.GetSeq())
			if seq <= r.lastSeq {
				continue
			}
			if seq != r.lastSeq+1 {
				return fmt.Errorf("%w: number %d came behind %d", errGap, seq, r.lastSeq)
			}
			r.lastSeq = seq
			out = Message{
				Seq: seq, From: guildhall.PlayerID(m.GetFrom()), ID: m.GetId(), Body: m.GetBody(),
				ContentType: m.GetContentType(), SaidAt: m.GetSaidAt().AsTime(),
			}
		case *guildhallv1.Event_Member:
			out = Member{
				Player: guildhall.PlayerID(e.Member.GetPlayer()),
				Here:   e.Member.GetState() == guildhallv1.MemberState_MEMBER_STATE_HERE,
			}
		default:
			continue // of a later version
		}
		if err := r.emit(ctx, out); err != nil {
			return err
		}
	}
	return nil
}
