package transport

import (
	"encoding/binary"
	"fmt"
	"io"
	"strconv"
	"strings"

	"golang.org/x/net/http2"
)

// The codes of gRPC that are in use here.
const (
	codeOK                = 0
	codeResourceExhausted = 8
	codeUnimplemented     = 12
	codeInternal          = 13
)

const (
	frameHeader   = 9 // bytes in front of a frame of HTTP/2
	messagePrefix = 5 // bytes in front of a message of gRPC
)

// grpcStream is one call. Frames come for it by the connection's goroutine.
type grpcStream struct {
	// Static after construction.
	conn    *grpcConn
	id      uint32
	arrived chan struct{} // holds one: there is something new for Receive

	// Owned by the connection's goroutine.
	partial []byte // of a message that has not come whole

	// Guarded by conn.mu.
	inbox      [][]byte // messages that came
	taken      int      // bytes taken that the peer has not been told of
	untaken    int      // bytes that came, less what the peer has been told was taken
	half       bool     // the client sends no more
	ended      bool     // nothing more is received
	answered   bool     // our headers are sent
	sendWindow int64
	queue      []outgoing
	queued     int  // bytes in queue
	closing    bool // trailers follow the queue
	code       int  // of the trailers
	why        string
	gone       bool // the stream is over for HTTP/2
	drained    chan struct{}
}

// outgoing is a message that waits for its window, or for the connection.
type outgoing struct {
	payload []byte // shared: not to be changed
	sent    int    // of prefix and payload
}

func newGRPCStream(c *grpcConn, id uint32) *grpcStream {
	return &grpcStream{conn: c, id: id, sendWindow: c.initial, arrived: make(chan struct{}, 1)}
}

// IsJSON says that messages are protobuf.
func (s *grpcStream) IsJSON() bool { return false }

// takeBytes takes what came in a frame of so many bytes. The caller is the connection's goroutine and holds mu.
func (s *grpcStream) takeBytes(data []byte, length int) {
	if s.ended {
		return
	}
	s.take(length - len(data)) // padding
	s.partial = append(s.partial, data...)
	for len(s.partial) >= messagePrefix {
		size := int(binary.BigEndian.Uint32(s.partial[1:]))
		switch {
		case s.partial[0] != 0:
			s.finish(codeInternal, "a message is compressed, and nothing was said of that")
			return
		case size > s.conn.server.maxMessage:
			s.finish(codeResourceExhausted, fmt.Sprintf("a message of %d bytes: at most %d are taken", size, s.conn.server.maxMessage))
			return
		case len(s.partial) < messagePrefix+size:
			return
		}
		message := make([]byte, size)
		copy(message, s.partial[messagePrefix:])
		s.inbox = append(s.inbox, message)
		s.partial = append(s.partial[:0], s.partial[messagePrefix+size:]...)
		s.wake()
	}
	if len(s.partial) == 0 && cap(s.partial) > readBuffer {
		s.partial = nil // a large one is rare
	}
}

// clientEnded notes that the client sends no more. The caller holds mu.
func (s *grpcStream) clientEnded() {
	s.half = true
	if len(s.partial) > 0 {
		s.finish(codeInternal, "the last message is not whole")
	}
	s.wake()
}

func (s *grpcStream) wake() {
	select {
	case s.arrived <- struct{}{}:
	default:
	}
}

// Receive waits for the next message. io.EOF says that the client sends no more.
func (s *grpcStream) Receive() ([]byte, error) {
	for {
		message, err := s.next()
		if message != nil || err != nil {
			return message, err
		}
		<-s.arrived
	}
}

func (s *grpcStream) next() ([]byte, error) {
	c := s.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case s.ended && s.code != codeOK:
		return nil, ErrMistake
	case s.ended:
		return nil, ErrEnded
	case len(s.inbox) > 0:
		message := s.inbox[0]
		s.inbox[0] = nil
		s.inbox = s.inbox[1:]
		if len(s.inbox) == 0 {
			s.inbox = nil
		}
		s.take(messagePrefix + len(message))
		return message, nil
	case s.half:
		return nil, io.EOF
	}
	return nil, nil
}

// take notes that the stream has room for more, and tells the peer now and then. The caller holds mu.
func (s *grpcStream) take(n int) {
	s.taken += n
	if s.taken < windowStep || s.half {
		return
	}
	taken := s.taken
	s.taken, s.untaken = 0, s.untaken-taken
	s.conn.sendControlLocked(func(f *http2.Framer) error { return f.WriteWindowUpdate(s.id, uint32(taken)) })
}

// Send sends messages, in order, and never waits. They are shared: nobody may change them any more.
func (s *grpcStream) Send(messages [][]byte) error {
	c := s.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.gone || s.closing || c.broken {
		return ErrEnded
	}
	size := 0
	for _, m := range messages {
		size += messagePrefix + len(m)
	}
	if len(s.queue) == 0 && !c.isBehind() && size <= maxDataFrame && int64(size) <= min(s.sendWindow, c.sendWindow) {
		s.sendAtOnce(messages, size)
		return nil
	}
	if len(s.queue) > 0 && (s.queued+size > c.server.queueBytes || len(s.queue)+len(messages) > queueMessages) {
		return ErrSlow
	}
	for _, m := range messages {
		s.queue = append(s.queue, outgoing{payload: m})
	}
	s.queued += size
	s.pump()
	return nil
}

// sendAtOnce sends messages in one frame. The caller holds mu.
func (s *grpcStream) sendAtOnce(messages [][]byte, size int) {
	s.sendWindow -= int64(size)
	s.conn.sendWindow -= int64(size)
	scratch := newScratch()
	defer scratch.release()
	b := s.appendHeaders(scratch.bytes)
	b = appendFrame(b, size, http2.FrameData, 0, s.id)
	for _, m := range messages {
		b = append(appendPrefix(b, len(m)), m...)
	}
	s.conn.write(b)
	scratch.bytes = b
}

// pump sends what waits, as far as windows and the connection let it. The caller holds mu.
func (s *grpcStream) pump() {
	c := s.conn
	if s.gone || len(s.queue) == 0 && !s.closing {
		return
	}
	scratch := newScratch()
	defer scratch.release()
	for len(s.queue) > 0 && (!c.isBehind() || len(c.pipe.queue) == 0) {
		n := min(int64(maxDataFrame), s.sendWindow, c.sendWindow, int64(s.queued))
		if n <= 0 {
			return
		}
		s.sendWindow -= n
		c.sendWindow -= n
		b := appendFrame(s.appendHeaders(scratch.bytes[:0]), int(n), http2.FrameData, 0, s.id)
		b = s.appendQueued(b, int(n))
		c.write(b)
		scratch.bytes = b
	}
	if len(s.queue) > 0 {
		return
	}
	s.wakeDrained()
	if s.closing {
		s.trail()
	}
}

// appendQueued moves so many bytes from the queue to a buffer. The caller holds mu.
func (s *grpcStream) appendQueued(b []byte, n int) []byte {
	s.queued -= n
	for n > 0 {
		m := &s.queue[0]
		if m.sent < messagePrefix {
			var prefix [messagePrefix]byte
			binary.BigEndian.PutUint32(prefix[1:], uint32(len(m.payload)))
			part := prefix[m.sent:min(messagePrefix, m.sent+n)]
			b = append(b, part...)
			m.sent += len(part)
			n -= len(part)
		}
		if m.sent >= messagePrefix {
			rest := m.payload[m.sent-messagePrefix:]
			part := rest[:min(len(rest), n)]
			b = append(b, part...)
			m.sent += len(part)
			n -= len(part)
		}
		if m.sent == messagePrefix+len(m.payload) {
			s.queue[0] = outgoing{}
			s.queue = s.queue[1:]
		}
	}
	if len(s.queue) == 0 {
		s.queue = nil
	}
	return b
}

// IsBehind says whether the client has not taken all that was sent.
func (s *grpcStream) IsBehind() bool {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	return len(s.queue) > 0 || s.conn.isBehind()
}

// Drained gives a channel that is closed when nothing waits any more; nil if that is so.
func (s *grpcStream) Drained() <-chan struct{} {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	switch {
	case s.gone || s.conn.broken:
		return nil
	case len(s.queue) == 0:
		return s.conn.waitDrained()
	case s.drained == nil:
		s.drained = make(chan struct{})
	}
	return s.drained
}

func (s *grpcStream) wakeDrained() {
	if s.drained != nil {
		close(s.drained)
		s.drained = nil
	}
}

// Close sends a last message and ends the stream behind it; if discard is set, without what waits before it.
func (s *grpcStream) Close(last []byte, discard bool) {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	if s.gone || s.closing {
		return
	}
	if discard {
		s.discard()
	}
	if last != nil {
		s.queue = append(s.queue, outgoing{payload: last})
		s.queued += messagePrefix + len(last)
	}
	s.finish(codeOK, "")
}

// discard forgets what waits and is not begun. The caller holds mu.
func (s *grpcStream) discard() {
	var kept []outgoing
	s.queued = 0
	if len(s.queue) > 0 && s.queue[0].sent > 0 {
		kept = []outgoing{s.queue[0]}
		s.queued = messagePrefix + len(kept[0].payload) - kept[0].sent
	}
	s.queue = kept
}

// finish ends the stream behind what waits. The caller holds mu.
func (s *grpcStream) finish(code int, why string) {
	if s.gone || s.closing {
		return
	}
	s.closing, s.code, s.why = true, code, why
	s.endReceive()
	s.pump()
	if !s.gone {
		s.conn.server.endLater(s)
	}
}

func (s *grpcStream) endReceive() {
	s.ended, s.inbox = true, nil
	s.wake()
}

// trail sends the trailers, which end the stream. The caller holds mu.
func (s *grpcStream) trail() {
	scratch := newScratch()
	b := s.appendTrailers(scratch.bytes)
	s.conn.write(b)
	s.conn.bound()
	scratch.bytes = b
	scratch.release()
	if !s.half { // it may go on sending: it need not
		s.conn.sendControlLocked(func(f *http2.Framer) error { return f.WriteRSTStream(s.id, http2.ErrCodeNo) })
	}
	s.over()
}

// over ends the stream for both sides. The caller holds mu.
func (s *grpcStream) over() {
	if s.gone {
		return
	}
	s.gone, s.queue, s.queued = true, nil, 0
	s.endReceive()
	s.wakeDrained()
	delete(s.conn.streams, s.id)
	s.conn.unused = s.conn.server.now()
	if s.conn.leaving && len(s.conn.streams) == 0 {
		s.conn.closeBehind()
	}
}

// Abort ends the stream at once.
func (s *grpcStream) Abort() {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	if !s.gone {
		s.conn.resetLocked(s.id, http2.ErrCodeCancel)
	}
}

// appendHeaders appends the answer's headers, if they have not been sent. The caller holds mu.
func (s *grpcStream) appendHeaders(b []byte) []byte {
	if s.answered {
		return b
	}
	s.answered = true
	block := appendField(append(s.conn.block(), statusOK), "content-type", "application/grpc")
	b = appendFrame(b, len(block), http2.FrameHeaders, http2.FlagHeadersEndHeaders, s.id)
	return append(b, block...)
}

// appendTrailers appends what ends a call: alone if there was nothing before. The caller holds mu.
func (s *grpcStream) appendTrailers(b []byte) []byte {
	block := s.conn.block()
	if s.code == codeInternal && s.why == notGRPC {
		block = append(block, 0x08, 3, '4', '1', '5') // :status
		b = appendFrame(b, len(block), http2.FrameHeaders, http2.FlagHeadersEndHeaders|http2.FlagHeadersEndStream, s.id)
		return append(b, block...)
	}
	if !s.answered {
		s.answered = true
		block = appendField(append(block, statusOK), "content-type", "application/grpc")
	}
	if s.code == codeUnimplemented {
		block = appendField(block, "grpc-accept-encoding", "identity")
	}
	block = appendField(block, "grpc-status", strconv.Itoa(s.code))
	if s.why != "" {
		block = appendField(block, "grpc-message", strings.ReplaceAll(s.why, "%", "%25"))
	}
	b = appendFrame(b, len(block), http2.FrameHeaders, http2.FlagHeadersEndHeaders|http2.FlagHeadersEndStream, s.id)
	return append(b, block...)
}

// statusOK is `:status 200` in HPACK's static table.
const statusOK = 0x88

// appendField appends a header in HPACK, literally and not indexed; name and value are shorter than 127 bytes.
func appendField(b []byte, name, value string) []byte {
	value = value[:min(len(value), 126)]
	b = append(b, 0, byte(len(name)))
	b = append(b, name...)
	b = append(b, byte(len(value)))
	return append(b, value...)
}

// appendFrame appends the header of a frame of HTTP/2.
func appendFrame(b []byte, length int, kind http2.FrameType, flags http2.Flags, stream uint32) []byte {
	b = append(b, byte(length>>16), byte(length>>8), byte(length), byte(kind), byte(flags))
	return binary.BigEndian.AppendUint32(b, stream)
}

// appendPrefix appends what gRPC puts in front of a message.
func appendPrefix(b []byte, length int) []byte {
	return binary.BigEndian.AppendUint32(append(b, 0), uint32(length))
}

func isGRPC(contentType string) bool {
	rest, is := strings.CutPrefix(contentType, "application/grpc")
	return is && (rest == "" || rest[0] == ';' || rest == "+proto" || strings.HasPrefix(rest, "+proto;"))
}
