package roomserver

import (
	"context"
	"net"
	"net/url"
	"sync"
	"testing"
	"time"
)

// cable lies between a host and NATS. It can be cut, so that both ends notice, and frozen, so that neither does and
// what was on its way arrives later.
type cable struct {
	t        testing.TB
	listener net.Listener
	to       string // host:port of NATS
	url      string
	copies   sync.WaitGroup

	mu    sync.Mutex
	isCut bool                  // guarded by mu
	ends  map[net.Conn]struct{} // guarded by mu
	gate  chan struct{}         // guarded by mu; closed while data may pass
}

func (b *bundle) cable() *cable {
	b.t.Helper()
	nats, err := url.Parse(b.url)
	if err != nil {
		b.t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.t.Fatal(err)
	}
	c := &cable{
		t: b.t, listener: listener, to: nats.Host, url: "nats://" + listener.Addr().String(),
		ends: map[net.Conn]struct{}{}, gate: make(chan struct{}),
	}
	close(c.gate)
	c.copies.Go(c.accept)
	b.t.Cleanup(func() {
		listener.Close()
		c.thaw()
		c.cut()
		c.copies.Wait()
	})
	return c
}

func (c *cable) accept() {
	for {
		near, err := c.listener.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("tcp", c.to)
		if err != nil {
			near.Close()
			continue
		}
		c.plug(near, far)
	}
}

func (c *cable) plug(near, far net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.isCut {
		near.Close()
		far.Close()
		return
	}
	c.ends[near], c.ends[far] = struct{}{}, struct{}{}
	c.copies.Go(func() { c.copy(far, near) })
	c.copies.Go(func() { c.copy(near, far) })
}

func (c *cable) copy(to, from net.Conn) {
	defer to.Close()
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		c.mu.Lock()
		gate := c.gate
		c.mu.Unlock()
		<-gate
		if _, writeErr := to.Write(buffer[:n]); err != nil || writeErr != nil {
			return
		}
	}
}

// cut breaks every connection, and those to come.
func (c *cable) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.isCut = true
	for end := range c.ends {
		end.Close()
	}
	clear(c.ends)
}

// mend lets connections through again.
func (c *cable) mend() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.isCut = false
}

// freeze holds back what is sent from here on.
func (c *cable) freeze() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gate = make(chan struct{})
}

// thaw lets it arrive.
func (c *cable) thaw() {
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-c.gate:
	default:
		close(c.gate)
	}
}

// leasedHost starts a host that keeps a lease, over a cable; the returned function ends the keeping.
func (b *bundle) leasedHost(c *cable) (*running, func()) {
	b.t.Helper()
	r, log, _ := b.connect(c.url, b.registry.LeaseTTL())
	h := b.hostOver("h1", r, log)
	stop := h.keep()
	b.closed("the first lease", h.leased)
	return h, stop
}

// keep has the host keep its lease until the returned function is called, which may be called again.
func (h *running) keep() (stop func()) {
	ctx, cancel := context.WithCancel(h.b.ctx)
	kept := make(chan error, 1)
	go func() { kept <- h.keepLease(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-kept; err != nil {
			h.b.t.Errorf("keeping the lease: %v", err)
		}
	})
	h.b.t.Cleanup(stop)
	return stop
}

// eventually asks again until the answer is yes, of what can only be asked and not watched.
func (b *bundle) eventually(what string, yes func() bool) {
	b.t.Helper()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for !yes() {
		select {
		case <-ticker.C:
		case <-b.ctx.Done():
			b.t.Fatalf("it never came about that %s", what)
		}
	}
}
