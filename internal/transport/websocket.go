package transport

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/gobwas/ws"
)

// The sub-protocols: how a frame of the room is put into a message.
const (
	subprotocolJSON  = "guildhall.v1.json"
	subprotocolProto = "guildhall.v1.proto"
)

// wsStream is a WebSocket connection, which is one stream.
type wsStream struct {
	pipe
	// Static after construction.
	server *Server
	in     *bufio.Reader
	json   bool

	heard     atomic.Int64 // when something was last read, on the server's clock
	receiving atomic.Bool  // Receive waits: who does not read cannot hear

	// Owned by Receive.
	message []byte
	begun   bool // part of a message has come

	// Guarded by mu.
	ended      bool          // nothing more is sent or received
	closed     bool          // the closing frame is on its way
	heardClose bool          // the client's closing frame has come
	code       ws.StatusCode // of the closing frame
}

// upgrade answers a WebSocket's handshake.
func upgrade(server *Server, conn net.Conn, in *bufio.Reader) (*wsStream, error) {
	s := &wsStream{server: server, in: in, json: true, code: ws.StatusNormalClosure}
	s.heard.Store(server.now())
	head, err := readHead(in)
	if err != nil {
		return nil, err
	}
	_, err = ws.Upgrader{
		OnRequest: func(uri []byte) error {
			if path, _, _ := strings.Cut(string(uri), "?"); path != Path {
				return ws.RejectConnectionError(ws.RejectionStatus(404), ws.RejectionReason("there is only "+Path+" here\n"))
			}
			return nil
		},
		Protocol: func(name []byte) bool {
			switch string(name) {
			case subprotocolJSON:
				return true
			case subprotocolProto:
				s.json = false
				return true
			}
			return false
		},
	}.Upgrade(struct {
		io.Reader
		io.Writer
	}{bytes.NewReader(head), conn})
	if err != nil {
		return nil, err
	}
	s.pipe.open(conn, server)
	return s, nil
}

// maxHead bounds a handshake: a browser may have many cookies for this site.
const maxHead = 16 << 10

// readHead reads a request up to its empty line, and nothing of what is behind it.
func readHead(in *bufio.Reader) (head []byte, err error) {
	for whole := true; ; {
		part, err := in.ReadSlice('\n')
		head = append(head, part...)
		switch {
		case len(head) > maxHead:
			return nil, errors.New("the request is too long")
		case errors.Is(err, bufio.ErrBufferFull):
			whole = false
		case err != nil:
			return nil, err
		case whole && len(bytes.TrimRight(part, "\r\n")) == 0:
			return head, nil
		default:
			whole = true
		}
	}
}

// IsJSON says whether messages are protobuf's JSON.
func (s *wsStream) IsJSON() bool { return s.json }

// Receive waits for the next message, which is good until the next call. io.EOF says that the client sends no more.
func (s *wsStream) Receive() ([]byte, error) {
	s.receiving.Store(true)
	defer s.receiving.Store(false)
	s.heard.Store(s.server.now())
	if cap(s.message) > readBuffer {
		s.message = nil // a large one is rare
	}
	s.message, s.begun = s.message[:0], false
	for {
		s.mu.Lock()
		ended := s.ended
		s.mu.Unlock()
		if ended {
			return nil, ErrEnded
		}
		whole, err := s.readFrame()
		s.heard.Store(s.server.now())
		if err != nil {
			return nil, s.receiveEnd(err)
		}
		if whole {
			return s.message, nil
		}
	}
}

// mistake notes the code of the closing frame for what WebSocket, or this server, does not allow.
func (s *wsStream) mistake(code ws.StatusCode) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.code = code
	return ErrMistake
}

// readFrame reads a frame, and says whether it ended a message.
func (s *wsStream) readFrame() (whole bool, err error) {
	header, err := ws.ReadHeader(s.in)
	switch {
	case errors.Is(err, ws.ErrHeaderLengthMSB):
		return false, s.mistake(ws.StatusProtocolError)
	case err != nil:
		return false, err
	}
	state := ws.StateServerSide
	if s.begun {
		state |= ws.StateFragmented
	}
	if err := ws.CheckHeader(header, state); err != nil {
		return false, s.mistake(ws.StatusProtocolError)
	}
	if header.OpCode.IsControl() {
		return false, s.readControl(header)
	}
	if header.Length > int64(s.server.maxMessage-len(s.message)) {
		return false, s.mistake(ws.StatusMessageTooBig)
	}
	s.message, err = readPayload(s.in, s.message, header)
	s.begun = !header.Fin
	if err == nil && header.Fin && s.json && !utf8.Valid(s.message) {
		return false, s.mistake(ws.StatusInvalidFramePayloadData)
	}
	return header.Fin, err
}

// readPayload appends a frame's payload.
func readPayload(in io.Reader, b []byte, header ws.Header) ([]byte, error) {
	from := len(b)
	b = append(b, make([]byte, header.Length)...)
	if _, err := io.ReadFull(in, b[from:]); err != nil {
		return b, err
	}
	ws.Cipher(b[from:], header.Mask, 0)
	return b, nil
}

// readControl answers a ping, or takes note of the end.
func (s *wsStream) readControl(header ws.Header) error {
	payload, err := readPayload(s.in, nil, header)
	if err != nil {
		return err
	}
	switch header.OpCode {
	case ws.OpPing:
		return s.control(ws.OpPong, payload)
	case ws.OpClose:
		s.mu.Lock()
		s.heardClose = true
		s.mu.Unlock()
		if len(payload) > 0 {
			code, reason := ws.ParseCloseFrameData(payload)
			switch err := ws.CheckCloseFrameData(code, reason); {
			case errors.Is(err, ws.ErrProtocolInvalidUTF8):
				return s.mistake(ws.StatusInvalidFramePayloadData)
			case err != nil:
				return s.mistake(ws.StatusProtocolError)
			}
		}
		return io.EOF
	}
	return nil
}

// receiveEnd says what the end of receiving was. io.EOF: the client is done; the stream can still be closed in order.
func (s *wsStream) receiveEnd(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.ended:
		return ErrEnded
	case errors.Is(err, ErrMistake), errors.Is(err, io.EOF):
		return err
	}
	s.ended = true
	s.breakOff()
	return ErrEnded
}

// control sends a control frame. A client that makes us answer and does not read is cut off.
func (s *wsStream) control(op ws.OpCode, payload []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.isBehind() && s.queued > s.server.queueBytes+controlBytes {
		s.breakOff()
		return ErrSlow
	}
	s.write(append(appendWSHeader(nil, op, len(payload)), payload...))
	return nil
}

// Send sends messages, in order, and never waits. They are shared: nobody may change them any more.
func (s *wsStream) Send(messages [][]byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended || s.broken {
		return ErrEnded
	}
	size := 0
	for _, m := range messages {
		size += len(m)
	}
	if s.isBehind() || size > scratchMost { // what is large is not copied
		return s.sendBehind(messages, size)
	}
	scratch := newScratch()
	b := scratch.bytes
	for _, m := range messages {
		b = append(appendWSHeader(b, s.op(), len(m)), m...)
	}
	s.write(b)
	scratch.bytes = b
	scratch.release()
	return nil
}

// sendBehind queues messages of so many bytes in all behind what waits. The caller holds mu.
func (s *wsStream) sendBehind(messages [][]byte, size int) error {
	if s.isBehind() && (s.queued+size > s.server.queueBytes || s.messages+len(messages) > queueMessages) {
		return ErrSlow
	}
	for _, m := range messages {
		s.queueMessage(m)
	}
	return nil
}

func (s *wsStream) queueMessage(m []byte) {
	s.enqueue(waiting{bytes: appendWSHeader(nil, s.op(), len(m))})
	s.enqueue(waiting{bytes: m, message: true})
}

func (s *wsStream) op() ws.OpCode {
	if s.json {
		return ws.OpText
	}
	return ws.OpBinary
}

// IsBehind says whether the client has not taken all that was sent.
func (s *wsStream) IsBehind() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.isBehind()
}

// Drained gives a channel that is closed when nothing waits any more; nil if that is so.
func (s *wsStream) Drained() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.waitDrained()
}

// Close sends a last message and ends the stream behind it; if discard is set, without what waits before it.
func (s *wsStream) Close(last []byte, discard bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return
	}
	if discard {
		s.discard()
	}
	if last != nil {
		s.write(append(appendWSHeader(nil, s.op(), len(last)), last...))
	}
	s.ended = true
	s.sayClose()
	_ = s.conn.SetReadDeadline(time.Now()) // Receive returns; linger goes on
}

// sayClose sends the closing frame. The caller holds mu.
func (s *wsStream) sayClose() {
	if !s.closed {
		s.closed = true
		s.write(append(appendWSHeader(nil, ws.OpClose, 2), byte(s.code>>8), byte(s.code)))
	}
}

// linger waits, for a while, until the client has taken what was sent and closes, too. A connection that is closed with
// something unread in it is reset, and the client may lose what it was told last.
func (s *wsStream) linger() {
	s.mu.Lock()
	s.ended = true
	s.sayClose()
	broken, heardClose, drained := s.broken, s.heardClose, s.waitDrained()
	s.mu.Unlock()
	if !broken {
		late := time.NewTimer(s.server.closeWithin)
		defer late.Stop()
		_ = s.conn.SetReadDeadline(time.Now().Add(s.server.closeWithin)) // if it fails, so does the read
		if !heardClose {
			s.awaitClose()
		}
		awaitDrained(drained, late.C)
	}
	s.Abort()
}

// awaitClose reads until the client has closed, too.
func (s *wsStream) awaitClose() {
	for {
		header, err := ws.ReadHeader(s.in)
		if err != nil {
			break
		}
		if _, err := io.CopyN(io.Discard, s.in, header.Length); err != nil || header.OpCode == ws.OpClose {
			return
		}
	}
	_, _ = io.Copy(io.Discard, s.in)
}

// Abort cuts the connection.
func (s *wsStream) Abort() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	s.breakOff()
}

func (s *wsStream) abort() { s.Abort() }

// leave is for connections that could take new streams.
func (s *wsStream) leave() {}

func (s *wsStream) unusedSince() (since int64, known bool) { return 0, false }

// ping asks for a sign of life.
func (s *wsStream) ping() {
	_ = s.control(ws.OpPing, nil) // it is cut off if that fails
}

// silentSince gives since when nothing has been heard of the client, while somebody listens.
func (s *wsStream) silentSince() int64 {
	if !s.receiving.Load() {
		return s.server.now()
	}
	return s.heard.Load()
}

// appendWSHeader appends the header of a frame that is a whole message.
func appendWSHeader(b []byte, op ws.OpCode, length int) []byte {
	const final, short, long = 0x80, 126, 127
	b = append(b, final|byte(op))
	switch {
	case length < short:
		return append(b, byte(length))
	case length <= 1<<16-1:
		return binary.BigEndian.AppendUint16(append(b, short), uint16(length))
	}
	return binary.BigEndian.AppendUint64(append(b, long), uint64(length))
}
