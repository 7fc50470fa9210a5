package transport

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/gobwas/ws"
)

// fuzzed is a server that reads bytes from whoever is the worst of clients.
type fuzzed struct {
	server   *Server
	listener *memoryListener
}

// fuzzServer serves in memory until the fuzzing is over.
func fuzzServer(f *testing.F) *fuzzed {
	f.Helper()
	s := &fuzzed{listener: newMemoryListener(), server: NewServer(Config{MaxMessage: 8 << 10, Handle: func(s Stream) {
		for {
			message, err := s.Receive()
			if err != nil {
				s.Close([]byte("over"), errors.Is(err, ErrMistake))
				return
			}
			if len(message) > 8<<10 {
				panic("a message is larger than what is taken")
			}
			_ = s.Send([][]byte{append([]byte(nil), message...), nil})
		}
	}})}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.server.Serve(ctx, s.listener, time.Second) }()
	f.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			f.Error(err)
		}
	})
	return s
}

// feed sends bytes to a server on a connection of its own, those behind a handshake once that is answered, reads what comes, hangs
// up, and wants nothing to be left of it.
func (s *fuzzed) feed(t *testing.T, handshake string, b []byte) {
	t.Helper()
	if len(b) > 64<<10 {
		t.Skip("it is long, and says nothing new")
	}
	conn := s.listener.dial()
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer conn.Close()
		if handshake != "" {
			_, _ = conn.Write([]byte(handshake))
			_, _ = conn.Read(make([]byte, 1<<10)) // the answer
		}
		var reading sync.WaitGroup
		defer reading.Wait()
		reading.Go(func() { _, _ = io.Copy(io.Discard, conn) })
		_, _ = conn.Write(b)
		if waits := queueSize(s.server); waits > queueMost {
			t.Errorf("%d bytes wait", waits)
		}
		_ = conn.Close()
	}()
	await(t, done, "the server reads on, or hangs up")
	until(t, "the server forgets the connection", gone(s.server))
}

// FuzzGRPCServer feeds a server what comes behind the preface.
func FuzzGRPCServer(f *testing.F) {
	seed := &h2Client{}
	seed.hpack = hpack.NewEncoder(&seed.block)
	block := seed.encode()
	seeds := [][]byte{{}}
	add := func(frames ...[]byte) {
		var all []byte
		for _, b := range frames {
			all = append(all, b...)
		}
		seeds = append(seeds, all)
	}
	frame := func(kind http2.FrameType, flags http2.Flags, id uint32, payload ...byte) []byte {
		return append(appendFrame(nil, len(payload), kind, flags, id), payload...)
	}
	settings := frame(http2.FrameSettings, 0, 0)
	call := frame(http2.FrameHeaders, http2.FlagHeadersEndHeaders, 1, block...)
	small := frame(http2.FrameSettings, 0, 0, 0, 4, 0, 0, 0, 3)
	message := frame(http2.FrameData, 0, 1, inGRPC([]byte("hello"), nil)...)
	add(settings, call, message, frame(http2.FrameData, http2.FlagDataEndStream, 1))
	add(settings, frame(http2.FrameHeaders, 0, 1, block[:5]...), frame(http2.FrameContinuation, http2.FlagContinuationEndHeaders, 1, block[5:]...), message)
	add(small, call, message, frame(http2.FrameWindowUpdate, 0, 1, 0, 0, 0, 9), frame(http2.FrameSettings, 0, 0, 0, 4, 0, 0, 0, 0), message)
	add(small, call, message, frame(http2.FrameRSTStream, 0, 1, 0, 0, 0, 8), frame(http2.FramePing, 0, 0, make([]byte, 8)...))
	add(settings, call, frame(http2.FrameData, http2.FlagDataPadded, 1, 4, 0, 0, 0, 0, 1, 'x', 0, 0, 0, 0), frame(http2.FramePriority, 0, 1, 0, 0, 0, 0, 1))
	add(settings, call, frame(http2.FrameData, 0, 1, 0, 0xff, 0xff, 0xff, 0xff), frame(http2.FrameGoAway, 0, 0, make([]byte, 8)...))
	add(settings, call, frame(http2.FrameData, 0, 1, 1, 0, 0, 0, 0), frame(http2.FrameHeaders, 5, 1, block...), frame(0x77, 1, 0, 1))
	for _, seed := range seeds {
		f.Add(seed)
	}
	server := fuzzServer(f)
	f.Fuzz(func(t *testing.T, b []byte) { server.feed(t, "", append([]byte(http2.ClientPreface), b...)) })
}

// FuzzWebSocketServer feeds a server what comes behind the handshake.
func FuzzWebSocketServer(f *testing.F) {
	part := wsFrame(ws.OpText, false, []byte("par"))
	f.Add([]byte{})
	f.Add(wsFrame(ws.OpText, true, []byte("hello")))
	f.Add(slices.Concat(part, wsFrame(ws.OpPing, true, []byte("p")), wsFrame(ws.OpContinuation, true, []byte("ts"))))
	f.Add(slices.Concat(part, []byte{0x80, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4}))
	f.Add([]byte{0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4})
	f.Add(wsFrame(ws.OpBinary, true, make([]byte, 300)))
	f.Add(append(wsFrame(ws.OpClose, true, []byte("\x03\xe8bye")), wsFrame(ws.OpText, true, []byte("more"))...))
	f.Add(wsFrame(ws.OpClose, true, []byte{1}))
	f.Add([]byte{0xf1, 0x80, 0, 0, 0, 0})
	f.Add(ws.MustCompileFrame(ws.NewTextFrame([]byte("no mask"))))
	server := fuzzServer(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		server.feed(t, request(subprotocolJSON), b)
	})
}

// FuzzSniff feeds a server all there is from the beginning.
func FuzzSniff(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte("PRI"))
	f.Add([]byte(http2.ClientPreface))
	f.Add(append([]byte(http2.ClientPreface), appendFrame(nil, 0, http2.FrameSettings, 0, 0)...))
	f.Add([]byte("PRI * HTTP/1.1\r\n\r\n"))
	f.Add([]byte(request("")))
	f.Add(append([]byte(request(subprotocolProto)), wsFrame(ws.OpBinary, true, []byte("x"))...))
	f.Add([]byte("GET / HTTP/1.0\r\n\r\n"))
	f.Add([]byte("POST " + Path + " HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"))
	f.Add([]byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")) // TLS
	server := fuzzServer(f)
	f.Fuzz(func(t *testing.T, b []byte) { server.feed(t, "", b) })
}
