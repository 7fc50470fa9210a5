package transport

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"golang.org/x/sync/errgroup"

	"github.com/gobwas/ws"
)

// halting is a connection whose reader takes rests, and small bites.
type halting struct {
	net.Conn
	random *rand.Rand
}

func (h *halting) Read(b []byte) (int, error) {
	if h.random.IntN(20) == 0 {
		<-time.After(time.Duration(h.random.IntN(3)) * time.Millisecond)
	}
	return h.Conn.Read(b[:1+h.random.IntN(len(b))])
}

// receiveAll reads a stream of either kind on a raw connection, giving each message to got, until it ends.
var receiveAll = map[string]func(t *testing.T, conn net.Conn, random *rand.Rand, got func([]byte) error) error{
	"WebSocket": func(t *testing.T, conn net.Conn, _ *rand.Rand, got func([]byte) error) error {
		t.Helper()
		c := shake(t, conn, subprotocolProto)
		for {
			f, err := c.next()
			if err != nil {
				return err
			}
			if f.Header.OpCode == ws.OpClose {
				return nil
			}
			if err := got(f.Payload); err != nil {
				return err
			}
		}
	},
	"gRPC": func(_ *testing.T, conn net.Conn, random *rand.Rand, got func([]byte) error) error {
		framer := http2.NewFramer(conn, conn)
		c := &h2Client{framer: framer}
		c.hpack = hpack.NewEncoder(&c.block)
		_, _ = conn.Write([]byte(http2.ClientPreface))
		_ = framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1000 + random.Uint32N(100_000)})
		_ = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.encode(), EndHeaders: true})
		var body []byte
		for owed := [2]uint32{}; ; {
			frame, err := framer.ReadFrame()
			if err != nil {
				return err
			}
			switch f := frame.(type) {
			case *http2.HeadersFrame:
				if f.StreamEnded() {
					if len(body) > 0 {
						return fmt.Errorf("%d bytes of a message came", len(body))
					}
					return nil
				}
			case *http2.RSTStreamFrame:
				return fmt.Errorf("it was reset: %v", f.ErrCode)
			case *http2.DataFrame:
				messages, left := outOfGRPC(append(body, f.Data()...))
				for _, m := range messages {
					if err := got(m); err != nil {
						return err
					}
				}
				body = append(body, f.Data()...)
				body = bytes.Clone(body[len(body)-left:])
				for i := range owed { // windows are granted in bites, too
					if owed[i] += f.Length; random.IntN(3) > 0 || owed[i] > 500 {
						_ = framer.WriteWindowUpdate(uint32(i), owed[i])
						owed[i] = 0
					}
				}
			}
		}
	},
}

// TestOrder has several goroutines send batches of all sizes to a client that takes rests. Each message comes whole, and those
// of one goroutine in their order.
func TestOrder(t *testing.T) {
	t.Parallel()
	const senders, batches = 4, 20
	for name, receive := range receiveAll {
		for seed := range uint64(3) {
			t.Run(fmt.Sprintf("%s/%d", name, seed), func(t *testing.T) {
				t.Parallel()
				handle, streams := hold()
				s := start(t, Config{Handle: handle, closeWithin: patience})
				random := rand.New(rand.NewPCG(seed, 0))
				conn := s.dial(t)
				next := make([]int, senders)
				received := make(chan error, 1)
				go func() {
					received <- receive(t, &halting{conn, random}, random, func(m []byte) error {
						sender, i := int(binary.BigEndian.Uint32(m)), int(binary.BigEndian.Uint32(m[4:]))
						if !bytes.Equal(m, numbered(sender, i, len(m))) {
							return errors.New("a message is torn")
						}
						if i != next[sender] {
							return fmt.Errorf("message %d of sender %d came instead of %d", i, sender, next[sender])
						}
						next[sender]++
						return nil
					})
				}()
				stream := await(t, streams, "a stream")
				sent := make([]int, senders)
				var group errgroup.Group
				for sender := range senders {
					random := rand.New(rand.NewPCG(seed, uint64(sender)+1))
					group.Go(func() (err error) {
						for range batches {
							if sent[sender], err = sendBatch(stream, random, sender, sent[sender]); err != nil {
								return err
							}
						}
						return nil
					})
				}
				if err := group.Wait(); err != nil {
					t.Fatal(err)
				}
				for drained := stream.Drained(); drained != nil; drained = stream.Drained() {
					await(t, drained, "drained")
				}
				stream.Close(nil, false)
				if err := await(t, received, "the end"); err != nil {
					t.Fatal(err)
				}
				for sender := range sent {
					if next[sender] != sent[sender] {
						t.Errorf("%d messages of sender %d came, want %d", next[sender], sender, sent[sender])
					}
				}
			})
		}
	}
}

// sendBatch sends a batch of a random size as soon as it is taken, and gives the number of the next message.
func sendBatch(stream Stream, random *rand.Rand, sender, from int) (int, error) {
	left := random.IntN(10 << random.IntN(16)) // up to 300 KiB, and mostly much less
	var batch [][]byte
	for left > 0 && len(batch) < 50 {
		size := 8 + random.IntN(1+min(left, 100<<10))
		left -= size
		batch = append(batch, numbered(sender, from, size))
		from++
	}
	for {
		err := stream.Send(batch)
		if !errors.Is(err, ErrSlow) {
			return from, err
		}
		drained := stream.Drained()
		if drained == nil {
			continue
		}
		select {
		case <-drained:
		case <-time.After(patience):
			return from, errors.New("it does not drain")
		}
	}
}

// TestDrainedIsNotLost has a client read again and again at the moment at which the queue gets empty.
func TestDrainedIsNotLost(t *testing.T) {
	t.Parallel()
	for name, receive := range receiveAll {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			handle, streams := hold()
			s := start(t, Config{Handle: handle, closeWithin: patience})
			random := rand.New(rand.NewPCG(1, 1))
			conn := s.dial(t)
			received := make(chan error, 1)
			go func() { received <- receive(t, conn, random, func([]byte) error { return nil }) }()
			stream := await(t, streams, "a stream")
			for i := range 30 {
				if err := stream.Send([][]byte{make([]byte, 40_000), make([]byte, 40_000)}); err != nil {
					t.Fatal(err)
				}
				var waiting sync.WaitGroup
				for range 1 + i%3 {
					waiting.Go(func() {
						for drained := stream.Drained(); drained != nil; drained = stream.Drained() {
							select {
							case <-drained:
							case <-time.After(patience):
								t.Error("it does not drain")
								return
							}
						}
					})
				}
				waiting.Wait()
				if t.Failed() {
					break
				}
			}
			stream.Close(nil, false)
			if err := await(t, received, "the end"); err != nil {
				t.Error(err)
			}
		})
	}
}
