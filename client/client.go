// Package client brings a player into their group's live room and keeps them there: it calls Enter, dials the host,
// shows the pass, says what the player says until it is acked, and when the host is lost, drains or drops the
// connection, it comes back and resumes behind the last message it saw.
//
//	room, err := client.Join(ctx, client.Config{Server: "http://127.0.0.1:7777", Token: token}, group)
//	if err != nil { … }
//	go func() {
//		for event := range room.Events() { … }
//	}()
//	ack, err := room.Say(ctx, []byte("hello"))
//	seq, err := ack.Wait(ctx) // durable: everybody sees it, once, at this number
//	err = room.Leave(ctx)
//
// Every message is delivered to the caller once and in the order of its number, however often the connection
// changed in between. What retention had dropped before it could be resumed is told by [Resumed]. Besides what is said
// there are signals ([Room.Signal]), which are for the moment and may be lost, and pages of the past ([Room.History]).
//
// # Concurrency
//
// All methods of [Room] and [Ack] may be called by any number of goroutines. What one goroutine says is said in the order
// of its calls. Signals and questions for history may overtake what is said.
//
// Events are told one at a time. Whoever uses the channel must read it until it is closed: a room whose events nobody
// reads stands still, is dropped by its host in time, and resumes when they are read; only [Room.Leave] with a context that
// ends, or the end of the context of [Join], ends it then. The events, their slices included, are the caller's.
//
// A room has one goroutine of its own, and a second one only while it has something to send. Over WebSocket that is all;
// gRPC adds its own for each connection. All have ended when [Room.Err] or [Room.Leave] has returned; after that, nothing
// is told and nothing is sent.
package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"time"

	"connectrpc.com/connect"

	"github.com/guildhall-dev/guildhall"
	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
	"github.com/guildhall-dev/guildhall/api/guildhall/v1/guildhallv1connect"
	"github.com/guildhall-dev/guildhall/internal/tracing"
)

// Config says where to enter and as whom.
type Config struct {
	// Server is the base URL of the frontend, for example http://127.0.0.1:7777. Required.
	Server string
	// Token is the player token. Required.
	Token string
	// Transport is how to speak to the host; the zero value is [GRPC].
	Transport Transport
	// After asks for the retained messages after this number on the first join; nil asks for none.
	After *guildhall.Seq
	// Last asks for so many of the last messages on the first join; After goes before it.
	Last int
	// Deliver, if set, is given every event, in order and one at a time, in place of the channel that [Room.Events]
	// gives. It is called by the goroutines of the room, which read nothing meanwhile: it must not wait for long, and
	// must not call [Room.Leave], [Room.Err], [Room.Say], [Room.SayAs], [Room.History] or wait for an [Ack].
	// [Room.Signal] does not wait. For thousands of rooms in one process it saves a goroutine and a channel each.
	Deliver func(Event)
	// HTTPClient calls the frontend; nil means one that speaks HTTP/2, without TLS for an http URL.
	HTTPClient *http.Client
	// Logger is told of reconnections; nil means nobody is.
	Logger *slog.Logger

	// dialer connects to hosts; nil means over TCP.
	dialer dialFunc
}

func (c *Config) fill() error {
	if c.Server == "" || c.Token == "" {
		return errors.New("client: Server and Token must be set")
	}
	if c.Transport != GRPC && c.Transport != WebSocket {
		return fmt.Errorf("client: there is no %s", c.Transport)
	}
	if c.HTTPClient == nil {
		c.HTTPClient = defaultHTTPClient
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}

// defaultHTTPClient is shared: one connection to a frontend carries any number of players.
var defaultHTTPClient = NewHTTPClient()

// NewHTTPClient makes a client that speaks HTTP/2: over TLS to an https URL, without it to an http URL.
func NewHTTPClient() *http.Client {
	protocols := new(http.Protocols)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Client{Transport: &http.Transport{
		// A frontend that has vanished without a word is found out by pings.
		HTTP2:     &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 10 * time.Second},
		Protocols: protocols, IdleConnTimeout: 30 * time.Second, ForceAttemptHTTP2: true, Proxy: http.ProxyFromEnvironment,
	}}
}

// Enter files a ticket for a group and waits for the assignment. If ctx has a span of OpenTelemetry, the server goes on with
// its trace, up to the welcome in the room; so it does for each way in of [Join]. Its errors are those of LobbyService; a caller who
// only wants to be in the room uses [Join].
func Enter(ctx context.Context, config Config, group guildhall.Group) (*guildhallv1.Assignment, error) {
	if err := config.fill(); err != nil {
		return nil, err
	}
	return enter(ctx, config, group, func(*guildhallv1.Waiting) error { return nil })
}

// enter is [Enter], and tells each time what the ticket waits for.
func enter(ctx context.Context, config Config, group guildhall.Group, waiting func(*guildhallv1.Waiting) error) (*guildhallv1.Assignment, error) {
	ctx, cancel := context.WithCancel(ctx) // ends the stream in every case
	defer cancel()
	lobby := guildhallv1connect.NewLobbyServiceClient(config.HTTPClient, config.Server, connect.WithGRPC())
	request := connect.NewRequest(&guildhallv1.EnterRequest{Group: group.String()})
	request.Header().Set("Authorization", "Bearer "+config.Token)
	if parent := tracing.Parent(ctx); parent != "" {
		request.Header().Set(tracing.Header, parent)
	}
	stream, err := lobby.Enter(ctx, request)
	if err != nil {
		return nil, fmt.Errorf("entering %s: %w", group, err)
	}
	defer func() { _ = stream.Close() }() // it only ends the stream, which has ended
	for stream.Receive() {
		if assignment := stream.Msg().GetAssignment(); assignment != nil {
			return assignment, nil
		}
		if err := waiting(stream.Msg().GetWaiting()); err != nil {
			return nil, err
		}
	}
	if err := stream.Err(); err != nil {
		return nil, fmt.Errorf("entering %s: %w", group, err)
	}
	return nil, fmt.Errorf("entering %s: %w", group, connect.NewError(connect.CodeUnavailable, io.ErrUnexpectedEOF))
}

// isFinal says whether an error of Enter would be the same the next time.
func isFinal(err error) bool {
	switch connect.CodeOf(err) {
	case connect.CodeInvalidArgument, connect.CodeUnauthenticated, connect.CodePermissionDenied, connect.CodeUnimplemented:
		return true
	}
	return false
}
