package roomserver

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/guildhall-dev/guildhall"
	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
	"github.com/guildhall-dev/guildhall/internal/registry"
	"github.com/guildhall-dev/guildhall/internal/transport"
)

// audience is many members who do nothing but read, and count what they have read. They cost as little as a member can: what
// is measured is the host.
type audience struct {
	tb       testing.TB
	conns    []net.Conn
	reading  sync.WaitGroup
	welcomed sync.WaitGroup
	heard    atomic.Int64  // messages and signals, of all together
	want     atomic.Int64  // tell when so many are heard
	reached  chan struct{} // holds one
}

func newAudience(tb testing.TB) *audience {
	a := &audience{tb: tb, reached: make(chan struct{}, 1)}
	a.want.Store(math.MaxInt64)
	tb.Cleanup(func() {
		for _, conn := range a.conns {
			_ = conn.Close() // the host may have been first
		}
		a.reading.Wait()
	})
	return a
}

// await waits until so many are heard since the last start.
func (a *audience) await(n int64) {
	a.want.Store(n)
	for a.heard.Load() < n {
		<-a.reached
	}
	a.want.Store(math.MaxInt64)
}

// start forgets what was heard.
func (a *audience) start() { a.heard.Store(0) }

// hears counts a frame of the room.
func (a *audience) hears(frame []byte) {
	n := int64(0)
	for kind, payload := range fields(frame) {
		switch kind {
		case 1:
			a.welcomed.Done()
		case 2: // events: messages and signals count, presence does not
			for _, event := range fields(payload) {
				if number, _, _ := protowire.ConsumeTag(event); number != 2 {
					n++
				}
			}
		}
	}
	if n > 0 && a.heard.Add(n) >= a.want.Load() {
		select {
		case a.reached <- struct{}{}:
		default:
		}
	}
}

// fields gives the fields of an encoded message that have a length.
func fields(b []byte) func(func(protowire.Number, []byte) bool) {
	return func(yield func(protowire.Number, []byte) bool) {
		for len(b) > 0 {
			number, kind, n := protowire.ConsumeTag(b)
			if n < 0 {
				return
			}
			b = b[n:]
			if kind != protowire.BytesType {
				if n = protowire.ConsumeFieldValue(number, kind, b); n < 0 {
					return
				}
				b = b[n:]
				continue
			}
			payload, n := protowire.ConsumeBytes(b)
			if n < 0 || !yield(number, payload) {
				return
			}
			b = b[n:]
		}
	}
}

// join seats so many members over a wire.
func (a *audience) join(b *bundle, address string, claim registry.Claim, over wire, n int) {
	a.tb.Helper()
	a.welcomed.Add(n)
	for i := range n {
		hello, err := proto.Marshal(&guildhallv1.JoinRequest{Frame: &guildhallv1.JoinRequest_Hello{Hello: &guildhallv1.Hello{
			Pass: b.pass(guildhall.PlayerID(fmt.Sprint("listener", i)), claim),
		}}})
		if err != nil {
			a.tb.Fatal(err)
		}
		if over == overGRPC {
			a.joinGRPC(address, hello)
			continue
		}
		link := b.dialWebSocket(address, false)
		a.conns = append(a.conns, link.conn)
		if err := link.send(hello); err != nil {
			a.tb.Fatal(err)
		}
		a.reading.Go(func() { a.readWebSocket(bufio.NewReaderSize(link.in, 16<<10)) })
	}
	a.welcomed.Wait()
}

// readWebSocket reads until the connection ends. A server's frames are whole messages and not masked.
func (a *audience) readWebSocket(in *bufio.Reader) {
	var header [10]byte
	var frame []byte
	for {
		if _, err := io.ReadFull(in, header[:2]); err != nil {
			return
		}
		length, more := uint64(header[1]), 0
		switch length {
		case 126:
			more = 2
		case 127:
			more = 8
		}
		if _, err := io.ReadFull(in, header[2:2+more]); err != nil {
			return
		}
		switch more {
		case 2:
			length = uint64(binary.BigEndian.Uint16(header[2:]))
		case 8:
			length = binary.BigEndian.Uint64(header[2:])
		}
		frame = resized(frame, int(length))
		if _, err := io.ReadFull(in, frame); err != nil {
			return
		}
		if header[0] == 0x82 {
			a.hears(frame)
		}
	}
}

func resized(b []byte, n int) []byte {
	if cap(b) < n {
		return make([]byte, n)
	}
	return b[:n]
}

// joinGRPC calls Join with windows that are never full.
func (a *audience) joinGRPC(address string, hello []byte) {
	a.tb.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		a.tb.Fatal(err)
	}
	a.conns = append(a.conns, conn)
	var out, headers bytes.Buffer
	out.WriteString(http2.ClientPreface)
	framer := http2.NewFramer(&out, nil)
	encoder := hpack.NewEncoder(&headers)
	for _, field := range [][2]string{
		{":method", "POST"}, {":scheme", "http"}, {":path", transport.Path}, {":authority", "host"},
		{"content-type", "application/grpc"}, {"te", "trailers"},
	} {
		_ = encoder.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]}) // a buffer takes all
	}
	_ = framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: math.MaxInt32})
	_ = framer.WriteWindowUpdate(0, math.MaxInt32-65535)
	_ = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: headers.Bytes(), EndHeaders: true})
	_ = framer.WriteData(1, false, append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(hello))), hello...))
	if _, err := conn.Write(out.Bytes()); err != nil {
		a.tb.Fatal(err)
	}
	a.reading.Go(func() { a.readGRPC(conn) })
}

// readGRPC reads until the connection ends.
func (a *audience) readGRPC(conn net.Conn) {
	framer := http2.NewFramer(conn, bufio.NewReaderSize(conn, 16<<10))
	framer.SetReuseFrames()
	var partial []byte
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			return
		}
		switch f := frame.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				_ = framer.WriteSettingsAck() // if it fails, so does the next read
			}
		case *http2.PingFrame:
			if !f.IsAck() {
				_ = framer.WritePing(true, f.Data) // 〃
			}
		case *http2.DataFrame:
			partial = append(partial, f.Data()...)
			rest := partial
			for len(rest) >= 5 && len(rest)-5 >= int(binary.BigEndian.Uint32(rest[1:])) {
				n := 5 + int(binary.BigEndian.Uint32(rest[1:]))
				a.hears(rest[5:n])
				rest = rest[n:]
			}
			partial = partial[:copy(partial, rest)]
		}
	}
}
