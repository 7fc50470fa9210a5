package roomserver

import (
	"context"
	"errors"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"agones.dev/agones/pkg/sdk"
	"google.golang.org/grpc/codes"

	"github.com/guildhall-dev/guildhall"
	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
	"github.com/guildhall-dev/guildhall/internal/pass"
	"github.com/guildhall-dev/guildhall/internal/process"
	"github.com/guildhall-dev/guildhall/internal/registry"
)

// service is the whole service, beside a sidecar.
type service struct {
	*bundle
	*Server
	sidecar *sidecar
	stop    func() error // ends Run and gives its error
}

// config gives a configuration that works.
func (b *bundle) config(sidecar string) Config {
	b.t.Helper()
	folder := b.t.TempDir()
	keys := filepath.Join(folder, "public.pem")
	if err := pass.SaveKeyPair(b.key, filepath.Join(folder, "private.pem"), keys); err != nil {
		b.t.Fatal(err)
	}
	config := Config{
		Listen: "127.0.0.1:0", InternalListen: "127.0.0.1:0", PassKeysFile: keys, AgonesSDK: sidecar, LogStreams: 1,
		Kinds: guildhall.Kinds{"guild": b.rules}, HostIdleGrace: b.idleGrace, LeaseTTL: b.registry.LeaseTTL(),
	}
	config.AdminListen = "127.0.0.1:0"
	config.NATS = b.url
	return config
}

// newServer makes a service, which must run afterwards.
func (b *bundle) newServer(config Config) *Server {
	b.t.Helper()
	server, err := New(config)
	if err != nil {
		b.t.Fatal(err)
	}
	return server
}

// run runs a service; it is stopped with the test.
func (b *bundle) run(server *Server) func() error {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()
	stop := sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	b.t.Cleanup(func() {
		if err := stop(); err != nil {
			b.t.Errorf("Run: %v", err)
		}
	})
	return stop
}

// setupService starts the service on a bundle.
func (b *bundle) setupService() *service {
	b.t.Helper()
	return b.startService(startSidecar(b.t, gameServer("Ready")))
}

// startService starts the service beside a sidecar and waits until it is ready.
func (b *bundle) startService(car *sidecar) *service {
	b.t.Helper()
	return b.startConfigured(car, b.config(car.address))
}

func (b *bundle) startConfigured(car *sidecar, config Config) *service {
	b.t.Helper()
	s := &service{bundle: b, sidecar: car, Server: b.newServer(config)}
	s.stop = b.run(s.Server)
	b.closed("the service is ready", s.admin.Started())
	return s
}

// listens is for [sidecar.hear].
func (*bundle) listens(f func(what string)) func(context.Context, string) {
	return func(_ context.Context, what string) { f(what) }
}

// internalClient gives HostService as a director sees it: at the address that the lease tells.
func (s *service) internalClient() guildhallv1.HostServiceClient {
	s.t.Helper()
	lease, err := s.bundle.registry.Host(s.ctx, "gs-1")
	if err != nil {
		s.t.Fatal(err)
	}
	return guildhallv1.NewHostServiceClient(dial(s.t, lease.InternalAddress))
}

// leaseIs waits until the registry has the host in a state.
func (s *service) leaseIs(state registry.HostState) registry.Lease {
	s.t.Helper()
	var lease registry.Lease
	s.eventually("the host is "+string(state), func() bool {
		var err error
		lease, err = s.bundle.registry.Host(s.ctx, "gs-1")
		return err == nil && lease.State == state
	})
	return lease
}

// Ready only after the lease: a director that hears of the host from Agones finds it in the registry.
func TestReadyOnlyWithALease(t *testing.T) {
	b := setup(t)
	holder, err := b.registry.Grant(b.ctx, registry.Lease{Host: "gs-1", State: registry.HostReady})
	if err != nil {
		t.Fatal(err)
	}
	car := startSidecar(t, gameServer("Scheduled"))
	server := b.newServer(b.config(car.address))
	b.run(server)
	b.eventually("the service answers and is not ready", func() bool { return b.get(server, "/readyz") == http.StatusServiceUnavailable })
	select {
	case <-server.admin.Started():
		t.Error("the service is ready without a lease")
	default:
	}
	car.await(b, "there is a sign of life while it waits", func() bool { return car.beats > 0 })
	car.mu.Lock()
	if len(car.calls) != 0 {
		t.Errorf("without a lease, the sidecar was told %v", car.calls)
	}
	car.mu.Unlock()
	if err := holder.Return(b.ctx); err != nil {
		t.Fatal(err)
	}
	b.closed("the service is ready", server.admin.Started())
	car.await(b, "Ready was called", func() bool { return slices.Equal(car.calls, []string{"Ready"}) })
	lease, err := b.registry.Host(b.ctx, "gs-1")
	if err != nil || lease.Address != "192.0.2.7:7654" {
		t.Errorf("the lease is %+v, %v; want the game server's address and its port called room", lease, err)
	}
	if got := b.get(server, "/readyz"); got != http.StatusOK {
		t.Errorf("/readyz answers %d", got)
	}
}

// A host is not told of the others: with ten thousand hosts that would be a hundred million messages a second.
func TestAHostDoesNotWatchTheOthers(t *testing.T) {
	s := setup(t).setupService()
	for bucket, want := range map[string]int{"KV_guildhall_bans": 1, "KV_guildhall_leases": 0} {
		stream, err := s.js.Stream(s.ctx, bucket)
		if err != nil {
			t.Fatal(err)
		}
		if got := stream.CachedInfo().State.Consumers; got != want {
			t.Errorf("one host has %d watches of %s, want %d", got, bucket, want)
		}
	}
}

// get asks the admin port.
func (b *bundle) get(server *Server, path string) int {
	b.t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get("http://" + server.admin.Addr() + path)
	if err != nil {
		b.t.Fatal(err)
	}
	defer response.Body.Close()
	return response.StatusCode
}

// Allocated by watch, also when the watch breaks and comes back; signs of life go on throughout.
func TestStreamsToTheSidecarComeBack(t *testing.T) {
	s := setup(t).setupService()
	car := s.sidecar
	s.leaseIs(registry.HostReady)
	for round := 1; round <= 2; round++ {
		car.await(s.bundle, "the watch is there", func() bool { return car.watches >= round })
		beats := 0
		car.await(s.bundle, "there is a sign of life", func() bool { beats = car.beats; return beats > 0 })
		car.breakStreams()
		car.await(s.bundle, "there is a sign of life on a new stream", func() bool { return car.beats > beats && car.watches > round })
	}
	s.leaseIs(registry.HostReady)
	car.state("Allocated")
	s.leaseIs(registry.HostAllocated)
}

// A game server that was allocated before the host began is allocated, and stays with whoever has it.
func TestAllocatedFromTheStart(t *testing.T) {
	b := setup(t)
	car := startSidecar(t, gameServer("Allocated"))
	s := &service{bundle: b, sidecar: car, Server: b.newServer(b.config(car.address))}
	b.run(s.Server)
	s.leaseIs(registry.HostAllocated)
	b.closed("the service is ready", s.admin.Started())
	car.mu.Lock()
	defer car.mu.Unlock()
	if len(car.calls) != 0 {
		t.Errorf("a game server that somebody has was given back: the sidecar was told %v", car.calls)
	}
}

// An idle host marks its lease, asks for its own end until it is heard, and waits to be stopped.
func TestAnIdleHostAsksToBeShutDown(t *testing.T) {
	b := setup(t)
	b.idleGrace = soon
	b.rules.IdleGrace = soon
	s := b.setupService()
	car := s.sidecar
	car.change(func() { car.refuse = codes.Unavailable })
	car.state("Allocated")
	s.leaseIs(registry.HostClosing)
	car.await(b, "Shutdown was asked for again", func() bool { return len(car.calls) >= 3 })
	heard := 0
	car.change(func() { car.refuse, heard = codes.OK, len(car.calls)+1 })
	car.await(b, "Shutdown was heard", func() bool { return len(car.calls) >= heard })
	if lease := s.leaseIs(registry.HostClosing); lease.Rooms != 0 {
		t.Errorf("the closing lease is %+v", lease)
	}
	_, err := s.internalClient().OpenRoom(b.ctx, &guildhallv1.OpenRoomRequest{Group: dragons.String(), Epoch: uint64(b.claim(dragons, "gs-1").Epoch)})
	if openCode := codes.Aborted; err == nil || !strings.Contains(err.Error(), openCode.String()) {
		t.Errorf("a closing host was asked for a room and answered %v", err)
	}
	if got := b.get(s.Server, "/livez"); got != http.StatusOK {
		t.Errorf("a host that waits to be stopped answers %d", got)
	}
	if err := s.stop(); err != nil {
		t.Errorf("stopping: %v", err)
	}
	if _, err := b.registry.Host(b.ctx, "gs-1"); !errors.Is(err, registry.ErrNoLease) {
		t.Errorf("the host is gone and its lease is not: %v", err)
	}
}

// A stop moves the members, gives everything back, and leaves nothing.
func TestStoppingMovesEverybody(t *testing.T) {
	s := setup(t).setupService()
	claim := s.claim(dragons, "gs-1")
	m := s.callOver(dial(t, s.public.Addr().String()), "p1")
	m.hello(s.pass("p1", claim), nil)
	m.must("the welcome", func() bool { return m.welcome != nil })
	m.sayMany(1, 3)
	silent := s.callOver(dial(t, s.public.Addr().String()), "silent") // a stream without a hello must not hold it up
	m2 := make(chan error, 1)
	go func() { m2 <- silent.until(func() bool { return silent.closed != nil }) }()
	silent.cut()
	<-m2
	if err := s.stop(); err != nil {
		t.Errorf("stopping: %v", err)
	}
	m.endsWith(guildhallv1.CloseCode_CLOSE_CODE_MOVED, true)
	s.released(claim)
	if _, err := s.bundle.registry.Host(s.ctx, "gs-1"); !errors.Is(err, registry.ErrNoLease) {
		t.Errorf("the host is gone and its lease is not: %v", err)
	}
}

// An address that all interfaces share is told to directors as the pod's.
func TestTheAddressForDirectors(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ listen, advertise, podIP, want string }{
		{"127.0.0.1:0", "", "10.0.0.7", "127.0.0.1:"},
		{":0", "", "10.0.0.7", "10.0.0.7:"},
		{":0", "", "fd00::7", "[fd00::7]:"},
		{":0", "here:99", "10.0.0.7", "here:99"},
		{":0", "", "", "error"},
	} {
		listener, err := process.Listen("INTERNAL_LISTEN", c.listen)
		if err != nil {
			t.Fatal(err)
		}
		server := &Server{config: Config{InternalAdvertise: c.advertise}, internal: listener}
		got, err := server.internalAddress(identity{podIP: c.podIP})
		listener.Close()
		if c.want == "error" {
			if err == nil || !strings.Contains(err.Error(), "GUILDHALL_INTERNAL_ADVERTISE") {
				t.Errorf("without an address: %q, %v", got, err)
			}
		} else if err != nil || !strings.HasPrefix(got, c.want) {
			t.Errorf("%+v: %q, %v", c, got, err)
		}
	}
}

// A game server that has no address yet is waited for.
func TestAnAddressThatComesLater(t *testing.T) {
	b := setup(t)
	early := gameServer("Scheduled")
	early.Status.Address = ""
	car := startSidecar(t, early)
	server := b.newServer(b.config(car.address))
	b.run(server)
	car.alter(func(server *sdk.GameServer) { server.Status.Address = "192.0.2.7" })
	b.closed("the service is ready", server.admin.Started())
}
