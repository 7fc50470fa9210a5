package openmatchlocal

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"
	"open-match.dev/open-match/pkg/pb"
)

func TestZeroConfigWorks(t *testing.T) {
	t.Parallel()
	got, err := Config{}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	if got.FrontendListen != "127.0.0.1:0" || got.BackendListen != "127.0.0.1:0" || got.QueryListen != "127.0.0.1:0" {
		t.Errorf("listens on %q, %q, %q, want free ports on loopback", got.FrontendListen, got.BackendListen, got.QueryListen)
	}
	for _, test := range []struct {
		name      string
		got, want time.Duration
	}{
		{"PendingReleaseTimeout", got.PendingReleaseTimeout, time.Minute},
		{"AssignedDeleteTimeout", got.AssignedDeleteTimeout, 10 * time.Minute},
		{"OrphanTimeout", got.OrphanTimeout, 0},
		{"ProposalCollectionInterval", got.ProposalCollectionInterval, 20 * time.Second},
		{"FetchWait", got.FetchWait, time.Second},
	} {
		if test.got != test.want {
			t.Errorf("%s is %v, want %v", test.name, test.got, test.want)
		}
	}
}

func TestPageSizeIsHeldInBounds(t *testing.T) {
	t.Parallel()
	for given, want := range map[int]int{0: 10_000, -5: 10, 1: 10, 10: 10, 500: 500, 10_000: 10_000, 10_001: 10_000} {
		got, err := Config{QueryPageSize: given}.withDefaults()
		if err != nil || got.QueryPageSize != want {
			t.Errorf("page size %d became %d, error %v, want %d", given, got.QueryPageSize, err, want)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		cfg  Config
		want string
	}{
		{Config{PendingReleaseTimeout: -1}, "PendingReleaseTimeout"},
		{Config{AssignedDeleteTimeout: -1}, "AssignedDeleteTimeout"},
		{Config{OrphanTimeout: -1}, "OrphanTimeout"},
		{Config{ProposalCollectionInterval: -1}, "ProposalCollectionInterval"},
		{Config{FetchWait: -1}, "FetchWait"},
		{Config{QueryListen: "nowhere"}, "nowhere"},
	} {
		if _, err := New(test.cfg); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("New: %v, want an error about %s", err, test.want)
		}
	}
}

// What was opened before the failure is closed again.
func TestNewUndoesItself(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	registry := prometheus.NewRegistry()
	if _, err := New(Config{QueryListen: taken.Addr().String(), Metrics: registry}); err == nil {
		t.Fatal("New took an address that is in use")
	}
	// The goroutines are counted by TestMain, the metrics by a second try.
	s, err := New(Config{Metrics: registry})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestCloseWithoutRun(t *testing.T) {
	t.Parallel()
	s, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	addresses := []string{s.FrontendAddr(), s.BackendAddr(), s.QueryAddr()}
	for range 2 {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	for _, address := range addresses {
		again, err := net.Listen("tcp", address)
		if err != nil {
			t.Errorf("the address is still in use: %v", err)
			continue
		}
		_ = again.Close()
	}
	if err := s.Run(context.Background()); err == nil {
		t.Error("a closed server ran")
	}
}

func TestRunOnce(t *testing.T) {
	t.Parallel()
	w := startWire(t, Config{})
	// A call that is answered shows that the first Run has begun.
	if _, err := w.frontend.CreateTicket(testContext(t), &pb.CreateTicketRequest{Ticket: &pb.Ticket{}}); err != nil {
		t.Fatal(err)
	}
	if err := w.Run(testContext(t)); err == nil {
		t.Error("a server ran twice")
	}
}

func TestRunOfAnEndedContext(t *testing.T) {
	t.Parallel()
	s, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.Run(ctx); err != nil {
		t.Errorf("Run: %v", err)
	}
}

func TestStopEndsWhatWaits(t *testing.T) {
	t.Parallel()
	w := startWire(t, Config{FetchWait: long, stopGrace: long})
	ctx := testContext(t)
	ticket := file(w.store, "watched")
	w.store.assign([]ticketID{idOf(ticket)}, &pb.Assignment{Connection: "x:1"})
	watch, err := w.frontend.WatchAssignments(ctx, &pb.WatchAssignmentsRequest{TicketId: ticket.GetId()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := watch.Recv(); err != nil {
		t.Fatal(err)
	}
	idle := startFunction(t, func(ranFunction) error { return nil })
	stuck := startFunction(t, func(r ranFunction) error { <-r.ctx.Done(); return nil })
	waiting := w.goFetch(ctx, idle.config, profileOf("a"))
	running := w.goFetch(ctx, stuck.config, profileOf("a"))
	<-idle.runs
	<-stuck.runs

	stopped := make(chan error, 1)
	go func() { stopped <- w.stop() }()
	select {
	case err := <-stopped:
		if err != nil {
			t.Errorf("Run: %v", err)
		}
	case <-ctx.Done():
		t.Fatal("something has to be forced to end")
	}
	if _, err := watch.Recv(); status.Code(err) != codes.Unavailable {
		t.Errorf("the watch ended with %v, want Unavailable", err)
	}
	for _, result := range []<-chan fetched{waiting, running} {
		if got := <-result; status.Code(got.err) != codes.Unavailable {
			t.Errorf("a fetch ended with %v, want Unavailable", got.err)
		}
	}
	if n := len(w.store.waiters); n > 0 {
		t.Errorf("%d waiters are left", n)
	}
}

// A caller that does not read its stream holds the stop up for the grace, not longer.
func TestStopCutsOffWhoDoesNotRead(t *testing.T) {
	t.Parallel()
	w := startWire(t, Config{QueryPageSize: 10})
	bulk := &anypb.Any{Value: make([]byte, 100_000)}
	for range 100 {
		w.store.createTicket(&pb.Ticket{Extensions: map[string]*anypb.Any{"bulk": bulk}})
	}
	stream, err := w.query.QueryTickets(testContext(t), &pb.QueryTicketsRequest{Pool: &pb.Pool{}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	if err := w.stop(); err != nil {
		t.Errorf("Run: %v", err)
	}
}

func TestEveryServiceIsHealthyAndReflected(t *testing.T) {
	t.Parallel()
	w := startWire(t, Config{})
	for address, service := range map[string]string{
		w.FrontendAddr(): "openmatch.FrontendService",
		w.BackendAddr():  "openmatch.BackendService",
		w.QueryAddr():    "openmatch.QueryService",
	} {
		conn := dial(t, address)
		resp, err := grpc_health_v1.NewHealthClient(conn).Check(testContext(t), &grpc_health_v1.HealthCheckRequest{})
		if err != nil || resp.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING {
			t.Errorf("%s: health %v %v, want SERVING", service, resp, err)
		}
		names, err := reflectedServices(testContext(t), grpc_reflection_v1.NewServerReflectionClient(conn))
		if err != nil || !slices.Contains(names, service) {
			t.Errorf("%s: reflected %v %v", service, names, err)
		}
	}
}

func reflectedServices(ctx context.Context, client grpc_reflection_v1.ServerReflectionClient) ([]string, error) {
	stream, err := client.ServerReflectionInfo(ctx)
	if err != nil {
		return nil, err
	}
	err = stream.Send(&grpc_reflection_v1.ServerReflectionRequest{
		MessageRequest: &grpc_reflection_v1.ServerReflectionRequest_ListServices{},
	})
	if err != nil {
		return nil, err
	}
	resp, err := stream.Recv()
	if err != nil {
		return nil, err
	}
	var names []string
	for _, service := range resp.GetListServicesResponse().GetService() {
		names = append(names, service.GetName())
	}
	if err := stream.CloseSend(); err != nil {
		return nil, err
	}
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		return nil, err
	}
	return names, nil
}

// As in Open Match, a page is as big as its tickets are; a client with gRPC's limit of 4 MiB fails.
func TestPagesExceedFourMebibytes(t *testing.T) {
	t.Parallel()
	w := startWire(t, Config{})
	bulk := &anypb.Any{Value: make([]byte, 1<<20)}
	for range 5 {
		w.store.createTicket(&pb.Ticket{Extensions: map[string]*anypb.Any{"bulk": bulk}})
	}
	stream, err := w.query.QueryTickets(testContext(t), &pb.QueryTicketsRequest{Pool: &pb.Pool{}})
	if err != nil {
		t.Fatal(err)
	}
	page, err := stream.Recv()
	if err != nil || len(page.GetTickets()) != 5 {
		t.Errorf("a page of %d tickets, error %v, want 5", len(page.GetTickets()), err)
	}
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("then %v, want the end", err)
	}
}
