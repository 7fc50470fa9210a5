package registry

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/guildhall-dev/guildhall"
	"github.com/guildhall-dev/guildhall/internal/broker"
	"github.com/guildhall-dev/guildhall/internal/brokerlocal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for an event on a busy machine.
const patience = 30 * time.Second

// bench is a registry on a NATS of its own.
type bench struct {
	*Registry
	t      *testing.T
	ctx    context.Context // of the test
	js     jetstream.JetStream
	server *brokerlocal.Server
	folder string
}

// setup opens a registry with the shortest lease there is. Its view runs until the test ends.
func setup(t *testing.T) *bench {
	t.Helper()
	b := &bench{t: t, folder: t.TempDir()}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	b.ctx = ctx
	b.start(0)
	t.Cleanup(func() { b.server.Stop() })
	b.js = connect(t, b.server.URL())
	b.Registry = b.open()
	return b
}

// start starts NATS on a port; 0 takes a free one.
func (b *bench) start(port int) {
	b.t.Helper()
	server, err := brokerlocal.Start(brokerlocal.Config{Port: port, Folder: b.folder})
	if err != nil {
		b.t.Fatal(err)
	}
	b.server = server
}

// stop stops NATS, waits until the connection is lost, and gives the port, to start NATS there again.
func (b *bench) stop() int {
	b.t.Helper()
	address, err := url.Parse(b.server.URL())
	if err != nil {
		b.t.Fatal(err)
	}
	port, err := strconv.Atoi(address.Port())
	if err != nil {
		b.t.Fatal(err)
	}
	lost := b.listen(nats.RECONNECTING)
	b.server.Stop()
	lost()
	return port
}

// listen gives a function that waits until the connection has got into a state.
func (b *bench) listen(state nats.Status) (wait func()) {
	b.t.Helper()
	changed := b.js.Conn().StatusChanged(state)
	return func() {
		b.t.Helper()
		defer b.js.Conn().RemoveStatusListener(changed)
		select {
		case <-changed:
		case <-b.ctx.Done():
			b.t.Fatalf("waiting for the connection to be %s: %v", state, b.ctx.Err())
		}
	}
}

// connect connects as a service does.
func connect(t *testing.T, url string) jetstream.JetStream {
	t.Helper()
	config := broker.Config{NATS: url, NATSTimeout: patience}
	conn, js, err := broker.Connect(config, "test", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	return js
}

// open opens one more registry on the same NATS, as another process does, and runs its view.
func (b *bench) open() *Registry {
	b.t.Helper()
	r, err := Open(b.ctx, b.js, Config{LeaseTTL: MinLeaseTTL})
	if err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.ctx)
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	b.t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			b.t.Errorf("Run: %v", err)
		}
	})
	b.await(r.Synced(), "the view")
	return r
}

// await waits for a signal.
func (b *bench) await(signal <-chan struct{}, what string) {
	b.t.Helper()
	select {
	case <-signal:
	case <-b.ctx.Done():
		b.t.Fatalf("waiting for %s: %v", what, b.ctx.Err())
	}
}

// awaitView waits until the view is as ok wants it.
func (b *bench) awaitView(what string, ok func() bool) {
	b.t.Helper()
	for {
		b.mu.RLock()
		changed := b.changed
		b.mu.RUnlock()
		if ok() {
			return
		}
		b.await(changed, what)
	}
}

// take takes a claim that must succeed.
func (b *bench) take(group guildhall.Group, host guildhall.HostName, over guildhall.Epoch) Claim {
	b.t.Helper()
	claim, err := b.Take(b.ctx, group, host, over)
	if err != nil {
		b.t.Fatalf("Take(%s, %s, %d): %v", group, host, over, err)
	}
	return claim
}

// release releases a claim, which must succeed.
func (b *bench) release(claim Claim) {
	b.t.Helper()
	if err := b.Release(b.ctx, claim); err != nil {
		b.t.Fatalf("Release(%s): %v", claim.Group, err)
	}
}

// grant grants a lease that must be given.
func (b *bench) grant(lease Lease) *Grant {
	b.t.Helper()
	grant, err := b.Grant(b.ctx, lease)
	if err != nil {
		b.t.Fatalf("Grant(%s): %v", lease.Host, err)
	}
	return grant
}

var dragons = guildhall.Group{Kind: "guild", ID: "dragons"}

// host names a host by its number.
func host(n int) guildhall.HostName { return guildhall.HostName(fmt.Sprintf("host-%d", n)) }

// alive is the lease of a host that takes rooms.
func alive(name guildhall.HostName) Lease {
	return Lease{Host: name, State: HostAllocated, PID: 1, InternalAddress: string(name) + ":7001", RoomsCapacity: 50}
}
