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
// changed in between. What retention had dropped before it could be resumed is told by [Resumed].
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
)

// Config says where to enter and as whom.
type Config struct {
	// Server is the base URL of the frontend, for example http://127.0.0.1:7777. Required.
	Server string
	// Token is the player token. Required.
	Token string
	// After asks for the retained messages after this number on the first join; nil asks for none.
	After *guildhall.Seq
	// HTTPClient calls the frontend; nil means one that speaks HTTP/2, without TLS for an http URL.
	HTTPClient *http.Client
	// Logger is told of reconnections; nil means nobody is.
	Logger *slog.Logger
}

func (c *Config) fill() error {
	if c.Server == "" || c.Token == "" {
		return errors.New("client: Server and Token must be set")
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

// Enter files a ticket for a group and waits for the assignment. Its errors are those of LobbyService; a caller who
// only wants to be in the room uses [Join].
func Enter(ctx context.Context, config Config, group guildhall.Group) (*guildhallv1.Assignment, error) {
	if err := config.fill(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx) // ends the stream in every case
	defer cancel()
	lobby := guildhallv1connect.NewLobbyServiceClient(config.HTTPClient, config.Server, connect.WithGRPC())
	request := connect.NewRequest(&guildhallv1.EnterRequest{Group: group.String()})
	request.Header().Set("Authorization", "Bearer "+config.Token)
	stream, err := lobby.Enter(ctx, request)
	if err != nil {
		return nil, fmt.Errorf("entering %s: %w", group, err)
	}
	defer func() { _ = stream.Close() }() // it only ends the stream, which has ended
	for stream.Receive() {
		if assignment := stream.Msg().GetAssignment(); assignment != nil {
			return assignment, nil
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
