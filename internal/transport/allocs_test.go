package transport

import (
	"io"
	"net"
	"runtime"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// swallow reads a connection until it ends.
func swallow(t testing.TB, conn net.Conn) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(io.Discard, conn)
	}()
	t.Cleanup(func() {
		_ = conn.Close()
		<-done
	})
}

// joinAndSwallow opens a stream on a connection that takes all that comes.
var joinAndSwallow = map[string]func(t testing.TB, conn net.Conn){
	"gRPC": func(t testing.TB, conn net.Conn) {
		t.Helper()
		c := &h2Client{t: t, conn: conn, framer: http2.NewFramer(conn, nil)}
		c.hpack = hpack.NewEncoder(&c.block)
		c.send([]byte(http2.ClientPreface))
		c.write(func(f *http2.Framer) error {
			return f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: maxWindow})
		})
		c.window(0, maxWindow-initialWindow)
		c.call(1, false)
		swallow(t, conn)
	},
	"WebSocket": func(t testing.TB, conn net.Conn) {
		t.Helper()
		shake(t, conn, subprotocolProto)
		swallow(t, conn)
	},
}

// TestSendAllocatesNothing checks the way of a message when its client keeps up.
func TestSendAllocatesNothing(t *testing.T) { //nolint:paralleltest // what others allocate would count
	if racing {
		t.Skip("the race detector allocates")
	}
	for name, join := range joinAndSwallow {
		t.Run(name, func(t *testing.T) {
			handle, streams := hold()
			s := start(t, Config{Handle: handle})
			join(t, s.dial(t))
			stream := await(t, streams, "a stream")
			for what, messages := range map[string][][]byte{
				"a message":    {make([]byte, 100)},
				"messages":     {make([]byte, 100), nil, make([]byte, 1000)},
				"a large one":  {make([]byte, 15<<10)},
				"a larger one": {make([]byte, 40<<10)},
			} {
				allocs := testing.AllocsPerRun(200, func() {
					if err := stream.Send(messages); err != nil {
						t.Fatal(err)
					}
					for stream.IsBehind() {
						runtime.Gosched()
					}
				})
				switch {
				case what == "a larger one":
					t.Logf("%s: %v allocations", what, allocs)
				case allocs != 0:
					t.Errorf("%s: %v allocations", what, allocs)
				}
			}
		})
	}
}

// BenchmarkSend sends a message to a client that keeps up.
func BenchmarkSend(b *testing.B) {
	for name, join := range joinAndSwallow {
		b.Run(name, func(b *testing.B) {
			handle, streams := hold()
			s := start(b, Config{Handle: handle})
			join(b, s.dial(b))
			stream := await(b, streams, "a stream")
			messages := [][]byte{make([]byte, 200)}
			b.ReportAllocs()
			for b.Loop() {
				if err := stream.Send(messages); err != nil {
					drained := stream.Drained()
					if drained == nil {
						continue
					}
					<-drained
				}
			}
		})
	}
}

// BenchmarkIdle reports what a connection takes that has a stream, and is idle. Its client is in the same process, so its
// memory counts, too; that is of a connection alone, without buffers.
func BenchmarkIdle(b *testing.B) {
	const n = 500
	for name, join := range joinIdle {
		b.Run(name, func(b *testing.B) {
			handle, streams := hold()
			s := start(b, Config{Handle: handle})
			conns := make([]net.Conn, n)
			for b.Loop() {
				before := inUse()
				for i := range conns {
					conns[i] = s.dial(b)
				}
				until(b, "all are accepted", func() bool { return len(s.server.all()) == n })
				dialed := inUse()
				for _, conn := range conns {
					join(b, conn)
					await(b, streams, "a stream")
				}
				after := inUse()
				b.ReportMetric(float64(after-before)/n, "bytes/conn")
				b.ReportMetric(float64(dialed-before)/n, "bytes/newcomer")
				for _, conn := range conns {
					_ = conn.Close()
				}
				until(b, "all are gone", gone(s.server))
			}
		})
	}
}

// joinIdle opens a stream on a connection by no more than bytes.
var joinIdle = map[string]func(b *testing.B, conn net.Conn){
	"gRPC": func(b *testing.B, conn net.Conn) {
		b.Helper()
		c := &h2Client{t: b, conn: conn, framer: http2.NewFramer(conn, nil)}
		c.hpack = hpack.NewEncoder(&c.block)
		c.send([]byte(http2.ClientPreface))
		c.write(func(f *http2.Framer) error { return f.WriteSettings() })
		c.call(1, false)
	},
	"WebSocket": func(b *testing.B, conn net.Conn) {
		b.Helper()
		if _, err := conn.Write([]byte(request(subprotocolProto))); err != nil {
			b.Fatal(err)
		}
	},
}

// inUse gives the memory in use for the heap and for stacks.
func inUse() uint64 {
	for range 3 { // stacks shrink now, and what was in pools is gone
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}
