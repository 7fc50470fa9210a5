package roomserver

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"

	"github.com/gobwas/ws"
	"google.golang.org/grpc"

	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
	"github.com/guildhall-dev/guildhall/internal/transport"
)

// wire is how a player speaks to a host.
type wire int

const (
	overGRPC wire = iota
	overWebSocket
	overJSON
)

func (w wire) String() string { return [...]string{"gRPC", "WebSocket", "WebSocket with JSON"}[w] }

// onEachWire plays a scenario over each wire, each on a bundle of its own.
func onEachWire(t *testing.T, scenario func(t *testing.T, b *bundle)) {
	t.Helper()
	t.Parallel()
	for _, w := range []wire{overGRPC, overWebSocket, overJSON} {
		t.Run(w.String(), func(t *testing.T) {
			b := setup(t)
			b.wire = w
			scenario(t, b)
		})
	}
}

// link is a player's end of a stream: frames both ways. One goroutine may send while another receives.
type link interface {
	// send is io.EOF if the stream is over; receive says why.
	send(frame []byte) error
	// receive is io.EOF if the host has ended the stream in order.
	receive() ([]byte, error)
	// done says that the player sends no more.
	done() error
	// cut breaks the connection off.
	cut()
}

var (
	_ link = (*grpcLink)(nil)
	_ link = (*wsLink)(nil)
)

// bytesCodec has gRPC carry bytes as they are.
type bytesCodec struct{}

func (bytesCodec) Marshal(v any) ([]byte, error)      { return *(v.(*[]byte)), nil }
func (bytesCodec) Unmarshal(data []byte, v any) error { *(v.(*[]byte)) = data; return nil }
func (bytesCodec) Name() string                       { return "proto" }

// grpcLink is a stream of grpc-go.
type grpcLink struct {
	stream grpc.ClientStream
	cancel context.CancelFunc
}

func (b *bundle) openGRPC(conn *grpc.ClientConn) *grpcLink {
	b.t.Helper()
	ctx, cancel := context.WithCancel(b.ctx)
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true},
		guildhallv1.RoomService_Join_FullMethodName, grpc.ForceCodec(bytesCodec{}))
	if err != nil {
		cancel()
		b.t.Fatalf("opening a stream: %v", err)
	}
	return &grpcLink{stream: stream, cancel: cancel}
}

func (l *grpcLink) send(frame []byte) error { return l.stream.SendMsg(&frame) }

func (l *grpcLink) receive() (frame []byte, err error) {
	err = l.stream.RecvMsg(&frame)
	return frame, err
}

func (l *grpcLink) done() error { return l.stream.CloseSend() }
func (l *grpcLink) cut()        { l.cancel() }

// wsLink is a WebSocket.
type wsLink struct {
	conn net.Conn
	in   io.Reader
	op   ws.OpCode

	mu sync.Mutex // of writes: receive answers pings
}

func (b *bundle) dialWebSocket(address string, json bool) *wsLink {
	b.t.Helper()
	l := &wsLink{op: ws.OpBinary}
	protocol := "guildhall.v1.proto"
	if json {
		l.op, protocol = ws.OpText, "guildhall.v1.json"
	}
	conn, rest, handshake, err := ws.Dialer{Protocols: []string{protocol}}.Dial(b.ctx, "ws://"+address+transport.Path)
	if err != nil {
		b.t.Fatalf("dialing a WebSocket: %v", err)
	}
	if handshake.Protocol != protocol {
		b.t.Fatalf("the host chose sub-protocol %q, want %q", handshake.Protocol, protocol)
	}
	if deadline, set := b.ctx.Deadline(); set {
		_ = conn.SetDeadline(deadline) // if it fails, so does what follows
	}
	l.conn, l.in = conn, bufio.NewReader(conn)
	if rest != nil {
		l.in = rest
	}
	return l
}

func (l *wsLink) send(frame []byte) error { return l.write(l.op, frame) }

func (l *wsLink) write(op ws.OpCode, payload []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	masked := ws.MaskFrame(ws.NewFrame(op, true, payload)) // a copy
	if err := ws.WriteFrame(l.conn, masked); err != nil {
		return io.EOF
	}
	return nil
}

func (l *wsLink) receive() ([]byte, error) {
	for {
		frame, err := ws.ReadFrame(l.in)
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF // there was no closing frame
			}
			return nil, err
		}
		switch frame.Header.OpCode {
		case l.op:
			return frame.Payload, nil
		case ws.OpPing:
			_ = l.write(ws.OpPong, frame.Payload) // if the host is gone, the next read says so
		case ws.OpClose:
			_ = l.write(ws.OpClose, frame.Payload) // 〃
			if code, reason := ws.ParseCloseFrameData(frame.Payload); code != ws.StatusNormalClosure {
				return nil, fmt.Errorf("the host closed with %d %s", code, reason)
			}
			return nil, io.EOF
		default:
			return nil, fmt.Errorf("a frame of kind %d came, want %d", frame.Header.OpCode, l.op)
		}
	}
}

func (l *wsLink) done() error {
	return l.write(ws.OpClose, ws.NewCloseFrameBody(ws.StatusNormalClosure, ""))
}

func (l *wsLink) cut() { _ = l.conn.Close() } // it may have been cut before
