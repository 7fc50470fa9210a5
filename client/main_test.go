package client_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"go.uber.org/goleak"

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

// both runs a test over each transport: what a room does does not depend on it.
func both(t *testing.T, test func(t *testing.T, b *bundle)) {
	t.Helper()
	for _, transport := range []client.Transport{client.GRPC, client.WebSocket} {
		t.Run(transport.String(), func(t *testing.T) { test(t, setup(t, transport)) })
	}
}

func setup(t *testing.T, transport client.Transport) *bundle {
	t.Helper()
	t.Parallel()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	b := &bundle{t: t, ctx: ctx, host: startHost(t)}
	b.lobby = startLobby(t, b.host)
	calls := client.NewHTTPClient()
	t.Cleanup(calls.CloseIdleConnections)
	b.config = client.Config{Server: b.lobby.url, Token: "token of p1", HTTPClient: calls, Transport: transport}
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
	came   chan struct{}           // one for a call of Enter that nobody has looked at
	tokens []string                // guarded by mu
}

func startLobby(t *testing.T, h *host) *lobby {
	t.Helper()
	l := &lobby{place: &guildhallv1.Assignment{Group: dragons.String(), Host: "h1", Epoch: 7}}
	l.came = make(chan struct{}, 1)
	h.offer(l.place)
	mux := http.NewServeMux()
	mux.Handle(guildhallv1connect.NewLobbyServiceHandler(l))
	server := httptest.NewUnstartedServer(mux)
	server.Config.Protocols = process.CleartextHTTP2()
	server.Start()
	t.Cleanup(server.Close)
	l.url = server.URL
	return l
}

// errBreakOff is for a script: the stream ends with no assignment, and no error.
var errBreakOff = errors.New("end the stream")

// shown gives the tokens that were shown.
func (l *lobby) shown() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.tokens)
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

// awaitEntered waits until somebody enters, since it was last asked.
func (l *lobby) awaitEntered() { <-l.came }

func (l *lobby) Enter(ctx context.Context, request *connect.Request[guildhallv1.EnterRequest], stream *connect.ServerStream[guildhallv1.EnterResponse]) error {
	l.mu.Lock()
	l.enters++
	select {
	case l.came <- struct{}{}:
	default:
	}
	l.tokens = append(l.tokens, request.Header().Get("Authorization"))
	var failure error
	if len(l.script) > 0 {
		failure, l.script = l.script[0], l.script[1:]
	}
	var place *guildhallv1.Assignment
	if l.place != nil {
		place = &guildhallv1.Assignment{
			Group: l.place.GetGroup(), Host: l.place.GetHost(), Epoch: l.place.GetEpoch(), Address: l.place.GetAddress(),
			WebsocketUrl: l.place.GetWebsocketUrl(), Pass: fmt.Sprintf("pass %d", l.enters),
		}
	}
	l.mu.Unlock()
	if errors.Is(failure, errBreakOff) {
		return nil
	}
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
