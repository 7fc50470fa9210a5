package embedded

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/guildhall-dev/guildhall"
	"github.com/guildhall-dev/guildhall/client"
	"github.com/guildhall-dev/guildhall/internal/brokerlocal"
	"github.com/guildhall-dev/guildhall/internal/pass"
	"github.com/guildhall-dev/guildhall/internal/process"
	"github.com/guildhall-dev/guildhall/roomserver"
)

const (
	// asHost makes this test binary a host.
	asHost = "GUILDHALL_TEST_AS_HOST"
	// patience bounds every wait: what takes longer has failed. It is not a time limit for the product.
	patience = 60 * time.Second
)

func TestMain(m *testing.M) {
	if os.Getenv(asHost) != "" {
		process.Main("roomserver", roomserver.New)
	}
	goleak.VerifyTestMain(m)
}

func testHost() (*exec.Cmd, error) {
	path, err := os.Executable()
	if err != nil {
		return nil, err
	}
	command := exec.Command(path)
	command.Env = []string{asHost + "=1"}
	return command, nil
}

// start runs a stack until the test ends.
func start(t *testing.T, config Config) *Stack {
	t.Helper()
	config.HostCommand = testHost
	stack, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- stack.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the stack ended: %v", err)
		}
	})
	select {
	case <-stack.Ready():
	case <-time.After(patience):
		t.Fatal("the stack is never ready")
	}
	return stack
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	transport := &http.Transport{DisableKeepAlives: true}
	response, err := (&http.Client{Transport: transport}).Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

func TestEveryServiceTellsHowItIs(t *testing.T) {
	t.Parallel()
	stack := start(t, Config{Hosts: 1})
	for _, part := range stack.Parts() {
		if part.Admin == "" {
			continue
		}
		for _, path := range []string{"/livez", "/readyz"} {
			if code, body := get(t, "http://"+part.Admin+path); code != http.StatusOK {
				t.Errorf("%s%s: %d %s", part.Name, path, code, body)
			}
		}
		if _, body := get(t, "http://"+part.Admin+"/metrics"); !strings.Contains(body, "guildhall_"+part.Name+"_") {
			t.Errorf("%s shows no metric of its own:\n%s", part.Name, body)
		}
		if code, _ := get(t, "http://"+part.Admin+"/debug/pprof/"); code != http.StatusNotFound {
			t.Errorf("%s serves pprof unasked: %d", part.Name, code)
		}
	}
}

// A stack takes the parts of another in place of its own: what is true of addresses of real parts.
func TestRealPartsInPlaceOfStandIns(t *testing.T) {
	t.Parallel()
	key, err := pass.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	keyFile := filepath.Join(t.TempDir(), "pass.pem")
	if err := pass.SavePrivateKey(key, keyFile); err != nil {
		t.Fatal(err)
	}
	theirs := Config{Hosts: 1}
	theirs.Frontend.PassKeyFile = keyFile
	real := start(t, theirs)
	address := map[string]string{}
	for _, part := range real.Parts() {
		address[part.Name] = part.Address
	}
	ours := Config{
		NATS:              address["nats"],
		OpenmatchFrontend: address["openmatch frontend"], OpenmatchBackend: address["openmatch backend"],
		OpenmatchQuery: address["openmatch query"], AgonesAllocator: address["agones allocator"],
		MatchfunctionAdvertise: freeAddress(t),
	}
	ours.Frontend.PassKeyFile = keyFile
	stack := start(t, ours)
	if parts := stack.Parts(); len(parts) != 4 {
		t.Errorf("beside the real parts there run %v", parts)
	}
	group := guildhall.Group{Kind: "guild", ID: "dragons"}
	token, err := pass.DevelopmentToken(pass.Token{Player: "p1", Groups: []guildhall.Group{group}})
	if err != nil {
		t.Fatal(err)
	}
	http := client.NewHTTPClient()
	t.Cleanup(http.CloseIdleConnections)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	room, err := client.Join(ctx, client.Config{Server: stack.URL(), Token: token, HTTPClient: http}, group)
	if err != nil {
		t.Fatal(err)
	}
	for event := range room.Events() {
		if _, joined := event.(client.Joined); joined {
			break
		}
	}
	if err := room.Leave(ctx); err != nil {
		t.Errorf("the way through real parts: %v", err)
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	ports, err := brokerlocal.FreePorts(1)
	if err != nil {
		t.Fatal(err)
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(ports[0]))
}

// A failed start undoes itself: goleak sees to goroutines, this to folders.
func TestFailedStartLeavesNothing(t *testing.T) {
	used, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer used.Close()
	t.Setenv("TMPDIR", t.TempDir())
	for says, config := range map[string]Config{
		"address already in use":  {Listen: used.Addr().String()},
		"all three addresses":     {OpenmatchQuery: "127.0.0.1:1"},
		"GUILDHALL_NATS":          {NATS: "nats://127.0.0.1:1"},
		"want host:port":          {MatchfunctionAdvertise: "nowhere"},
		"GUILDHALL_PASS_KEY_FILE": withPassKey("/dev/null"),
	} {
		config.HostCommand = testHost
		if _, err := New(config); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("New gave %v, want an error that says %q", err, says)
		}
	}
	left, err := os.ReadDir(os.Getenv("TMPDIR"))
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func withPassKey(file string) Config {
	var c Config
	c.Frontend.PassKeyFile = file
	return c
}
