package director

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	allocation "agones.dev/agones/pkg/allocation/go"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"

	"github.com/guildhall-dev/guildhall/internal/process"
	"github.com/guildhall-dev/guildhall/internal/secret"
)

// dialTimeout bounds one connection to Agones, TLS included.
const dialTimeout = 5 * time.Second

// allocatorDoor is the way to Agones by its allocator service, over gRPC.
type allocatorDoor struct {
	conn   *grpc.ClientConn
	client allocation.AllocationServiceClient
}

func openAllocator(config *AgonesConfig, secrets *secret.Files, metrics *metrics) (door, error) {
	creds, err := allocatorCredentials(config, secrets, metrics)
	if err != nil {
		return nil, err
	}
	conn, err := process.Dial("AGONES_ALLOCATOR", config.AgonesAllocator, creds,
		// The allocator service takes pings once a minute at most. No call lasts so long: this is for the time in which
		// the kernel must hear from the other side, so that a machine that is gone is not waited for.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 2 * time.Minute, Timeout: dialTimeout}),
		grpc.WithStatsHandler(callWatcher{}))
	if err != nil {
		return nil, err
	}
	return &allocatorDoor{conn: conn, client: allocation.NewAllocationServiceClient(conn)}, nil
}

func allocatorCredentials(config *AgonesConfig, secrets *secret.Files, metrics *metrics) (credentials.TransportCredentials, error) {
	if !config.usesTLS() {
		return insecure.NewCredentials(), nil
	}
	files := tlsFiles{
		cert: config.AgonesCertFile, key: config.AgonesKeyFile, ca: config.AgonesCAFile, serverName: config.AgonesServerName,
	}
	current, err := files.follow(secrets)
	if err != nil {
		return nil, fmt.Errorf("GUILDHALL_AGONES_CERT_FILE, _KEY_FILE, _CA_FILE: %w", err)
	}
	metrics.expiring("client", files.cert)
	metrics.expiring("ca", files.ca)
	return &rotatingTLS{TransportCredentials: credentials.NewTLS(current.Read()), current: current}, nil
}

// rotatingTLS is TLS whose certificates are those of the moment in which a connection is made.
type rotatingTLS struct {
	credentials.TransportCredentials // for what does not depend on certificates

	current *secret.Value[*tls.Config]
}

// ClientHandshake makes a connection.
func (c *rotatingTLS) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return credentials.NewTLS(c.current.Read()).ClientHandshake(ctx, authority, conn)
}

// Clone gives the same: nothing of it changes.
func (c *rotatingTLS) Clone() credentials.TransportCredentials { return c }

// Close closes the connection.
func (d *allocatorDoor) Close() error { return d.conn.Close() }

// Allocate asks for a game server.
func (d *allocatorDoor) Allocate(ctx context.Context, in *allocation.AllocationRequest, opts ...grpc.CallOption) (*allocation.AllocationResponse, error) {
	call := &watchedCall{}
	out, err := d.client.Allocate(context.WithValue(ctx, watchedKey{}, call), in, opts...)
	if err != nil && !call.answered.Load() {
		return nil, unanswered(err, call.sent.Load())
	}
	return out, err
}

// unanswered gives the error for a call that failed without an answer: nobody but us knows whether it was sent at all,
// and if it was, a host may have been allocated.
func unanswered(err error, sent bool) error {
	said := status.Convert(err)
	switch code := said.Code(); {
	case sent && code == codes.Unavailable:
		return status.Error(codes.Unknown, "the reply was lost: "+said.Message())
	case !sent && (code == codes.DeadlineExceeded || code == codes.Canceled):
		return status.Error(codes.Unavailable, "no connection: "+said.Message())
	}
	return err
}

// watchedCall is how far a call has come.
type watchedCall struct{ sent, answered atomic.Bool }

// watchedKey finds the call in its context.
type watchedKey struct{}

// callWatcher follows the calls of a connection. gRPC says Unavailable when there was no connection, when it broke, and
// when the other side said so itself; only its own events tell which.
type callWatcher struct{}

var _ stats.Handler = callWatcher{}

// HandleRPC notes what has happened to a call.
func (callWatcher) HandleRPC(ctx context.Context, event stats.RPCStats) {
	call, ok := ctx.Value(watchedKey{}).(*watchedCall)
	if !ok {
		return
	}
	switch event.(type) {
	case *stats.Begin: // once more, if gRPC knows that the other side has not seen it
		call.sent.Store(false)
	case *stats.OutPayload:
		call.sent.Store(true)
	case *stats.InTrailer:
		call.answered.Store(true)
	}
}

// TagRPC has nothing to add.
func (callWatcher) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

// TagConn has nothing to add.
func (callWatcher) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// HandleConn has nothing to note.
func (callWatcher) HandleConn(context.Context, stats.ConnStats) {}
