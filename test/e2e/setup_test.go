package e2e

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/rs/xid"
	"go.uber.org/goleak"

	"github.com/guildhall-dev/guildhall"
	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
	"github.com/guildhall-dev/guildhall/api/guildhall/v1/guildhallv1connect"
	"github.com/guildhall-dev/guildhall/client"
	"github.com/guildhall-dev/guildhall/embedded"
	"github.com/guildhall-dev/guildhall/internal/process"
	"github.com/guildhall-dev/guildhall/roomserver"
)

const (
	// asHost makes this test binary a host, as the embedded fleet starts them.
	asHost = "GUILDHALL_TEST_AS_HOST"
	// serverVariable gives the address of an installation to test in place of the embedded one.
	serverVariable = "GUILDHALL_TEST_SERVER"
	// patience bounds every test: what takes longer has failed. It is not a time limit for the product.
	patience = 3 * time.Minute
)

// server is the address under test; embedded says whether it is of this process.
var (
	server     string
	isEmbedded bool
)

func TestMain(m *testing.M) {
	if os.Getenv(asHost) != "" {
		process.Main("roomserver", roomserver.New)
	}
	os.Exit(runTests(m))
}

func runTests(m *testing.M) int {
	if server = os.Getenv(serverVariable); server != "" {
		fmt.Printf("testing the installation at %s\n", server)
		return m.Run()
	}
	isEmbedded = true
	stack, stop, err := start(embedded.Config{})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	server = stack.URL()
	code := m.Run()
	if err := stop(); err != nil {
		fmt.Fprintf(os.Stderr, "the embedded stack did not stop well: %v\n", err)
		return 1
	}
	if err := checkLeaks(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// checkLeaks is an error if a goroutine of ours has outlived the stack. The HTTP transports that the tests made keep
// theirs until their connections are idle.
func checkLeaks() error {
	http.DefaultClient.CloseIdleConnections()
	players.CloseIdleConnections()
	return goleak.Find()
}

// start starts an embedded stack whose hosts are this test binary, and waits until a player can enter.
func start(config embedded.Config) (*embedded.Stack, func() error, error) {
	config.HostCommand = func() (*exec.Cmd, error) {
		path, err := os.Executable()
		if err != nil {
			return nil, err
		}
		command := exec.Command(path)
		command.Env = []string{asHost + "=1"}
		return command, nil
	}
	stack, err := embedded.New(config)
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- stack.Run(ctx) }()
	stop := func() error {
		cancel()
		return <-ended
	}
	select {
	case <-stack.Ready():
		return stack, stop, nil
	case err := <-ended:
		cancel()
		return nil, nil, fmt.Errorf("the embedded stack ended: %w", err)
	case <-time.After(patience):
		return nil, nil, fmt.Errorf("the embedded stack is not ready: %w", stop())
	}
}

// players calls the server for all players of the suite.
var players = client.NewHTTPClient()

// bundle is what a test needs.
type bundle struct {
	t      testing.TB
	ctx    context.Context
	server string
}

// setup gives a test the server that all tests share.
func setup(t *testing.T) *bundle {
	t.Helper()
	t.Parallel()
	return setupAt(t, server)
}

// The variables that give installations of single tests a real Open Match, which nobody else uses.
const (
	openmatchFrontend = "GUILDHALL_TEST_OPENMATCH_FRONTEND"
	openmatchBackend  = "GUILDHALL_TEST_OPENMATCH_BACKEND"
	openmatchQuery    = "GUILDHALL_TEST_OPENMATCH_QUERY"
)

// realOpenMatch is held by the installation that uses the real one: two would take each other's tickets.
var realOpenMatch sync.Mutex

// startOwn starts an installation for one test alone, which ends with it.
func startOwn(t testing.TB, config embedded.Config) *embedded.Stack {
	t.Helper()
	if os.Getenv(openmatchFrontend) != "" && config.OpenmatchFrontend == "" {
		config.OpenmatchFrontend, config.OpenmatchBackend = os.Getenv(openmatchFrontend), os.Getenv(openmatchBackend)
		config.OpenmatchQuery = os.Getenv(openmatchQuery)
		realOpenMatch.Lock()
		t.Cleanup(realOpenMatch.Unlock)
	}
	own, stop, err := start(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Errorf("stopping: %v", err)
		}
	})
	return own
}

func setupAt(t *testing.T, server string) *bundle {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return &bundle{t: t, ctx: ctx, server: server}
}

// group gives a group that no other test has.
func (b *bundle) group(kind guildhall.Kind) guildhall.Group {
	return guildhall.Group{Kind: kind, ID: "e2e-" + xid.New().String()}
}

// token has the development server sign a player token.
func (b *bundle) token(player string, groups ...guildhall.Group) string {
	b.t.Helper()
	request := &guildhallv1.MintTokenRequest{Player: player}
	for _, group := range groups {
		request.Groups = append(request.Groups, group.String())
	}
	development := guildhallv1connect.NewDevelopmentServiceClient(players, b.server)
	minted, err := development.MintToken(b.ctx, connect.NewRequest(request))
	if err != nil {
		b.t.Fatalf("minting a token for %s: %v", player, err)
	}
	return minted.Msg.GetToken()
}

func (b *bundle) operator() guildhallv1connect.OperatorServiceClient {
	return guildhallv1connect.NewOperatorServiceClient(players, b.server)
}

// room gives what the operator's list says of a group's room; nil if it is not there.
func (b *bundle) room(group guildhall.Group) *guildhallv1.Room {
	b.t.Helper()
	response, err := b.operator().ListRooms(b.ctx, connect.NewRequest(&guildhallv1.ListRoomsRequest{}))
	if err != nil {
		b.t.Fatalf("listing rooms: %v", err)
	}
	for _, room := range response.Msg.GetRooms() {
		if room.GetGroup() == group.String() {
			return room
		}
	}
	return nil
}

// host gives what the operator's list says of a host; nil if it is not there.
func (b *bundle) host(name string) *guildhallv1.Host {
	b.t.Helper()
	response, err := b.operator().ListHosts(b.ctx, connect.NewRequest(&guildhallv1.ListHostsRequest{}))
	if err != nil {
		b.t.Fatalf("listing hosts: %v", err)
	}
	for _, host := range response.Msg.GetHosts() {
		if host.GetName() == name {
			return host
		}
	}
	return nil
}

// hostIn gives a host in a state; nil if there is none.
func (b *bundle) hostIn(state string) *guildhallv1.Host {
	b.t.Helper()
	response, err := b.operator().ListHosts(b.ctx, connect.NewRequest(&guildhallv1.ListHostsRequest{}))
	if err != nil {
		b.t.Fatalf("listing hosts: %v", err)
	}
	for _, host := range response.Msg.GetHosts() {
		if host.GetState() == state {
			return host
		}
	}
	return nil
}

// eventually asks again until the answer is yes. The operator's lists can only be asked, not watched.
func (b *bundle) eventually(what string, yes func() bool) {
	b.t.Helper()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for !yes() {
		select {
		case <-ticker.C:
		case <-b.ctx.Done():
			b.t.Fatalf("it never came about that %s", what)
		}
	}
}
