package transport

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"testing"

	"golang.org/x/net/http2"

	"github.com/gobwas/ws"
)

// reader is a client that reads when it is told to.
type reader interface {
	// readAll reads until the server has ended the stream, and gives the messages. It fails on anything torn.
	readAll() ([][]byte, error)
}

// grpcReader reads a call whose windows do not matter.
type grpcReader struct{ c *h2Client }

func (r grpcReader) readAll() ([][]byte, error) {
	r.c.resume()
	r.c.await("the end", func(f h2Frame) bool { return isTrailers(1)(f) || isReset(1)(f) })
	if f, found := r.c.find(isReset(1)); found && f.code != http2.ErrCodeNo {
		return nil, fmt.Errorf("it was reset: %v", f.code)
	}
	messages, left := outOfGRPC(r.c.body(1))
	if left > 0 {
		return messages, fmt.Errorf("%d bytes of a message came", left)
	}
	return messages, nil
}

type wsReader struct{ c *wsClient }

func (r wsReader) readAll() (messages [][]byte, err error) {
	for {
		f, err := r.c.next()
		switch {
		case err != nil:
			return messages, err
		case f.Header.OpCode == ws.OpClose:
			return messages, nil
		case f.Header.OpCode == ws.OpBinary:
			messages = append(messages, f.Payload)
		}
	}
}

// kinds are the two kinds of connection, each with a client that does not read yet.
var kinds = map[string]func(t *testing.T, conn net.Conn) reader{
	"gRPC": func(t *testing.T, conn net.Conn) reader {
		t.Helper()
		c := pausedH2(t, conn)
		c.send([]byte(http2.ClientPreface))
		c.write(func(f *http2.Framer) error {
			return f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: maxWindow})
		})
		c.window(0, maxWindow-initialWindow)
		c.call(1, false)
		return grpcReader{c}
	},
	"WebSocket": func(t *testing.T, conn net.Conn) reader {
		t.Helper()
		return wsReader{shake(t, conn, subprotocolProto)}
	},
}

// numbered gives a message that says which it is, and whether it is whole.
func numbered(sender, i, size int) []byte {
	m := bytes.Repeat([]byte{byte(sender), byte(i)}, (size+1)/2)[:size]
	if size >= 8 {
		binary.BigEndian.PutUint32(m, uint32(sender))
		binary.BigEndian.PutUint32(m[4:], uint32(i))
	}
	return m
}

// TestSlowReader has a client not read. Sending is refused once the bound is reached, nothing waits for that, nobody else
// notices; and when the client is back it gets what had begun, and the last message behind that.
func TestSlowReader(t *testing.T) {
	t.Parallel()
	for name, join := range kinds {
		for _, size := range []int{100, 5000, 60_000} {
			t.Run(fmt.Sprintf("%s/%d bytes", name, size), func(t *testing.T) {
				t.Parallel()
				handle, streams := hold()
				s := start(t, Config{Handle: handle, closeWithin: patience})
				conn := s.dial(t)
				if err := conn.SetReadBuffer(64 << 10); err != nil { // to read megabytes would take it longer than it is given
					t.Fatal(err)
				}
				client := join(t, conn)
				stream := await(t, streams, "a stream")
				other := join(t, s.dial(t))
				quick := await(t, streams, "a stream")

				sent, accepted, refused := 0, 0, 0
				var drained <-chan struct{}
				for drained == nil {
					err := stream.Send([][]byte{numbered(1, sent, size)})
					if errors.Is(err, ErrSlow) {
						drained = stream.Drained() // nil if the kernel has taken everything since
						if refused++; drained == nil && refused == 2 {
							t.Fatal("it is refused, and not behind")
						}
						continue
					}
					if err != nil {
						t.Fatal(err)
					}
					refused = 0
					if sent++; stream.IsBehind() {
						accepted += size
					}
					if accepted > 2*(QueueBytes+8<<20) { // what the kernel takes is bounded, too
						t.Fatalf("%d bytes are taken for a client that does not read", accepted)
					}
				}
				if waits := queueSize(s.server); waits > 2*QueueBytes {
					t.Errorf("%d KiB wait", waits>>10)
				}
				if err := quick.Send([][]byte{[]byte("quick")}); err != nil || quick.Drained() != nil {
					t.Errorf("the other client's is not sent: %v", err)
				}
				quick.Close(nil, false)
				if got, err := other.readAll(); err != nil || len(got) != 1 {
					t.Errorf("the other client gets %q and %v", got, err)
				}

				stream.Close([]byte("last"), true)
				got, err := client.readAll()
				if err != nil {
					t.Fatal(err)
				}
				await(t, drained, "drained")
				if len(got) == 0 || string(got[len(got)-1]) != "last" || len(got) > sent+1 {
					t.Fatalf("%d messages came of %d, and not the last one", len(got), sent)
				}
				for i, m := range got[:len(got)-1] {
					if !bytes.Equal(m, numbered(1, i, size)) {
						t.Fatalf("message %d is not what was sent", i)
					}
				}
			})
		}
	}
}

// TestManySmallToSlow checks that messages are bounded in number, too, and that it is no matter if many wait.
func TestManySmallToSlow(t *testing.T) {
	t.Parallel()
	for name, join := range kinds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			handle, streams := hold()
			s := start(t, Config{Handle: handle, closeWithin: patience})
			client := join(t, s.dial(t))
			stream := await(t, streams, "a stream")
			sent := 0
			for !stream.IsBehind() {
				if err := stream.Send([][]byte{numbered(1, sent, 30_000)}); err != nil {
					t.Fatal(err)
				}
				sent++
			}
			small := 0
			for ; small < 20*queueMessages; small++ {
				if err := stream.Send([][]byte{{}}); err != nil {
					break
				}
			}
			if small == 20*queueMessages || small < queueMessages/2 { // the kernel takes some, still
				t.Errorf("%d messages wait", small)
			}
			stream.Close([]byte("last"), false)
			got, err := client.readAll()
			if err != nil || len(got) != sent+small+1 {
				t.Errorf("%d messages came and %v, want %d", len(got), err, sent+small+1)
			}
		})
	}
}

// TestLargeBatch sends more at once than may wait, to clients that keep up: that something is large does not make them slow.
func TestLargeBatch(t *testing.T) {
	t.Parallel()
	for name, join := range kinds {
		for _, n := range []int{20, queueMessages + 1} {
			t.Run(fmt.Sprintf("%s/%d", name, n), func(t *testing.T) {
				t.Parallel()
				handle, streams := hold()
				s := start(t, Config{Handle: handle, closeWithin: patience})
				client := join(t, s.dial(t))
				stream := await(t, streams, "a stream")
				var batch [][]byte
				for i := range n {
					batch = append(batch, numbered(1, i, (QueueBytes+100<<10)/n))
				}
				if err := stream.Send(batch); err != nil {
					t.Errorf("nothing waits, and sending is refused: %v", err)
				}
				stream.Close([]byte("last"), false)
				got, err := client.readAll()
				if err != nil || len(got) != n+1 {
					t.Errorf("%d messages came and %v, want %d", len(got), err, n+1)
				}
			})
		}
	}
}
