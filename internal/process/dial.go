package process

import (
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
)

const (
	// maxDialPause bounds the pause before an address is dialled again: gRPC's own two minutes would outlast the outage that
	// caused it by as much.
	maxDialPause = 5 * time.Second
	// dialTimeout bounds one attempt, TLS included.
	dialTimeout = 5 * time.Second
)

// Dial makes the connection to somebody else's service that GUILDHALL_(variable) names, host:port. It comes about when it is
// first used, and comes back within seconds of the service.
func Dial(variable, address string, creds credentials.TransportCredentials, options ...grpc.DialOption) (*grpc.ClientConn, error) {
	pauses := backoff.DefaultConfig
	pauses.MaxDelay = maxDialPause
	conn, err := grpc.NewClient(address, append(options, grpc.WithTransportCredentials(creds),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: pauses, MinConnectTimeout: dialTimeout}))...)
	if err != nil {
		return nil, fmt.Errorf("GUILDHALL_%s=%q: %w", variable, address, err)
	}
	return conn, nil
}
