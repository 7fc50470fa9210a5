package transport

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"github.com/gobwas/ws"
)

// TestSilentConnections has connections say nothing, or not enough: each is cut off in its time.
func TestSilentConnections(t *testing.T) {
	t.Parallel()
	settings := appendFrame([]byte(http2.ClientPreface), 0, http2.FrameSettings, 0, 0)
	for name, test := range map[string]struct {
		says   string
		within time.Duration
	}{
		"nothing":                    {"", handshakeWithin},
		"three bytes":                {"PRI", handshakeWithin},
		"four bytes":                 {"PRI ", pingAfter + sweepEvery},
		"half a preface":             {http2.ClientPreface[:20], pingAfter + sweepEvery},
		"a preface":                  {http2.ClientPreface, pingAfter + sweepEvery},
		"settings, and no calls":     {string(settings), pingAfter + sweepEvery},
		"half a frame":               {string(settings) + "\x00\x00\x08\x06", pingAfter + sweepEvery},
		"half a request":             {"GET " + Path + " HTTP/1.1\r\nHost:", handshakeWithin},
		"a request, and no messages": {request(""), IdleAfter + sweepEvery},
		"half a message":             {request("") + string(wsFrame(ws.OpText, true, []byte("whole"))[:7]), IdleAfter + sweepEvery},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			simulate(t, Config{Handle: echo}, func(t *testing.T, s *simulated) {
				conn := s.dial()
				begin := time.Now()
				go func() { _, _ = conn.Write([]byte(test.says)) }()
				_, _ = io.Copy(io.Discard, conn)
				if took := time.Since(begin); took > test.within {
					t.Errorf("it was cut off after %v, want at most %v", took, test.within)
				}
				synctest.Wait()
				if left := len(s.server.all()); left > 0 {
					t.Errorf("%d connections are left", left)
				}
			})
		})
	}
}

// TestLongSessions checks that who answers pings, and says nothing else, stays.
func TestLongSessions(t *testing.T) {
	t.Parallel()
	simulate(t, Config{Handle: echo}, func(t *testing.T, s *simulated) {
		c := newH2(t, s.dial())
		c.call(1, false)
		w := shake(t, s.dial(), subprotocolProto)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			for {
				f, err := w.next()
				if err != nil {
					return
				}
				if f.Header.OpCode == ws.OpPing {
					w.frame(ws.OpPong, true, string(f.Payload))
				}
			}
		}()
		answered := 0
		for range 60 { // a minute
			<-time.After(time.Second)
			for _, f := range c.all()[answered:] {
				answered++
				if f.Type == http2.FramePing {
					c.write(func(framer *http2.Framer) error { return framer.WritePing(true, [8]byte(f.data)) })
				}
			}
		}
		c.data(1, false, inGRPC([]byte("still here")))
		synctest.Wait()
		if _, found := c.find(isData(1)); !found {
			t.Error("the call is over")
		}
		if left := len(s.server.all()); left != 2 {
			t.Errorf("%d connections are left of 2", left)
		}
		_ = w.conn.Close()
		<-ended
	})
}

// TestStop ends a server with connections of all kinds. Calls go on for as long as the grace, and no new one begins.
func TestStop(t *testing.T) {
	t.Parallel()
	handle, streams := hold()
	simulate(t, Config{Handle: handle}, func(t *testing.T, s *simulated) {
		silent := s.dial()
		unused := newH2(t, s.dial())
		used := newH2(t, s.dial())
		used.call(1, false)
		stream := <-streams
		w := shake(t, s.dial(), subprotocolProto)
		onWS := <-streams
		synctest.Wait()
		begin := time.Now()
		s.stop()
		synctest.Wait()
		unused.ended()
		if got := unused.await("a goaway", isGoAway); got.code != http2.ErrCodeNo || got.last != 0 {
			t.Errorf("the unused one is told %v", got)
		}
		if _, err := silent.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("the silent one gets %v", err)
		}
		if got := used.await("a goaway", isGoAway); got.code != http2.ErrCodeNo || got.last != 1 {
			t.Errorf("the used one is told %v", got)
		}
		used.call(3, false)
		if got := used.await("a refusal", isReset(3)); got.code != http2.ErrCodeRefusedStream {
			t.Errorf("a new call is refused with %v", got.code)
		}
		stream.Close([]byte("moved"), false)
		used.await("the end", isTrailers(1))
		used.ended()
		if got := used.body(1); !bytes.Equal(got, inGRPC([]byte("moved"))) {
			t.Errorf("%q came last", got)
		}
		onWS.Close([]byte("moved"), false)
		w.want(ws.OpBinary, "moved")
		w.wantClose(ws.StatusNormalClosure)
		_ = w.conn.Close()
		<-s.ended
		if took := time.Since(begin); took > time.Second/2 {
			t.Errorf("the server ended after %v", took)
		}
	})
}

// TestStopByForce ends a server whose streams do not end: they are cut when the grace is over.
func TestStopByForce(t *testing.T) {
	t.Parallel()
	handle, streams := hold()
	simulate(t, Config{Handle: handle}, func(t *testing.T, s *simulated) {
		newH2(t, s.dial()).call(1, false)
		shake(t, s.dial(), "")
		<-streams
		<-streams
		begin := time.Now()
		s.stop()
		<-s.ended
		if took := time.Since(begin); took != time.Second {
			t.Errorf("the server ended after %v, and the grace is a second", took)
		}
	})
}

// TestLastMessageBeforeTheEnd stops a server whose client has not read all yet, and goes on sending. A connection that is closed
// at once answers that with a reset, and then the client's last messages are lost: what the room told it last is where to go.
func TestLastMessageBeforeTheEnd(t *testing.T) {
	t.Parallel()
	for name, join := range kinds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			handle, streams := hold()
			s := start(t, Config{Handle: handle, closeWithin: patience})
			conn := s.dialSmall(t)
			client := join(t, conn)
			stream := await(t, streams, "a stream")
			for range 4 { // more than the client's kernel has room for, less than the server's
				if err := stream.Send([][]byte{make([]byte, 16_000)}); err != nil {
					t.Fatal(err)
				}
			}
			s.stop()
			until(t, "the server stops", func() bool {
				s.server.mu.Lock()
				defer s.server.mu.Unlock()
				return s.server.leaving
			})
			stream.Close([]byte("moved"), false)
			ping := appendFrame(nil, 8, http2.FramePing, 0, 0)
			if name == "WebSocket" {
				ping = wsFrame(ws.OpPing, true, make([]byte, 8))
			} else {
				ping = append(ping, make([]byte, 8)...)
			}
			for range 10 { // the first tells the server's kernel, which tells the client's
				_, _ = conn.Write(ping)
				<-time.After(10 * time.Millisecond)
			}
			got, err := client.readAll()
			if err != nil || len(got) != 5 || string(got[4]) != "moved" {
				t.Errorf("%d messages came and %v, and not the last one", len(got), err)
			}
		})
	}
}

// TestClosed checks what all methods of a stream say once it is closed, whoever closed it.
func TestClosed(t *testing.T) {
	t.Parallel()
	for name, join := range kinds {
		for how, end := range map[string]func(Stream, net.Conn){
			"closed":       func(s Stream, _ net.Conn) { s.Close([]byte("bye"), false) },
			"aborted":      func(s Stream, _ net.Conn) { s.Abort() },
			"disconnected": func(_ Stream, c net.Conn) { _ = c.Close() },
		} {
			t.Run(name+"/"+how, func(t *testing.T) {
				t.Parallel()
				ends, release := make(chan error, 1), make(chan struct{})
				let := sync.OnceFunc(func() { close(release) })
				streams := make(chan Stream, 1)
				s := start(t, Config{Handle: func(s Stream) {
					streams <- s
					for {
						if _, err := s.Receive(); err != nil {
							ends <- err
							<-release
							return
						}
					}
				}})
				t.Cleanup(let)
				conn := s.dial(t)
				join(t, conn)
				stream := await(t, streams, "a stream")
				end(stream, conn)
				if err := await(t, ends, "Receive's end"); !errors.Is(err, ErrEnded) && (how != "disconnected" || !errors.Is(err, io.EOF)) {
					t.Errorf("Receive says %v", err)
				}
				until(t, "sending is refused", func() bool { return errors.Is(stream.Send([][]byte{[]byte("x")}), ErrEnded) })
				stream.Close([]byte("again"), true)
				stream.Abort()
				stream.Abort()
				stream.Close(nil, false)
				if drained := stream.Drained(); drained != nil {
					await(t, drained, "drained")
				}
				if _, err := stream.Receive(); !errors.Is(err, ErrEnded) {
					t.Errorf("Receive says %v, later", err)
				}
			})
		}
	}
}

// TestReceiveIsOver checks that nothing is received behind Close, even of what had come before.
func TestReceiveIsOver(t *testing.T) {
	t.Parallel()
	for name, send := range map[string]func(*testing.T, net.Conn){
		"gRPC": func(t *testing.T, conn net.Conn) {
			c := newH2(t, conn)
			c.call(1, false)
			c.data(1, false, inGRPC([]byte("one"), []byte("two")))
		},
		"WebSocket": func(t *testing.T, conn net.Conn) {
			c := shake(t, conn, "")
			c.send(append(wsFrame(ws.OpText, true, []byte("one")), wsFrame(ws.OpText, true, []byte("two"))...))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			second := make(chan error, 1)
			s := start(t, Config{Handle: func(s Stream) {
				_, _ = s.Receive()
				s.Close(nil, false)
				_, err := s.Receive()
				second <- err
			}})
			send(t, s.dial(t))
			if err := await(t, second, "the second message"); !errors.Is(err, ErrEnded) {
				t.Errorf("Receive says %v", err)
			}
		})
	}
}

// TestRaces calls all methods of streams at the same time, while clients come and go.
func TestRaces(t *testing.T) {
	t.Parallel()
	for name, join := range kinds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			s := start(t, Config{Handle: func(s Stream) {
				var all sync.WaitGroup
				for _, f := range []func(){
					func() { _ = s.Send([][]byte{make([]byte, 20_000), nil, make([]byte, 100)}) },
					func() { _ = s.Send([][]byte{[]byte("x")}) },
					func() { s.IsBehind() },
					func() { s.Drained() },
				} {
					all.Go(func() {
						for range 200 {
							f()
						}
					})
				}
				all.Go(func() { _, _ = s.Receive() })
				all.Go(func() {
					<-time.After(time.Millisecond)
					s.Close([]byte("last"), true)
				})
				all.Go(func() {
					<-time.After(2 * time.Millisecond)
					s.Abort()
				})
				all.Wait()
			}})
			var clients sync.WaitGroup
			for i := range 20 {
				conn := s.dial(t)
				client := join(t, conn)
				clients.Go(func() {
					if i%2 == 0 {
						_ = conn.Close()
					}
				})
				if g, is := client.(grpcReader); is {
					g.c.resume()
				}
			}
			clients.Wait()
			cancel()
			<-ctx.Done()
		})
	}
}
