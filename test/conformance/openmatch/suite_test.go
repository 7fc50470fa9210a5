package openmatch_test

import (
	"context"
	"fmt"
	"math"
	"net"
	"os"
	"strconv"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"open-match.dev/open-match/pkg/pb"

	"github.com/guildhall-dev/guildhall/internal/openmatchlocal"
)

const environment = "GUILDHALL_TEST_OPENMATCH_"

// eventually bounds every wait. A real server's cycle lasts 250 ms by default, and the machine may be busy.
const eventually = time.Minute

// reconnect is longer than gRPC's longest backoff.
const reconnect = 3 * time.Minute

// standInPageSize is the smallest there is, so that a few tickets make several pages.
const standInPageSize = 10

// shared is the server that most tests use together.
var shared *services

// functions is the match function that every server is told to call.
var functions *functionServer

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(suite{m})
}

// suite starts what all tests share, and stops it before goroutines are counted.
type suite struct{ m *testing.M }

func (s suite) Run() int {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var err error
	if functions, err = startFunctions(); err != nil {
		return complain(err)
	}
	defer functions.stop()
	if shared, err = connectShared(ctx); err != nil {
		return complain(err)
	}
	if err := shared.warmUp(ctx); err != nil {
		return complain(err)
	}
	code := s.m.Run()
	cancel()
	if err := shared.stop(); err != nil {
		return complain(err)
	}
	return code
}

// warmUp fetches until the match function is reached. Open Match keeps its connection to an address; when the
// last suite that listened there has ended, it tries again only after gRPC's backoff.
func (s *services) warmUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, reconnect)
	defer cancel()
	profile := &pb.MatchProfile{Name: "conformance-warm-up"}
	functions.set(profile.GetName(), func(context.Context, *pb.MatchProfile, func(*pb.Match) error) error { return nil })
	for {
		_, err := s.fetchMatches(ctx, profile)
		if status.Code(err) != codes.Unknown {
			return err
		}
	}
}

func complain(err error) int {
	fmt.Fprintln(os.Stderr, "openmatch conformance:", err)
	return 1
}

// services is one Open Match, real or not.
type services struct {
	frontend pb.FrontendServiceClient
	backend  pb.BackendServiceClient
	query    pb.QueryServiceClient

	queryAddress string
	connections  []*grpc.ClientConn
	stopped      chan error // nil for a real server
}

func connectShared(ctx context.Context) (*services, error) {
	frontend := os.Getenv(environment + "FRONTEND")
	backend := os.Getenv(environment + "BACKEND")
	query := os.Getenv(environment + "QUERY")
	if frontend == "" && backend == "" && query == "" {
		return startStandIn(ctx, openmatchlocal.Config{
			QueryPageSize: standInPageSize,
			// Short, because the suite often fetches in order to see that there is nothing.
			FetchWait: 50 * time.Millisecond,
		})
	}
	if frontend == "" || backend == "" || query == "" {
		return nil, fmt.Errorf("%sFRONTEND, _BACKEND and _QUERY want to be set together", environment)
	}
	return connect(frontend, backend, query)
}

func isReal() bool { return os.Getenv(environment+"FRONTEND") != "" }

func startStandIn(ctx context.Context, cfg openmatchlocal.Config) (*services, error) {
	server, err := openmatchlocal.New(cfg)
	if err != nil {
		return nil, err
	}
	s, err := connect(server.FrontendAddr(), server.BackendAddr(), server.QueryAddr())
	if err != nil {
		return nil, err
	}
	s.stopped = make(chan error, 1)
	go func() { s.stopped <- server.Run(ctx) }()
	return s, nil
}

func connect(frontend, backend, query string) (*services, error) {
	s := &services{queryAddress: query}
	for _, address := range []string{frontend, backend, query} {
		conn, err := grpc.NewClient(address,
			grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(math.MaxInt32)))
		if err != nil {
			return nil, err
		}
		s.connections = append(s.connections, conn)
	}
	s.frontend = pb.NewFrontendServiceClient(s.connections[0])
	s.backend = pb.NewBackendServiceClient(s.connections[1])
	s.query = pb.NewQueryServiceClient(s.connections[2])
	return s, nil
}

// stop wants the context of a stand-in to have ended.
func (s *services) stop() error {
	for _, conn := range s.connections {
		if err := conn.Close(); err != nil {
			return err
		}
	}
	if s.stopped == nil {
		return nil
	}
	return <-s.stopped
}

// timeouts gives a server on which a test can wait for a timeout, and that timeout: PENDING_RELEASE or ASSIGNED_DELETE.
func timeouts(t *testing.T, which string) (*services, time.Duration) {
	t.Helper()
	if isReal() {
		text := os.Getenv(environment + which)
		if text == "" {
			t.Skipf("this timeout of the server is not known: set %s%s to run this", environment, which)
		}
		timeout, err := time.ParseDuration(text)
		if err != nil {
			t.Fatal(err)
		}
		return shared, timeout
	}
	const timeout = 500 * time.Millisecond
	ctx, cancel := context.WithCancel(context.Background())
	s, err := startStandIn(ctx, openmatchlocal.Config{
		PendingReleaseTimeout: timeout,
		AssignedDeleteTimeout: timeout,
		FetchWait:             50 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		if err := s.stop(); err != nil {
			t.Error(err)
		}
	})
	return s, timeout
}

// pageSize gives the server's page size.
func pageSize(t *testing.T) int {
	t.Helper()
	if !isReal() {
		return standInPageSize
	}
	text := os.Getenv(environment + "PAGE_SIZE")
	if text == "" {
		t.Skipf("the server's queryPageSize is not known: set %sPAGE_SIZE to run this", environment)
	}
	size, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return size
}

func listenForFunctions() (net.Listener, *pb.FunctionConfig, error) {
	address := os.Getenv(environment + "MATCHFUNCTION_ADVERTISE")
	if address == "" {
		address = "127.0.0.1:0"
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, nil, err
	}
	host, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		return nil, nil, err
	}
	number, err := strconv.ParseInt(port, 10, 32)
	return listener, &pb.FunctionConfig{Host: host, Port: int32(number), Type: pb.FunctionConfig_GRPC}, err
}
