package roomserver

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
	"github.com/guildhall-dev/guildhall/internal/pass"
)

const (
	// helloWithin bounds how long a stream may be open without a hello.
	helloWithin = 10 * time.Second
	// closeWithin bounds how long a session that has ended may take to send what is left.
	closeWithin = 2 * time.Second
	// maxFrameOverhead is what a frame may have beside the body: the hello with its pass is the largest.
	maxFrameOverhead = 8 << 10
)

// door answers RoomService: it lets players with a valid pass into their room.
type door struct {
	guildhallv1.UnimplementedRoomServiceServer
	host     *host
	keys     pass.PublicKeys
	sessions sync.WaitGroup // goroutines of sessions; they end soon after their streams
}

var _ guildhallv1.RoomServiceServer = (*door)(nil)

// Join is one session. Three goroutines see to it: this one waits for the end, one reads and one writes. Only the
// return of this one ends the others: neither a read nor a write that the peer does not answer can be called off.
func (d *door) Join(stream guildhallv1.RoomService_JoinServer) error {
	hello := make(chan *guildhallv1.Hello, 1)
	s := newSession("")
	read := make(chan struct{})
	seated := make(chan *room, 1)
	d.sessions.Go(func() {
		defer close(read)
		d.read(stream, s, hello, seated)
	})
	room, closed := d.enter(stream.Context(), s, hello, read)
	seated <- room
	if closed != nil {
		s.end(closed)
	}
	written := make(chan struct{})
	d.sessions.Go(func() {
		defer close(written)
		if err := s.write(stream.Send); err != nil {
			s.end(leftClosed)
		}
	})
	select {
	case <-s.ended:
	case <-stream.Context().Done(): // the reader may be waiting for the room and not for the stream
		s.end(leftClosed)
	}
	if room != nil {
		room.post(context.WithoutCancel(stream.Context()), &rise{session: s})
	}
	d.host.metrics.closed.WithLabelValues(s.closed.GetCode().String()).Inc()
	select {
	case <-written:
	case <-time.After(closeWithin):
		return status.Error(codes.Unavailable, "the connection did not take what was left to send")
	case <-stream.Context().Done():
	}
	return nil
}

// leftClosed is the end of a session whose player left, or whose connection broke.
var leftClosed = &guildhallv1.Closed{Code: guildhallv1.CloseCode_CLOSE_CODE_LEFT, Reason: "you left"}

func protocolClosed(reason string) *guildhallv1.Closed {
	return &guildhallv1.Closed{Code: guildhallv1.CloseCode_CLOSE_CODE_PROTOCOL, Reason: reason}
}

// enter waits for the hello, checks its pass and takes the seat.
func (d *door) enter(ctx context.Context, s *session, hello <-chan *guildhallv1.Hello, read <-chan struct{}) (*room, *guildhallv1.Closed) {
	var said *guildhallv1.Hello
	select {
	case said = <-hello:
	case <-read:
		select {
		case said = <-hello: // it was the last thing read
		default:
			return nil, protocolClosed("the stream ended before a hello")
		}
	case <-s.ended:
		return nil, nil
	case <-time.After(helloWithin):
		return nil, protocolClosed("no hello within 10 seconds")
	}
	admitted, err := pass.ReadPass(d.keys, said.GetPass())
	if err != nil {
		d.host.logger.Info("a pass was refused", "error", err)
		return nil, passRefused("the pass is not valid or has expired")
	}
	if admitted.Host != d.host.name {
		return nil, passRefused("the pass is for another host")
	}
	room, err := d.host.open(ctx, admitted.Group, admitted.Epoch)
	if err != nil {
		return nil, d.notHere(admitted, err)
	}
	s.player = admitted.Player
	asked := &sit{session: s, after: said.After, refused: make(chan *guildhallv1.Closed, 1)}
	if !room.post(ctx, asked) {
		return nil, moved
	}
	select {
	case refused := <-asked.refused:
		if refused != nil {
			return nil, refused
		}
		return room, nil
	case <-ctx.Done():
		return room, leftClosed // what was asked for may be granted yet; the caller gives it back
	case <-room.over:
		select {
		case refused := <-asked.refused: // seated just before the end, which ends the session too
			return room, refused
		default:
			return nil, moved
		}
	}
}

var moved = &guildhallv1.Closed{Code: guildhallv1.CloseCode_CLOSE_CODE_MOVED, Reason: "the room is not here any more", Reconnect: true}

func passRefused(reason string) *guildhallv1.Closed {
	return &guildhallv1.Closed{Code: guildhallv1.CloseCode_CLOSE_CODE_PASS_REFUSED, Reason: reason, Reconnect: true}
}

// notHere says why a room could not be entered. In each case the way back is to Enter again.
func (d *door) notHere(admitted pass.Pass, err error) *guildhallv1.Closed {
	switch {
	case errors.Is(err, errNotClaimed), errors.Is(err, errHostLeaving), errors.Is(err, errHostFull):
		return moved
	}
	d.host.logger.Warn("a room could not be opened", "group", admitted.Group, "error", err)
	return &guildhallv1.Closed{Code: guildhallv1.CloseCode_CLOSE_CODE_INTERNAL, Reason: "the room could not be opened", Reconnect: true}
}

// read reads the client's frames until the stream or the session ends.
func (d *door) read(stream guildhallv1.RoomService_JoinServer, s *session, hello chan<- *guildhallv1.Hello, seated <-chan *room) {
	first, err := stream.Recv()
	if err != nil {
		return
	}
	if first.GetHello() == nil {
		s.end(protocolClosed("the first frame was not a hello"))
		return
	}
	hello <- first.GetHello()
	room := <-seated
	if room == nil {
		return
	}
	for {
		frame, err := stream.Recv()
		if err != nil {
			s.end(d.readEnd(err))
			return
		}
		switch f := frame.GetFrame().(type) {
		case *guildhallv1.JoinRequest_Say:
			if !s.maySay() || !room.post(stream.Context(), &say{session: s, said: f.Say}) {
				return // the session has ended, or the room, which ends the session
			}
		case *guildhallv1.JoinRequest_Leave:
			s.end(leftClosed)
			return
		default:
			s.end(protocolClosed("a frame that is neither say nor leave came after the hello"))
			return
		}
	}
}

// readEnd says how a session ends whose stream does. Of a frame that it could not read, gRPC has told the client
// itself, and ended the stream.
func (d *door) readEnd(err error) *guildhallv1.Closed {
	switch {
	case errors.Is(err, io.EOF):
		return leftClosed
	case status.Code(err) == codes.ResourceExhausted:
		return protocolClosed("a frame was too large")
	case status.Code(err) == codes.Internal:
		return protocolClosed("a frame could not be read")
	}
	return leftClosed // the connection broke: nobody reads this
}
