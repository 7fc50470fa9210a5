package registry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/guildhall-dev/guildhall"
	"github.com/guildhall-dev/guildhall/internal/broker"
	"github.com/guildhall-dev/guildhall/internal/brokerlocal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(tests{m}) }

// tests stops what all tests share before it is looked for leaks.
type tests struct{ *testing.M }

// Run runs the tests.
func (t tests) Run() int {
	defer shared.stop()
	return t.M.Run()
}

const (
	// patience is how long a test waits for an event on a busy machine.
	patience = time.Minute
	// lasting is a lease that does not expire within a test, however busy the machine is.
	lasting = time.Hour
)

// bench is a registry on a NATS of its own: one node, or a cluster.
type bench struct {
	*Registry
	t      testing.TB
	ctx    context.Context // of the test
	js     jetstream.JetStream
	server *brokerlocal.Server // nil with a cluster
	nodes  *brokerlocal.Nodes  // nil with one node
	folder string
	ttl    time.Duration // of leases
}

// setup opens a registry on one node. Its view runs until the test ends.
func setup(t testing.TB) *bench {
	t.Helper()
	return setupLease(t, lasting)
}

// setupLease is setup for tests in which leases expire.
func setupLease(t testing.TB, ttl time.Duration) *bench {
	t.Helper()
	b := newBench(t, ttl)
	ports, err := brokerlocal.FreePorts(1)
	if err != nil {
		t.Fatal(err)
	}
	b.start(ports[0])
	t.Cleanup(func() { b.server.Stop() })
	b.js = connect(t, b.url())
	b.Registry = b.open()
	return b
}

// cluster is three nodes that tests use one after the other: to start them takes longer than most tests, and two clusters
// at once on a small machine elect for ever.
type cluster struct {
	inUse  sync.Mutex
	nodes  *brokerlocal.Nodes // guarded by inUse; nil before the first use
	folder string             // guarded by inUse
}

var shared cluster

// lend gives the nodes to a test until it ends.
func (c *cluster) lend(t testing.TB) *brokerlocal.Nodes {
	t.Helper()
	c.inUse.Lock()
	t.Cleanup(c.inUse.Unlock)
	if c.nodes != nil {
		return c.nodes
	}
	folder, err := os.MkdirTemp("", "registry-*") // outlives the test
	if err != nil {
		t.Fatal(err)
	}
	c.folder = folder
	if c.nodes, err = brokerlocal.StartNodes(folder, 3); err != nil {
		t.Fatal(err)
	}
	return c.nodes
}

func (c *cluster) stop() {
	if c.nodes != nil {
		c.nodes.Stop()
	}
	_ = os.RemoveAll(c.folder) // of the temporary folder
}

// setupNodes opens a registry as setup does, on three nodes, which it must leave running.
func setupNodes(t testing.TB) *bench {
	t.Helper()
	return setupNodesLease(t, lasting)
}

// setupNodesLease is setupNodes for tests in which leases expire.
func setupNodesLease(t testing.TB, ttl time.Duration) *bench {
	t.Helper()
	nodes := shared.lend(t)
	b := newBench(t, ttl)
	b.nodes = nodes
	b.js = connect(t, b.url())
	b.timeLeases()
	t.Cleanup(b.emptyBuckets)
	b.Registry = b.open()
	return b
}

// timeLeases gives the bucket that the last test has left the lease's time of this one.
func (b *bench) timeLeases() {
	b.t.Helper()
	_, err := b.js.UpdateStream(b.ctx, bucketConfig{
		name: leasesBucket, description: "which hosts are alive", ttl: b.ttl, markerTTL: markerTTL, replicas: 3,
	}.streamConfig())
	if err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) { // this is the first test
		b.t.Fatal(err)
	}
}

// emptyBuckets leaves nothing to the next test but the buckets, whose leaders are elected.
func (b *bench) emptyBuckets() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for _, bucket := range []string{claimsBucket, leasesBucket, bansBucket} {
		stream, err := b.js.Stream(ctx, "KV_"+bucket)
		if err == nil {
			err = stream.Purge(ctx)
		}
		if err != nil {
			b.t.Error(err)
		}
	}
}

// onBoth runs a test on one node and on three.
func onBoth(t *testing.T, test func(t *testing.T, b *bench)) {
	t.Helper()
	onBothLease(t, lasting, test)
}

// onBothLease is onBoth for tests in which leases expire.
func onBothLease(t *testing.T, ttl time.Duration, test func(t *testing.T, b *bench)) {
	t.Helper()
	t.Run("one node", func(t *testing.T) { t.Parallel(); test(t, setupLease(t, ttl)) })
	t.Run("three nodes", func(t *testing.T) { t.Parallel(); test(t, setupNodesLease(t, ttl)) })
}

func newBench(t testing.TB, ttl time.Duration) *bench {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	t.Cleanup(cancel)
	return &bench{t: t, folder: t.TempDir(), ctx: ctx, ttl: ttl}
}

// url gives where NATS is.
func (b *bench) url() string {
	if b.nodes != nil {
		return b.nodes.URL()
	}
	return b.server.URL()
}

// start starts NATS on a port.
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
func connect(t testing.TB, url string) jetstream.JetStream {
	t.Helper()
	config := broker.Config{NATS: url, NATSTimeout: patience}
	conn, js, err := broker.Connect(config, "test", nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	return js
}

// open opens one more registry on the same NATS, as another process does, and runs its view.
func (b *bench) open() *Registry {
	b.t.Helper()
	r, err := Open(b.ctx, b.js, b.config())
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

// config is what a registry is opened with.
func (b *bench) config() Config {
	config := Config{LeaseTTL: b.ttl, Leases: true, Bans: true}
	if b.nodes != nil {
		config.Replicas = 3
	}
	return config
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

// awaitView waits until the view of the leases is as ok wants it.
func (b *bench) awaitView(what string, ok func() bool) {
	b.t.Helper()
	for {
		_, changed := b.seenLeases.all()
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

// show grants a lease until the view has it: one that is short may be over before anybody has seen it.
func (b *bench) show(lease Lease) *Grant {
	b.t.Helper()
	grant := b.grant(lease)
	for {
		if _, seen := b.HostInView(lease.Host); seen {
			return grant
		}
		switch _, err := b.Host(b.ctx, lease.Host); {
		case errors.Is(err, ErrNoLease):
			grant = b.grant(lease)
		case err != nil:
			b.t.Fatalf("waiting for the view to have %s: %v", lease.Host, err)
		}
	}
}

var dragons = guildhall.Group{Kind: "guild", ID: "dragons"}

// host names a host by its number.
func host(n int) guildhall.HostName { return guildhall.HostName(fmt.Sprintf("host-%d", n)) }

// alive is the lease of a host that takes rooms.
func alive(name guildhall.HostName) Lease {
	return Lease{Host: name, State: HostAllocated, PID: 1, InternalAddress: string(name) + ":7001", RoomsCapacity: 50}
}
