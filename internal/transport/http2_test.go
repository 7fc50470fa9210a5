package transport

import (
	"bytes"
	"testing"

	"golang.org/x/net/http2"
)

// TestHTTP2ConnectionErrors checks the code of a mistake that is the whole connection's, and that nothing is left of it.
func TestHTTP2ConnectionErrors(t *testing.T) {
	t.Parallel()
	raw := func(kind http2.FrameType, flags http2.Flags, id uint32, payload ...byte) func(*h2Client) {
		return func(c *h2Client) {
			c.write(func(f *http2.Framer) error { return f.WriteRawFrame(kind, flags, id, payload) })
		}
	}
	settings := func(settings ...http2.Setting) func(*h2Client) {
		return func(c *h2Client) { c.write(func(f *http2.Framer) error { return f.WriteSettings(settings...) }) }
	}
	for name, test := range map[string]struct {
		do   func(*h2Client)
		want http2.ErrCode
	}{
		"data on stream 0":           {raw(http2.FrameData, 0, 0, 1, 2), http2.ErrCodeProtocol},
		"data on an idle stream":     {raw(http2.FrameData, 0, 7, 1, 2), http2.ErrCodeProtocol},
		"padding beyond the data":    {raw(http2.FrameData, http2.FlagDataPadded, 1, 200, 2), http2.ErrCodeProtocol},
		"headers on stream 0":        {raw(http2.FrameHeaders, http2.FlagHeadersEndHeaders, 0, 0x82), http2.ErrCodeProtocol},
		"headers on an even stream":  {raw(http2.FrameHeaders, http2.FlagHeadersEndHeaders, 2, 0x82), http2.ErrCodeProtocol},
		"headers that are not HPACK": {raw(http2.FrameHeaders, http2.FlagHeadersEndHeaders, 7, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff), http2.ErrCodeCompression},
		"headers twice":              {func(c *h2Client) { c.call(1, false) }, http2.ErrCodeProtocol},
		"a stream's number backwards": {func(c *h2Client) {
			c.call(9, false)
			c.call(7, false)
		}, http2.ErrCodeProtocol},
		"a continuation of nothing": {raw(http2.FrameContinuation, http2.FlagContinuationEndHeaders, 1, 0x82), http2.ErrCodeProtocol},
		"headers not continued": {func(c *h2Client) {
			raw(http2.FrameHeaders, 0, 7, 0x83)(c)
			raw(http2.FramePing, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8)(c)
		}, http2.ErrCodeProtocol},
		"headers continued elsewhere": {func(c *h2Client) {
			raw(http2.FrameHeaders, 0, 7, 0x83)(c)
			raw(http2.FrameContinuation, 0, 9, 0x84)(c)
		}, http2.ErrCodeProtocol},
		"a push":                       {raw(http2.FramePushPromise, http2.FlagPushPromiseEndHeaders, 1, 0, 0, 0, 2, 0x82), http2.ErrCodeProtocol},
		"settings of half a setting":   {raw(http2.FrameSettings, 0, 0, 0, 1, 0, 0, 0), http2.ErrCodeFrameSize},
		"an acknowledgement with more": {raw(http2.FrameSettings, http2.FlagSettingsAck, 0, 0, 1, 0, 0, 0, 0), http2.ErrCodeFrameSize},
		"settings of a stream":         {raw(http2.FrameSettings, 0, 1), http2.ErrCodeProtocol},
		"a window too large":           {settings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 31}), http2.ErrCodeFlowControl},
		"a second window too large": {settings(
			http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 16}, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 31},
		), http2.ErrCodeFlowControl},
		"a push setting that is none": {settings(http2.Setting{ID: http2.SettingEnablePush, Val: 2}), http2.ErrCodeProtocol},
		"a frame size that is none":   {settings(http2.Setting{ID: http2.SettingMaxFrameSize, Val: 1}), http2.ErrCodeProtocol},
		"a window that grows too large by settings": {func(c *h2Client) {
			c.window(1, maxWindow-initialWindow)
			settings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: initialWindow + 1})(c)
		}, http2.ErrCodeFlowControl},
		"a short ping":                     {raw(http2.FramePing, 0, 0, 1, 2, 3), http2.ErrCodeFrameSize},
		"a ping of a stream":               {raw(http2.FramePing, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8), http2.ErrCodeProtocol},
		"a goaway of a stream":             {raw(http2.FrameGoAway, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0), http2.ErrCodeProtocol},
		"a short goaway":                   {raw(http2.FrameGoAway, 0, 0, 0, 0, 0, 0), http2.ErrCodeFrameSize},
		"a window update of nothing":       {raw(http2.FrameWindowUpdate, 0, 0, 0, 0, 0, 0), http2.ErrCodeProtocol},
		"a short window update":            {raw(http2.FrameWindowUpdate, 0, 0, 0, 0, 1), http2.ErrCodeFrameSize},
		"a window update of an idle one":   {raw(http2.FrameWindowUpdate, 0, 7, 0, 0, 0, 1), http2.ErrCodeProtocol},
		"nothing more for an idle stream":  {raw(http2.FrameWindowUpdate, 0, 7, 0, 0, 0, 0), http2.ErrCodeProtocol},
		"the connection's window too wide": {func(c *h2Client) { c.window(0, maxWindow) }, http2.ErrCodeFlowControl},
		"a reset of an idle stream":        {raw(http2.FrameRSTStream, 0, 7, 0, 0, 0, 8), http2.ErrCodeProtocol},
		"a reset of stream 0":              {raw(http2.FrameRSTStream, 0, 0, 0, 0, 0, 8), http2.ErrCodeProtocol},
		"a short reset":                    {raw(http2.FrameRSTStream, 0, 1, 0, 0, 8), http2.ErrCodeFrameSize},
		"a frame too large": {func(c *h2Client) {
			c.send([]byte{0, 0x40, 1, byte(http2.FrameData), 0, 0, 0, 0, 1})
		}, http2.ErrCodeFrameSize},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			handle, _ := hold()
			s := start(t, Config{Handle: handle})
			c := newH2(t, s.dial(t))
			c.call(1, false)
			test.do(c)
			if got := c.await("a goaway", isGoAway); got.code != test.want {
				t.Errorf("the code is %v, want %v", got.code, test.want)
			}
			c.ended()
			until(t, "the server forgets the connection", gone(s.server))
		})
	}
}

// TestHTTP2Preface checks connections that begin as HTTP/2 and are not.
func TestHTTP2Preface(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Handle: echo})
	for _, preface := range []string{"PRI * HTTP/2.0\r\n\r\nSM\r\n\rX", "PRI x HTTP/2.0\r\n\r\nSM\r\n\r\n"} {
		c := rawH2(t, s.dial(t))
		c.send([]byte(preface))
		if got := c.await("a goaway", isGoAway); got.code != http2.ErrCodeProtocol {
			t.Errorf("the code is %v", got.code)
		}
		c.ended()
	}
	c := rawH2(t, s.dial(t))
	c.send([]byte(http2.ClientPreface))
	c.write(func(f *http2.Framer) error { return f.WritePing(false, [8]byte{}) }) // RFC 9113, 3.4: settings come first
	if got := c.await("a goaway", isGoAway); got.code != http2.ErrCodeProtocol {
		t.Errorf("the code is %v", got.code)
	}
	until(t, "the server forgets the connections", gone(s.server))
}

// TestHTTP2StreamErrors checks the code of a mistake that is one stream's, and that the connection and the other streams go on.
func TestHTTP2StreamErrors(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		do   func(*h2Client)
		want http2.ErrCode
	}{
		"data behind the end": {func(c *h2Client) {
			c.data(3, true, nil)
			c.data(3, false, []byte{0})
		}, http2.ErrCodeStreamClosed},
		"more than the window": {func(c *h2Client) {
			for range 5 {
				c.data(3, false, bytes.Repeat(inGRPC(make([]byte, 1)), 16<<10/6))
			}
		}, http2.ErrCodeFlowControl},
		"nothing more":      {func(c *h2Client) { c.window(3, 0) }, http2.ErrCodeProtocol},
		"a window too wide": {func(c *h2Client) { c.window(3, maxWindow) }, http2.ErrCodeFlowControl},
		"a header in capitals": {func(c *h2Client) {
			c.call(5, false, "X-Capital", "x")
			c.data(5, false, inGRPC([]byte("on its way already")))
			c.window(5, 1)
		}, http2.ErrCodeProtocol},
		"a pseudo-header that is none": {func(c *h2Client) { c.call(5, false, ":what", "x") }, http2.ErrCodeProtocol},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			release := make(chan struct{})
			s := start(t, Config{Handle: func(s Stream) {
				<-release
				echo(s)
			}})
			c := newH2(t, s.dial(t))
			c.call(1, false)
			c.call(3, false)
			test.do(c)
			got := c.await("a reset", func(f h2Frame) bool { return f.end == nil && f.Type == http2.FrameRSTStream })
			if got.code != test.want {
				t.Errorf("the code is %v, want %v", got.code, test.want)
			}
			close(release)
			c.alive(1)
			c.data(1, false, inGRPC([]byte("x")))
			c.await("the echo", func(f h2Frame) bool { return f.Type == http2.FrameData && f.StreamID == 1 })
			if _, found := c.find(isGoAway); found {
				t.Error("the connection is over")
			}
		})
	}
}

// TestHTTP2Ignored checks what asks for nothing.
func TestHTTP2Ignored(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Handle: echo})
	c := newH2(t, s.dial(t), http2.Setting{ID: 0x99, Val: 1})
	c.call(1, false)
	c.call(3, true)
	c.await("the end of a stream", isTrailers(3))
	for _, frame := range []func(*http2.Framer) error{
		func(f *http2.Framer) error { return f.WriteRawFrame(0x42, 0xff, 99, []byte("unknown")) },
		func(f *http2.Framer) error { return f.WritePriority(1, http2.PriorityParam{StreamDep: 3, Weight: 9}) },
		func(f *http2.Framer) error { return f.WritePriority(77, http2.PriorityParam{StreamDep: 3, Weight: 9}) },
		func(f *http2.Framer) error { return f.WriteSettingsAck() },
		func(f *http2.Framer) error { return f.WritePing(true, [8]byte{}) },
		func(f *http2.Framer) error { return f.WriteWindowUpdate(3, 9) },
		func(f *http2.Framer) error { return f.WriteRSTStream(3, http2.ErrCodeCancel) },
		func(f *http2.Framer) error { return f.WriteGoAway(0, http2.ErrCodeNo, nil) },
		func(f *http2.Framer) error { return f.WriteDataPadded(1, false, nil, make([]byte, 99)) },
		func(f *http2.Framer) error { return f.WriteData(1, false, nil) },
	} {
		c.write(frame)
	}
	c.data(1, false, inGRPC([]byte("x")))
	c.await("the echo", func(f h2Frame) bool { return f.Type == http2.FrameData && f.StreamID == 1 })
	c.alive(1)
	for _, f := range c.all() {
		if f.Type == http2.FrameGoAway || f.Type == http2.FrameRSTStream && f.StreamID == 1 {
			t.Errorf("this was answered by %v", f)
		}
	}
}

// TestHTTP2HeadersInParts has the headers of a call come in many frames, padded, with a priority.
func TestHTTP2HeadersInParts(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Handle: echo})
	c := newH2(t, s.dial(t))
	block := c.encode("x-long", string(bytes.Repeat([]byte("x"), 1000)))
	c.write(func(f *http2.Framer) error {
		return f.WriteHeaders(http2.HeadersFrameParam{
			StreamID: 1, BlockFragment: block[:10], PadLength: 33, Priority: http2.PriorityParam{StreamDep: 0, Weight: 3},
		})
	})
	for i := 10; i < len(block); i += 20 {
		part := block[i:min(i+20, len(block))]
		c.write(func(f *http2.Framer) error { return f.WriteContinuation(1, i+20 >= len(block), part) })
	}
	c.data(1, true, inGRPC([]byte("one"), nil, []byte("two")))
	c.await("the end", isTrailers(1))
	messages, left := outOfGRPC(c.body(1))
	if left != 0 || len(messages) != 4 || string(messages[0]) != "one" || len(messages[1]) != 0 || string(messages[2]) != "two" {
		t.Errorf("%q came, and %d bytes more", messages, left)
	}
}

// TestHTTP2StreamsBound checks that no more calls are under way than were agreed.
func TestHTTP2StreamsBound(t *testing.T) {
	t.Parallel()
	handle, _ := hold()
	s := start(t, Config{Handle: handle})
	c := newH2(t, s.dial(t))
	for i := range uint32(maxStreams + 1) {
		c.call(2*i+1, false)
	}
	got := c.await("a reset", func(f h2Frame) bool { return f.end == nil && f.Type == http2.FrameRSTStream })
	if got.StreamID != 2*maxStreams+1 || got.code != http2.ErrCodeRefusedStream {
		t.Errorf("%v was reset with %v", got.StreamID, got.code)
	}
	c.write(func(f *http2.Framer) error { return f.WriteRSTStream(1, http2.ErrCodeCancel) })
	c.call(2*maxStreams+3, false)
	c.alive(1)
	if f, found := c.find(isReset(2*maxStreams + 3)); found {
		t.Errorf("there is room again, and a call was answered by %v", f)
	}
}
