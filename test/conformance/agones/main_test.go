package agones

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	allocation "agones.dev/agones/pkg/allocation/go"
	"agones.dev/agones/pkg/sdk"
	"agones.dev/agones/pkg/sdk/beta"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/guildhall-dev/guildhall/internal/agoneslocal"
)

// childVariable makes this binary a game server that does nothing by itself: the test speaks for it.
const childVariable = "AGONES_CONFORMANCE_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		stop := make(chan os.Signal, 1)
		signal.Notify(stop, syscall.SIGTERM)
		<-stop
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// patience bounds each test; a real sidecar takes a second or two for what it is told.
const patience = 60 * time.Second

// What the game servers of the stand-in begin with. It is what the sidecar's local mode has, too.
const (
	counterName = "rooms"
	listName    = "players"
)

// startStandIn runs a stand-in for the length of the test; change may be nil.
func startStandIn(t *testing.T, ctx context.Context, ready int, change func(*agoneslocal.Config)) *agoneslocal.Server {
	t.Helper()
	config := agoneslocal.Config{
		Fleet: agoneslocal.Fleet{
			Ready:    ready,
			Max:      ready,
			Ports:    []string{"default"},
			Counters: map[string]agoneslocal.Counter{counterName: {Count: 1, Capacity: 10}},
			Lists:    map[string]agoneslocal.List{listName: {Values: []string{"test0", "test1", "test2"}, Capacity: 100}},
			Health:   agoneslocal.Health{Disabled: true},
			Command: func(agoneslocal.GameServer) *exec.Cmd {
				cmd := exec.Command(os.Args[0])
				cmd.Env = append(os.Environ(), childVariable+"=1")
				return cmd
			},
		},
	}
	if change != nil {
		change(&config)
	}
	server, err := agoneslocal.New(config)
	if err != nil {
		t.Fatal(err)
	}
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() { ended <- server.Run(running) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return server
}

// makeReady has so many game servers be Ready: the test speaks for them.
func makeReady(t *testing.T, ctx context.Context, server *agoneslocal.Server, n int) {
	t.Helper()
	for _, gs := range servers(t, ctx, server, agoneslocal.Scheduled, n) {
		if _, err := connect(t, gs.SDKAddress).sdk.Ready(ctx, empty); err != nil {
			t.Fatal(err)
		}
	}
	servers(t, ctx, server, agoneslocal.Ready, n)
}

// servers waits until so many game servers are in a state, and gives them.
func servers(t *testing.T, ctx context.Context, server *agoneslocal.Server, state agoneslocal.State, n int) []agoneslocal.GameServer {
	t.Helper()
	var found []agoneslocal.GameServer
	err := server.Wait(ctx, func(all []agoneslocal.GameServer) bool {
		found = nil
		for _, gs := range all {
			if gs.State == state {
				found = append(found, gs)
			}
		}
		return len(found) == n
	})
	if err != nil {
		t.Fatalf("waiting for %d %s game servers: %v; there are %+v", n, state, err, server.GameServers())
	}
	return found
}

func bounded(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func dial(t *testing.T, address string, creds credentials.TransportCredentials) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(creds))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// plain dials without TLS: a sidecar, for example.
func plain(t *testing.T, address string) *grpc.ClientConn {
	t.Helper()
	return dial(t, address, insecure.NewCredentials())
}

// secured dials a real allocator as it wants it.
func secured(t *testing.T, address string) *grpc.ClientConn {
	t.Helper()
	dir := os.Getenv("GUILDHALL_TEST_AGONES_TLS_DIR")
	if dir == "" {
		return plain(t, address)
	}
	certificate, err := tls.LoadX509KeyPair(filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key"))
	if err != nil {
		t.Fatal(err)
	}
	ca, err := os.ReadFile(filepath.Join(dir, "ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		t.Fatalf("no certificate in %s", filepath.Join(dir, "ca.crt"))
	}
	return dial(t, address, credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{certificate}, RootCAs: roots}))
}

// gameServer is a sidecar, seen by its game server.
type gameServer struct {
	sdk  sdk.SDKClient
	beta beta.SDKClient
}

func connect(t *testing.T, address string) gameServer {
	t.Helper()
	conn := plain(t, address)
	return gameServer{sdk: sdk.NewSDKClient(conn), beta: beta.NewSDKClient(conn)}
}

// allocator is an allocator service and what one may ask it for.
type allocator struct {
	allocation.AllocationServiceClient
	namespace, fleet string
	standIn          *agoneslocal.Server // nil for a real one
	conn             *grpc.ClientConn
}
