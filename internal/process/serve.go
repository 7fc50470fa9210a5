package process

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"
)

// Listen opens a TCP listener; its error names the variable that the address came from.
func Listen(variable, address string) (net.Listener, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("%s_%s: cannot listen on %q: %w", Prefix, variable, address, err)
	}
	return listener, nil
}

// ServeHTTP serves until ctx ends, then lets requests finish for the grace before it cuts them off.
func ServeHTTP(ctx context.Context, server *http.Server, listener net.Listener, grace time.Duration) error {
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err := <-failed:
		_ = server.Close() // the failure says more
		return err
	case <-ctx.Done():
	}
	graceCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	if err := server.Shutdown(graceCtx); err != nil {
		_ = server.Close() // what has not finished in the grace is cut off; that is the answer, not an error
	}
	if err := <-failed; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// CleartextHTTP2 lets an [http.Server] speak HTTP/2 without TLS beside HTTP/1, as gRPC clients need it.
func CleartextHTTP2() *http.Protocols {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	return protocols
}
