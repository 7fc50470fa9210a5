package client_test

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // registers what rawCodec wraps
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/proto"

	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
)

// end is the host's end of a session, whatever the transport.
type end interface {
	Send(frame *guildhallv1.JoinResponse) error
	Recv() (*guildhallv1.JoinRequest, error)
	// garbage sends a message that is no frame.
	garbage(message []byte) error
}

// host is a host that does what the test says, session by session. It serves both transports.
type host struct {
	guildhallv1.UnimplementedRoomServiceServer
	grpc, websocket *wires
	visits          chan *visit
	deaf            atomic.Bool // it reads nothing behind the hello
}

// offer makes an assignment one to this host.
func (h *host) offer(a *guildhallv1.Assignment) {
	offer(a, h.grpc.Addr().String(), h.websocket.Addr().String())
}

func offer(a *guildhallv1.Assignment, grpcAddress, webSocketAddress string) {
	a.Address, a.WebsocketUrl = grpcAddress, "ws://"+webSocketAddress+"/guildhall.v1.RoomService/Join"
}

func startHost(t *testing.T) *host {
	t.Helper()
	h := &host{grpc: listen(t), websocket: listen(t), visits: make(chan *visit)}
	server := grpc.NewServer(grpc.WaitForHandlers(true), grpc.ForceServerCodec(rawCodec{}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second})) // as a real one
	guildhallv1.RegisterRoomServiceServer(server, h)
	served := make(chan error, 1)
	go func() { served <- server.Serve(h.grpc) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-served; err != nil && !errors.Is(err, grpc.ErrServerStopped) { // it may not even have begun
			t.Errorf("the host: %v", err)
		}
	})
	h.serveWebSockets(t)
	return h
}

// Join is a session over gRPC.
func (h *host) Join(stream guildhallv1.RoomService_JoinServer) error {
	from, _ := peer.FromContext(stream.Context())
	return h.session(stream.Context(), grpcEnd{stream}, h.grpc.from(from.Addr.String()))
}

// session hands a session to the test, and reads what the client sends.
func (h *host) session(ctx context.Context, e end, w *wire) error {
	v := &visit{end: e, wire: w, frames: make(chan *guildhallv1.JoinRequest, 4096), over: make(chan error, 1)}
	select {
	case h.visits <- v:
	case <-ctx.Done():
		return nil
	}
	go func() { // ends with the session
		defer close(v.frames)
		for {
			frame, err := e.Recv()
			if err != nil {
				return
			}
			v.frames <- frame // there is room, or the test has ended
			if h.deaf.Load() {
				<-ctx.Done()
				return
			}
		}
	}()
	select {
	case err := <-v.over:
		return err
	case <-ctx.Done():
		return nil
	}
}

type grpcEnd struct {
	guildhallv1.RoomService_JoinServer
}

func (e grpcEnd) garbage(message []byte) error { return e.SendMsg(message) }

// rawCodec sends bytes as they are.
type rawCodec struct{}

var _ encoding.Codec = rawCodec{}

func (rawCodec) Name() string { return "proto" }

func (rawCodec) Marshal(v any) ([]byte, error) {
	if raw, ok := v.([]byte); ok {
		return raw, nil
	}
	return proto.Marshal(v.(proto.Message))
}

func (rawCodec) Unmarshal(data []byte, v any) error { return proto.Unmarshal(data, v.(proto.Message)) }

// serveWebSockets serves sessions over WebSocket.
func (h *host) serveWebSockets(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := h.websocket.Accept()
			if err != nil {
				return
			}
			all.Go(func() { h.serveWebSocket(ctx, conn.(*wire)) })
		}
	})
	t.Cleanup(func() {
		h.websocket.Close()
		cancel()
		all.Wait()
	})
}

func (h *host) serveWebSocket(ctx context.Context, conn *wire) {
	upgrader := ws.Upgrader{Protocol: func(name []byte) bool { return string(name) == "guildhall.v1.proto" }}
	if _, err := upgrader.Upgrade(conn); err != nil {
		conn.Close()
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	e := &webSocketEnd{conn: conn, gone: cancel}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	err := h.session(ctx, e, conn)
	if err == nil {
		_ = e.write(ws.NewCloseFrame(ws.NewCloseFrameBody(ws.StatusNormalClosure, ""))) // an orderly end
	}
	conn.Close() // without a word
}

// webSocketEnd is the host's end of a WebSocket.
type webSocketEnd struct {
	conn    *wire
	gone    context.CancelFunc
	writing sync.Mutex
	pings   int // of the client; owned by whoever receives
}

func (e *webSocketEnd) write(frame ws.Frame) error {
	e.writing.Lock()
	defer e.writing.Unlock()
	return ws.WriteFrame(e.conn, frame)
}

func (e *webSocketEnd) Send(frame *guildhallv1.JoinResponse) error {
	message, err := proto.Marshal(frame)
	if err != nil {
		return err
	}
	return e.garbage(message)
}

func (e *webSocketEnd) garbage(message []byte) error { return e.write(ws.NewBinaryFrame(message)) }

func (e *webSocketEnd) Recv() (*guildhallv1.JoinRequest, error) {
	message, err := e.receive()
	if err != nil {
		e.gone()
		return nil, err
	}
	frame := &guildhallv1.JoinRequest{}
	return frame, proto.Unmarshal(message, frame)
}

// receive gives the next message, and answers pings.
func (e *webSocketEnd) receive() ([]byte, error) {
	for {
		frame, err := ws.ReadFrame(e.conn)
		if err == nil {
			err = ws.CheckHeader(frame.Header, ws.StateServerSide)
		}
		if err != nil {
			return nil, err
		}
		switch frame = ws.UnmaskFrameInPlace(frame); frame.Header.OpCode {
		case ws.OpBinary:
			return frame.Payload, nil
		case ws.OpPing:
			if err := e.write(ws.NewPongFrame(frame.Payload)); err != nil {
				return nil, err
			}
		case ws.OpPong:
			e.pings++
		case ws.OpClose:
			return nil, net.ErrClosed
		}
	}
}
