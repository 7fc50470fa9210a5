package client

import (
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"sync"

	"github.com/gobwas/ws"
)

const (
	// messageBuffer is what a WebSocket keeps for reading. A chat message fits, so that it takes one read; for a larger
	// one memory is borrowed, and read into directly.
	messageBuffer = 1 << 10
	// lentMost is the largest memory that goes back to where it was borrowed from.
	lentMost = 64 << 10
)

var (
	errTooLarge  = errors.New("the host sent a frame of more than 8 MiB")
	errNotBinary = errors.New("the host sent a text message under a sub-protocol of binary ones")
)

// lent is memory for what is larger than a buffer, while it is there.
var lent = sync.Pool{New: func() any { return new([]byte) }}

func giveBack(memory *[]byte) {
	if cap(*memory) <= lentMost {
		*memory = (*memory)[:0]
		lent.Put(memory)
	}
}

// messages reads the messages of a WebSocket, by the rules for what a server sends: complete or in fragments, with
// control frames before, behind and between them. It allocates nothing for what fits its buffer. One goroutine uses it.
type messages struct {
	source io.Reader
	// control is given each ping, pong and close; its error ends the reading. The payload is good until it returns.
	control func(op ws.OpCode, payload []byte) error

	start, end int // buffer[start:end] has been read and not been used
	buffer     [messageBuffer]byte
	large      *[]byte // the message that does not fit, or comes in fragments; nil otherwise
}

// next waits for the next message and gives it; it is good until release. The error is io.EOF if the source ended between
// two messages.
func (m *messages) next() ([]byte, error) {
	for state := ws.StateClientSide; ; {
		header, err := m.header()
		if err != nil {
			if state.Fragmented() {
				err = unexpected(err)
			}
			return nil, err
		}
		if err := ws.CheckHeader(header, state); err != nil {
			return nil, err
		}
		length := int(header.Length)
		switch {
		case header.OpCode.IsControl():
			payload, err := m.take(length)
			if err != nil {
				return nil, unexpected(err)
			}
			if err := m.control(header.OpCode, payload); err != nil {
				return nil, err
			}
			continue
		case header.OpCode == ws.OpText:
			return nil, errNotBinary
		case header.Fin && m.large == nil && length <= len(m.buffer):
			payload, err := m.take(length)
			return payload, unexpected(err)
		}
		if err := m.enlarge(length); err != nil {
			return nil, err
		}
		if header.Fin {
			return *m.large, nil
		}
		state = state.Set(ws.StateFragmented)
	}
}

// release gives up the message that next gave.
func (m *messages) release() {
	if m.large != nil {
		giveBack(m.large)
		m.large = nil
	}
}

// header reads the header of a frame. That a mask may follow does not matter: a server that masks is not heard.
func (m *messages) header() (ws.Header, error) {
	first, err := m.take(2)
	if err != nil {
		return ws.Header{}, err
	}
	h := ws.Header{
		Fin: first[0]&0x80 != 0, Rsv: first[0] & 0x70 >> 4, OpCode: ws.OpCode(first[0] & 0x0f), Masked: first[1]&0x80 != 0,
	}
	switch length := first[1] & 0x7f; length {
	case 126:
		more, err := m.take(2)
		if err != nil {
			return h, unexpected(err)
		}
		h.Length = int64(binary.BigEndian.Uint16(more))
	case 127:
		more, err := m.take(8)
		if err != nil {
			return h, unexpected(err)
		}
		if long := binary.BigEndian.Uint64(more); long <= frameMost {
			h.Length = int64(long)
		} else {
			return h, errTooLarge
		}
	default:
		h.Length = int64(length)
	}
	return h, nil
}

// take gives the next n bytes, which must fit the buffer; they are good until the next call. Behind an error, what was
// there of them is lost: there is no going on.
func (m *messages) take(n int) ([]byte, error) {
	if m.start == m.end {
		m.start, m.end = 0, 0
	}
	if m.start+n > len(m.buffer) {
		m.end = copy(m.buffer[:], m.buffer[m.start:m.end])
		m.start = 0
	}
	for m.end-m.start < n {
		read, err := m.source.Read(m.buffer[m.end:])
		m.end += read
		if m.end-m.start >= n {
			break
		}
		if err != nil {
			if m.end > m.start {
				err = unexpected(err)
			}
			return nil, err
		}
	}
	m.start += n
	return m.buffer[m.start-n : m.start], nil
}

// enlarge adds the next n bytes to the large message. Memory grows as they come, not as the host announces them.
func (m *messages) enlarge(n int) error {
	if m.large == nil {
		m.large = lent.Get().(*[]byte) //nolint:forcetypeassert // nothing else is in the pool
	}
	if len(*m.large)+n > frameMost {
		return errTooLarge
	}
	buffered := min(n, m.end-m.start)
	*m.large = append(*m.large, m.buffer[m.start:m.start+buffered]...)
	m.start += buffered
	for n -= buffered; n > 0; {
		*m.large = slices.Grow(*m.large, min(n, max(len(*m.large), 4*messageBuffer)))
		length := len(*m.large)
		read, err := m.source.Read((*m.large)[length:min(cap(*m.large), length+n)])
		*m.large = (*m.large)[:length+read]
		n -= read
		if err != nil && n > 0 {
			return unexpected(err)
		}
	}
	return nil
}

// unexpected is an end in the middle of something.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
