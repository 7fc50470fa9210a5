package e2e

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"open-match.dev/open-match/pkg/pb"

	"github.com/guildhall-dev/guildhall"
	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
	"github.com/guildhall-dev/guildhall/api/guildhall/v1/guildhallv1connect"
	"github.com/guildhall-dev/guildhall/client"
	"github.com/guildhall-dev/guildhall/embedded"
	"github.com/guildhall-dev/guildhall/frontend"
	"github.com/guildhall-dev/guildhall/internal/broker"
	"github.com/guildhall-dev/guildhall/internal/brokerlocal"
	"github.com/guildhall-dev/guildhall/internal/openmatchlocal"
	"github.com/guildhall-dev/guildhall/internal/pass"
	"github.com/guildhall-dev/guildhall/internal/process"
	"github.com/guildhall-dev/guildhall/internal/ticket"
)

// waitingPlayers is how many players wait in BenchmarkEnterFirstAmongWaiting.
var waitingPlayers = flag.Int("waiting.players", 1000, "players who wait in BenchmarkEnterFirstAmongWaiting")

// unserved is a kind of group that no director serves: its players wait for as long as they like.
const unserved guildhall.Kind = "raid"

// A player who waits costs Open Match nothing: of all who wait for a group it sees one ticket, and nobody watches it. Others get
// in past them, and when they go away nothing stays.
func TestWaitingPlayersCostOneTicketForEachGroup(t *testing.T) {
	const groups, each = 30, 10
	world := startWaiting(t)
	leave := world.wait(groups*each, groups)
	world.eventually("each group has one ticket", func() bool { return world.tickets() == groups })
	party := world.group("party")
	if _, err := client.Enter(world.ctx, client.Config{Server: world.server, Token: world.token("p1", party), HTTPClient: players}, party); err != nil {
		t.Errorf("nobody gets in past those who wait: %v", err)
	}
	leave()
	world.eventually("the tickets are withdrawn", func() bool { return world.tickets() == 0 })
}

// BenchmarkEnterFirstAmongWaiting is BenchmarkEnterFirst twice: while nobody waits, and while thousands do. Against a real Open
// Match (the variables of test/conformance/openmatch), and with GUILDHALL_TEST_REDIS, host:port, it reports the connections
// that Redis has.
func BenchmarkEnterFirstAmongWaiting(b *testing.B) {
	world := startWaiting(b)
	b.Run("nobody waits", func(b *testing.B) {
		benchmarkEnter(b, world.server, newParties)
		reportRedis(b)
	})
	leave := world.wait(*waitingPlayers, 576)
	defer leave()
	b.Run(fmt.Sprint(*waitingPlayers, " wait"), func(b *testing.B) {
		benchmarkEnter(b, world.server, newParties)
		reportRedis(b)
	})
}

// comingAtOnce is how many of those who will wait are on their way at a time: it is not their coming that is measured.
const comingAtOnce = 100

// waiting is an installation with one frontend more, which serves the kind that the directors do not.
type waiting struct {
	*bundle
	query pb.QueryServiceClient
	aside string // the URL of the frontend
}

// startWaiting starts an installation on an Open Match of its own, or on the real one.
func startWaiting(t testing.TB) *waiting {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	t.Cleanup(cancel)
	nats, err := brokerlocal.Start(brokerlocal.Config{Folder: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nats.Stop)
	config := embedded.Config{NATS: nats.URL()}
	filing, query := os.Getenv(openmatchFrontend), os.Getenv(openmatchQuery)
	if filing == "" {
		standIn, err := openmatchlocal.New(openmatchlocal.Config{})
		if err != nil {
			t.Fatal(err)
		}
		run(t, standIn)
		filing, query = standIn.FrontendAddr(), standIn.QueryAddr()
		config.OpenmatchFrontend, config.OpenmatchBackend, config.OpenmatchQuery = filing, standIn.BackendAddr(), query
	}
	own := startOwn(t, config)
	conn, err := grpc.NewClient(query, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &waiting{
		bundle: &bundle{t: t, ctx: ctx, server: own.URL()},
		query:  pb.NewQueryServiceClient(conn), aside: startAside(t, nats.URL(), filing),
	}
}

// startAside starts the frontend of those who wait, and gives its URL.
func startAside(t testing.TB, nats, openmatch string) string {
	t.Helper()
	key, err := pass.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "pass.pem")
	if err := pass.SaveKeyPair(key, file, file+".pub"); err != nil {
		t.Fatal(err)
	}
	aside, err := frontend.New(frontend.Config{
		Common: process.Common{AdminListen: "127.0.0.1:0"}, Config: broker.Config{NATS: nats}, Listen: "127.0.0.1:0", GRPCListen: "127.0.0.1:0",
		Kinds: guildhall.Kinds{unserved: {Capacity: 1000, IdleGrace: time.Second, History: 1}}, OpenmatchFrontend: openmatch,
		PassKeyFile: file, Development: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	run(t, aside)
	return "http://" + aside.Addr()
}

// run runs a service until the test ends.
func run(t testing.TB, service process.Service) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- service.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("%T ended: %v", service, err)
		}
	})
}

// wait has players of so many groups wait, and gives what lets all of them go.
func (w *waiting) wait(players, groups int) (leave func()) {
	w.t.Helper()
	ctx, cancel := context.WithCancel(w.ctx)
	calls := make([]*http.Client, players/200+1) // a connection carries some hundred calls
	for i := range calls {
		calls[i] = client.NewHTTPClient()
	}
	arrived := make(chan error, players)
	var all sync.WaitGroup
	for i := range players {
		group := guildhall.Group{Kind: unserved, ID: fmt.Sprint("waiting-", i%groups)}
		all.Go(func() { w.waitFor(ctx, calls[i%len(calls)], guildhall.PlayerID(fmt.Sprint("w", i)), group, arrived) })
		if i < comingAtOnce {
			continue
		}
		if err := <-arrived; err != nil {
			w.t.Fatalf("waiting: %v", err)
		}
	}
	for range min(players, comingAtOnce) {
		if err := <-arrived; err != nil {
			w.t.Fatalf("waiting: %v", err)
		}
	}
	return func() {
		cancel()
		all.Wait()
		for _, c := range calls {
			c.CloseIdleConnections()
		}
	}
}

// waitFor has one player wait until ctx ends; arrived is told once, when they wait or cannot.
func (w *waiting) waitFor(ctx context.Context, calls *http.Client, player guildhall.PlayerID, group guildhall.Group, arrived chan<- error) {
	token, err := pass.DevelopmentToken(pass.Token{Player: player, Groups: []guildhall.Group{group}})
	if err != nil {
		arrived <- err
		return
	}
	request := connect.NewRequest(&guildhallv1.EnterRequest{Group: group.String()})
	request.Header().Set("Authorization", "Bearer "+token)
	stream, err := guildhallv1connect.NewLobbyServiceClient(calls, w.aside, connect.WithGRPC()).Enter(ctx, request)
	if err != nil {
		arrived <- err
		return
	}
	defer func() { _ = stream.Close() }() // ctx has ended it
	if !stream.Receive() {
		arrived <- cmp.Or(stream.Err(), io.ErrUnexpectedEOF)
		return
	}
	arrived <- nil
	if stream.Receive() {
		w.t.Errorf("%s of %s does not wait any more: %v", player, group, stream.Msg())
	}
}

// tickets counts those of the kind that nobody serves.
func (w *waiting) tickets() int {
	w.t.Helper()
	stream, err := w.query.QueryTicketIds(w.ctx, &pb.QueryTicketIdsRequest{Pool: ticket.Profile(unserved, 0).GetPools()[0]})
	if err != nil {
		w.t.Fatal(err)
	}
	n := 0
	for {
		page, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return n
		}
		if err != nil {
			w.t.Fatal(err)
		}
		n += len(page.GetIds())
	}
}

// reportRedis reports how many connections Redis has, but for the one that asks.
func reportRedis(b *testing.B) {
	b.Helper()
	address := os.Getenv("GUILDHALL_TEST_REDIS")
	if address == "" {
		return
	}
	conn, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "INFO clients\r\n"); err != nil {
		b.Fatal(err)
	}
	for lines := bufio.NewScanner(conn); lines.Scan(); {
		if text, found := strings.CutPrefix(lines.Text(), "connected_clients:"); found {
			n, err := strconv.Atoi(text)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(n-1), "redis-connections")
			return
		}
	}
	b.Fatalf("%s does not say how many clients are connected", address)
}
