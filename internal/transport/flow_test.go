package transport

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
)

// isData is a frame of so many bytes of a stream.
func isData(id uint32) func(h2Frame) bool {
	return func(f h2Frame) bool {
		return f.end == nil && f.Type == http2.FrameData && f.StreamID == id && len(f.data) > 0
	}
}

// TestWindowShrinksBelowZero checks the arithmetic of a window that settings take back while it is in use.
func TestWindowShrinksBelowZero(t *testing.T) {
	t.Parallel()
	handle, streams := hold()
	s := start(t, Config{Handle: handle})
	c := newH2(t, s.dial(t), http2.Setting{ID: http2.SettingInitialWindowSize, Val: 100})
	c.call(1, false)
	stream := await(t, streams, "a stream")
	message := bytes.Repeat([]byte("m"), 295) // 300 with its prefix
	if err := stream.Send([][]byte{message}); err != nil {
		t.Fatal(err)
	}
	c.await("100 bytes", isData(1))
	if got := len(c.body(1)); got != 100 {
		t.Fatalf("%d bytes came in a window of 100", got)
	}
	c.write(func(f *http2.Framer) error {
		return f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 10}) // now it is -90
	})
	c.window(1, 90)
	c.alive(1)
	if got := len(c.body(1)); got != 100 {
		t.Errorf("%d bytes came in a window of 0", got)
	}
	c.window(1, 1)
	c.alive(2)
	if got := len(c.body(1)); got != 101 {
		t.Errorf("%d bytes came in a window of 1", got)
	}
	if !stream.IsBehind() {
		t.Error("it is not behind")
	}
	drained := stream.Drained()
	c.write(func(f *http2.Framer) error {
		return f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1000})
	})
	await(t, drained, "drained")
	c.alive(3)
	if got := c.body(1); !bytes.Equal(got, inGRPC(message)) {
		t.Errorf("%d bytes came", len(got))
	}
}

// TestTrailersNeedNoWindow checks that a stream ends while its window is closed, if nothing else waits.
func TestTrailersNeedNoWindow(t *testing.T) {
	t.Parallel()
	handle, streams := hold()
	s := start(t, Config{Handle: handle})
	c := newH2(t, s.dial(t), http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	c.call(1, true)
	(await(t, streams, "a stream")).Close(nil, false)
	if got := c.await("trailers", isTrailers(1)); got.fields["grpc-status"] != "0" || got.fields[":status"] != "200" {
		t.Errorf("the trailers are %v", got.fields)
	}
	c.call(3, false)
	stream := await(t, streams, "a stream")
	stream.Close([]byte("last"), false)
	c.alive(1)
	if _, found := c.find(isTrailers(3)); found {
		t.Error("the trailers are before the last message")
	}
	c.window(3, 5)
	c.window(3, 4)
	c.await("trailers", isTrailers(3))
	if got := c.body(3); !bytes.Equal(got, inGRPC([]byte("last"))) {
		t.Errorf("%q came", got)
	}
	c.await("a reset: it need not go on sending", isReset(3))
}

// TestConnectionWindow has streams share the connection's window.
func TestConnectionWindow(t *testing.T) {
	t.Parallel()
	handle, streams := hold()
	s := start(t, Config{Handle: handle})
	c := newH2(t, s.dial(t), http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20})
	c.call(1, false)
	one := await(t, streams, "a stream")
	c.call(3, false)
	two := await(t, streams, "a stream")
	big := bytes.Repeat([]byte("b"), 100<<10)
	for _, stream := range []Stream{one, two} {
		if err := stream.Send([][]byte{big}); err != nil {
			t.Fatal(err)
		}
	}
	c.alive(1)
	if got := len(c.body(1)) + len(c.body(3)); got != initialWindow {
		t.Errorf("%d bytes came in a window of %d", got, initialWindow)
	}
	one.Abort()
	c.await("a reset", isReset(1))
	before := len(c.body(1))
	c.window(0, 1<<20)
	c.alive(2)
	if got := len(c.body(1)); got != before {
		t.Errorf("%d bytes came behind the reset", got-before)
	}
	if got := c.body(3); !bytes.Equal(got, inGRPC(big)) {
		t.Errorf("%d bytes came on the other stream", len(got))
	}
	if err := one.Send([][]byte{big}); !errors.Is(err, ErrEnded) {
		t.Errorf("sending on what was reset: %v", err)
	}
	if one.Drained() != nil {
		t.Error("something waits on what was reset")
	}
}

// TestReceiveWindow checks that a client is told of what was taken, and of padding, so that it can go on for ever.
func TestReceiveWindow(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Handle: func(s Stream) {
		for {
			if _, err := s.Receive(); err != nil {
				return
			}
		}
	}})
	c := newH2(t, s.dial(t))
	c.call(1, false)
	connection, stream := initialWindow, initialWindow
	message := inGRPC(bytes.Repeat([]byte("m"), 200))
	granted := func(id uint32) (n int) {
		for _, f := range c.all() {
			if isWindow(id)(f) {
				n += int(f.increment)
			}
		}
		return n
	}
	const frames = 2000
	for i := range frames {
		spent := (i + 1) * (len(message) + 1 + 50)
		until(t, "a window", func() bool { return connection+granted(0) >= spent && stream+granted(1) >= spent })
		c.write(func(f *http2.Framer) error { return f.WriteDataPadded(1, false, message, make([]byte, 50)) })
	}
	spent := frames * (len(message) + 1 + 50)
	for id, what := range []string{"the connection", "the stream"} { // the stream is, as its messages are taken
		until(t, what+" is granted all but a step", func() bool { return granted(uint32(id)) >= spent-windowStep })
	}
	c.alive(1)
	if connection, stream := granted(0), granted(1); connection > spent || stream > spent {
		t.Errorf("the connection was granted %d and the stream %d for %d", connection, stream, spent)
	}
}

// TestLargestMessage sends the largest message that is taken within the windows, again and again. It must not need a window
// that is only granted once it has come.
func TestLargestMessage(t *testing.T) {
	t.Parallel()
	for _, size := range []int{16 << 10, 48 << 10, 60 << 10, 136 << 10} {
		s := start(t, Config{Handle: echoSizes, MaxMessage: size})
		stream, err := dialGRPC(t, s.address).Join(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		got := make(chan error, 1)
		go func() {
			for range 5 {
				if err := stream.Send(hello(size - 8)); err != nil { // fields take up to 8 bytes more
					got <- err
					return
				}
				if _, err := stream.Recv(); err != nil {
					got <- err
					return
				}
			}
			got <- nil
		}()
		if err := await(t, got, "the answers"); err != nil {
			t.Errorf("a message of %d bytes, which is taken: %v", size, err)
		}
	}
}

// TestPaddedMessage has a message come in frames that are mostly padding: the windows are used up long before it is whole.
func TestPaddedMessage(t *testing.T) {
	t.Parallel()
	handle, _ := hold()
	s := start(t, Config{Handle: handle})
	c := newH2(t, s.dial(t))
	c.call(1, false)
	for range 200 {
		c.write(func(f *http2.Framer) error { return f.WriteDataPadded(1, false, nil, make([]byte, 254)) })
	}
	c.alive(1)
	if _, found := c.find(isWindow(1)); !found {
		t.Error("51000 bytes of padding came, and the stream was granted nothing for them")
	}
}

// TestMistakeBehindClosedWindow checks that a call ends, by force if need be, when the client made a mistake and does not
// take what waits for it. Its handler is long gone.
func TestMistakeBehindClosedWindow(t *testing.T) {
	t.Parallel()
	simulate(t, Config{Handle: func(s Stream) {
		_ = s.Send([][]byte{[]byte("this waits for a window")})
		_, _ = s.Receive()
	}}, func(t *testing.T, s *simulated) {
		c := newH2(t, s.dial(), http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
		c.call(1, false)
		synctest.Wait()                         // the handler has sent
		c.data(1, false, []byte{1, 0, 0, 0, 0}) // compressed
		for range 5 {                           // it is alive, so nobody sweeps it away
			<-time.After(closeWithin)
			c.alive(1)
		}
		if _, found := c.find(isReset(1)); !found {
			t.Error("the stream is still there")
		}
	})
}

// TestGoAwayBehindQueue checks that a client is told of its mistake even if the kernel did not take all before it: here
// everything goes by way of the queue.
func TestGoAwayBehindQueue(t *testing.T) {
	t.Parallel()
	simulate(t, Config{Handle: echo}, func(t *testing.T, s *simulated) {
		c := newH2(t, s.dial())
		c.write(func(f *http2.Framer) error { return f.WriteRawFrame(http2.FramePing, 0, 1, make([]byte, 8)) })
		synctest.Wait()
		if got, found := c.find(isGoAway); !found || got.code != http2.ErrCodeProtocol {
			t.Errorf("no goaway came, but %v", c.all())
		}
	})
}

// TestHalfMessage checks that a call whose last message is not whole is not taken for one that ended in order.
func TestHalfMessage(t *testing.T) {
	t.Parallel()
	ends := make(chan error, 1)
	s := start(t, Config{Handle: func(s Stream) {
		_, err := s.Receive()
		ends <- err
	}})
	c := newH2(t, s.dial(t))
	c.call(1, false)
	c.data(1, true, []byte{0, 0, 0, 0, 9, 'h'})
	if err := await(t, ends, "the end"); errors.Is(err, io.EOF) {
		t.Errorf("half a message is %v", err)
	}
	c.await("trailers", isTrailers(1))
}

// TestHeaderTableResize checks RFC 7541, 4.2: who is asked for a smaller table says so in its next block, whether it uses one or
// not. Some peers insist.
func TestHeaderTableResize(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Handle: echo})
	c := newH2(t, s.dial(t), http2.Setting{ID: http2.SettingHeaderTableSize, Val: 0})
	c.alive(1)
	c.call(1, true)
	got := c.await("headers", func(f h2Frame) bool { return f.Type == http2.FrameHeaders })
	if len(got.block) == 0 || got.block[0]&0xe0 != 0x20 {
		t.Errorf("the block begins with %#x", got.block[:1])
	}
}
