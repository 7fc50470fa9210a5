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
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"google.golang.org/grpc"

	"github.com/guildhall-dev/guildhall"
)

// Config says where to enter and as whom.
type Config struct {
	// Server is the base URL of the frontend, for example http://127.0.0.1:7777. Required without Conn.
	Server string
	// Conn, if set, calls the frontend in place of Server and HTTPClient: a connection of the caller's to the frontend's gRPC port, for example
	// 127.0.0.1:7778. For whoever brings thousands of players in, their way in costs two thirds, there and here.
	Conn grpc.ClientConnInterface
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
	if c.Server == "" && c.Conn == nil || c.Token == "" {
		return errors.New("client: Server, or Conn, and Token must be set")
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
