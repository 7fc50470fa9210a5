package client_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/gobwas/ws"
	"google.golang.org/protobuf/proto"

	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
	"github.com/guildhall-dev/guildhall/client"
)

func TestTransports(t *testing.T) {
	t.Parallel()
	for transport, want := range map[client.Transport]string{client.GRPC: "grpc", client.WebSocket: "websocket", 7: "transport 7"} {
		if got := transport.String(); got != want {
			t.Errorf("%d is called %q, want %q", transport, got, want)
		}
	}
	config := client.Config{Server: "http://127.0.0.1:1", Token: "t", Transport: 7}
	if _, err := client.Join(t.Context(), config, dragons); err == nil || !strings.Contains(err.Error(), "transport 7") {
		t.Errorf("Join by a transport that is none: %v", err)
	}
}

// An assignment without an address for the transport is no way in, and to try again would not help. One who has a seat waits:
// it may be one frontend of several that is of an older version.
func TestNoAddressForTheTransport(t *testing.T) {
	for name, seated := range map[string]bool{"at first": false, "later": true} {
		t.Run(name, func(t *testing.T) {
			b := setup(t, client.WebSocket)
			none := func(a *guildhallv1.Assignment) { a.WebsocketUrl = "" }
			if !seated {
				b.lobby.moves(none)
				if err := b.joins().ends(); err == nil || !strings.Contains(err.Error(), "WebSocket") {
					t.Errorf("the room ended with %v", err)
				}
				return
			}
			p := b.joins()
			v := b.seats(0)
			b.lobby.moves(none)
			v.breaks()
			until[client.Closed](p)
			for entered := b.lobby.entered(); b.lobby.entered() < entered+2; { // they try, and try again
				b.lobby.awaitEntered()
			}
			b.lobby.moves(b.host.offer)
			b.seats(0)
			until[client.Resumed](p)
		})
	}
}

// What is no WebSocket is no host: it is tried again, until there is one.
func TestAHostThatDoesNotSpeakWebSocket(t *testing.T) {
	hello := "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
	for name, answer := range map[string]func(key string) string{
		"not found":       func(string) string { return "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n" },
		"no HTTP":         func(string) string { return "220 mail ready\r\n\r\n" },
		"no sub-protocol": func(key string) string { return hello + "Sec-WebSocket-Accept: " + key + "\r\n\r\n" },
		"another protocol": func(key string) string {
			return hello + "Sec-WebSocket-Accept: " + key + "\r\nSec-WebSocket-Protocol: chess\r\n\r\n"
		},
		"a wrong key":       func(string) string { return hello + "Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n\r\n" },
		"an end":            func(string) string { return "" },
		"half of an answer": func(string) string { return hello },
	} {
		t.Run(name, func(t *testing.T) {
			b := setup(t, client.WebSocket)
			impostor := listen(t)
			served := make(chan struct{})
			go func() {
				defer close(served)
				conn, err := impostor.Accept()
				if err != nil {
					return
				}
				defer conn.Close()
				request, err := http.ReadRequest(bufio.NewReader(conn))
				if err != nil {
					return
				}
				b.lobby.moves(b.host.offer)
				_, _ = io.WriteString(conn, answer(request.Header.Get("Sec-WebSocket-Key"))) // a wrong key is as wrong as any
			}()
			t.Cleanup(func() {
				impostor.Close()
				<-served
			})
			b.lobby.moves(func(a *guildhallv1.Assignment) { offer(a, "127.0.0.1:1", impostor.Addr().String()) })
			p := b.joins()
			b.seats(0)
			until[client.Joined](p)
			never[client.Closed](t, p)
		})
	}
}

// A host may speak right behind the handshake, in the same packet.
func TestAHostThatSpeaksAtOnce(t *testing.T) {
	b := setup(t, client.WebSocket)
	impostor := listen(t)
	welcome, err := proto.Marshal(&guildhallv1.JoinResponse{Frame: &guildhallv1.JoinResponse_Welcome{Welcome: &guildhallv1.Welcome{LastSeq: 41}}})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() {
		conn, err := impostor.Accept()
		if err != nil {
			served <- err
			return
		}
		defer conn.Close()
		together := &together{Conn: conn, behind: ws.MustCompileFrame(ws.NewBinaryFrame(welcome))}
		_, err = ws.Upgrader{Protocol: func([]byte) bool { return true }}.Upgrade(together)
		_, _ = io.Copy(io.Discard, conn)
		served <- err
	}()
	b.lobby.moves(func(a *guildhallv1.Assignment) { offer(a, "127.0.0.1:1", impostor.Addr().String()) })
	p := b.joins()
	if got := until[client.Joined](p); got.LastSeq != 41 {
		t.Errorf("told %+v", got)
	}
	if err := p.Leave(canceled()); !errors.Is(err, context.Canceled) {
		t.Errorf("Leave: %v", err)
	}
	impostor.Close()
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// together writes something behind the answer to a handshake, in one packet.
type together struct {
	net.Conn
	behind []byte
}

func (c *together) Write(b []byte) (int, error) {
	if bytes.HasSuffix(b, []byte("\r\n\r\n")) {
		if _, err := c.Conn.Write(append(bytes.Clone(b), c.behind...)); err != nil {
			return 0, fmt.Errorf("together: %w", err)
		}
		return len(b), nil
	}
	return c.Conn.Write(b)
}
