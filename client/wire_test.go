package client_test

import (
	"net"
	"sync"
	"sync/atomic"
	"testing"
)

// wires is a listener that remembers its connections, so that a test can cut one.
type wires struct {
	net.Listener

	mu  sync.Mutex
	all map[string]*wire // guarded by mu; by the address of the other end
}

func listen(t *testing.T) *wires {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return &wires{Listener: listener, all: map[string]*wire{}}
}

func (l *wires) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	w := &wire{Conn: conn}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all[conn.RemoteAddr().String()] = w
	return w, nil
}

func (l *wires) from(address string) *wire {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all[address]
}

// wire is a connection that can be cut in the middle of what is written.
type wire struct {
	net.Conn
	halves atomic.Bool // the next write is half a write, and the last one
}

func (w *wire) Write(b []byte) (int, error) {
	if !w.halves.Load() {
		return w.Conn.Write(b)
	}
	n, err := w.Conn.Write(b[:len(b)/2])
	if err == nil {
		err = net.ErrClosed
	}
	w.Conn.Close()
	return n, err
}
