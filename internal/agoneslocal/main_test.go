package agoneslocal

import (
	"context"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	allocation "agones.dev/agones/pkg/allocation/go"
	"agones.dev/agones/pkg/sdk"
	"agones.dev/agones/pkg/sdk/beta"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/guildhall-dev/guildhall/internal/logtest"
)

func TestMain(m *testing.M) {
	if role := os.Getenv(roleVariable); role != "" {
		os.Exit(play(role))
	}
	goleak.VerifyTestMain(m)
}

// patience is how long a test waits for an event of real processes on a busy machine.
const patience = 60 * time.Second

// bench is a running stand-in and what a test needs of it.
type bench struct {
	*Server
	t         *testing.T
	ctx       context.Context // of the test
	allocator allocation.AllocationServiceClient
	log       *logBuffer
	metrics   *prometheus.Registry
	stop      func() error // ends Run and gives its error
}

// setup runs a stand-in whose game servers are this binary in a role. It is stopped with the test, which
// fails if that leaves a process.
func setup(t *testing.T, role string, change func(*Config)) *bench {
	t.Helper()
	b := &bench{t: t, log: &logBuffer{}, metrics: prometheus.NewRegistry()}
	config := Config{
		Fleet:   Fleet{Ready: 1, Command: inRole(role), StopGrace: patience},
		Logger:  slog.New(slog.NewTextHandler(b.log, nil)),
		Metrics: b.metrics,
	}
	if change != nil {
		change(&config)
	}
	server, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	b.Server = server
	b.ctx = withPatience(t)
	b.run()
	b.allocator = allocation.NewAllocationServiceClient(dial(t, server.AllocatorAddr()))
	return b
}

func withPatience(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func (b *bench) run() {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- b.Run(ctx) }()
	b.stop = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	b.t.Cleanup(func() {
		if err := b.stop(); err != nil {
			b.t.Errorf("Run: %v", err)
		}
		if b.t.Failed() {
			b.t.Logf("log of the stand-in:\n%s", b.log)
		}
	})
}

// wait waits until the fleet is as done wants it, and gives it.
func (b *bench) wait(what string, done func([]GameServer) bool) []GameServer {
	b.t.Helper()
	var seen []GameServer
	err := b.Wait(b.ctx, func(all []GameServer) bool {
		seen = all
		return done(all)
	})
	if err != nil {
		b.t.Fatalf("waiting for %s: %v; last seen: %+v", what, err, seen)
	}
	return seen
}

// ready waits for so many Ready game servers and gives them.
func (b *bench) ready(n int) []GameServer {
	b.t.Helper()
	return in(Ready, b.wait("Ready game servers", func(all []GameServer) bool { return len(in(Ready, all)) == n }))
}

// reaches waits until one game server is in a state.
func (b *bench) reaches(name string, state State) GameServer {
	b.t.Helper()
	all := b.wait(name+" to be "+string(state), func(all []GameServer) bool {
		gs, ok := named(name, all)
		return ok && gs.State == state
	})
	gs, _ := named(name, all)
	return gs
}

// leaves waits until a game server is gone.
func (b *bench) leaves(name string) {
	b.t.Helper()
	b.wait(name+" to be gone", func(all []GameServer) bool {
		_, ok := named(name, all)
		return !ok
	})
}

// sdk gives the clients that a game server uses.
func (b *bench) sdk(gs GameServer) (sdk.SDKClient, beta.SDKClient) {
	b.t.Helper()
	conn := dial(b.t, gs.SDKAddress)
	return sdk.NewSDKClient(conn), beta.NewSDKClient(conn)
}

func in(state State, all []GameServer) []GameServer {
	var found []GameServer
	for _, gs := range all {
		if gs.State == state {
			found = append(found, gs)
		}
	}
	return found
}

func named(name string, all []GameServer) (GameServer, bool) {
	for _, gs := range all {
		if gs.Name == name {
			return gs, true
		}
	}
	return GameServer{}, false
}

func dial(t *testing.T, address string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// alive tells whether a process exists.
func alive(pid int) bool { return syscall.Kill(pid, 0) == nil }

// logBuffer keeps what is logged.
type logBuffer struct{ logtest.Buffer }

func (l *logBuffer) has(words ...string) bool {
	for line := range strings.Lines(l.String()) {
		found := true
		for _, word := range words {
			found = found && strings.Contains(line, word)
		}
		if found {
			return true
		}
	}
	return false
}

// inRole makes the command of a game server that is this binary.
func inRole(role string) func(GameServer) *exec.Cmd {
	return func(gs GameServer) *exec.Cmd {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), roleVariable+"="+role, "GAMESERVER_NAME="+gs.Name)
		return cmd
	}
}
