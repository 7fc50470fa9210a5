package transport

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
)

// TestWebSocketMessages sends messages in all the ways there are.
func TestWebSocketMessages(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Handle: echo})
	c := shake(t, s.dial(t), subprotocolProto)
	c.frame(ws.OpBinary, true, "whole")
	c.want(ws.OpBinary, "whole")
	c.frame(ws.OpBinary, true, "")
	c.want(ws.OpBinary, "")
	for _, part := range []struct {
		op  ws.OpCode
		fin bool
		b   string
	}{
		{ws.OpBinary, false, "in "},
		{ws.OpPing, true, "between"},
		{ws.OpContinuation, false, ""},
		{ws.OpPong, true, ""},
		{ws.OpContinuation, false, "par"},
		{ws.OpContinuation, true, "ts"},
	} {
		c.frame(part.op, part.fin, part.b)
	}
	c.want(ws.OpPong, "between")
	c.want(ws.OpBinary, "in parts")
	for _, size := range []int{125, 126, 127, 8 << 10} {
		c.frame(ws.OpBinary, true, strings.Repeat("s", size))
		c.want(ws.OpBinary, strings.Repeat("s", size))
	}
	c.send(wsFrame(ws.OpPing, true, bytes.Repeat([]byte("p"), 125)))
	c.want(ws.OpPong, strings.Repeat("p", 125))
	c.frame(ws.OpClose, true, "\x03\xe8bye")
	c.want(ws.OpBinary, overMessage)
	c.wantClose(ws.StatusNormalClosure)
}

// TestWebSocketByteByByte has everything come in the smallest pieces.
func TestWebSocketByteByByte(t *testing.T) {
	t.Parallel()
	simulate(t, Config{Handle: echo}, func(t *testing.T, s *simulated) {
		conn := s.dial()
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			all := append([]byte(request(subprotocolJSON)), wsFrame(ws.OpText, true, []byte("slow"))...)
			for i := range all {
				_, _ = conn.Write(all[i : i+1])
				<-time.After(10 * time.Millisecond)
			}
		}()
		c := &wsClient{t: t, conn: conn, in: bufio.NewReader(conn)}
		if answer, err := http.ReadResponse(c.in, nil); err != nil || answer.StatusCode != http.StatusSwitchingProtocols {
			t.Fatalf("the answer is %v, %v", answer, err)
		}
		c.want(ws.OpText, "slow")
		<-sent
	})
}

// TestWebSocketMistakes checks how a connection ends on which a client makes a mistake: with a code that says so, behind a last
// message.
func TestWebSocketMistakes(t *testing.T) {
	t.Parallel()
	masked := func(h ws.Header, payload string) []byte {
		h.Masked, h.Mask, h.Length = true, mask, int64(len(payload))
		b := []byte(payload)
		ws.Cipher(b, mask, 0)
		return ws.MustCompileFrame(ws.Frame{Header: h, Payload: b})
	}
	tooLong := func(op ws.OpCode, length uint64) []byte {
		return append(binary.BigEndian.AppendUint64([]byte{0x80 | byte(op), 0x80 | 127}, length), mask[:]...)
	}
	for name, test := range map[string]struct {
		frames []byte
		want   ws.StatusCode
	}{
		"no mask":            {ws.MustCompileFrame(ws.NewBinaryFrame([]byte("x"))), ws.StatusProtocolError},
		"reserved bits":      {masked(ws.Header{Fin: true, Rsv: 4, OpCode: ws.OpBinary}, "x"), ws.StatusProtocolError},
		"a reserved opcode":  {masked(ws.Header{Fin: true, OpCode: 3}, "x"), ws.StatusProtocolError},
		"a ping in parts":    {masked(ws.Header{OpCode: ws.OpPing}, "x"), ws.StatusProtocolError},
		"a long ping":        {masked(ws.Header{Fin: true, OpCode: ws.OpPing}, strings.Repeat("x", 126)), ws.StatusProtocolError},
		"parts of nothing":   {masked(ws.Header{Fin: true, OpCode: ws.OpContinuation}, "x"), ws.StatusProtocolError},
		"a message in parts": {append(wsFrame(ws.OpBinary, false, []byte("x")), wsFrame(ws.OpBinary, true, []byte("x"))...), ws.StatusProtocolError},
		"too large":          {wsFrame(ws.OpBinary, true, make([]byte, 8<<10+1)), ws.StatusMessageTooBig},
		"too large in parts": {append(wsFrame(ws.OpBinary, false, make([]byte, 8<<10)), wsFrame(ws.OpContinuation, true, []byte("x"))...), ws.StatusMessageTooBig},
		"far too large":      {tooLong(ws.OpBinary, 1<<62), ws.StatusMessageTooBig},
		"a negative length":  {tooLong(ws.OpBinary, 1<<63), ws.StatusProtocolError},
		"a length that overflows with what came": {
			append(wsFrame(ws.OpBinary, false, []byte("x")), tooLong(ws.OpContinuation, 1<<63-1)...), ws.StatusMessageTooBig,
		},
		"a close with half a code":  {wsFrame(ws.OpClose, true, []byte{3}), ws.StatusProtocolError},
		"a close with a wrong code": {wsFrame(ws.OpClose, true, []byte{3, 0xed}), ws.StatusProtocolError}, // 1005 is never sent
		"a close that is not UTF-8": {wsFrame(ws.OpClose, true, []byte{3, 0xe8, 0xff}), ws.StatusInvalidFramePayloadData},
		"a long close":              {masked(ws.Header{Fin: true, OpCode: ws.OpClose}, strings.Repeat("x", 126)), ws.StatusProtocolError},
		"a text that is not UTF-8":  {wsFrame(ws.OpText, true, []byte{0xff}), ws.StatusInvalidFramePayloadData},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ends := make(chan error, 1)
			s := start(t, Config{Handle: func(s Stream) {
				_, err := s.Receive()
				ends <- err
				s.Close([]byte("last"), false)
			}})
			c := shake(t, s.dial(t), subprotocolJSON)
			c.send(test.frames)
			await(t, ends, "the end")
			c.want(ws.OpText, "last")
			c.wantClose(test.want)
			c.conn.Close()
			until(t, "the server forgets the connection", gone(s.server))
		})
	}
}

// TestWebSocketHandshakes checks what is answered to requests that are not in order.
func TestWebSocketHandshakes(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Handle: echo})
	without := func(name string) string {
		var kept []string
		for line := range strings.SplitAfterSeq(request(""), "\r\n") {
			if !strings.HasPrefix(line, name) {
				kept = append(kept, line)
			}
		}
		return strings.Join(kept, "")
	}
	instead := func(old, now string) string { return strings.Replace(request(""), old, now, 1) }
	for name, test := range map[string]struct {
		request string
		want    int
	}{
		"another path":       {instead(Path, "/"), 404},
		"a query":            {instead(Path, Path+"?x=y"), 101},
		"POST":               {instead("GET", "POST"), 405},
		"HTTP/1.0":           {instead("HTTP/1.1", "HTTP/1.0"), 505},
		"no host":            {without("Host"), 400},
		"no upgrade":         {without("Upgrade"), 400},
		"no connection":      {without("Connection"), 400},
		"no key":             {without("Sec-WebSocket-Key"), 400},
		"no version":         {without("Sec-WebSocket-Version"), 400},
		"another version":    {instead("Version: 13", "Version: 8"), 426},
		"another upgrade":    {instead("websocket", "h2c"), 400},
		"a short key":        {instead("dGhlIHNhbXBsZSBub25jZQ==", "x"), 400},
		"a header that is 1": {instead("Host: x", "Host: x\r\nwhat"), 400},
		"many cookies":       {instead("Host: x", "Host: x\r\nCookie: "+strings.Repeat("c", 7<<10)), 101},
		"another connection": {instead("Connection: Upgrade", "Connection: keep-alive, Upgrade"), 101},
		"other capitals":     {instead("Upgrade: websocket", "upgrade: WebSocket"), 101},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := s.dial(t)
			_, _ = conn.Write([]byte(test.request))
			answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			if answer.StatusCode != test.want {
				t.Errorf("the answer is %v, want %v", answer.StatusCode, test.want)
			}
		})
	}
}

// TestEndlessHandshake has a request go on for ever: it must not take memory for ever.
func TestEndlessHandshake(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ begin, more string }{
		"one line":   {"GET ", strings.Repeat("x", 64<<10)},
		"many lines": {"GET " + Path + " HTTP/1.1\r\n", strings.Repeat("X: "+strings.Repeat("x", 61)+"\r\n", 1<<10)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, Config{Handle: echo})
			conn := s.dial(t)
			_ = conn.SetWriteDeadline(time.Now().Add(patience))
			_, _ = conn.Write([]byte(test.begin))
			for sent := 0; sent < 32<<20; sent += len(test.more) {
				if _, err := conn.Write([]byte(test.more)); err != nil {
					return
				}
			}
			t.Error("32 MiB were taken, and the request goes on")
		})
	}
}

// TestFrameBehindHandshake sends a message right behind the handshake. A client should wait for the answer; what one sends
// that does not must not be torn.
func TestFrameBehindHandshake(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Handle: echo})
	conn := s.dial(t)
	c := &wsClient{t: t, conn: conn, in: bufio.NewReader(conn)}
	c.send(append([]byte(request(subprotocolJSON)), wsFrame(ws.OpText, true, []byte("early"))...))
	if answer, err := http.ReadResponse(c.in, nil); err != nil || answer.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("the answer is %v, %v", answer, err)
	}
	c.frame(ws.OpText, true, "late")
	c.want(ws.OpText, "early")
	c.want(ws.OpText, "late")
}

// TestWebSocketClientCloses checks RFC 6455, 7.1.1: when both have said that they close, it is the server that closes the
// connection, and at once. A browser waits for that before it tells its page.
func TestWebSocketClientCloses(t *testing.T) {
	t.Parallel()
	simulate(t, Config{Handle: echo}, func(t *testing.T, s *simulated) {
		c := shake(t, s.dial(), subprotocolJSON)
		begin := time.Now()
		c.frame(ws.OpClose, true, "\x03\xe8")
		c.want(ws.OpText, overMessage)
		c.wantClose(ws.StatusNormalClosure)
		c.wantEnd()
		if took := time.Since(begin); took > closeWithin/10 {
			t.Errorf("the connection was closed after %v", took)
		}
	})
}

// TestWebSocketServerCloses is the same if the server begins.
func TestWebSocketServerCloses(t *testing.T) {
	t.Parallel()
	simulate(t, Config{Handle: func(s Stream) { s.Close([]byte("bye"), false) }}, func(t *testing.T, s *simulated) {
		c := shake(t, s.dial(), subprotocolJSON)
		begin := time.Now()
		c.want(ws.OpText, "bye")
		c.wantClose(ws.StatusNormalClosure)
		c.frame(ws.OpText, true, "this is on its way still")
		c.frame(ws.OpClose, true, "\x03\xe8")
		c.wantEnd()
		if took := time.Since(begin); took > closeWithin/10 {
			t.Errorf("the connection was closed after %v", took)
		}
	})
}

// TestWebSocketHalfClosed has a client end its direction of the connection, and read on: it gets all that was for it.
func TestWebSocketHalfClosed(t *testing.T) {
	t.Parallel()
	var sent int
	done := make(chan struct{})
	s := start(t, Config{closeWithin: patience, Handle: func(s Stream) {
		defer close(done)
		_, _ = s.Receive()
		for !s.IsBehind() {
			if err := s.Send([][]byte{make([]byte, 8<<10)}); err != nil {
				t.Error(err)
				return
			}
			sent++
		}
		s.Close([]byte("last"), false)
	}})
	conn := s.dial(t)
	c := shake(t, conn, subprotocolProto)
	if err := conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	await(t, done, "the handler's end")
	for range sent {
		if c.want(ws.OpBinary, string(make([]byte, 8<<10))); t.Failed() {
			t.FailNow()
		}
	}
	c.want(ws.OpBinary, "last")
	c.wantClose(ws.StatusNormalClosure)
}
