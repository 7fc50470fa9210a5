package openmatchlocal

import (
	"context"
	"errors"
	"io"
	"math"
	"net"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"open-match.dev/open-match/pkg/pb"
)

// patience bounds every wait of a test; nothing takes nearly as long.
const patience = time.Minute

// wire is a running server, seen from its clients.
type wire struct {
	*Server

	frontend pb.FrontendServiceClient
	backend  pb.BackendServiceClient
	query    pb.QueryServiceClient

	// stop ends Run and gives what it returned; it can be called again.
	stop func() error
}

func startWire(t testing.TB, cfg Config) *wire {
	t.Helper()
	server, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx) }()
	w := &wire{
		Server:   server,
		frontend: pb.NewFrontendServiceClient(dial(t, server.FrontendAddr())),
		backend:  pb.NewBackendServiceClient(dial(t, server.BackendAddr())),
		query:    pb.NewQueryServiceClient(dial(t, server.QueryAddr())),
		stop: sync.OnceValue(func() error {
			cancel()
			return <-done
		}),
	}
	t.Cleanup(func() {
		if err := w.stop(); err != nil {
			t.Error(err)
		}
	})
	return w
}

func dial(t testing.TB, address string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(address,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(math.MaxInt32)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func testContext(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// ranFunction is one run of a match function: what it was told, and by what it proposes.
type ranFunction struct {
	ctx     context.Context
	number  int // from 1
	propose func(...*pb.Match) error
}

// testFunction is a match function on a socket, which tells of each run before it begins.
type testFunction struct {
	pb.UnimplementedMatchFunctionServer

	config *pb.FunctionConfig
	runs   chan int
	run    func(ranFunction) error

	mu sync.Mutex
	// Guarded by mu.
	number int
}

func startFunction(t testing.TB, run func(ranFunction) error) *testFunction {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := listener.Addr().(*net.TCPAddr).Port
	f := &testFunction{
		config: &pb.FunctionConfig{Host: "127.0.0.1", Port: int32(port)},
		runs:   make(chan int, 100),
		run:    run,
	}
	server := grpc.NewServer()
	pb.RegisterMatchFunctionServer(server, f)
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		<-done
	})
	return f
}

func (f *testFunction) Run(_ *pb.RunRequest, stream pb.MatchFunction_RunServer) error {
	f.mu.Lock()
	f.number++
	number := f.number
	f.mu.Unlock()
	f.runs <- number
	return f.run(ranFunction{ctx: stream.Context(), number: number, propose: func(matches ...*pb.Match) error {
		for _, m := range matches {
			if err := stream.Send(&pb.RunResponse{Proposal: m}); err != nil {
				return err
			}
		}
		return nil
	}})
}

// proposeAvailable proposes one match with all that is in the pools, if anything is.
func proposeAvailable(s *store, r ranFunction) error {
	tickets := s.queryTickets(poolFilter{})
	if len(tickets) == 0 {
		return nil
	}
	return r.propose(proposal("all", tickets...))
}

// fetched is the end of a FetchMatches call.
type fetched struct {
	matches []*pb.Match
	err     error // nil: a clean end
}

func (w *wire) fetch(ctx context.Context, config *pb.FunctionConfig, profile *pb.MatchProfile) fetched {
	var f fetched
	stream, err := w.backend.FetchMatches(ctx, &pb.FetchMatchesRequest{Config: config, Profile: profile})
	if err != nil {
		return fetched{err: err}
	}
	for {
		resp, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return f
		}
		if err != nil {
			f.err = err
			return f
		}
		f.matches = append(f.matches, resp.GetMatch())
	}
}

// goFetch fetches aside.
func (w *wire) goFetch(ctx context.Context, config *pb.FunctionConfig, profile *pb.MatchProfile) <-chan fetched {
	result := make(chan fetched, 1)
	go func() { result <- w.fetch(ctx, config, profile) }()
	return result
}
