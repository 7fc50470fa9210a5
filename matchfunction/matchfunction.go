// Package matchfunction is Guildhall's Open Match MatchFunction: it queries the pools of a profile and proposes
// one match for each group that waits there. The grouping itself is the pure function [Matches].
package matchfunction

import (
	"context"
	"errors"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"open-match.dev/open-match/pkg/pb"

	"github.com/guildhall-dev/guildhall/internal/process"
)

// Config configures the match function. Its zero value works against an Open Match on this machine.
type Config struct {
	process.Common
	Listen         string `split_words:"true" default:":50502" desc:"where Open Match's backend calls the match function"`
	OpenmatchQuery string `split_words:"true" default:"127.0.0.1:50503" desc:"Open Match's query service, host:port"`
	Reflection     bool   `split_words:"true" desc:"serve gRPC reflection, for grpcurl"`
}

// maxQueryPage bounds one page of tickets. The query service pages by count, not by bytes: its default page of
// 10,000 tickets is beyond gRPC's default of 4 MiB.
const maxQueryPage = 256 << 20

// MatchFunction is the service.
type MatchFunction struct {
	config   Config
	admin    *process.Admin
	listener net.Listener
	conn     *grpc.ClientConn
	function *function
}

// New validates the configuration and opens the listeners.
func New(config Config) (*MatchFunction, error) {
	process.FillZero(&config)
	config.FillIn()
	var undo process.Undo
	defer undo.Run()
	conn, err := process.Dial("OPENMATCH_QUERY", config.OpenmatchQuery, insecure.NewCredentials(),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxQueryPage)))
	if err != nil {
		return nil, err
	}
	undo.Add(conn.Close)
	admin, err := process.NewAdmin(&config.Common)
	if err != nil {
		return nil, err
	}
	undo.Add(admin.Close)
	listener, err := process.Listen("LISTEN", config.Listen)
	if err != nil {
		return nil, err
	}
	undo.Cancel()
	return &MatchFunction{
		config: config, admin: admin, listener: listener, conn: conn,
		function: &function{query: pb.NewQueryServiceClient(conn), metrics: newMetrics(config.Metrics), tracer: config.Tracer},
	}, nil
}

// Addr gives the address that Open Match calls.
func (m *MatchFunction) Addr() string { return m.listener.Addr().String() }

// AdminAddr gives the address of the admin port.
func (m *MatchFunction) AdminAddr() string { return m.admin.Addr() }

// Started gives a channel that is closed once the service takes work.
func (m *MatchFunction) Started() <-chan struct{} { return m.admin.Started() }

// Close gives up what New opened, for a service that is not run.
func (m *MatchFunction) Close() error {
	return errors.Join(m.conn.Close(), m.listener.Close(), m.admin.Close())
}

// Run serves until ctx ends.
func (m *MatchFunction) Run(ctx context.Context) error {
	server := process.NewGRPC(m.config.Reflection)
	pb.RegisterMatchFunctionServer(server, m.function)
	err := process.RunAll(ctx, m.admin, process.Func(func(ctx context.Context) error {
		m.admin.SetReady()
		defer context.AfterFunc(ctx, func() { m.admin.SetNotReady("stopping") })()
		return server.Serve(ctx, m.listener, m.config.StopGrace)
	}))
	return errors.Join(err, m.conn.Close())
}
