package chaos

import (
	"io"
	"net"
	"sync"
	"time"
)

// state is what a cable does with bytes.
type state int

const (
	whole  state = iota // carries them
	cut                 // resets every connection, also those that are made
	frozen              // holds them back: nothing arrives, nothing is closed
	deaf                // carries what is asked and holds back what is answered
)

// cable is a TCP path that can be cut: it listens where one side calls and calls the other.
type cable struct {
	// Static after construction.
	listener net.Listener
	target   string
	running  sync.WaitGroup

	mu      sync.Mutex
	state   state              // guarded by mu
	changed chan struct{}      // guarded by mu; closed and replaced when state changes
	lines   map[*line]struct{} // guarded by mu
}

// line is one connection through a cable.
type line struct {
	over chan struct{} // closed when the line has ended

	mu    sync.Mutex
	ended bool           // guarded by mu
	ends  []*net.TCPConn // guarded by mu
}

// newCable lays a cable from an address, whose port may be 0, to a target that need not be there yet.
func newCable(address, target string) (*cable, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	c := &cable{listener: listener, target: target, changed: make(chan struct{}), lines: map[*line]struct{}{}}
	c.running.Go(c.accept)
	return c, nil
}

// addr gives where to call.
func (c *cable) addr() string { return c.listener.Addr().String() }

// set changes what the cable does. Cutting it resets what goes through it.
func (c *cable) set(to state) {
	c.mu.Lock()
	c.state = to
	close(c.changed)
	c.changed = make(chan struct{})
	var reset []*line
	if to == cut {
		for l := range c.lines {
			reset = append(reset, l)
		}
	}
	c.mu.Unlock()
	for _, l := range reset {
		l.end(true)
	}
}

// close takes the cable away.
func (c *cable) close() {
	c.listener.Close()
	c.set(cut)
	c.running.Wait()
}

func (c *cable) accept() {
	for {
		near, err := c.listener.Accept()
		if err != nil {
			return
		}
		c.running.Go(func() { c.carry(near.(*net.TCPConn)) })
	}
}

// dialWithin bounds how long the other side may take to answer.
const dialWithin = 5 * time.Second

// carry carries one connection to its end.
func (c *cable) carry(near *net.TCPConn) {
	l := &line{over: make(chan struct{}), ends: []*net.TCPConn{near}}
	defer l.end(false)
	if !c.add(l) {
		l.end(true)
		return
	}
	defer c.remove(l)
	if !c.open(l, frozen) {
		return
	}
	far, err := net.DialTimeout("tcp", c.target, dialWithin)
	if err != nil || !l.adopt(far.(*net.TCPConn)) {
		l.end(true)
		return
	}
	var both sync.WaitGroup
	both.Go(func() { c.pump(l, far.(*net.TCPConn), near, frozen) })
	both.Go(func() { c.pump(l, near, far.(*net.TCPConn), frozen, deaf) })
	both.Wait()
}

// add takes a line in, unless the cable is cut.
func (c *cable) add(l *line) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state == cut {
		return false
	}
	c.lines[l] = struct{}{}
	return true
}

func (c *cable) remove(l *line) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.lines, l)
}

// pump carries bytes in one direction until its end, which it hands on too. States that hold bytes back hold the end back.
func (c *cable) pump(l *line, to, from *net.TCPConn, holding ...state) {
	buffer := make([]byte, 8<<10)
	for {
		n, err := from.Read(buffer)
		if !c.open(l, holding...) {
			return
		}
		if n > 0 {
			if _, err := to.Write(buffer[:n]); err != nil {
				l.end(true)
				return
			}
		}
		switch err {
		case nil:
		case io.EOF:
			_ = to.CloseWrite()
			return
		default:
			l.end(true)
			return
		}
	}
}

// open waits while the cable is in one of the states that hold back. It is false if the line is over.
func (c *cable) open(l *line, holding ...state) bool {
	for {
		c.mu.Lock()
		now, changed := c.state, c.changed
		c.mu.Unlock()
		held := false
		for _, h := range holding {
			held = held || now == h
		}
		if !held {
			return now != cut
		}
		select {
		case <-changed:
		case <-l.over:
			return false
		}
	}
}

// adopt gives the line its far end, and closes that if the line has ended meanwhile.
func (l *line) adopt(far *net.TCPConn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		_ = far.Close()
		return false
	}
	l.ends = append(l.ends, far)
	return true
}

// end ends a line, once: with a reset, as a broken network does, or with what is still on its way.
func (l *line) end(reset bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return
	}
	l.ended = true
	close(l.over)
	for _, conn := range l.ends {
		if reset {
			_ = conn.SetLinger(0)
		}
		_ = conn.Close()
	}
}
