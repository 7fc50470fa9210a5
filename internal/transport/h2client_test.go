package transport

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// h2Frame is a frame that a server sent.
type h2Frame struct {
	http2.FrameHeader
	data      []byte
	fields    map[string]string
	block     []byte // of headers, as it came
	code      http2.ErrCode
	last      uint32
	increment uint32
	end       error // the connection has ended; there is no frame
}

func (f h2Frame) String() string {
	return fmt.Sprintf("%v %v code %v fields %v end %v", f.FrameHeader, len(f.data), f.code, f.fields, f.end)
}

// h2Client speaks HTTP/2 by single frames, and makes mistakes if it is told to.
type h2Client struct {
	t      testing.TB
	conn   net.Conn
	framer *http2.Framer
	block  bytes.Buffer
	hpack  *hpack.Encoder

	reads  chan struct{} // closed once the client is to read
	resume func()        // has it read

	mu      sync.Mutex
	got     []h2Frame     // guarded by mu
	changed chan struct{} // guarded by mu; closed when got grows
}

// newH2 says hello on a connection and reads what comes.
func newH2(t testing.TB, conn net.Conn, settings ...http2.Setting) *h2Client {
	t.Helper()
	c := rawH2(t, conn)
	c.send([]byte(http2.ClientPreface))
	c.write(func(f *http2.Framer) error { return f.WriteSettings(settings...) })
	return c
}

// rawH2 is newH2 without the hello.
func rawH2(t testing.TB, conn net.Conn) *h2Client {
	c := pausedH2(t, conn)
	c.resume()
	return c
}

// pausedH2 is rawH2 that does not read yet.
func pausedH2(t testing.TB, conn net.Conn) *h2Client {
	c := &h2Client{t: t, conn: conn, reads: make(chan struct{}), changed: make(chan struct{})}
	c.resume = sync.OnceFunc(func() { close(c.reads) })
	c.framer = http2.NewFramer(conn, conn)
	c.framer.AllowIllegalWrites = true
	c.hpack = hpack.NewEncoder(&c.block)
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.read()
	}()
	t.Cleanup(func() {
		_ = conn.Close()
		c.resume()
		<-done
	})
	return c
}

func (c *h2Client) read() {
	<-c.reads
	decoder := hpack.NewDecoder(4096, nil)
	for {
		f, err := c.framer.ReadFrame()
		got := h2Frame{end: err}
		if err == nil {
			got = describe(f, decoder)
		}
		c.mu.Lock()
		c.got = append(c.got, got)
		close(c.changed)
		c.changed = make(chan struct{})
		c.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// describe copies what a test wants to know of a frame.
func describe(frame http2.Frame, decoder *hpack.Decoder) h2Frame {
	got := h2Frame{FrameHeader: frame.Header()}
	switch f := frame.(type) {
	case *http2.DataFrame:
		got.data = bytes.Clone(f.Data())
	case *http2.HeadersFrame:
		got.block = bytes.Clone(f.HeaderBlockFragment())
		got.fields = map[string]string{}
		fields, err := decoder.DecodeFull(f.HeaderBlockFragment())
		if err != nil {
			got.end = err
		}
		for _, field := range fields {
			got.fields[field.Name] = field.Value
		}
	case *http2.RSTStreamFrame:
		got.code = f.ErrCode
	case *http2.GoAwayFrame:
		got.code, got.last = f.ErrCode, f.LastStreamID
	case *http2.WindowUpdateFrame:
		got.increment = f.Increment
	case *http2.PingFrame:
		got.data = bytes.Clone(f.Data[:])
	}
	return got
}

// all gives what has come so far.
func (c *h2Client) all() []h2Frame {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]h2Frame(nil), c.got...)
}

// find gives the first frame that is wanted, if it has come.
func (c *h2Client) find(wanted func(h2Frame) bool) (h2Frame, bool) {
	for _, f := range c.all() {
		if wanted(f) {
			return f, true
		}
	}
	return h2Frame{}, false
}

// await waits for a frame that is wanted.
func (c *h2Client) await(what string, wanted func(h2Frame) bool) h2Frame {
	c.t.Helper()
	late := time.After(patience)
	for {
		c.mu.Lock()
		changed, got := c.changed, slices.Clone(c.got) // in one moment: what is wanted may come together with the end
		c.mu.Unlock()
		if i := slices.IndexFunc(got, wanted); i >= 0 {
			return got[i]
		}
		if i := slices.IndexFunc(got, func(f h2Frame) bool { return f.end != nil }); i >= 0 {
			c.t.Fatalf("%s: the connection has ended with %v before; %v came", what, got[i].end, got)
		}
		select {
		case <-changed:
		case <-late:
			c.t.Fatalf("%s: it does not come; %v came", what, c.all())
		}
	}
}

// ended waits until the server has closed the connection.
func (c *h2Client) ended() {
	c.t.Helper()
	c.await("the end of the connection", func(f h2Frame) bool { return f.end != nil })
}

func (c *h2Client) send(b []byte) {
	c.t.Helper()
	if _, err := c.conn.Write(b); err != nil {
		c.t.Logf("the server does not take more: %v", err)
	}
}

// write writes a frame; whether the server takes it is another question.
func (c *h2Client) write(frame func(*http2.Framer) error) {
	c.t.Helper()
	if err := frame(c.framer); err != nil {
		c.t.Logf("the server does not take more: %v", err)
	}
}

// encode gives a block of headers: those of a call, then others; one of the same name is taken instead.
func (c *h2Client) encode(others ...string) []byte {
	fields := []hpack.HeaderField{
		{Name: ":method", Value: "POST"}, {Name: ":scheme", Value: "http"}, {Name: ":path", Value: Path}, {Name: ":authority", Value: "x"},
		{Name: "content-type", Value: "application/grpc"}, {Name: "te", Value: "trailers"},
	}
next:
	for i := 0; i < len(others); i += 2 {
		for j := range fields {
			if fields[j].Name == others[i] {
				fields[j].Value = others[i+1]
				continue next
			}
		}
		fields = append(fields, hpack.HeaderField{Name: others[i], Value: others[i+1]})
	}
	c.block.Reset()
	for _, f := range fields {
		_ = c.hpack.WriteField(f)
	}
	return bytes.Clone(c.block.Bytes())
}

// call begins a call.
func (c *h2Client) call(id uint32, end bool, others ...string) {
	c.t.Helper()
	block := c.encode(others...)
	c.write(func(f *http2.Framer) error {
		return f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block, EndHeaders: true, EndStream: end})
	})
}

// data sends bytes of a call's body.
func (c *h2Client) data(id uint32, end bool, b []byte) {
	c.t.Helper()
	c.write(func(f *http2.Framer) error { return f.WriteData(id, end, b) })
}

func (c *h2Client) window(id, increment uint32) {
	c.t.Helper()
	c.write(func(f *http2.Framer) error { return f.WriteWindowUpdate(id, increment) })
}

// alive checks that the server still answers.
func (c *h2Client) alive(mark byte) {
	c.t.Helper()
	c.write(func(f *http2.Framer) error { return f.WritePing(false, [8]byte{mark}) })
	c.await("an answer to a ping", func(f h2Frame) bool {
		return f.Type == http2.FramePing && f.Flags.Has(http2.FlagPingAck) && f.data[0] == mark
	})
}

// body gives what came for a call so far.
func (c *h2Client) body(id uint32) []byte {
	var b []byte
	for _, f := range c.all() {
		if f.Type == http2.FrameData && f.StreamID == id && f.end == nil {
			b = append(b, f.data...)
		}
	}
	return b
}

// The kinds of frames that tests wait for.

func isGoAway(f h2Frame) bool { return f.end == nil && f.Type == http2.FrameGoAway }

func isReset(id uint32) func(h2Frame) bool {
	return func(f h2Frame) bool { return f.end == nil && f.Type == http2.FrameRSTStream && f.StreamID == id }
}

func isTrailers(id uint32) func(h2Frame) bool {
	return func(f h2Frame) bool {
		return f.end == nil && f.Type == http2.FrameHeaders && f.StreamID == id && f.Flags.Has(http2.FlagHeadersEndStream)
	}
}

func isWindow(id uint32) func(h2Frame) bool {
	return func(f h2Frame) bool { return f.end == nil && f.Type == http2.FrameWindowUpdate && f.StreamID == id }
}

// inGRPC gives messages as they are on the wire.
func inGRPC(messages ...[]byte) []byte {
	var b []byte
	for _, m := range messages {
		b = append(binary.BigEndian.AppendUint32(append(b, 0), uint32(len(m))), m...)
	}
	return b
}

// outOfGRPC takes messages apart, and says how many bytes are left of one that is not whole.
func outOfGRPC(b []byte) (messages [][]byte, left int) {
	for len(b) >= messagePrefix {
		size := int(binary.BigEndian.Uint32(b[1:]))
		if len(b) < messagePrefix+size {
			break
		}
		messages = append(messages, b[messagePrefix:messagePrefix+size])
		b = b[messagePrefix+size:]
	}
	return messages, len(b)
}
