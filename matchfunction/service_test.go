package matchfunction

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"open-match.dev/open-match/pkg/pb"

	"github.com/guildhall-dev/guildhall"
	"github.com/guildhall-dev/guildhall/internal/process"
	"github.com/guildhall-dev/guildhall/internal/ticket"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for an event on a busy machine.
const patience = time.Minute

// query is a query service whose pools are set by the test.
type query struct {
	pb.UnimplementedQueryServiceServer

	// Static once it serves.
	pages map[string][][]*pb.Ticket // by pool
	fails map[string]error          // by pool, behind its pages
	hangs chan struct{}             // if not nil: closed when a query has begun that does not end by itself
}

// QueryTickets sends the pages of a pool.
func (q *query) QueryTickets(request *pb.QueryTicketsRequest, stream pb.QueryService_QueryTicketsServer) error {
	for _, page := range q.pages[request.GetPool().GetName()] {
		if err := stream.Send(&pb.QueryTicketsResponse{Tickets: page}); err != nil {
			return err
		}
	}
	if q.hangs != nil {
		close(q.hangs)
		<-stream.Context().Done()
		return stream.Context().Err()
	}
	return q.fails[request.GetPool().GetName()]
}

// bench is the service with a client, in front of a query service.
type bench struct {
	*MatchFunction
	client pb.MatchFunctionClient
	ctx    context.Context // of the test
}

func setup(t *testing.T, q *query) *bench {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	pb.RegisterQueryServiceServer(server, q)
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(listener) }) // it ends with Stop
	t.Cleanup(func() { server.Stop(); serving.Wait() })
	b := &bench{}
	var cancel context.CancelFunc
	b.ctx, cancel = context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	b.MatchFunction, err = New(Config{
		Common: process.Common{AdminListen: "127.0.0.1:0"}, Listen: "127.0.0.1:0", OpenmatchQuery: listener.Addr().String(), Reflection: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	runCtx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- b.Run(runCtx) }()
	conn, err := grpc.NewClient(b.Addr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close() // calls that are under way end with it
		stop()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	<-b.Started()
	b.client = pb.NewMatchFunctionClient(conn)
	return b
}

// run runs the function as Open Match's backend does.
func (b *bench) run(ctx context.Context, profile *pb.MatchProfile) ([]*pb.Match, error) {
	stream, err := b.client.Run(ctx, &pb.RunRequest{Profile: profile})
	if err != nil {
		return nil, err
	}
	var matches []*pb.Match
	for {
		response, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return matches, nil
		}
		if err != nil {
			return matches, err
		}
		matches = append(matches, response.GetProposal())
	}
}

// live makes a ticket that does not expire while a test runs.
func live(t *testing.T, id, group string) *pb.Ticket {
	t.Helper()
	return filed(t, id, group, time.Since(now)+time.Hour)
}

func TestRunReadsAllPages(t *testing.T) {
	t.Parallel()
	profile := ticket.Profile("guild", 0)
	b := setup(t, &query{pages: map[string][][]*pb.Ticket{profile.GetPools()[0].GetName(): {
		{live(t, "1", "guild:a"), live(t, "2", "guild:b")},
		{},
		{live(t, "3", "guild:a"), foreign("4"), filed(t, "5", "guild:a", 0)},
	}}})
	ids := map[string]bool{}
	for range 3 { // the tickets are still there: a run changes nothing
		matches, err := b.run(b.ctx, profile)
		if err != nil {
			t.Fatal(err)
		}
		if got := summary(t, matches); got != "guild:a(1 3) guild:b(2) expired(5)" {
			t.Errorf("proposals: %s", got)
		}
		for _, match := range matches {
			if ids[match.GetMatchId()] || match.GetMatchProfile() != profile.GetName() {
				t.Errorf("match id %q stands twice, or profile %q is another", match.GetMatchId(), match.GetMatchProfile())
			}
			ids[match.GetMatchId()] = true
		}
	}
	b.checkMetrics(t, "guildhall_matchfunction_tickets_total 15", "guildhall_matchfunction_foreign_tickets_total 3",
		"guildhall_matchfunction_matches_total 9", "guildhall_matchfunction_run_seconds_count 3")
}

func (b *bench) checkMetrics(t *testing.T, want ...string) {
	t.Helper()
	request, err := http.NewRequestWithContext(b.ctx, http.MethodGet, "http://"+b.AdminAddr()+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Close = true
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range want {
		if !strings.Contains(string(body), "\n"+line+"\n") {
			t.Errorf("the metrics do not have %q", line)
		}
	}
}

// The query service pages by count: one page may be beyond gRPC's default of 4 MiB.
func TestRunReadsPageBeyondDefaultSize(t *testing.T) {
	t.Parallel()
	profile := ticket.Profile("guild", 0)
	group := "guild:" + strings.Repeat("x", guildhall.MaxGroupIDBytes)
	page := make([]*pb.Ticket, 20_000)
	for i := range page {
		page[i] = live(t, "t", group)
	}
	b := setup(t, &query{pages: map[string][][]*pb.Ticket{profile.GetName(): {page}}})
	_, err := b.run(b.ctx, profile)
	// What the match function was sent it has read; our own client takes no more than the default.
	if err != nil && !strings.Contains(err.Error(), "grpc: received message larger than max") || status.Code(err) == codes.Internal {
		t.Errorf("Run: %v", err)
	}
	b.checkMetrics(t, "guildhall_matchfunction_tickets_total 20000")
}

func TestRunOfAllPools(t *testing.T) {
	t.Parallel()
	b := setup(t, &query{pages: map[string][][]*pb.Ticket{"one": {{live(t, "1", "guild:a")}}, "two": {{live(t, "2", "guild:a"), live(t, "3", "guild:b")}}}})
	matches, err := b.run(b.ctx, &pb.MatchProfile{Name: "p", Pools: []*pb.Pool{{Name: "one"}, {Name: "none"}, {Name: "two"}}})
	if err != nil || summary(t, matches) != "guild:a(1 2) guild:b(3)" {
		t.Errorf("proposals: %s, %v", summary(t, matches), err)
	}
	if matches, err := b.run(b.ctx, &pb.MatchProfile{Name: "p"}); err != nil || len(matches) != 0 {
		t.Errorf("a profile without pools: %v, %v", matches, err)
	}
}

func TestRunWithoutProfile(t *testing.T) {
	t.Parallel()
	b := setup(t, &query{})
	if _, err := b.run(b.ctx, nil); status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "profile") {
		t.Errorf("Run: %v, want InvalidArgument that names the profile", err)
	}
}

// A query that fails gives no matches at all: half of what waits would split groups.
func TestRunPassesTheQuerysErrorOn(t *testing.T) {
	t.Parallel()
	q := &query{pages: map[string][][]*pb.Ticket{}, fails: map[string]error{}}
	failing := []codes.Code{codes.Unavailable, codes.ResourceExhausted, codes.InvalidArgument, codes.Internal}
	for _, code := range failing {
		q.pages[code.String()] = [][]*pb.Ticket{{live(t, "1", "guild:a")}}
		q.fails[code.String()] = status.Error(code, "the reason")
	}
	b := setup(t, q)
	for _, code := range failing {
		matches, err := b.run(b.ctx, &pb.MatchProfile{Name: "p", Pools: []*pb.Pool{{Name: "fine"}, {Name: code.String()}}})
		if status.Code(err) != code || !strings.Contains(err.Error(), `"`+code.String()+`"`) || !strings.Contains(err.Error(), "the reason") {
			t.Errorf("Run: %v, want %s that names the pool and the reason", err, code)
		}
		if len(matches) != 0 {
			t.Errorf("%s: proposals of half a query: %s", code, summary(t, matches))
		}
	}
}

func TestRunWithoutQueryService(t *testing.T) {
	t.Parallel()
	q := &query{}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	b := setup(t, q)
	conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	nobody := &function{query: pb.NewQueryServiceClient(conn), metrics: b.function.metrics}
	if _, err := nobody.queryPools(b.ctx, []*pb.Pool{{Name: "p"}}); status.Code(err) != codes.Unavailable {
		t.Errorf("query to nobody: %v, want Unavailable", err)
	}
}

func TestRunEndsWithItsCaller(t *testing.T) {
	t.Parallel()
	q := &query{hangs: make(chan struct{})}
	b := setup(t, q)
	ctx, cancel := context.WithCancel(b.ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		_, err := b.run(ctx, ticket.Profile("guild", 0))
		ended <- err
	}()
	<-q.hangs
	cancel()
	if err := <-ended; status.Code(err) != codes.Canceled {
		t.Errorf("Run: %v, want Canceled", err)
	}
}

func TestNewSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	free := process.Common{AdminListen: "127.0.0.1:0"}
	for says, config := range map[string]Config{
		"GUILDHALL_LISTEN":          {Common: free, Listen: "nonsense"},
		"GUILDHALL_ADMIN_LISTEN":    {Common: process.Common{AdminListen: "nonsense"}, Listen: "127.0.0.1:0"},
		"GUILDHALL_OPENMATCH_QUERY": {Common: free, Listen: "127.0.0.1:0", OpenmatchQuery: "\x00"},
	} {
		m, err := New(config)
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("New: %v, want an error that names %s", err, says)
		}
		if m != nil {
			t.Error("New gave a service with its error")
		}
	}
}

func TestCloseOfWhatIsNotRun(t *testing.T) {
	t.Parallel()
	m, err := New(Config{Common: process.Common{AdminListen: "127.0.0.1:0"}, Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	for _, address := range []string{m.Addr(), m.AdminAddr()} {
		listener, err := net.Listen("tcp", address)
		if err != nil {
			t.Errorf("Close left %s taken: %v", address, err)
			continue
		}
		if err := listener.Close(); err != nil {
			t.Error(err)
		}
	}
}
