package transport

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/gobwas/ws"
)

// wsClient speaks WebSocket by single frames, and makes mistakes if it is told to.
type wsClient struct {
	t    testing.TB
	conn net.Conn
	in   *bufio.Reader
}

// request is a handshake that is in order.
func request(protocol string) string {
	lines := []string{
		"GET " + Path + " HTTP/1.1", "Host: x", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13",
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
	}
	if protocol != "" {
		lines = append(lines, "Sec-WebSocket-Protocol: "+protocol)
	}
	return strings.Join(lines, "\r\n") + "\r\n\r\n"
}

// shake shakes hands on a connection.
func shake(t testing.TB, conn net.Conn, protocol string) *wsClient {
	t.Helper()
	c := &wsClient{t: t, conn: conn, in: bufio.NewReader(conn)}
	c.send([]byte(request(protocol)))
	answer, err := http.ReadResponse(c.in, nil)
	if err != nil {
		t.Fatal(err)
	}
	if answer.StatusCode != http.StatusSwitchingProtocols || answer.Header.Get("Sec-WebSocket-Accept") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
		t.Fatalf("the handshake was answered by %v %v", answer.Status, answer.Header)
	}
	if got := answer.Header.Get("Sec-WebSocket-Protocol"); got != protocol {
		t.Fatalf("the sub-protocol is %q, want %q", got, protocol)
	}
	return c
}

// send sends bytes, without waiting for who takes them.
func (c *wsClient) send(b []byte) {
	c.t.Helper()
	if _, err := c.conn.Write(b); err != nil {
		c.t.Logf("the server does not take more: %v", err)
	}
}

var mask = [4]byte{1, 2, 3, 4}

// wsFrame gives a frame as a client sends it.
func wsFrame(op ws.OpCode, fin bool, payload []byte) []byte {
	return ws.MustCompileFrame(ws.MaskFrameInPlaceWith(ws.NewFrame(op, fin, bytes.Clone(payload)), mask))
}

func (c *wsClient) frame(op ws.OpCode, fin bool, payload string) {
	c.t.Helper()
	c.send(wsFrame(op, fin, []byte(payload)))
}

// next reads the server's next frame.
func (c *wsClient) next() (ws.Frame, error) {
	f, err := ws.ReadFrame(c.in)
	if err != nil {
		return f, fmt.Errorf("reading a frame: %w", err)
	}
	if err := ws.CheckHeader(f.Header, ws.StateClientSide); err != nil {
		c.t.Errorf("the server made a mistake: %v", err)
	}
	return f, nil
}

// want reads the next frame, and wants it to be this.
func (c *wsClient) want(op ws.OpCode, payload string) {
	c.t.Helper()
	got := make(chan ws.Frame, 1)
	go func() {
		defer close(got)
		if f, err := c.next(); err == nil {
			got <- f
		}
	}()
	if f := await(c.t, got, "a frame"); f.Header.OpCode != op || string(f.Payload) != payload || !f.Header.Fin {
		c.t.Errorf("%v %.50q came, want %v %.50q", f.Header, f.Payload, op, payload)
	}
}

// wantClose wants the closing frame, and then nothing.
func (c *wsClient) wantClose(code ws.StatusCode) {
	c.t.Helper()
	c.want(ws.OpClose, string([]byte{byte(code >> 8), byte(code)}))
}

// wantEnd wants the server to close the connection.
func (c *wsClient) wantEnd() {
	c.t.Helper()
	ended := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, c.in)
		ended <- err
	}()
	if err := await(c.t, ended, "the end of the connection"); err != nil && !errors.Is(err, io.EOF) {
		c.t.Logf("the end is %v", err)
	}
}
