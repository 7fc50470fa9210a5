package transport

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
)

// patience is how long a test waits for what must come. It is over only in a test that fails.
const patience = time.Minute

// started is a server under test.
type started struct {
	server  *Server
	address string
	stop    func() // begins the end
	ended   <-chan struct{}
}

// start serves on loopback until the test is over. It fails the test if something outlives the server: Serve waits for
// every goroutine, and the grace is longer than the patience.
func start(t testing.TB, config Config) *started {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if config.MaxMessage == 0 {
		config.MaxMessage = 8 << 10
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	s := &started{server: NewServer(config), address: listener.Addr().String(), stop: cancel, ended: ended}
	go func() {
		defer close(ended)
		if err := s.server.Serve(ctx, listener, 2*patience); err != nil {
			t.Errorf("serving ended with %v", err)
		}
	}()
	t.Cleanup(func() {
		cancel()
		select {
		case <-ended:
		case <-time.After(patience):
			t.Errorf("the server does not end: %d connections are left", len(s.server.all()))
			s.server.abortAll()
			<-ended
		}
	})
	return s
}

// dial opens a connection of which the kernel takes little while it is not read.
func (s *started) dial(t testing.TB) *net.TCPConn {
	t.Helper()
	conn, err := net.Dial("tcp", s.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn.(*net.TCPConn)
}

// dialSmall is dial with the smallest buffers.
func (s *started) dialSmall(t testing.TB) *net.TCPConn {
	t.Helper()
	conn := s.dial(t)
	if err := conn.SetReadBuffer(4 << 10); err != nil {
		t.Fatal(err)
	}
	return conn
}

// simulated is a server in a bubble of virtual time, on connections in memory. These have no socket, so that everything is
// written by way of the queue.
type simulated struct {
	server   *Server
	listener *memoryListener
	stop     func()
	ended    chan struct{}
}

// simulate runs a test with a server in virtual time. Its connections must be over soon after the test is.
func simulate(t *testing.T, config Config, test func(t *testing.T, s *simulated)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		if config.MaxMessage == 0 {
			config.MaxMessage = 8 << 10
		}
		ctx, cancel := context.WithCancel(context.Background())
		s := &simulated{server: NewServer(config), listener: newMemoryListener(), stop: cancel, ended: make(chan struct{})}
		go func() {
			defer close(s.ended)
			if err := s.server.Serve(ctx, s.listener, time.Second); err != nil {
				t.Errorf("serving ended with %v", err)
			}
		}()
		test(t, s)
		cancel()
		s.listener.hangUp()
		select {
		case <-s.ended:
		case <-time.After(time.Minute):
			panic("the server does not end") // the sweeper would keep the bubble going for ever
		}
	})
}

func (s *simulated) dial() net.Conn { return s.listener.dial() }

// memoryListener accepts connections in memory.
type memoryListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once

	mu     sync.Mutex
	dialed []net.Conn // guarded by mu
}

func newMemoryListener() *memoryListener {
	return &memoryListener{conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (l *memoryListener) dial() net.Conn {
	client, server := net.Pipe()
	l.mu.Lock()
	l.dialed = append(l.dialed, client)
	l.mu.Unlock()
	select {
	case l.conns <- server:
	case <-l.closed:
		_ = server.Close()
	}
	return client
}

// hangUp closes the clients' side of all connections.
func (l *memoryListener) hangUp() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.dialed {
		_ = c.Close()
	}
}

func (l *memoryListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *memoryListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *memoryListener) Addr() net.Addr { return &net.UnixAddr{Name: "memory", Net: "unix"} }

// await gives what comes on a channel, or fails the test.
func await[T any](t testing.TB, c <-chan T, what string) (got T) {
	t.Helper()
	select {
	case got = <-c:
		return got
	case <-time.After(patience):
		t.Fatalf("%s: it does not come", what)
		return got
	}
}

// until tries a condition again whenever something may have changed, and fails the test if it never holds.
func until(t testing.TB, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	late := time.After(patience)
	for !holds() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("%s: it never does", what)
		}
	}
}

// gone says whether the server knows of no connection any more.
func gone(s *Server) func() bool { return func() bool { return len(s.all()) == 0 } }

// hold gives a handler that hands its stream to the test and reads it until it is over, and the channel of streams.
func hold() (handle func(Stream), streams chan Stream) {
	streams = make(chan Stream, 1<<10)
	return func(s Stream) {
		streams <- s
		for {
			if _, err := s.Receive(); err != nil && !errors.Is(err, io.EOF) {
				return
			} else if err != nil {
				s.Close(nil, false)
				return
			}
		}
	}, streams
}

// hello gives a request of about so many bytes whose answer by [echo] can be decoded: a hello's first field is a string, as
// a welcome's is.
func hello(size int) *guildhallv1.JoinRequest {
	return &guildhallv1.JoinRequest{Frame: &guildhallv1.JoinRequest_Hello{Hello: &guildhallv1.Hello{Pass: strings.Repeat("h", size)}}}
}

// echoSizes answers each message by a short one.
func echoSizes(s Stream) {
	for {
		if _, err := s.Receive(); err != nil {
			return
		}
		if err := s.Send([][]byte{{0x0a, 0x00}}); err != nil {
			return
		}
	}
}
