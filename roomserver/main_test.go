package roomserver

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/guildhall-dev/guildhall"
	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
	"github.com/guildhall-dev/guildhall/internal/broker"
	"github.com/guildhall-dev/guildhall/internal/brokerlocal"
	"github.com/guildhall-dev/guildhall/internal/pass"
	"github.com/guildhall-dev/guildhall/internal/registry"
	"github.com/guildhall-dev/guildhall/internal/roomlog"
	"github.com/guildhall-dev/guildhall/internal/transport"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	// patience bounds every test: what takes longer has failed. It is not a time limit for the product.
	patience = 3 * time.Minute
	// never is a grace that does not end within a test.
	never = time.Hour
	// partingGrace is how long a host that stops waits for streams that nobody ends.
	partingGrace = 100 * time.Millisecond
)

// dragons is the group that tests use that need only one.
var dragons = guildhall.Group{Kind: "guild", ID: "dragons"}

// bundle is what a test needs: NATS, a registry and a log, and a key that signs passes.
type bundle struct {
	t        testing.TB
	ctx      context.Context
	url      string // of NATS
	js       jetstream.JetStream
	registry *registry.Registry
	log      *roomlog.Log
	key      ed25519.PrivateKey
	wire     wire // how players speak to hosts from here on
	// What a test may change before it starts hosts.
	rules     guildhall.KindRules
	capacity  int
	idleGrace time.Duration
	bodyBytes int
	limits    Limits
}

// setup gives a test a NATS of its own, with leases that outlive it.
func setup(t *testing.T) *bundle { return setupLease(t, never) }

func setupLease(t *testing.T, ttl time.Duration) *bundle {
	t.Helper()
	t.Parallel()
	return newBundle(t, ttl)
}

// unlimited is for tests that are about something else.
var unlimited = Limits{Messages: 1 << 30, MessagesBurst: 1 << 30, Bytes: 1 << 30, BytesBurst: 1 << 30}

// newBundle is setup for benchmarks, too.
func newBundle(t testing.TB, ttl time.Duration) *bundle {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	if _, bounded := t.(*testing.T); !bounded { // benchmarks and fuzzing last as long as they are told
		cancel()
		ctx, cancel = context.WithCancel(context.Background())
	}
	t.Cleanup(cancel)
	server, err := brokerlocal.Start(brokerlocal.Config{Folder: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	key, err := pass.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	b := &bundle{
		t: t, ctx: ctx, url: server.URL(), key: key, capacity: 50, idleGrace: never, bodyBytes: 4096,
		rules: guildhall.KindRules{Capacity: 1000, IdleGrace: never, History: 1000},
	}
	b.registry, b.log, b.js = b.connect(b.url, ttl)
	return b
}

// connect opens the registry and the log over a connection of its own.
func (b *bundle) connect(url string, ttl time.Duration) (*registry.Registry, *roomlog.Log, jetstream.JetStream) {
	b.t.Helper()
	conn, js, err := broker.Connect(broker.Config{NATS: url, NATSTimeout: 2 * time.Second}, "test", nil, slog.New(slog.DiscardHandler))
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(closeAndWait(conn))
	r, err := registry.Open(b.ctx, js, registry.Config{LeaseTTL: ttl, Bans: true})
	if err != nil {
		b.t.Fatal(err)
	}
	log, err := roomlog.Open(b.ctx, js, roomlog.Config{})
	if err != nil {
		b.t.Fatal(err)
	}
	return r, log, js
}

// closeAndWait closes a connection; its goroutines are gone when the returned function is.
func closeAndWait(conn *nats.Conn) func() {
	closed := make(chan struct{})
	conn.SetClosedHandler(func(*nats.Conn) { close(closed) })
	return func() {
		conn.Close()
		<-closed
	}
}

// running is a host and its doors, on real sockets.
type running struct {
	*host
	b        *bundle
	door     *door
	address  string // of players
	internal guildhallv1.HostServiceClient
	conn     *grpc.ClientConn // of players, shared by those who read what they are sent
	stop     func()           // drains and closes; may be called again
	gatherer prometheus.Gatherer
}

// host starts a host whose lease stands from the start and needs no renewal.
func (b *bundle) host(name guildhall.HostName) *running {
	b.t.Helper()
	h := b.hostOver(name, b.registry, b.log)
	h.extend(time.Now())
	return h
}

// hostOver starts a host without a lease over a registry and a log.
func (b *bundle) hostOver(name guildhall.HostName, r *registry.Registry, log *roomlog.Log) *running {
	b.t.Helper()
	metrics, limits := prometheus.NewRegistry(), b.limits
	limits.fill()
	h := &running{b: b, gatherer: metrics, host: newHost(hostConfig{
		name: name, address: "players:1", internalAddress: "directors:1", capacity: b.capacity,
		kinds: guildhall.Kinds{"guild": b.rules, "party": b.rules}, idleGrace: b.idleGrace, bodyBytes: b.bodyBytes,
		limits: limits, registry: r, log: log, logger: slog.New(slog.DiscardHandler), metrics: newMetrics(metrics),
	})}
	h.door = &door{host: h.host, keys: func() pass.PublicKeys { return pass.PublicKeys{b.key.Public().(ed25519.PublicKey)} }}
	stopPlayers := h.servePlayers()
	internal := grpc.NewServer(grpc.WaitForHandlers(true))
	guildhallv1.RegisterHostServiceServer(internal, &hostService{host: h.host})
	directors, stopDirectors := serve(b.t, internal)
	h.internal = guildhallv1.NewHostServiceClient(dial(b.t, directors))
	h.conn = dial(b.t, h.address)
	h.stop = sync.OnceFunc(func() {
		if err := h.drain(b.ctx); err != nil {
			b.t.Errorf("draining %s: %v", name, err)
		}
		stopPlayers()
		stopDirectors()
	})
	b.t.Cleanup(h.stop)
	return h
}

// servePlayers serves players on a free port until the returned function is called.
func (h *running) servePlayers() (stop func()) {
	h.b.t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		h.b.t.Fatal(err)
	}
	h.address = listener.Addr().String()
	server := transport.NewServer(transport.Config{Handle: h.door.serve, MaxMessage: maxFrame(h.b.bodyBytes)})
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- server.Serve(ctx, listener, partingGrace) }()
	return func() {
		cancel()
		if err := <-served; err != nil {
			h.b.t.Errorf("serving players: %v", err)
		}
	}
}

// metric gives the sum of a metric over its labels.
func (h *running) metric(name string) (sum float64) {
	h.b.t.Helper()
	families, err := h.gatherer.Gather()
	if err != nil {
		h.b.t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, m := range family.GetMetric() {
			sum += m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	return sum
}

// serve serves on a free port until the returned function is called.
func serve(t testing.TB, server *grpc.Server) (address string, stop func()) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	return listener.Addr().String(), func() {
		server.Stop()
		if err := <-served; err != nil && !errors.Is(err, grpc.ErrServerStopped) { // it may not even have begun
			t.Errorf("serving: %v", err)
		}
	}
}

func dial(t testing.TB, address string, options ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(address, append(options, grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// claim gives a group's room to a host, whoever has it now.
func (b *bundle) claim(group guildhall.Group, name guildhall.HostName) registry.Claim {
	b.t.Helper()
	now, err := b.registry.Claim(b.ctx, group)
	if err != nil && !errors.Is(err, registry.ErrNoClaim) {
		b.t.Fatal(err)
	}
	claim, err := b.registry.Take(b.ctx, group, name, now.Epoch)
	if err != nil {
		b.t.Fatalf("giving %s to %s: %v", group, name, err)
	}
	return claim
}

// pass signs a pass for a claim.
func (b *bundle) pass(player guildhall.PlayerID, claim registry.Claim) string {
	b.t.Helper()
	signed, _, err := pass.NewMinter(b.key).Mint(pass.Pass{
		Player: player, Group: claim.Group, Host: claim.Host, Epoch: claim.Epoch,
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return signed
}

// openRoom has a host open the room of a new claim.
func (h *running) openRoom(group guildhall.Group) registry.Claim {
	h.b.t.Helper()
	claim := h.b.claim(group, h.name)
	h.open(claim)
	return claim
}

// open has a host open the room of a claim.
func (h *running) open(claim registry.Claim) *room {
	h.b.t.Helper()
	r, err := h.host.open(h.b.ctx, claim.Group, claim.Epoch)
	if err != nil {
		h.b.t.Fatalf("opening %s on %s: %v", claim.Group, h.name, err)
	}
	return r
}

// await waits until the host's slots and state are as yes wants them.
func (h *running) await(what string, yes func() bool) {
	h.b.t.Helper()
	for {
		_, changed := h.countRooms()
		if yes() {
			return
		}
		select {
		case <-changed:
		case <-h.b.ctx.Done():
			h.b.t.Fatalf("it never came about that %s", what)
		}
	}
}

// probe looks at a room from its own goroutine.
type probe struct {
	look   func(*room)
	looked chan struct{}
}

func (e *probe) apply(r *room) {
	e.look(r)
	close(e.looked)
}

// inside runs look in a room's goroutine and waits for it. It is false if the room is over.
func (b *bundle) inside(r *room, look func(*room)) bool {
	b.t.Helper()
	e := &probe{look: look, looked: make(chan struct{})}
	if !r.post(nil, e) {
		return false
	}
	select {
	case <-e.looked:
		return true
	case <-r.over:
		return false
	case <-b.ctx.Done():
		b.t.Fatal("the room does not answer")
		return false
	}
}

// closed waits until a channel is closed.
func (b *bundle) closed(what string, c <-chan struct{}) {
	b.t.Helper()
	select {
	case <-c:
	case <-b.ctx.Done():
		b.t.Fatalf("%s: it did not happen", what)
	}
}

// players gives so many names.
func players(n int) []guildhall.PlayerID {
	names := make([]guildhall.PlayerID, n)
	for i := range names {
		names[i] = guildhall.PlayerID(fmt.Sprintf("p%03d", i))
	}
	return names
}

// group gives one of many groups.
func group(n int) guildhall.Group { return guildhall.Group{Kind: "guild", ID: fmt.Sprint("group-", n)} }

// otherGroup is beside dragons.
var otherGroup = group(0)
