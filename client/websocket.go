package client

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/gobwas/ws"
	"google.golang.org/protobuf/proto"

	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
	"github.com/guildhall-dev/guildhall/internal/socket"
)

const (
	subProtocol = "guildhall.v1.proto"
	// writeWithin bounds how long a host may take nothing of what is written to it. It is lost then, as one that says
	// nothing is.
	writeWithin = quietFor + answerWithin
	// goodbyeWithin bounds the last write, which is a courtesy.
	goodbyeWithin = 100 * time.Millisecond
	// headerMost is the longest header of a frame that a client sends, in bytes.
	headerMost = ws.MaxHeaderSize
)

var (
	errVanished = errors.New("the host has vanished")
	errClosed   = errors.New("the connection was closed")
)

// webSocket is a stream over WebSocket. It has no goroutine of its own: whoever receives also answers pings, and asks
// after a host that is quiet.
type webSocket struct {
	// Static after construction.
	conn   net.Conn
	forget func() bool // that ctx ends the stream

	// Owned by whoever receives.
	messages messages

	// writing is held while something is written.
	writing sync.Mutex

	ending sync.Once
	why    error // why it ended; read behind the end of conn
}

var _ stream = (*webSocket)(nil)

func dialWebSocket(ctx context.Context, url string, within time.Duration, dial dialFunc) (stream, error) {
	if url == "" {
		return nil, fmt.Errorf("the server does not offer WebSocket: %w", errNoAddress)
	}
	dialer := ws.Dialer{Protocols: []string{subProtocol}, ReadBufferSize: messageBuffer, WriteBufferSize: messageBuffer}
	if dial != nil {
		dialer.NetDial = func(ctx context.Context, _, address string) (net.Conn, error) { return dial(ctx, address) }
	}
	dialing, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	conn, early, handshake, err := dialer.Dial(dialing, url)
	if err != nil {
		return nil, fmt.Errorf("WebSocket at %s: %w", url, err)
	}
	if handshake.Protocol != subProtocol {
		_ = conn.Close() // nothing was said
		return nil, fmt.Errorf("WebSocket at %s: the host does not speak %s", url, subProtocol)
	}
	s := newWebSocket(ctx, conn)
	if early != nil { // the host spoke right behind the handshake; it fits, both buffers are of one size
		s.messages.end, _ = early.Read(s.messages.buffer[:])
		ws.PutReader(early)
	}
	return s, nil
}

// newWebSocket makes a stream of a connection behind its handshake.
func newWebSocket(ctx context.Context, conn net.Conn) *webSocket {
	s := &webSocket{conn: socket.Quiet(conn)}
	s.messages.source, s.messages.control = (*patientReader)(s), s.control
	s.forget = context.AfterFunc(ctx, func() { _ = s.end(context.Cause(ctx)) })
	return s
}

func (s *webSocket) receive() (frame, error) {
	message, err := s.messages.next()
	var f frame
	if err == nil {
		f, err = decodeFrame(message)
	}
	s.messages.release()
	if err != nil {
		return frame{}, s.end(err)
	}
	return f, nil
}

func (s *webSocket) send(frame *guildhallv1.JoinRequest) error {
	memory := lent.Get().(*[]byte) //nolint:forcetypeassert // nothing else is in the pool
	defer giveBack(memory)
	var room [headerMost]byte
	message, err := proto.MarshalOptions{}.MarshalAppend(append(*memory, room[:]...), frame)
	if err != nil {
		return s.end(err)
	}
	*memory = message
	s.writing.Lock()
	defer s.writing.Unlock()
	return s.write(ws.OpBinary, message, writeWithin)
}

// write writes a frame, whose payload is behind room for a header. The caller holds writing.
func (s *webSocket) write(op ws.OpCode, frame []byte, within time.Duration) error {
	if err := s.put(op, frame, within); err != nil {
		return s.end(err)
	}
	return nil
}

// put is write without an end.
func (s *webSocket) put(op ws.OpCode, frame []byte, within time.Duration) error {
	mask := ws.NewMask()
	ws.Cipher(frame[headerMost:], mask, 0)
	start := putHeader(frame, op, mask)
	if err := s.conn.SetWriteDeadline(time.Now().Add(within)); err != nil {
		return err
	}
	_, err := s.conn.Write(frame[start:])
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("%w: it took nothing for %s", errVanished, within)
	}
	return err
}

// putHeader writes the header of a frame right before its payload, and gives where it begins.
func putHeader(frame []byte, op ws.OpCode, mask [4]byte) int {
	length, at := len(frame)-headerMost, headerMost-len(mask)
	copy(frame[at:], mask[:])
	const masked = 0x80
	short := byte(length)
	switch {
	case length > 0xffff:
		at -= 8
		binary.BigEndian.PutUint64(frame[at:], uint64(length))
		short = 127
	case length > 125:
		at -= 2
		binary.BigEndian.PutUint16(frame[at:], uint16(length))
		short = 126
	}
	at -= 2
	frame[at], frame[at+1] = 0x80|byte(op), masked|short
	return at
}

// control answers a ping, and ends with a close. A pong needs nothing: that something was heard counts.
func (s *webSocket) control(op ws.OpCode, payload []byte) error {
	switch op {
	case ws.OpPing:
		s.writing.Lock()
		defer s.writing.Unlock()
		return s.write(ws.OpPong, controlFrame(payload), writeWithin)
	case ws.OpClose:
		code, reason := ws.ParseCloseFrameData(payload)
		return fmt.Errorf("%w by the host: %q (%d)", errClosed, reason, code)
	}
	return nil
}

// controlFrame gives a control frame with room for its header.
func controlFrame(payload []byte) []byte {
	return append(make([]byte, headerMost, headerMost+ws.MaxControlFramePayloadSize), payload...)
}

// ask asks whether the host is there. If something is being written, and not taken, that asks for it.
func (s *webSocket) ask() error {
	if !s.writing.TryLock() {
		return nil
	}
	defer s.writing.Unlock()
	return s.write(ws.OpPing, controlFrame(nil), answerWithin)
}

// patientReader reads from a webSocket's connection, and asks when nothing comes.
type patientReader webSocket

func (p *patientReader) Read(into []byte) (int, error) {
	s := (*webSocket)(p)
	for wait, asked := quietFor, false; ; wait, asked = answerWithin, true {
		if err := s.conn.SetReadDeadline(time.Now().Add(wait)); err != nil {
			return 0, err
		}
		n, err := s.conn.Read(into)
		switch {
		case n > 0:
			return n, nil // an error comes again
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return 0, err
		case asked:
			return 0, fmt.Errorf("%w: it said nothing for %s", errVanished, quietFor+answerWithin)
		}
		if err := s.ask(); err != nil {
			return 0, err
		}
	}
}

// end ends the stream and gives why it ended: the first reason, whichever call found out.
func (s *webSocket) end(why error) error {
	s.ending.Do(func() {
		if errors.Is(why, io.EOF) {
			why = fmt.Errorf("%w without a word", errClosed)
		}
		s.why = why
		if !errors.Is(why, errVanished) && s.writing.TryLock() {
			goodbye := controlFrame(ws.NewCloseFrameBody(ws.StatusNormalClosure, ""))
			_ = s.put(ws.OpClose, goodbye, goodbyeWithin) // it is lost if the connection is
			s.writing.Unlock()
		}
		_ = s.conn.Close() // it has ended in every case
	})
	return s.why
}

func (s *webSocket) close() {
	s.forget()
	_ = s.end(errClosed)
}
