package client_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"go.uber.org/goleak"
	"google.golang.org/grpc"

	"github.com/guildhall-dev/guildhall"
	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
	"github.com/guildhall-dev/guildhall/api/guildhall/v1/guildhallv1connect"
	"github.com/guildhall-dev/guildhall/client"
	"github.com/guildhall-dev/guildhall/internal/process"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait: what takes longer has failed. It is not a time limit for the product.
const patience = 60 * time.Second

var dragons = guildhall.Group{Kind: "guild", ID: "dragons"}

// bundle is what a test needs: a lobby and a host on real sockets, both of which do what the test says.
type bundle struct {
	t      *testing.T
	ctx    context.Context
	lobby  *lobby
	host   *host
	config client.Config
}

func setup(t *testing.T) *bundle {
	t.Helper()
	t.Parallel()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	b := &bundle{t: t, ctx: ctx, host: startHost(t)}
	b.lobby = startLobby(t, b.host.address)
	calls := client.NewHTTPClient()
	t.Cleanup(calls.CloseIdleConnections)
	b.config = client.Config{Server: b.lobby.url, Token: "token of p1", HTTPClient: calls}
	return b
}

// lobby is a small frontend. Each Enter is answered with an error of the script, if one is left, otherwise with an
// assignment to the host.
type lobby struct {
	guildhallv1connect.UnimplementedLobbyServiceHandler
	url string

	mu     sync.Mutex
	place  *guildhallv1.Assignment // guarded by mu; nil: tickets wait for ever
	script []error                 // guarded by mu
	enters int                     // guarded by mu
	tokens []string                // guarded by mu
}

func startLobby(t *testing.T, address string) *lobby {
	t.Helper()
	l := &lobby{place: &guildhallv1.Assignment{Group: dragons.String(), Host: "h1", Epoch: 7, Address: address}}
	mux := http.NewServeMux()
	mux.Handle(guildhallv1connect.NewLobbyServiceHandler(l))
	server := httptest.NewUnstartedServer(mux)
	server.Config.Protocols = process.CleartextHTTP2()
	server.Start()
	t.Cleanup(server.Close)
	l.url = server.URL
	return l
}

// answers sets how the next calls of Enter are answered.
func (l *lobby) answers(script ...error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.script = script
}

// moves sends whoever enters from now on elsewhere.
func (l *lobby) moves(change func(*guildhallv1.Assignment)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change(l.place)
}

// waits lets tickets wait for ever.
func (l *lobby) waits() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.place = nil
}

// entered gives how often somebody entered.
func (l *lobby) entered() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.enters
}

func (l *lobby) Enter(ctx context.Context, request *connect.Request[guildhallv1.EnterRequest], stream *connect.ServerStream[guildhallv1.EnterResponse]) error {
	l.mu.Lock()
	l.enters++
	l.tokens = append(l.tokens, request.Header().Get("Authorization"))
	var failure error
	if len(l.script) > 0 {
		failure, l.script = l.script[0], l.script[1:]
	}
	var place *guildhallv1.Assignment
	if l.place != nil {
		place = &guildhallv1.Assignment{
			Group: l.place.GetGroup(), Host: l.place.GetHost(), Epoch: l.place.GetEpoch(), Address: l.place.GetAddress(),
			Pass: fmt.Sprintf("pass %d", l.enters),
		}
	}
	l.mu.Unlock()
	if failure != nil {
		return failure
	}
	if err := stream.Send(&guildhallv1.EnterResponse{State: &guildhallv1.EnterResponse_Waiting{Waiting: &guildhallv1.Waiting{Players: 1}}}); err != nil {
		return err
	}
	if place == nil {
		<-ctx.Done()
		return ctx.Err()
	}
	return stream.Send(&guildhallv1.EnterResponse{State: &guildhallv1.EnterResponse_Assignment{Assignment: place}})
}

// host is a host that does what the test says, session by session.
type host struct {
	guildhallv1.UnimplementedRoomServiceServer
	address string
	visits  chan *visit
}

func startHost(t *testing.T) *host {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &host{address: listener.Addr().String(), visits: make(chan *visit)}
	server := grpc.NewServer(grpc.WaitForHandlers(true))
	guildhallv1.RegisterRoomServiceServer(server, h)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-served; err != nil && !errors.Is(err, grpc.ErrServerStopped) { // it may not even have begun
			t.Errorf("the host: %v", err)
		}
	})
	return h
}

// Join hands the session to the test, and reads what the client sends.
func (h *host) Join(stream guildhallv1.RoomService_JoinServer) error {
	v := &visit{stream: stream, frames: make(chan *guildhallv1.JoinRequest, 4096), over: make(chan error, 1)}
	select {
	case h.visits <- v:
	case <-stream.Context().Done():
		return nil
	}
	go func() { // ends with the stream
		defer close(v.frames)
		for {
			frame, err := stream.Recv()
			if err != nil {
				return
			}
			v.frames <- frame
		}
	}()
	select {
	case err := <-v.over:
		return err
	case <-stream.Context().Done():
		return nil
	}
}
