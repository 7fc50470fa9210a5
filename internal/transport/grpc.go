package transport

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

const (
	// maxDataFrame is the largest frame either side sends: what every HTTP/2 peer takes.
	maxDataFrame = 16 << 10
	// initialWindow is HTTP/2's own: what may be on its way before the receiver says that it takes more.
	initialWindow = 64<<10 - 1
	// maxWindow is the largest that HTTP/2 knows.
	maxWindow = 1<<31 - 1
	// windowStep is how much is taken before the sender is told.
	windowStep = 16 << 10
	// maxHeaderList bounds the headers of a call, maxStreams the calls of a connection at a time.
	maxHeaderList = 16 << 10
	maxStreams    = 128
)

// grpcConn is an HTTP/2 connection that carries calls of one method of gRPC, each a stream of messages both ways. It does
// what RFC 9113 and gRPC's "gRPC over HTTP2" ask of a server, and nothing that a room does not need: one goroutine reads
// all frames, and whoever sends writes.
type grpcConn struct {
	pipe
	// Static after construction.
	server *Server
	in     *bufio.Reader
	window int           // of a stream's, for what is received
	framer *http2.Framer // reads belong to serve, writes are guarded by mu

	heard atomic.Int64 // when something was last read, on the server's clock

	// Owned by serve.
	unreturned int // bytes taken that the peer has not been told of

	// Guarded by mu.
	last       uint32 // the number of the latest stream
	streams    map[uint32]*grpcStream
	control    []byte // frames that framer has written, on their way to the pipe
	sendWindow int64
	initial    int64 // of the streams' send windows
	leaving    bool  // no new streams
	unused     int64 // since when there is no stream, on the server's clock
	handlers   int   // that run, of streams that are over, too
	resized    bool  // the next block of headers says that no table is in use
}

func newGRPCConn(server *Server, conn net.Conn, in *bufio.Reader) *grpcConn {
	c := &grpcConn{
		server: server, in: in, window: max(initialWindow, windowStep+messagePrefix+server.maxMessage), streams: map[uint32]*grpcStream{}, sendWindow: initialWindow, initial: initialWindow,
	}
	c.pipe.open(conn, server)
	c.refill = c.pumpAll
	c.unused = server.now()
	c.heard.Store(c.unused)
	c.framer = http2.NewFramer(controlWriter{c}, in)
	c.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	c.framer.MaxHeaderListSize = maxHeaderList
	c.framer.SetMaxReadFrameSize(maxDataFrame)
	c.framer.SetReuseFrames()
	return c
}

// controlWriter gathers what the framer writes.
type controlWriter struct{ conn *grpcConn }

func (w controlWriter) Write(b []byte) (int, error) {
	w.conn.control = append(w.conn.control, b...)
	return len(b), nil
}

// sendControl writes a control frame.
func (c *grpcConn) sendControl(frame func(*http2.Framer) error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sendControlLocked(frame)
}

// sendControlLocked is sendControl for who holds mu. A peer that makes us answer and does not read is cut off.
func (c *grpcConn) sendControlLocked(frame func(*http2.Framer) error) {
	c.control = c.control[:0]
	if err := frame(c.framer); err != nil { // a frame that cannot be
		c.server.logger.Error("an HTTP/2 frame could not be made", "error", err)
		c.breakOff()
		return
	}
	if c.isBehind() && c.queued > c.server.queueBytes+controlBytes {
		c.breakOff()
		return
	}
	c.write(c.control)
}

// serve reads frames until the connection ends, and ends its streams.
func (c *grpcConn) serve() {
	c.sendControl(func(f *http2.Framer) error {
		return f.WriteSettings(
			http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: maxStreams},
			http2.Setting{ID: http2.SettingInitialWindowSize, Val: uint32(c.window)},
			http2.Setting{ID: http2.SettingMaxHeaderListSize, Val: maxHeaderList})
	})
	err := c.readFrames()
	var mistake http2.ConnectionError
	mistaken := errors.As(err, &mistake)
	c.mu.Lock()
	if mistaken {
		c.sendControlLocked(func(f *http2.Framer) error { return f.WriteGoAway(c.last, http2.ErrCode(mistake), nil) })
	}
	for _, s := range c.streams {
		s.over()
	}
	c.closeBehind()
	drained := c.waitDrained()
	c.mu.Unlock()
	if !mistaken {
		return
	}
	late := time.NewTimer(c.server.closeWithin)
	defer late.Stop()
	awaitDrained(drained, late.C)
	_ = c.conn.SetReadDeadline(time.Now().Add(c.server.closeWithin)) // if it fails, so does the read
	_, _ = io.Copy(io.Discard, c.in)                                 // what is closed with something unread is reset
}

func (c *grpcConn) readFrames() error {
	preface := make([]byte, len(http2.ClientPreface))
	if _, err := io.ReadFull(c.in, preface); err != nil {
		return err
	}
	if string(preface) != http2.ClientPreface {
		return http2.ConnectionError(http2.ErrCodeProtocol)
	}
	for first := true; ; first = false {
		frame, err := c.framer.ReadFrame()
		c.heard.Store(c.server.now())
		if settings, is := frame.(*http2.SettingsFrame); first && err == nil && (!is || settings.IsAck()) {
			return http2.ConnectionError(http2.ErrCodeProtocol)
		}
		var mistake http2.StreamError
		switch {
		case errors.As(err, &mistake):
			if err := c.takeMistake(mistake); err != nil {
				return err
			}
		case errors.Is(err, http2.ErrFrameTooLarge):
			return http2.ConnectionError(http2.ErrCodeFrameSize)
		case err != nil:
			return err
		default:
			if err := c.take(frame); err != nil {
				return err
			}
		}
	}
}

// takeMistake ends a stream for a frame that is none. What follows for the stream is on its way already.
func (c *grpcConn) takeMistake(mistake http2.StreamError) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if mistake.StreamID > c.last {
		if mistake.Cause == nil || mistake.StreamID%2 == 0 { // not of headers
			return http2.ConnectionError(mistake.Code)
		}
		c.last = mistake.StreamID
	}
	c.resetLocked(mistake.StreamID, mistake.Code)
	return nil
}

// take does what a frame asks for.
func (c *grpcConn) take(frame http2.Frame) error {
	switch f := frame.(type) {
	case *http2.MetaHeadersFrame:
		return c.takeHeaders(f)
	case *http2.DataFrame:
		return c.takeData(f)
	case *http2.WindowUpdateFrame:
		return c.takeWindow(f)
	case *http2.SettingsFrame:
		return c.takeSettings(f)
	case *http2.PingFrame:
		if !f.IsAck() {
			c.sendControl(func(framer *http2.Framer) error { return framer.WritePing(true, f.Data) })
		}
	case *http2.RSTStreamFrame:
		c.mu.Lock()
		defer c.mu.Unlock()
		if f.StreamID > c.last {
			return http2.ConnectionError(http2.ErrCodeProtocol)
		}
		if s := c.streams[f.StreamID]; s != nil {
			s.over()
		}
	case *http2.PushPromiseFrame:
		return http2.ConnectionError(http2.ErrCodeProtocol)
	}
	return nil // the others ask for nothing
}

// takeHeaders begins a stream, or ends the client's side of one.
func (c *grpcConn) takeHeaders(f *http2.MetaHeadersFrame) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.streams[f.StreamID]; s != nil { // trailers
		if !f.StreamEnded() {
			return http2.ConnectionError(http2.ErrCodeProtocol)
		}
		s.clientEnded()
		return nil
	}
	if f.StreamID%2 == 0 || f.StreamID <= c.last && f.StreamID != 0 && !f.StreamEnded() || f.StreamID == 0 {
		return http2.ConnectionError(http2.ErrCodeProtocol)
	}
	if f.StreamID <= c.last {
		return nil // trailers of a stream that is over here
	}
	c.last = f.StreamID
	if c.leaving || len(c.streams) >= maxStreams || c.handlers >= 2*maxStreams {
		c.resetLocked(f.StreamID, http2.ErrCodeRefusedStream)
		return nil
	}
	s := newGRPCStream(c, f.StreamID)
	c.streams[f.StreamID] = s
	s.half = f.StreamEnded()
	if code, why := checkCall(f); code != 0 {
		s.finish(code, why)
		return nil
	}
	c.handlers++
	c.server.tasks.Go(func() {
		c.server.handle(s)
		c.mu.Lock()
		defer c.mu.Unlock()
		c.handlers--
	})
	return nil
}

// takeData gives a stream what came for it.
func (c *grpcConn) takeData(f *http2.DataFrame) error {
	c.unreturned += int(f.Length)
	if c.unreturned >= windowStep { // streams bound what is kept
		taken := uint32(c.unreturned)
		c.unreturned = 0
		c.sendControl(func(framer *http2.Framer) error { return framer.WriteWindowUpdate(0, taken) })
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if f.StreamID > c.last {
		return http2.ConnectionError(http2.ErrCodeProtocol)
	}
	s := c.streams[f.StreamID]
	if s == nil || s.closing {
		return nil // over here; the peer will see
	}
	if s.half {
		c.resetLocked(f.StreamID, http2.ErrCodeStreamClosed)
		return nil
	}
	if s.untaken += int(f.Length); s.untaken > c.window {
		c.resetLocked(f.StreamID, http2.ErrCodeFlowControl)
		return nil
	}
	s.takeBytes(f.Data(), int(f.Length))
	if f.StreamEnded() {
		s.clientEnded()
	}
	return nil
}

// takeWindow lets more be sent.
func (c *grpcConn) takeWindow(f *http2.WindowUpdateFrame) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f.StreamID == 0 {
		if c.sendWindow += int64(f.Increment); c.sendWindow > maxWindow {
			return http2.ConnectionError(http2.ErrCodeFlowControl)
		}
		c.pumpAll()
		return nil
	}
	if f.StreamID > c.last {
		return http2.ConnectionError(http2.ErrCodeProtocol)
	}
	if s := c.streams[f.StreamID]; s != nil {
		if s.sendWindow += int64(f.Increment); s.sendWindow > maxWindow {
			c.resetLocked(f.StreamID, http2.ErrCodeFlowControl)
			return nil
		}
		s.pump()
	}
	return nil
}

// takeSettings notes what the peer wants, and says so.
func (c *grpcConn) takeSettings(f *http2.SettingsFrame) error {
	if f.IsAck() {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := f.ForeachSetting(c.takeSetting); err != nil {
		return err
	}
	c.sendControlLocked((*http2.Framer).WriteSettingsAck)
	c.pumpAll()
	return nil
}

// takeSetting notes one thing that the peer wants. The caller holds mu.
func (c *grpcConn) takeSetting(setting http2.Setting) error {
	if err := setting.Valid(); err != nil {
		return err
	}
	switch setting.ID {
	case http2.SettingHeaderTableSize:
		c.resized = c.resized || setting.Val < 4096
	case http2.SettingInitialWindowSize:
		grown := int64(setting.Val) - c.initial
		c.initial = int64(setting.Val)
		for _, s := range c.streams {
			if s.sendWindow += grown; s.sendWindow > maxWindow {
				return http2.ConnectionError(http2.ErrCodeFlowControl)
			}
		}
	}
	return nil
}

// block begins a block of headers. The caller holds mu.
func (c *grpcConn) block() []byte {
	b := make([]byte, 0, 64)
	if c.resized {
		c.resized = false
		b = append(b, 0x20) // the table has no room any more
	}
	return b
}

// pumpAll sends what waits for windows or for the connection. The caller holds mu.
func (c *grpcConn) pumpAll() {
	for _, s := range c.streams {
		s.pump()
	}
}

// resetLocked ends a stream in a hurry, with a code of HTTP/2. The caller holds mu.
func (c *grpcConn) resetLocked(id uint32, code http2.ErrCode) {
	if s := c.streams[id]; s != nil {
		s.over()
	}
	c.sendControlLocked(func(f *http2.Framer) error { return f.WriteRSTStream(id, code) })
}

// bound cuts a peer off that makes us answer and does not read. The caller holds mu.
func (c *grpcConn) bound() {
	if c.isBehind() && c.queued > c.server.queueBytes+controlBytes {
		c.breakOff()
	}
}

// ping asks for a sign of life.
func (c *grpcConn) ping() {
	c.sendControl(func(f *http2.Framer) error { return f.WritePing(false, [8]byte{}) })
}

// silentSince gives since when nothing has been heard of the peer.
func (c *grpcConn) silentSince() int64 { return c.heard.Load() }

// leave has the connection take no new streams, and end with its last one.
func (c *grpcConn) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.leaving {
		return
	}
	c.leaving = true
	c.sendControlLocked(func(f *http2.Framer) error { return f.WriteGoAway(c.last, http2.ErrCodeNo, nil) })
	if len(c.streams) == 0 {
		c.closeBehind()
	}
}

// abort cuts the connection.
func (c *grpcConn) abort() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.breakOff()
}

// unusedSince gives since when the connection carries nothing; not known if it carries something.
func (c *grpcConn) unusedSince() (since int64, known bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.unused, len(c.streams) == 0
}

// notGRPC is the reason for HTTP's 415: whoever calls would not understand another one.
const notGRPC = "this is not a call of gRPC"

// checkCall says why a call cannot be served: a code of gRPC and a reason; 0 if it can.
func checkCall(f *http2.MetaHeadersFrame) (code int, why string) {
	header := func(name string) string {
		for _, field := range f.Fields {
			if field.Name == name {
				return field.Value
			}
		}
		return ""
	}
	encoding := header("grpc-encoding")
	switch {
	case f.Truncated:
		return codeResourceExhausted, fmt.Sprintf("the headers are longer than %d bytes", maxHeaderList)
	case header(":method") != "POST", !isGRPC(header("content-type")):
		return codeInternal, notGRPC
	case header(":path") != Path:
		return codeUnimplemented, fmt.Sprintf("there is only %s here", Path)
	case encoding != "" && encoding != "identity":
		return codeUnimplemented, "compression is not spoken here, but for identity"
	}
	return codeOK, ""
}
