package frontend

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"
	"open-match.dev/open-match/pkg/pb"

	"github.com/guildhall-dev/guildhall"
	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
	"github.com/guildhall-dev/guildhall/api/guildhall/v1/guildhallv1connect"
	"github.com/guildhall-dev/guildhall/client"
	"github.com/guildhall-dev/guildhall/internal/broker"
	"github.com/guildhall-dev/guildhall/internal/brokerlocal"
	"github.com/guildhall-dev/guildhall/internal/openmatchlocal"
	"github.com/guildhall-dev/guildhall/internal/pass"
	"github.com/guildhall-dev/guildhall/internal/process"
	"github.com/guildhall-dev/guildhall/internal/registry"
	"github.com/guildhall-dev/guildhall/internal/ticket"
)

// patience bounds every wait: what takes longer has failed. It is not a time limit for the product.
const patience = time.Minute

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a frontend that runs, with a real registry, NATS and a small real Open Match; the test is the director.
type world struct {
	t         *testing.T
	ctx       context.Context
	nats      *nats.Conn
	registry  *registry.Registry
	openmatch *openmatchlocal.Server
	query     pb.QueryServiceClient
	tickets   pb.FrontendServiceClient
	passKeys  pass.PublicKeys
	config    Config
	frontend  *Frontend
	stop      func()
	grpcAlone bool // the test's players call by the port of gRPC alone
}

// onBothPorts runs a test over each of the two ports: what a lobby does does not depend on it.
func onBothPorts(t *testing.T, test func(*testing.T, *world), change ...func(*Config)) {
	t.Helper()
	for _, alone := range []bool{false, true} {
		name := "all protocols"
		if alone {
			name = "gRPC alone"
		}
		t.Run(name, func(t *testing.T) {
			w := setup(t, change...)
			w.grpcAlone = alone
			test(t, w)
		})
	}
}

func setup(t *testing.T, change ...func(*Config)) *world {
	t.Helper()
	t.Parallel()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	w := &world{t: t, ctx: ctx}
	server, err := brokerlocal.Start(brokerlocal.Config{Folder: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	natsConfig := broker.Config{NATS: server.URL(), NATSTimeout: 5 * time.Second}
	conn, js, err := broker.Connect(natsConfig, "test", nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	w.nats = conn
	if w.registry, err = registry.Open(ctx, js, registry.Config{Leases: true}); err != nil {
		t.Fatal(err)
	}
	w.startOpenMatch()
	w.config = Config{
		Common: process.Common{AdminListen: "127.0.0.1:0"}, Config: natsConfig, Listen: "127.0.0.1:0", GRPCListen: "127.0.0.1:0",
		OpenmatchFrontend: w.openmatch.FrontendAddr(), PassKeyFile: w.passKey(), Development: true,
	}
	for _, c := range change {
		c(&w.config)
	}
	w.frontend, w.stop = w.startFrontend(w.config)
	return w
}

func (w *world) passKey() string {
	w.t.Helper()
	key, err := pass.NewKey()
	if err != nil {
		w.t.Fatal(err)
	}
	file := filepath.Join(w.t.TempDir(), "pass.pem")
	if err := pass.SaveKeyPair(key, file, file+".pub"); err != nil {
		w.t.Fatal(err)
	}
	if w.passKeys, err = pass.LoadPublicKeys(file + ".pub"); err != nil {
		w.t.Fatal(err)
	}
	return file
}

func (w *world) startOpenMatch() {
	w.t.Helper()
	var err error
	if w.openmatch, err = openmatchlocal.New(openmatchlocal.Config{}); err != nil {
		w.t.Fatal(err)
	}
	w.background(w.openmatch)
	w.query = pb.NewQueryServiceClient(w.dial(w.openmatch.QueryAddr()))
	w.tickets = pb.NewFrontendServiceClient(w.dial(w.openmatch.FrontendAddr()))
}

// background runs a service until the test ends, or until stop is called.
func (w *world) background(service process.Service) (stop func()) {
	w.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- service.Run(ctx) }()
	var stopped atomic.Bool
	stop = func() {
		if stopped.CompareAndSwap(false, true) {
			cancel()
			if err := <-done; err != nil {
				w.t.Errorf("%T ended: %v", service, err)
			}
		}
	}
	w.t.Cleanup(stop)
	return stop
}

// startFrontend starts one more frontend.
func (w *world) startFrontend(config Config) (*Frontend, func()) {
	w.t.Helper()
	f, err := New(config)
	if err != nil {
		w.t.Fatal(err)
	}
	stop := w.background(f)
	select {
	case <-f.Started():
	case <-w.ctx.Done():
		w.t.Fatal("the frontend never starts")
	}
	return f, stop
}

func (w *world) dial(address string) *grpc.ClientConn {
	w.t.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			w.t.Error(err)
		}
	})
	return conn
}

// lobby gives a client of a frontend, with connections of its own.
func (w *world) lobby(f *Frontend) guildhallv1connect.LobbyServiceClient {
	return guildhallv1connect.NewLobbyServiceClient(w.http(), "http://"+w.address(f), connect.WithGRPC())
}

// http gives connections of their own.
func (w *world) http() *http.Client {
	calls := client.NewHTTPClient()
	w.t.Cleanup(calls.CloseIdleConnections)
	return calls
}

// address gives where the test's players call.
func (w *world) address(f *Frontend) string {
	if w.grpcAlone {
		return f.GRPCAddr()
	}
	return f.Addr()
}

// as makes a request of a player with a token for a group.
func as[T any](t *testing.T, message *T, player string, group guildhall.Group) *connect.Request[T] {
	t.Helper()
	signed, err := pass.DevelopmentToken(pass.Token{Player: guildhall.PlayerID(player), Groups: []guildhall.Group{group}})
	if err != nil {
		t.Fatal(err)
	}
	request := connect.NewRequest(message)
	request.Header().Set("Authorization", "Bearer "+signed)
	return request
}

// entering is a player on the way in.
type entering struct {
	w      *world
	stream *connect.ServerStreamForClient[guildhallv1.EnterResponse]
	cancel context.CancelFunc
}

// enter calls Enter; the stream is open when it returns.
func (w *world) enter(f *Frontend, player string, group guildhall.Group) *entering {
	w.t.Helper()
	ctx, cancel := context.WithCancel(w.ctx)
	w.t.Cleanup(cancel)
	stream, err := w.lobby(f).Enter(ctx, as(w.t, &guildhallv1.EnterRequest{Group: group.String()}, player, group))
	if err != nil {
		w.t.Fatalf("%s enters %s: %v", player, group, err)
	}
	return &entering{w: w, stream: stream, cancel: cancel}
}

// waiting reads the word that the player waits.
func (e *entering) waiting() *guildhallv1.Waiting {
	e.w.t.Helper()
	if !e.stream.Receive() || e.stream.Msg().GetWaiting() == nil {
		e.w.t.Fatalf("got %v, %v; want that the player waits", e.stream.Msg(), e.stream.Err())
	}
	return e.stream.Msg().GetWaiting()
}

// assigned reads the assignment and checks the pass.
func (e *entering) assigned() *guildhallv1.Assignment {
	e.w.t.Helper()
	if !e.stream.Receive() {
		e.w.t.Fatalf("got %v; want an assignment", e.stream.Err())
	}
	return e.checked()
}

// assignedAtLast is assigned, after the player was told any number of times that they wait.
func (e *entering) assignedAtLast() *guildhallv1.Assignment {
	e.w.t.Helper()
	for e.stream.Receive() {
		if e.stream.Msg().GetWaiting() == nil {
			return e.checked()
		}
	}
	e.w.t.Fatalf("got %v; want an assignment", e.stream.Err())
	return nil
}

func (e *entering) checked() *guildhallv1.Assignment {
	e.w.t.Helper()
	assignment := e.stream.Msg().GetAssignment()
	if assignment == nil {
		e.w.t.Fatalf("got %v; want an assignment", e.stream.Msg())
	}
	admitted, err := pass.ReadPass(e.w.passKeys, assignment.GetPass())
	if err != nil || admitted.Group.String() != assignment.GetGroup() || string(admitted.Host) != assignment.GetHost() ||
		uint64(admitted.Epoch) != assignment.GetEpoch() {
		e.w.t.Fatalf("assigned %v with the pass %+v, %v", assignment, admitted, err)
	}
	if e.stream.Receive() {
		e.w.t.Errorf("%v came behind the assignment", e.stream.Msg())
	}
	return assignment
}

// filed gives the tickets that wait in Open Match.
func (w *world) filed() []*pb.Ticket {
	w.t.Helper()
	pages, err := w.query.QueryTickets(w.ctx, &pb.QueryTicketsRequest{Pool: &pb.Pool{}})
	if err != nil {
		w.t.Fatal(err)
	}
	var tickets []*pb.Ticket
	for {
		page, err := pages.Recv()
		if errors.Is(err, io.EOF) {
			return tickets
		}
		if err != nil {
			w.t.Fatal(err)
		}
		tickets = append(tickets, page.GetTickets()...)
	}
}

// awaitFiled asks until the tickets in Open Match are as wanted. Open Match can only be asked.
func (w *world) awaitFiled(what string, wanted func([]*pb.Ticket) bool) []*pb.Ticket {
	w.t.Helper()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for {
		tickets := w.filed()
		if wanted(tickets) {
			return tickets
		}
		select {
		case <-ticker.C:
		case <-w.ctx.Done():
			w.t.Fatalf("it never came about that %s; there are %v", what, tickets)
		}
	}
}

func oneTicket(tickets []*pb.Ticket) bool { return len(tickets) == 1 }
func noTicket(tickets []*pb.Ticket) bool  { return len(tickets) == 0 }

// live makes a group's room live as the registry sees it.
func (w *world) live(group guildhall.Group) registry.Claim {
	w.t.Helper()
	grant, err := w.registry.Grant(w.ctx, registry.Lease{Host: "h", State: registry.HostAllocated, Address: "127.0.0.1:1", PID: 1})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = grant.Return(context.Background()) }) // or it has expired
	if _, err := w.frontend.registry.AwaitHost(w.ctx, "h", func(registry.Lease) bool { return true }); err != nil {
		w.t.Fatal(err)
	}
	claim, err := w.registry.Take(w.ctx, group, "h", 0)
	if err != nil {
		w.t.Fatal(err)
	}
	return claim
}

// tell answers a ticket as a director does.
func (w *world) tell(filed *pb.Ticket, epoch uint64) {
	w.t.Helper()
	details, err := ticket.Read(filed)
	if err != nil {
		w.t.Fatal(err)
	}
	answer, err := proto.Marshal(&guildhallv1.Assigned{TicketId: filed.GetId(), Placement: &guildhallv1.Placement{
		Group: details.Group.String(), Host: "h", Address: "127.0.0.1:1", Epoch: epoch,
	}})
	if err != nil {
		w.t.Fatal(err)
	}
	if err := w.nats.Publish(details.Inbox, answer); err != nil {
		w.t.Fatal(err)
	}
}

// counter gives the sum of a counter, or the count of a histogram, over its labels.
func (w *world) counter(name string) (sum float64) {
	w.t.Helper()
	families, err := w.frontend.config.Metrics.Gather()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == name {
			for _, m := range family.GetMetric() {
				sum += m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	return sum
}

var dragons = guildhall.Group{Kind: "guild", ID: "dragons"}
