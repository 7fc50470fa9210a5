package openmatchlocal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"strconv"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"open-match.dev/open-match/pkg/pb"
)

// matchFunctions calls match functions, over one connection for each address.
type matchFunctions struct {
	mu sync.Mutex
	// Guarded by mu.
	connections map[string]*grpc.ClientConn
}

func newMatchFunctions() *matchFunctions {
	return &matchFunctions{connections: make(map[string]*grpc.ClientConn)}
}

// run calls the match function that the request names. What had been proposed before an error comes with it.
func (f *matchFunctions) run(ctx context.Context, req *pb.FetchMatchesRequest) ([]*pb.Match, error) {
	if req.GetConfig().GetType() != pb.FunctionConfig_GRPC {
		return nil, status.Error(codes.InvalidArgument, "provided match function type is not supported")
	}
	conn, err := f.connection(functionAddress(req.GetConfig()))
	if err != nil {
		return nil, err
	}
	stream, err := pb.NewMatchFunctionClient(conn).Run(ctx, &pb.RunRequest{Profile: req.GetProfile()})
	if err != nil {
		return nil, fmt.Errorf("failed to run match function for profile: %w", err)
	}
	return receiveProposals(stream)
}

func receiveProposals(stream pb.MatchFunction_RunClient) ([]*pb.Match, error) {
	var proposals []*pb.Match
	for {
		resp, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return proposals, nil
		}
		if err != nil {
			return proposals, fmt.Errorf("match function Run() error: %w", err)
		}
		if m := resp.GetProposal(); m != nil {
			proposals = append(proposals, m)
		}
	}
}

func functionAddress(c *pb.FunctionConfig) string {
	return net.JoinHostPort(c.GetHost(), strconv.Itoa(int(c.GetPort())))
}

func (f *matchFunctions) connection(address string) (*grpc.ClientConn, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if conn, ok := f.connections[address]; ok {
		return conn, nil
	}
	conn, err := grpc.NewClient(address,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		// One proposal may hold ten thousand tickets.
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(math.MaxInt32)),
		// A match function that was restarted must not wait for gRPC's two minutes.
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: quickBackoff(), MinConnectTimeout: 5 * time.Second}),
	)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, "failed to establish grpc client connection to match function")
	}
	f.connections[address] = conn
	return conn, nil
}

func quickBackoff() backoff.Config {
	c := backoff.DefaultConfig
	c.BaseDelay = 50 * time.Millisecond
	c.MaxDelay = time.Second
	return c
}

// close ends every connection; calls that are under way fail.
func (f *matchFunctions) close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	var failures []error
	for address, conn := range f.connections {
		failures = append(failures, conn.Close())
		delete(f.connections, address)
	}
	return errors.Join(failures...)
}
