// Package transport carries the sessions of players: streams of messages both ways, over gRPC and over WebSocket, both on one
// port.
//
// It does for itself what grpc-go and net/http would do, and for one reason: a room delivers each message to each of its
// members, and of all that a server does, that has to cost little. Here a delivery is one system call, made by whoever
// delivers, and an idle connection is a goroutine or two and a small buffer. docs/designs/transport.md has what each way of
// doing it measured.
package transport

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"net"
	"slices"
	"sync"
	"time"

	"golang.org/x/net/http2"

	"github.com/guildhall-dev/guildhall/internal/process"
	"github.com/guildhall-dev/guildhall/internal/socket"
)

// Path is where the one method is, for gRPC and for WebSocket.
const Path = "/guildhall.v1.RoomService/Join"

const (
	// readBuffer is what a connection reads at once: a say or two, for most connections are idle most of the time.
	readBuffer = 1 << 10
	// handshakeWithin bounds how long a connection may take to say what it is.
	handshakeWithin = 10 * time.Second
	// pingAfter is how long a peer may be silent before it is asked for a sign of life; IdleAfter, before it is cut off.
	pingAfter = 10 * time.Second
	// IdleAfter is how long a peer may give no sign of life.
	IdleAfter = 20 * time.Second
	// sweepEvery is how often that is looked after.
	sweepEvery = 2500 * time.Millisecond
	// closeWithin bounds how long a stream that was closed may take to send what is left.
	closeWithin = 2 * time.Second
	// kernelBuffer bounds what the kernel takes for a peer that does not read.
	kernelBuffer = 128 << 10
)

// Stream is one session's messages. Receive belongs to one goroutine; the other methods are for everybody.
type Stream interface {
	// IsJSON says how messages are encoded: protobuf's JSON, or protobuf.
	IsJSON() bool
	// Receive waits for the next message, which is good until the next call. io.EOF says that the client sends no more, [ErrMistake] that
	// it sent what is not taken, [ErrEnded] that the stream is over.
	Receive() ([]byte, error)
	// Send sends messages, in order, and never waits. They are shared from then on: nobody may change them. [ErrSlow] says that too
	// much waits already, [ErrEnded] that the stream is over.
	Send(messages [][]byte) error
	// IsBehind says whether the client has not taken all that was sent.
	IsBehind() bool
	// Drained gives a channel that is closed when nothing waits any more; nil if that is so.
	Drained() <-chan struct{}
	// Close sends a last message, which may be nil, and ends the stream behind it; if discard is set, without what waits before
	// it. It never waits. Receive returns.
	Close(last []byte, discard bool)
	// Abort ends the stream at once.
	Abort()
}

var (
	_ Stream = (*grpcStream)(nil)
	_ Stream = (*wsStream)(nil)
)

// Config says what a server serves.
type Config struct {
	// Handle serves a stream; the stream is over when it returns.
	Handle func(Stream)
	// MaxMessage is the largest message that is taken, in bytes.
	MaxMessage int
	// QueueBytes bounds what waits for one client, in bytes; 0 means [QueueBytes].
	QueueBytes int
	// Logger is told what goes wrong; nil means nobody is.
	Logger *slog.Logger

	closeWithin time.Duration // for tests whose clients are slow; 0 means closeWithin
}

// Server serves streams.
type Server struct {
	handler     func(Stream)
	maxMessage  int
	queueBytes  int
	closeWithin time.Duration
	logger      *slog.Logger
	began       time.Time
	tasks       sync.WaitGroup // all goroutines

	mu      sync.Mutex
	conns   map[connection]struct{} // guarded by mu
	leaving bool                    // guarded by mu
}

// connection is a connection of either kind.
type connection interface {
	ping()
	silentSince() int64
	unusedSince() (since int64, known bool)
	leave()
	abort()
}

// NewServer makes a server.
func NewServer(config Config) *Server {
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	return &Server{
		handler: config.Handle, maxMessage: config.MaxMessage, queueBytes: cmp.Or(config.QueueBytes, QueueBytes),
		closeWithin: cmp.Or(config.closeWithin, closeWithin), logger: config.Logger, began: time.Now(), conns: map[connection]struct{}{},
	}
}

// Serve serves until ctx ends; then it takes no more streams, waits for those that are there, but no longer than the grace,
// and returns when all is over. A server serves once.
func (s *Server) Serve(ctx context.Context, listener net.Listener, grace time.Duration) error {
	stop := context.AfterFunc(ctx, func() { _ = listener.Close() }) // accept finds out
	defer stop()
	sweeping, stopSweeping := context.WithCancel(context.Background())
	swept := make(chan struct{})
	go func() {
		defer close(swept)
		s.sweep(sweeping)
	}()
	err := s.accept(ctx, listener)
	s.leave()
	cut := time.AfterFunc(grace, s.abortAll)
	if err != nil {
		s.abortAll()
	}
	s.tasks.Wait()
	cut.Stop()
	stopSweeping()
	<-swept
	return err
}

const (
	// acceptPause is the rest after a connection could not be accepted: the process may have too many files open.
	acceptPause = 50 * time.Millisecond
)

func (s *Server) accept(ctx context.Context, listener net.Listener) error {
	for {
		conn, err := listener.Accept()
		switch {
		case err == nil:
			s.tasks.Go(func() { s.serveConn(conn) })
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("the listener of players was closed: %w", err)
		default:
			s.logger.Warn("a connection could not be accepted; trying again", "error", err)
			process.Sleep(ctx, acceptPause)
		}
	}
}

// serveConn finds out what a connection speaks, and serves it.
func (s *Server) serveConn(conn net.Conn) {
	defer func() { _ = conn.Close() }() // it is closed in most cases
	tune(conn)
	conn = socket.Quiet(conn)
	newcomer := newcomer{conn}
	if !s.add(newcomer) {
		return
	}
	in := bufio.NewReaderSize(conn, readBuffer)
	_ = conn.SetReadDeadline(time.Now().Add(handshakeWithin)) // if it fails, so does the read
	start, err := in.Peek(4)
	if err != nil {
		s.remove(newcomer)
		return
	}
	if string(start) == http2.ClientPreface[:4] {
		c := newGRPCConn(s, conn, in)
		s.replace(newcomer, c)
		_ = conn.SetReadDeadline(time.Time{})
		c.serve()
		s.remove(c)
		return
	}
	stream, err := upgrade(s, conn, in)
	if err != nil {
		s.logger.Debug("a connection is neither gRPC nor WebSocket", "error", err)
		s.remove(newcomer)
		return
	}
	s.replace(newcomer, stream)
	_ = conn.SetReadDeadline(time.Time{})
	s.handle(stream)
	stream.linger()
	s.remove(stream)
}

// handle has a stream served.
func (s *Server) handle(stream Stream) {
	s.handler(stream)
	stream.Close(nil, false)
}

// tune sets what the kernel does for a connection.
func tune(conn net.Conn) {
	tcp, is := conn.(*net.TCPConn)
	if !is {
		return
	}
	_ = tcp.SetWriteBuffer(kernelBuffer) // it works without, and takes more memory
}

// newcomer is a connection that has not said what it speaks.
type newcomer struct{ conn net.Conn }

func (n newcomer) ping()                                  {}
func (n newcomer) silentSince() int64                     { return math.MaxInt64 } // it has a deadline of its own
func (n newcomer) unusedSince() (since int64, known bool) { return 0, false }
func (n newcomer) leave()                                 { n.abort() }
func (n newcomer) abort()                                 { _ = n.conn.Close() }

// add takes note of a connection; false if none is taken any more.
func (s *Server) add(c connection) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.leaving {
		return false
	}
	s.conns[c] = struct{}{}
	return true
}

// replace takes note of what a newcomer is.
func (s *Server) replace(was newcomer, is connection) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, was)
	s.conns[is] = struct{}{}
	if s.leaving {
		is.abort() // it has not begun
	}
}

func (s *Server) remove(c connection) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
}

// all gives the connections.
func (s *Server) all() []connection {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Keys(s.conns))
}

// leave takes no more streams.
func (s *Server) leave() {
	s.mu.Lock()
	s.leaving = true
	s.mu.Unlock()
	for _, c := range s.all() {
		c.leave()
	}
}

func (s *Server) abortAll() {
	for _, c := range s.all() {
		c.abort()
	}
}

// now gives the time since the server was made, in nanoseconds.
func (s *Server) now() int64 { return int64(time.Since(s.began)) }

// sweep asks silent peers for a sign of life, and cuts off those that give none, until ctx ends.
func (s *Server) sweep(ctx context.Context) {
	for ctx.Err() == nil {
		process.Sleep(ctx, sweepEvery)
		now := s.now()
		for _, c := range s.all() {
			silent := time.Duration(now - c.silentSince())
			unused, known := c.unusedSince()
			switch {
			case silent >= IdleAfter:
				c.abort()
			case known && time.Duration(now-unused) >= pingAfter:
				c.leave()
			case silent >= pingAfter:
				c.ping()
			}
		}
	}
}

// endLater cuts a stream that was closed, if it does not come to its end.
func (s *Server) endLater(stream Stream) { time.AfterFunc(s.closeWithin, stream.Abort) }
