package roomserver

import (
	"context"
	"errors"
	"io"
	"time"

	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
	"github.com/guildhall-dev/guildhall/internal/pass"
	"github.com/guildhall-dev/guildhall/internal/tracing"
	"github.com/guildhall-dev/guildhall/internal/transport"
)

const (
	// helloWithin bounds how long a stream may be open without a hello.
	helloWithin = 10 * time.Second
	// maxFrameOverhead is what a frame may have beside the body: the hello with its pass is the largest.
	maxFrameOverhead = 8 << 10
)

// maxFrame gives the largest frame that is taken, when bodies may have so many bytes: in JSON, a byte may take six.
func maxFrame(bodyBytes int) int { return 6*bodyBytes + maxFrameOverhead }

// queueBytes gives how much may wait for one client: some large bodies, also where they may be very large.
func queueBytes(bodyBytes int) int { return max(transport.QueueBytes, 32*bodyBytes) }

// door lets players with a valid pass into their room, and serves them until they leave.
type door struct {
	host *host
	keys func() pass.PublicKeys // as they are now
}

// serve serves a session, on the goroutine that reads its frames: room.proto draws its states.
func (d *door) serve(stream transport.Stream) {
	s := newSession(stream)
	if room, hello, began := d.enter(s); room != nil {
		if d.sit(s, room, hello) {
			d.host.metrics.joinSeconds.Observe(time.Since(began).Seconds())
			d.read(s, room)
		}
		room.post(nil, &rise{session: s})
	}
	s.end(leftClosed) // if it has not ended yet
	d.host.metrics.closed.WithLabelValues(s.closed.GetCode().String()).Inc()
}

// leftClosed is the end of a session whose player left, or whose connection broke.
var leftClosed = &guildhallv1.Closed{Code: guildhallv1.CloseCode_CLOSE_CODE_LEFT, Reason: "you left"}

func protocolClosed(reason string) *guildhallv1.Closed {
	return &guildhallv1.Closed{Code: guildhallv1.CloseCode_CLOSE_CODE_PROTOCOL, Reason: reason}
}

// receive gives the client's next frame; nil if there is none any more, and then the session has ended.
func (d *door) receive(s *session) *guildhallv1.JoinRequest {
	b, err := s.stream.Receive()
	switch {
	case errors.Is(err, io.EOF):
		s.end(leftClosed)
		return nil
	case errors.Is(err, transport.ErrMistake):
		s.end(protocolClosed("a frame was too large, or is not one"))
		return nil
	case err != nil:
		s.end(leftClosed) // the connection broke: nobody reads this
		return nil
	}
	request, err := decode(b, s.json)
	if err != nil {
		s.end(protocolClosed("a frame could not be read"))
		return nil
	}
	return request
}

// enter waits for the hello, checks its pass and finds the room; nil if the session has ended. It began with the hello.
func (d *door) enter(s *session) (in *room, hello *guildhallv1.Hello, began time.Time) {
	late := time.AfterFunc(helloWithin, func() { s.end(protocolClosed("no hello within 10 seconds")) })
	first := d.receive(s)
	late.Stop()
	began = time.Now()
	if hello = first.GetHello(); hello == nil {
		s.end(protocolClosed("the first frame was not a hello")) // if it has not ended yet
		return nil, nil, began
	}
	// On a goroutine of its own, for it goes deep: the stack of this one would stay large for as long as the player sits.
	found := make(chan *room)
	go func() { found <- d.find(s, hello) }()
	return <-found, hello, began
}

// find gives the room that a pass is for; nil if there is none, and then the session has ended.
func (d *door) find(s *session, hello *guildhallv1.Hello) *room {
	admitted, err := pass.ReadPass(d.keys(), hello.GetPass())
	if err != nil {
		d.host.logger.Info("a pass was refused", "error", err)
		s.end(passRefused("the pass is not valid or has expired"))
		return nil
	}
	if admitted.Host != d.host.name {
		s.end(passRefused("the pass is for another host"))
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), openTimeout)
	defer cancel()
	ctx, span := d.host.tracer.StartFrom(ctx, admitted.Traceparent, "join", tracing.Server, time.Time{})
	span.Kind(admitted.Group.Kind)
	span.Room(string(admitted.Host), uint64(admitted.Epoch))
	room, err := d.host.open(ctx, admitted.Group, admitted.Epoch)
	span.End(err)
	if err != nil {
		s.end(d.notHere(admitted, err))
		return nil
	}
	s.player, s.trace = admitted.Player, tracing.Parent(ctx)
	return room
}

var moved = &guildhallv1.Closed{Code: guildhallv1.CloseCode_CLOSE_CODE_MOVED, Reason: "the room is not here any more", Reconnect: true}

func passRefused(reason string) *guildhallv1.Closed {
	return &guildhallv1.Closed{Code: guildhallv1.CloseCode_CLOSE_CODE_PASS_REFUSED, Reason: reason, Reconnect: true}
}

// failed is the end of a session that the host could not serve.
func failed(reason string) *guildhallv1.Closed {
	return &guildhallv1.Closed{Code: guildhallv1.CloseCode_CLOSE_CODE_INTERNAL, Reason: reason, Reconnect: true}
}

// notHere says why a room could not be entered. In each case the way back is to Enter again.
func (d *door) notHere(admitted pass.Pass, err error) *guildhallv1.Closed {
	switch {
	case errors.Is(err, errNotClaimed), errors.Is(err, errHostLeaving), errors.Is(err, errHostFull):
		return moved
	}
	d.host.logger.Warn("a room could not be opened", "group", admitted.Group, "error", err)
	return failed("the room could not be opened")
}

// read reads the client's frames and gives them to the room until the session ends.
func (d *door) read(s *session, room *room) {
	for {
		request := d.receive(s)
		if request == nil {
			return
		}
		switch f := request.GetFrame().(type) {
		case *guildhallv1.JoinRequest_Say:
			if !s.maySay() || !room.post(s.ended, &say{session: s, said: f.Say}) {
				s.end(moved) // the room is over, if the session is not
				return
			}
		case *guildhallv1.JoinRequest_Signal:
			if !room.post(s.ended, &signal{session: s, signal: f.Signal}) {
				s.end(moved)
				return
			}
		case *guildhallv1.JoinRequest_ReadHistory:
			d.readHistory(s, room, f.ReadHistory)
		case *guildhallv1.JoinRequest_Ping:
			s.send([][]byte{encode(pong, s.json)})
		case *guildhallv1.JoinRequest_Leave:
			room.post(s.ended, &leave{session: s})
			select {
			case <-s.ended:
			case <-room.over:
				s.end(leftClosed)
			}
			return
		case *guildhallv1.JoinRequest_Hello:
			s.end(protocolClosed("a second hello came"))
			return
		}
	}
}

var pong = &guildhallv1.JoinResponse{Frame: &guildhallv1.JoinResponse_Pong{Pong: &guildhallv1.Pong{}}}
