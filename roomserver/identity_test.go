package roomserver

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"agones.dev/agones/pkg/sdk"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"

	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
	"github.com/guildhall-dev/guildhall/internal/process"
)

// Where players dial is what Agones says: the port of the node, and an address of either family or a name.
func TestTheAddressForPlayers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		address string
		port    int32
		want    string
	}{
		{"192.0.2.7", 7654, "192.0.2.7:7654"},
		{"2001:db8::7", 7654, "[2001:db8::7]:7654"},
		{"node-7.example.com", 7654, "node-7.example.com:7654"},
		{"192.0.2.7", 0, "error"}, // portPolicy None: the port is the pod's
	} {
		server := gameServer("Ready")
		server.Status.Address, server.Status.Ports[1].Port = c.address, c.port
		got, err := (&lifecycle{port: "room"}).read(server)
		if c.want == "error" {
			if err == nil || !strings.Contains(err.Error(), "portPolicy") {
				t.Errorf("%+v: %+v, %v", c, got, err)
			}
		} else if err != nil || got.address != c.want || got.name != "gs-1" || got.podIP != "10.0.0.7" {
			t.Errorf("%+v: %+v, %v", c, got, err)
		}
	}
}

// Players reach a host by an address of IPv6 and by a name, over both transports.
func TestDialingTheAddressForPlayers(t *testing.T) {
	for _, c := range []struct{ listen, address string }{{"[::1]:0", "::1"}, {"127.0.0.1:0", "localhost"}} {
		t.Run(c.address, func(t *testing.T) {
			b := setup(t)
			if probe, err := net.Listen("tcp", c.listen); err != nil {
				t.Skipf("this machine has no %s: %v", c.listen, err)
			} else {
				probe.Close()
			}
			car := newSidecar(gameServer("Ready"))
			t.Cleanup(car.start(t))
			config := b.config(car.address)
			config.Listen, config.InternalListen = c.listen, c.listen
			server := b.newServer(config)
			car.alter(func(gs *sdk.GameServer) {
				gs.Status.Address, gs.Status.Ports[1].Port = c.address, int32(server.public.Addr().(*net.TCPAddr).Port)
			})
			s := &service{bundle: b, Server: server, sidecar: car}
			b.run(server)
			b.closed("the service is ready", server.admin.Started())
			lease, err := b.registry.Host(b.ctx, "gs-1")
			if err != nil {
				t.Fatal(err)
			}
			if host, _, err := net.SplitHostPort(lease.Address); err != nil || host != c.address {
				t.Errorf("the lease tells %q, want %s", lease.Address, c.address)
			}
			s.opens(dragons) // over the address that it tells directors
			claim, err := b.registry.Claim(b.ctx, dragons)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range []*member{s.callOver(dial(t, lease.Address), "p1"), b.member("p2", b.dialWebSocket(lease.Address, false), false)} {
				m.hello(b.pass(m.player, claim), nil)
				m.must("the welcome", func() bool { return m.welcome != nil })
			}
		})
	}
}

// A sidecar that begins behind the host, and answers with errors until it has heard of the game server, is waited for.
func TestALateSidecar(t *testing.T) {
	b := setup(t)
	car := newSidecar(gameServer("Scheduled"))
	car.refuse = codes.Unknown
	address := freeAddress(t)
	config := b.config(address)
	server := b.newServer(config)
	b.run(server)
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	g := car.grpc()
	served := make(chan error, 1)
	go func() { served <- g.Serve(listener) }()
	t.Cleanup(func() {
		g.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	car.await(b, "the sidecar was asked and did not know", func() bool { return car.refused > 1 })
	car.change(func() { car.refuse = codes.OK })
	b.closed("the service is ready", server.admin.Started())
}

// One that never knows is told of with its own words.
func TestASidecarThatDoesNotKnow(t *testing.T) {
	b := setup(t)
	car := startSidecar(t, gameServer("Scheduled"))
	car.change(func() { car.refuse = codes.Unknown })
	if err := b.endsSaying(b.config(car.address), "not now"); err == nil || !strings.Contains(err.Error(), "not now") || !strings.Contains(err.Error(), "GUILDHALL_AGONES_WAIT") {
		t.Errorf("a sidecar that does not know the game server: %v", err)
	}
}

// A stop while the sidecar is waited for is no failure.
func TestStoppedWhileTheSidecarIsWaitedFor(t *testing.T) {
	b := setup(t)
	car := startSidecar(t, gameServer("Scheduled"))
	car.change(func() { car.refuse = codes.Unknown })
	server := b.newServer(b.config(car.address))
	ctx, cancel := context.WithCancel(b.ctx)
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()
	car.await(b, "the sidecar was asked", func() bool { return car.refused > 0 })
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Run: %v", err)
	}
}

// The sidecar's port is where Agones says, unless it is configured.
func TestWhereTheSidecarIs(t *testing.T) {
	for _, c := range []struct{ configured, env, want string }{
		{"", "", "127.0.0.1:9357"}, {"", "1234", "127.0.0.1:1234"}, {"here:1", "1234", "here:1"},
	} {
		t.Setenv("AGONES_SDK_GRPC_PORT", c.env)
		l, err := newLifecycle(Config{AgonesSDK: c.configured, AgonesOverflow: noMark})
		if err != nil {
			t.Fatal(err)
		}
		if got := l.conn.Target(); got != c.want {
			t.Errorf("%+v: %s", c, got)
		}
		if err := l.close(); err != nil {
			t.Error(err)
		}
	}
}

// Ready comes when both doors answer, and is said again until it is heard.
func TestReadyWhenTheDoorsAnswer(t *testing.T) {
	b := setup(t)
	car := newSidecar(gameServer("Scheduled"))
	var server *Server
	claim := b.claim(dragons, "gs-1")
	car.hear = b.listens(func(what string) {
		if what != "Ready" {
			return
		}
		car.change(func() { // the first is refused
			if len(car.calls) == 0 {
				car.refuse = codes.Unavailable
			} else {
				car.refuse = codes.OK
			}
		})
		conn, err := grpc.NewClient(server.internal.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		request := &guildhallv1.OpenRoomRequest{Group: dragons.String(), Epoch: uint64(claim.Epoch)}
		if _, err := guildhallv1.NewHostServiceClient(conn).OpenRoom(b.ctx, request); err != nil {
			t.Errorf("the host said Ready, and its door for directors: %v", err)
		}
		players, err := grpc.NewClient(server.public.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Error(err)
			return
		}
		defer players.Close()
		stream, err := guildhallv1.NewRoomServiceClient(players).Join(b.ctx)
		if err == nil {
			err = stream.Send(&guildhallv1.JoinRequest{Frame: &guildhallv1.JoinRequest_Hello{Hello: &guildhallv1.Hello{Pass: b.pass("p1", claim)}}})
		}
		var frame *guildhallv1.JoinResponse
		if err == nil {
			frame, err = stream.Recv()
		}
		if err != nil || frame.GetWelcome() == nil {
			t.Errorf("the host said Ready, and its door for players: %v, %v", frame, err)
		}
	})
	t.Cleanup(car.start(t))
	server = b.newServer(b.config(car.address))
	b.run(server)
	b.closed("the service is ready", server.admin.Started())
	car.mu.Lock()
	defer car.mu.Unlock()
	if len(car.calls) != 2 {
		t.Errorf("the sidecar was told %v, want Ready until it was heard", car.calls)
	}
}

// What the watch did not tell, a look finds.
func TestALookFindsWhatTheWatchMissed(t *testing.T) {
	b := setup(t)
	car := startSidecar(t, gameServer("Ready"))
	car.change(func() { car.mute = true })
	server := b.newServer(b.config(car.address))
	server.lifecycle.look = soon
	s := &service{bundle: b, Server: server, sidecar: car}
	b.run(server)
	car.await(b, "the watch is there", func() bool { return car.watches > 0 })
	car.state(stateAllocated)
	s.leaseIs("allocated")
}

// A sidecar that stays away takes the host along, in a time that is configured; its members are moved.
func TestASidecarThatStaysAway(t *testing.T) {
	b := setup(t)
	car := newSidecar(gameServer("Ready"))
	stop := car.start(t)
	server := b.newServer(b.config(car.address))
	server.lifecycle.gone = time.Second
	ended := make(chan error, 1)
	go func() { ended <- server.Run(b.ctx) }()
	b.closed("the service is ready", server.admin.Started())
	claim := b.claim(dragons, "gs-1")
	m := b.callOver(dial(t, server.public.Addr().String()), "p1")
	m.hello(b.pass("p1", claim), nil)
	m.must("the welcome", func() bool { return m.welcome != nil })
	stop()
	m.endsWith(guildhallv1.CloseCode_CLOSE_CODE_MOVED, true)
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "the Agones sidecar has been gone for 1s") {
		t.Errorf("Run: %v", err)
	}
	b.released(claim)
}

// The service says what its configuration has wrong, by name.
func TestAWrongMarkIsRefused(t *testing.T) {
	t.Parallel()
	config := Config{PassKeysFile: "keys.pem", AgonesOverflow: "too many"}
	process.FillZero(&config)
	if err := config.Check(); err == nil || !strings.Contains(err.Error(), `GUILDHALL_AGONES_OVERFLOW="too many"`) {
		t.Errorf("Check: %v", err)
	}
	if _, err := newLifecycle(Config{AgonesOverflow: "too many"}); err == nil {
		t.Error("a lifecycle was made of it")
	}
}
