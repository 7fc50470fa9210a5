package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
)

// Transport is how a client speaks to a host. Over both it is the same session, frame by frame.
type Transport int

const (
	// GRPC is one Join stream on a connection of its own, at Assignment.address.
	GRPC Transport = iota
	// WebSocket is one binary message for each frame, at Assignment.websocket_url. It passes proxies that gRPC does not,
	// and costs less for each connection and for each frame.
	WebSocket
)

// String gives the transport's name, `grpc` or `websocket`.
func (t Transport) String() string {
	switch t {
	case GRPC:
		return "grpc"
	case WebSocket:
		return "websocket"
	}
	return fmt.Sprintf("transport %d", int(t))
}

const (
	// A host may take connectTimeout to answer a connection; each time that it took longer, twice as long, up to the longest.
	// When everybody comes at once a host may need that long, and connections that are given up and made again are what it
	// would have to do besides.
	connectTimeout    = 3 * time.Second
	maxConnectTimeout = 24 * time.Second
	// A host of which nothing was heard for quietFor is asked whether it is there, and is lost if it does not answer
	// within answerWithin. It is the pair for which roomserver's keepalive policy is made.
	quietFor     = 10 * time.Second
	answerWithin = 5 * time.Second
	// frameMost is the largest frame that is taken, in bytes. A page of history has at most 200 messages.
	frameMost = 8 << 20
)

// stream is a connection to a host that carries one session, whatever the transport. One goroutine may send while
// another receives; close may be called by anybody, repeatedly.
type stream interface {
	// send sends a frame; it waits while the host takes none. After an error nothing can be sent any more, and receive
	// says why.
	send(frame *guildhallv1.JoinRequest) error
	// receive waits for the next frame. It finds out within quietFor + answerWithin that the host has vanished.
	receive() (frame, error)
	// close ends the stream at once, and send and receive with it.
	close()
}

// dialFunc opens a connection; the tests cut theirs.
type dialFunc func(ctx context.Context, address string) (net.Conn, error)

// errNoAddress says that an assignment does not tell where to go by the transport that the caller chose.
var errNoAddress = errors.New("no address for this transport")

// dial connects to the host of an assignment, which may take so long to answer. The stream ends with ctx.
func (c *Config) dial(ctx context.Context, assignment *guildhallv1.Assignment, within time.Duration) (stream, error) {
	if c.Transport == WebSocket {
		return dialWebSocket(ctx, assignment.GetWebsocketUrl(), within, c.dialer)
	}
	return dialGRPC(ctx, assignment.GetAddress(), within, c.dialer)
}
