package transport

import (
	"bytes"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/gobwas/ws"
	"golang.org/x/net/http2"
)

// TestRapidReset opens calls and takes them back at once. They do not count as under way any more, but what serves them may
// still be busy: that has to be bounded all the same (CVE-2023-44487, and by the server's own resets CVE-2025-8671).
func TestRapidReset(t *testing.T) {
	t.Parallel()
	for name, undo := range map[string]func(c *h2Client, id uint32){
		"by the client": func(c *h2Client, id uint32) {
			c.write(func(f *http2.Framer) error { return f.WriteRSTStream(id, http2.ErrCodeCancel) })
		},
		"by the server": func(c *h2Client, id uint32) { c.window(id, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var running, most atomic.Int64
			release := make(chan struct{})
			let := sync.OnceFunc(func() { close(release) })
			s := start(t, Config{Handle: func(Stream) {
				most.Store(max(most.Load(), running.Add(1)))
				<-release
				running.Add(-1)
			}})
			t.Cleanup(let)
			c := newH2(t, s.dial(t))
			for i := range uint32(20 * maxStreams) {
				c.call(2*i+1, false)
				undo(c, 2*i+1)
			}
			c.write(func(f *http2.Framer) error { return f.WritePing(false, [8]byte{}) })
			c.await("an answer, or the end", func(f h2Frame) bool {
				return f.end != nil || isGoAway(f) || f.Type == http2.FramePing && f.Flags.Has(http2.FlagPingAck)
			})
			until(t, "handlers run", func() bool { return running.Load() >= maxStreams })
			let()
			until(t, "all return", func() bool { return running.Load() == 0 })
			if got := most.Load(); got > 4*maxStreams {
				t.Errorf("%d handlers ran at a time for one connection", got)
			}
		})
	}
}

// cutOff sends to a server and reads nothing until the server has had enough, and gives how much waited for it at most. It
// fails the test if the server never has enough.
func cutOff(t *testing.T, s *Server, conn net.Conn, frames []byte) (most uint64) {
	t.Helper()
	const enough = 8 << 20
	for sent := 0; sent < enough; sent += len(frames) {
		if _, err := conn.Write(frames); err != nil {
			return most
		}
		most = max(most, queueSize(s))
	}
	t.Errorf("%d bytes were sent by a peer that reads no answer, and the server goes on", enough)
	return most
}

// queueMost is what may wait for a peer, with what it takes to queue it.
const queueMost = 2 * (QueueBytes + controlBytes)

// TestFloodOfQuestions has a peer ask and not read the answers: it is cut off, and what waited for it was bounded. An answer may
// be as short as two bytes, so that counting these is not enough.
func TestFloodOfQuestions(t *testing.T) {
	t.Parallel()
	frame := func(kind http2.FrameType, id uint32, payload []byte) []byte {
		return append(appendFrame(nil, len(payload), kind, 0, id), payload...)
	}
	hello := append([]byte(http2.ClientPreface), frame(http2.FrameSettings, 0, nil)...)
	for name, test := range map[string]struct{ hello, question []byte }{
		"pings":                {hello, frame(http2.FramePing, 0, make([]byte, 8))},
		"settings":             {hello, frame(http2.FrameSettings, 0, nil)},
		"WebSocket pings":      {nil, wsFrame(ws.OpPing, true, nil)},
		"long WebSocket pings": {nil, wsFrame(ws.OpPing, true, make([]byte, 125))},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			handle, _ := hold()
			simulate(t, Config{Handle: handle}, func(t *testing.T, s *simulated) {
				conn := s.dial()
				if test.hello == nil {
					shake(t, conn, "")
				}
				_, _ = conn.Write(test.hello)
				if most := cutOff(t, s.server, conn, bytes.Repeat(test.question, 100)); most > queueMost {
					t.Errorf("%d KiB waited for a peer that may have %d KiB", most>>10, (QueueBytes+controlBytes)>>10)
				}
				synctest.Wait()
				if left := len(s.server.all()); left > 0 {
					t.Errorf("%d connections are left", left)
				}
			})
		})
	}
}

// TestFloodOfCalls has a peer make calls that end at once and not read how they end.
func TestFloodOfCalls(t *testing.T) {
	t.Parallel()
	simulate(t, Config{Handle: func(Stream) {}}, func(t *testing.T, s *simulated) {
		conn := s.dial()
		_, _ = conn.Write([]byte(http2.ClientPreface))
		block := []byte{0x83, 0x86, 0x04, byte(len(Path))} // :method POST, :scheme http, :path
		block = append(block, Path...)
		block = append(append(block, 0x0f, 0x10, 16), "application/grpc"...) // content-type
		frames := appendFrame(nil, 0, http2.FrameSettings, 0, 0)
		const most = 40_000
		for i := range uint32(most) {
			frames = appendFrame(frames, len(block), http2.FrameHeaders, http2.FlagHeadersEndHeaders|http2.FlagHeadersEndStream, 2*i+1)
			frames = append(frames, block...)
			if i%100 != 99 {
				continue
			}
			if _, err := conn.Write(frames); err != nil {
				return // it was cut off
			}
			frames = frames[:0]
			synctest.Wait() // the calls end, so that none is refused
		}
		t.Errorf("%d calls were made by a peer that reads no answer, and %d KiB wait for it", most, queueSize(s.server)>>10)
	})
}

// queueSize gives what the queues of a server's connections take, with what it takes to queue it.
func queueSize(s *Server) (n uint64) {
	for _, c := range s.all() {
		var p *pipe
		switch c := c.(type) {
		case *wsStream:
			p = &c.pipe
		case *grpcConn:
			p = &c.pipe
		default:
			continue
		}
		p.mu.Lock()
		n += uint64(cap(p.queue))*uint64(unsafe.Sizeof(waiting{})) + uint64(p.queued)
		p.mu.Unlock()
	}
	return n
}

// TestEndlessHeaders has the headers of a call go on for ever, in all the ways there are.
func TestEndlessHeaders(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Handle: echo})
	long := append([]byte{0, 1, 'x', 0x7f, 0x80, 0x3f}, make([]byte, 127+63*128)...) // a value of 8 KiB
	for i := range long[6:] {
		long[6+i] = 'x'
	}
	t.Run("continuations", func(t *testing.T) {
		t.Parallel()
		c := newH2(t, s.dial(t))
		c.write(func(f *http2.Framer) error {
			return f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.encode()})
		})
		for range 100 {
			c.write(func(f *http2.Framer) error { return f.WriteContinuation(1, false, long) })
		}
		if got := c.await("a goaway", isGoAway); got.code == http2.ErrCodeNo {
			t.Errorf("the code is %v", got.code)
		}
	})
	t.Run("one of many fields", func(t *testing.T) {
		t.Parallel()
		c := newH2(t, s.dial(t))
		block := c.encode()
		for range 10_000 {
			block = append(block, 0x82) // :method GET, a byte each
		}
		c.write(func(f *http2.Framer) error {
			return f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block, EndHeaders: true})
		})
		c.await("a refusal", func(f h2Frame) bool { return isGoAway(f) || isReset(1)(f) || isTrailers(1)(f) })
	})
	t.Run("too long", func(t *testing.T) {
		t.Parallel()
		c := newH2(t, s.dial(t))
		block := append(append(c.encode(), long...), long...)
		c.write(func(f *http2.Framer) error {
			return f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block[:9000]})
		})
		c.write(func(f *http2.Framer) error { return f.WriteContinuation(1, true, block[9000:]) })
		if got := c.await("trailers", isTrailers(1)); got.fields["grpc-status"] != "8" {
			t.Errorf("it ended with %v", got.fields)
		}
		c.alive(1)
	})
}

// TestEmptyContinuations checks that headers that never end, of frames without anything, end with the connection.
func TestEmptyContinuations(t *testing.T) {
	t.Parallel()
	simulate(t, Config{Handle: echo}, func(t *testing.T, s *simulated) {
		c := newH2(t, s.dial())
		c.write(func(f *http2.Framer) error {
			return f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.encode()})
		})
		for begin := time.Now(); time.Since(begin) < 2*IdleAfter; <-time.After(time.Second) {
			if f := c.framer.WriteContinuation(1, false, nil); f != nil {
				return // it was cut off
			}
		}
		t.Error("the server still waits for the end of the headers")
	})
}

// TestEmptyFrames sends many frames with nothing in them: they cost time, but nothing is kept.
func TestEmptyFrames(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Handle: echo})
	c := newH2(t, s.dial(t))
	c.call(1, false)
	var empty []byte
	for range 50_000 {
		empty = appendFrame(empty, 0, http2.FrameData, 0, 1)
	}
	c.send(empty)
	c.data(1, true, inGRPC([]byte("x")))
	c.await("the end", isTrailers(1))
}

// TestManySmallMessages sends what costs most to take apart: messages of nothing, as many as the window takes.
func TestManySmallMessages(t *testing.T) {
	t.Parallel()
	var got atomic.Int64
	s := start(t, Config{Handle: func(s Stream) {
		for {
			if _, err := s.Receive(); err == io.EOF {
				return
			} else if err == nil {
				got.Add(1)
			}
		}
	}})
	c := newH2(t, s.dial(t))
	c.call(1, false)
	const n = 65535 / messagePrefix
	all := make([]byte, n*messagePrefix)
	for len(all) > maxDataFrame {
		c.data(1, false, all[:maxDataFrame])
		all = all[maxDataFrame:]
	}
	c.data(1, true, all)
	c.await("the end", isTrailers(1))
	if got.Load() != n {
		t.Errorf("%d messages came, want %d", got.Load(), n)
	}
}
