package client

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"testing"
	"testing/iotest"

	"github.com/gobwas/ws"
	"google.golang.org/protobuf/proto"

	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
)

// wsFrame gives a frame as a server sends it.
func wsFrame(op ws.OpCode, fin bool, payload []byte) []byte {
	var b bytes.Buffer
	if err := ws.WriteFrame(&b, ws.NewFrame(op, fin, payload)); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// noControl takes no notice.
func noControl(ws.OpCode, []byte) error { return nil }

// readAll reads messages to the end.
func readAll(source io.Reader, control func(ws.OpCode, []byte) error) (all [][]byte, err error) {
	m := &messages{source: source, control: control}
	for {
		message, err := m.next()
		if err != nil {
			return all, err
		}
		all = append(all, bytes.Clone(message))
		m.release()
	}
}

// payload makes so many bytes that are not all the same.
func payload(size int) []byte {
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(i * 7)
	}
	return b
}

// Whole or in fragments, whatever comes between and however the network cuts it: a message is a message.
func TestMessagesInFragments(t *testing.T) {
	t.Parallel()
	sizes := []int{0, 1, 125, 126, messageBuffer - 4, messageBuffer, messageBuffer + 1, 3 * messageBuffer, 1<<16 - 1, 1 << 16, 200_000}
	var wire bytes.Buffer
	var want [][]byte
	pings := 0
	for _, size := range sizes {
		whole := payload(size)
		wire.Write(wsFrame(ws.OpBinary, true, whole))
		third := size / 3
		wire.Write(wsFrame(ws.OpBinary, false, whole[:third]))
		wire.Write(wsFrame(ws.OpPing, true, payload(125)))
		wire.Write(wsFrame(ws.OpContinuation, false, whole[third:2*third]))
		wire.Write(wsFrame(ws.OpPong, true, nil))
		wire.Write(wsFrame(ws.OpContinuation, false, nil))
		wire.Write(wsFrame(ws.OpContinuation, true, whole[2*third:]))
		want = append(want, whole, whole)
		pings++
	}
	for name, reader := range map[string]func(io.Reader) io.Reader{
		"as it comes": func(r io.Reader) io.Reader { return r }, "halves": iotest.HalfReader, "single bytes": iotest.OneByteReader,
		"with the end": iotest.DataErrReader,
	} {
		pinged := 0
		got, err := readAll(reader(bytes.NewReader(wire.Bytes())), func(op ws.OpCode, p []byte) error {
			if op == ws.OpPing && bytes.Equal(p, payload(125)) {
				pinged++
			}
			return nil
		})
		if !errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%s: it ended with %v", name, err)
		}
		if !slices.EqualFunc(got, want, bytes.Equal) {
			t.Errorf("%s: %d messages came, want %d, or they differ", name, len(got), len(want))
		}
		if pinged != pings {
			t.Errorf("%s: %d pings came, want %d", name, pinged, pings)
		}
	}
}

// What a server must not send ends the connection, and says why.
func TestWhatNoServerSends(t *testing.T) {
	t.Parallel()
	binary := wsFrame(ws.OpBinary, true, []byte("x"))
	masked := ws.MustCompileFrame(ws.MaskFrame(ws.NewBinaryFrame([]byte("x"))))
	for name, c := range map[string]struct {
		wire []byte
		want error
	}{
		"text":                    {wsFrame(ws.OpText, true, []byte("{}")), errNotBinary},
		"masked":                  {masked, ws.ErrProtocolMaskUnexpected},
		"reserved bits":           {[]byte{0xc2, 0}, ws.ErrProtocolNonZeroRsv},
		"reserved code":           {[]byte{0x83, 0}, ws.ErrProtocolOpCodeReserved},
		"a ping in fragments":     {[]byte{0x09, 0}, ws.ErrProtocolControlNotFinal},
		"a large ping":            {append([]byte{0x89, 126, 0, 126}, payload(126)...), ws.ErrProtocolControlPayloadOverflow},
		"a continuation of none":  {wsFrame(ws.OpContinuation, true, nil), ws.ErrProtocolContinuationUnexpected},
		"one in another":          {append(wsFrame(ws.OpBinary, false, nil), binary...), ws.ErrProtocolContinuationExpected},
		"too large":               {[]byte{0x82, 127, 0, 0, 0, 0, 0, 0x80, 0, 1}, errTooLarge},
		"larger than any memory":  {[]byte{0x82, 127, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, errTooLarge},
		"half of a header":        {binary[:1], io.ErrUnexpectedEOF},
		"half of a length":        {[]byte{0x82, 127, 0, 0}, io.ErrUnexpectedEOF},
		"half of a short length":  {[]byte{0x82, 126, 0}, io.ErrUnexpectedEOF},
		"half of a message":       {binary[:2], io.ErrUnexpectedEOF},
		"half of a large message": {wsFrame(ws.OpBinary, true, payload(5000))[:4000], io.ErrUnexpectedEOF},
		"half of a ping":          {wsFrame(ws.OpPing, true, payload(10))[:7], io.ErrUnexpectedEOF},
		"the first of two":        {wsFrame(ws.OpBinary, false, []byte("x")), io.ErrUnexpectedEOF},
		"nothing":                 {nil, io.EOF},
	} {
		got, err := readAll(bytes.NewReader(c.wire), noControl)
		if len(got) > 0 || !errors.Is(err, c.want) {
			t.Errorf("%s: it ended with %v behind %d messages, want %v", name, err, len(got), c.want)
		}
	}
}

// Fragments add up to a bound, too.
func TestTooManyFragments(t *testing.T) {
	t.Parallel()
	part := wsFrame(ws.OpContinuation, false, payload(1<<20))
	parts := []io.Reader{bytes.NewReader(wsFrame(ws.OpBinary, false, nil))}
	for range 9 {
		parts = append(parts, bytes.NewReader(part))
	}
	if _, err := readAll(io.MultiReader(parts...), noControl); !errors.Is(err, errTooLarge) {
		t.Errorf("nine megabytes ended with %v", err)
	}
}

// The memory for a message grows as it comes: who only announces one costs nothing.
func TestAnAnnouncementCostsNothing(t *testing.T) {
	wire := []byte{0x82, 127, 0, 0, 0, 0, 0, 0x7f, 0, 0} // just below 8 MiB, and nothing behind it
	allocated := testing.Benchmark(func(b *testing.B) {
		for b.Loop() {
			_, _ = readAll(bytes.NewReader(wire), noControl)
		}
	}).AllocedBytesPerOp()
	if allocated > 64<<10 {
		t.Errorf("an announcement allocates %d bytes", allocated)
	}
}

// endless gives the same bytes again and again.
type endless struct {
	wire []byte
	at   int
}

func (e *endless) Read(into []byte) (int, error) {
	n := copy(into, e.wire[e.at:])
	e.at = (e.at + n) % len(e.wire)
	return n, nil
}

func TestReadingAllocatesNothing(t *testing.T) {
	for name, size := range map[string]int{"fits": 200, "does not fit": 5000} {
		m := &messages{source: &endless{wire: wsFrame(ws.OpBinary, true, payload(size))}, control: noControl}
		allocated := testing.AllocsPerRun(1000, func() {
			if _, err := m.next(); err != nil {
				t.Fatal(err)
			}
			m.release()
		})
		if allocated >= 1 && !raceEnabled { // under the race detector pools forget on purpose
			t.Errorf("a message that %s allocates %.0f times", name, allocated)
		}
	}
}

// chunks is a network that cuts into pieces of one size.
type chunks struct {
	wire []byte
	size int
}

func (c *chunks) Read(into []byte) (int, error) {
	if len(c.wire) == 0 {
		return 0, io.EOF
	}
	n := copy(into[:min(len(into), c.size)], c.wire)
	c.wire = c.wire[n:]
	return n, nil
}

// FuzzMessages holds the reader to the library's own, which reads frame by frame into fresh memory.
func FuzzMessages(f *testing.F) {
	f.Fuzz(func(t *testing.T, wire []byte, size uint8) {
		closes := func(op ws.OpCode, _ []byte) error {
			if op == ws.OpClose {
				return errClosed
			}
			return nil
		}
		got, err := readAll(&chunks{wire: wire, size: int(size) + 1}, closes)
		if err == nil {
			t.Error("it has no end")
		}
		want := readSlowly(wire)
		if !slices.EqualFunc(got, want, bytes.Equal) {
			t.Errorf("%d messages: %q\nwant %d: %q", len(got), got, len(want), want)
		}
		for _, message := range got {
			var decoded guildhallv1.JoinResponse
			_ = proto.Unmarshal(message, &decoded) // must not panic
		}
	})
}

// readSlowly reads all messages before the first thing that is wrong.
func readSlowly(wire []byte) (all [][]byte) {
	var message []byte
	state := ws.StateClientSide
	for r := bytes.NewReader(wire); ; {
		h, err := ws.ReadHeader(r)
		if err != nil || ws.CheckHeader(h, state) != nil || h.Length > int64(r.Len()) {
			return all
		}
		part := make([]byte, h.Length)
		_, _ = r.Read(part)
		switch {
		case h.OpCode == ws.OpText, h.OpCode == ws.OpClose, len(message)+len(part) > frameMost:
			return all
		case h.OpCode.IsControl():
			continue
		}
		message = append(message, part...)
		state = state.Set(ws.StateFragmented)
		if h.Fin {
			all, message, state = append(all, message), nil, ws.StateClientSide
		}
	}
}

func BenchmarkMessages(b *testing.B) {
	m := &messages{source: &endless{wire: wsFrame(ws.OpBinary, true, payload(200))}, control: noControl}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := m.next(); err != nil {
			b.Fatal(err)
		}
		m.release()
	}
}
