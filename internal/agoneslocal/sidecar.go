package agoneslocal

import (
	"fmt"
	"log/slog"
	"net"
	"time"

	"agones.dev/agones/pkg/sdk"
	"agones.dev/agones/pkg/sdk/beta"
	"google.golang.org/grpc"
)

// sidecar is the SDK server of one game server.
type sidecar struct {
	sdk.UnimplementedSDKServer
	store    *store
	gs       *gameServer
	log      *slog.Logger
	listener net.Listener
	grpc     *grpc.Server
}

func openSidecar(store *store, gs *gameServer, log *slog.Logger) (*sidecar, error) {
	listener, err := net.Listen("tcp", net.JoinHostPort(loopback, "0"))
	if err != nil {
		return nil, fmt.Errorf("listen for the SDK server: %w", err)
	}
	s := &sidecar{
		store:    store,
		gs:       gs,
		log:      log.With("gameserver", gs.Name),
		listener: listener,
		grpc:     grpc.NewServer(),
	}
	sdk.RegisterSDKServer(s.grpc, s)
	beta.RegisterSDKServer(s.grpc, &betaSidecar{store: store, gs: gs})
	return s, nil
}

func (s *sidecar) address() string { return s.listener.Addr().String() }

func (s *sidecar) serve() {
	if err := s.grpc.Serve(s.listener); err != nil {
		s.log.Error("SDK server failed", "error", err)
	}
}

// answerWithin is how long calls in flight may take when the game server is gone: long enough for the answer to its
// Shutdown to be sent.
const answerWithin = time.Second

// stop lets what is being answered be answered, and ends what is left: whoever called is gone.
func (s *sidecar) stop() {
	force := time.AfterFunc(answerWithin, s.grpc.Stop)
	defer force.Stop()
	s.grpc.GracefulStop()
	s.listener.Close()
}
