package roomserver

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"agones.dev/agones/pkg/sdk"
	"google.golang.org/grpc"

	"github.com/guildhall-dev/guildhall/internal/brokerlocal"
	"github.com/guildhall-dev/guildhall/internal/pass"
	"github.com/guildhall-dev/guildhall/internal/process"
)

// free says whether somebody can listen on an address: nothing was left open there.
func free(t testing.TB, address string) bool {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return false
	}
	listener.Close()
	return true
}

// freeAddress gives one that nobody listens on, as far as that can be known.
func freeAddress(t *testing.T) string {
	t.Helper()
	ports, err := brokerlocal.FreePorts(1)
	if err != nil {
		t.Fatal(err)
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(ports[0]))
}

func TestCheckNamesEveryVariable(t *testing.T) {
	t.Parallel()
	good := func() Config {
		c := Config{PassKeysFile: "keys.pem"}
		process.FillZero(&c)
		return c
	}
	if c := good(); c.Check() != nil {
		t.Errorf("a good configuration: %v", c.Check())
	}
	for variable, change := range map[string]func(*Config){
		"GUILDHALL_PASS_KEYS_FILE":          func(c *Config) { c.PassKeysFile = "" },
		"GUILDHALL_ROOMS_PER_HOST=0":        func(c *Config) { c.RoomsPerHost = 0 },
		"GUILDHALL_ROOMS_PER_HOST=-1":       func(c *Config) { c.RoomsPerHost = -1 },
		"GUILDHALL_BODY_BYTES=0":            func(c *Config) { c.BodyBytes = 0 },
		"GUILDHALL_BODY_BYTES=65537: want ": func(c *Config) { c.BodyBytes = maxBodyBytes + 1 },
	} {
		c := good()
		change(&c)
		if err := c.Check(); err == nil || !strings.Contains(err.Error(), variable) {
			t.Errorf("want an error that names %s, got %v", variable, err)
		}
	}
	all := Config{RoomsPerHost: -1, BodyBytes: -1}
	for _, variable := range []string{"PASS_KEYS_FILE", "ROOMS_PER_HOST", "BODY_BYTES"} {
		if err := all.Check(); !strings.Contains(err.Error(), variable) {
			t.Errorf("all is wrong, and the error does not name %s: %v", variable, err)
		}
	}
}

// New says by name what is wrong, and leaves nothing open.
func TestNewNamesWhatIsWrong(t *testing.T) {
	b := setup(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	key := filepath.Join(t.TempDir(), "private.pem")
	if err := pass.SaveKeyPair(b.key, key, key+".pub"); err != nil {
		t.Fatal(err)
	}
	for variable, change := range map[string]func(*Config){
		"GUILDHALL_PASS_KEYS_FILE is not set":                   func(c *Config) { c.PassKeysFile = "" },
		"GUILDHALL_PASS_KEYS_FILE: reading":                     func(c *Config) { c.PassKeysFile = "/does/not/exist" },
		"GUILDHALL_PASS_KEYS_FILE: " + key:                      func(c *Config) { c.PassKeysFile = key }, // the private one
		"GUILDHALL_LISTEN":                                      func(c *Config) { c.Listen = taken.Addr().String() },
		"GUILDHALL_INTERNAL_LISTEN":                             func(c *Config) { c.InternalListen = taken.Addr().String() },
		"GUILDHALL_ADMIN_LISTEN":                                func(c *Config) { c.AdminListen = taken.Addr().String() },
		"GUILDHALL_LISTEN: cannot listen on \"not an address\"": func(c *Config) { c.Listen = "not an address" },
		"GUILDHALL_NATS":                                        func(c *Config) { c.NATS = "nats://" + freeAddress(t) },
		"too short":                                             func(c *Config) { c.LeaseTTL = time.Millisecond },
		"GUILDHALL_ROOMS_PER_HOST=-1":                           func(c *Config) { c.RoomsPerHost = -1 },
	} {
		config := b.config("127.0.0.1:1")
		config.Listen, config.InternalListen, config.AdminListen = freeAddress(t), freeAddress(t), freeAddress(t)
		change(&config)
		server, err := New(config)
		if err == nil {
			t.Errorf("want an error with %q, got none", variable)
			_ = b.run(server)
			continue
		}
		if !strings.Contains(err.Error(), strings.Split(variable, ":")[0]) {
			t.Errorf("want an error with %q, got %v", variable, err)
		}
		for _, address := range []string{config.Listen, config.InternalListen, config.AdminListen} {
			if _, _, err := net.SplitHostPort(address); err == nil && address != taken.Addr().String() && !free(t, address) {
				t.Errorf("after %q, somebody listens on %s", variable, address)
			}
		}
	}
}

// endsWithout runs a service that cannot come up, and checks that it has left nothing open.
func (b *bundle) endsWithout(config Config) error {
	b.t.Helper()
	server := b.newServer(config)
	err := server.Run(b.ctx)
	for _, address := range []string{server.public.Addr().String(), server.internal.Addr().String(), server.admin.Addr()} {
		if !free(b.t, address) {
			b.t.Errorf("a service that did not come up listens on %s", address)
		}
	}
	return err
}

// endsSaying runs a service that cannot come up, and that says a word which it has of its sidecar. A busy machine may give the
// sidecar no time to say it: then it is given more.
func (b *bundle) endsSaying(config Config, word string) error {
	b.t.Helper()
	for config.AgonesWait = soon; ; config.AgonesWait *= 4 {
		err := b.endsWithout(config)
		if err == nil || strings.Contains(err.Error(), word) || config.AgonesWait > patience/8 {
			return err
		}
	}
}

// Without a sidecar the host says so, in a time that can be told.
func TestWithoutASidecar(t *testing.T) {
	b := setup(t)
	config := b.config(freeAddress(t))
	config.AgonesWait = 50 * time.Millisecond
	err := b.endsWithout(config)
	if err == nil || !strings.Contains(err.Error(), "sidecar") || !strings.Contains(err.Error(), config.AgonesSDK) || !strings.Contains(err.Error(), "50ms") {
		t.Errorf("without a sidecar: %v; want who did not answer, where, and how long it was waited for", err)
	}
}

func TestAGameServerThatGetsNoAddress(t *testing.T) {
	b := setup(t)
	server := gameServer("Scheduled")
	server.Status.Address = ""
	config := b.config(startSidecar(t, server).address)
	if err := b.endsSaying(config, "gs-1"); err == nil || !strings.Contains(err.Error(), "gs-1") {
		t.Errorf("without an address: %v; want the game server's name", err)
	}
}

func TestAGameServerWithoutOurPort(t *testing.T) {
	b := setup(t)
	config := b.config(startSidecar(t, gameServer("Ready")).address)
	config.AgonesPort = "game"
	if err := b.endsWithout(config); err == nil || !strings.Contains(err.Error(), `GUILDHALL_AGONES_PORT="game"`) {
		t.Errorf("without its port: %v; want the variable", err)
	}
}

func TestAHostThatDirectorsCouldNotReach(t *testing.T) {
	b := setup(t)
	server := gameServer("Ready")
	server.Status.Addresses = nil
	config := b.config(startSidecar(t, server).address)
	config.InternalListen = ":0"
	if err := b.endsWithout(config); err == nil || !strings.Contains(err.Error(), "GUILDHALL_INTERNAL_ADVERTISE") {
		t.Errorf("without an address for directors: %v; want the variable", err)
	}
}

// A stop that comes before the host knows who it is ends it.
func TestStoppedBeforeItWasUp(t *testing.T) {
	b := setup(t)
	server := b.newServer(b.config(freeAddress(t)))
	ctx, cancel := context.WithCancel(b.ctx)
	cancel()
	_ = server.Run(ctx) // whatever it says, it ends
	if !free(t, server.public.Addr().String()) {
		t.Error("a service that was stopped listens")
	}
}

// A sidecar that does not take Ready ends the host: Agones starts another.
func TestReadyRefused(t *testing.T) {
	b := setup(t)
	car := &unready{}
	config := b.config("")
	config.AgonesSDK = car.start(t)
	if err := b.endsWithout(config); err == nil || !strings.Contains(err.Error(), "Ready") {
		t.Errorf("Ready was refused: %v", err)
	}
	if _, err := b.registry.Host(b.ctx, "gs-1"); err == nil {
		t.Error("the host did not come up and left its lease")
	}
}

// unready is a sidecar that knows the game server and refuses everything else.
type unready struct{ sdk.UnimplementedSDKServer }

func (*unready) GetGameServer(context.Context, *sdk.Empty) (*sdk.GameServer, error) {
	return gameServer("Scheduled"), nil
}

func (u *unready) start(t *testing.T) string {
	t.Helper()
	server := grpc.NewServer()
	sdk.RegisterSDKServer(server, u)
	address, stop := serve(t, server)
	t.Cleanup(stop)
	return address
}

// The kinds of a configuration are all that a host opens rooms for.
func TestAPassOfAnUnknownKind(t *testing.T) {
	b := setup(t)
	h := b.host("h1")
	claim := b.claim(dragons, "h1")
	claim.Group.Kind = "clan"
	if m := h.show(b.pass("p1", claim), nil); m.welcome != nil {
		t.Error("a group of an unknown kind got a room")
	}
	if _, err := h.host.open(b.ctx, claim.Group, claim.Epoch); err == nil || errors.Is(err, errHostFull) {
		t.Errorf("opening a room of an unknown kind: %v", err)
	}
}
