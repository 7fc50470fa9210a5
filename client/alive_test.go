package client

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gobwas/ws"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/protobuf/proto"

	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
)

// pipe gives both ends of a WebSocket behind its handshake. Nothing waits between them: what one writes, the other must
// read.
func pipe(t *testing.T) (net.Conn, *webSocket) {
	t.Helper()
	host, conn := net.Pipe()
	s := newWebSocket(t.Context(), conn)
	t.Cleanup(func() {
		host.Close()
		s.close()
	})
	return host, s
}

// heard gives the frames that a host receives, until the connection ends.
func heard(host net.Conn) <-chan ws.Frame {
	frames := make(chan ws.Frame, 64)
	go func() {
		defer close(frames)
		for {
			frame, err := ws.ReadFrame(host)
			if err != nil || ws.CheckHeader(frame.Header, ws.StateServerSide) != nil { // unmasked, for example
				return
			}
			frames <- ws.UnmaskFrameInPlace(frame)
		}
	}()
	return frames
}

// received gives what a client receives last, and how long that takes.
func received(s stream) (took time.Duration, frames int, err error) {
	for start := time.Now(); ; frames++ {
		if _, err := s.receive(); err != nil {
			return time.Since(start), frames, err
		}
	}
}

var pong = func() []byte {
	b, err := proto.Marshal(&guildhallv1.JoinResponse{Frame: &guildhallv1.JoinResponse_Pong{Pong: &guildhallv1.Pong{}}})
	if err != nil {
		panic(err)
	}
	return b
}()

func TestASilentHostIsAskedAndLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host, s := pipe(t)
		frames := heard(host)
		took, _, err := received(s)
		if !errors.Is(err, errVanished) || took != 15*time.Second {
			t.Errorf("it was lost behind %s: %v; want 15s", took, err)
		}
		if first := <-frames; first.Header.OpCode != ws.OpPing {
			t.Errorf("it was asked by %+v, want a ping", first.Header)
		}
		if second, open := <-frames; open {
			t.Errorf("one who has vanished was sent %+v", second.Header)
		}
		if err := s.send(&guildhallv1.JoinRequest{}); !errors.Is(err, errVanished) {
			t.Errorf("behind the end, send: %v", err)
		}
	})
}

func TestAHostThatTakesNothingIsLost(t *testing.T) {
	for name, sends := range map[string]bool{"quiet": false, "sending": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, s := pipe(t)
				sent := make(chan error, 1)
				if sends {
					go func() { sent <- s.send(&guildhallv1.JoinRequest{}) }()
				}
				took, _, err := received(s)
				if !errors.Is(err, errVanished) || took != 15*time.Second {
					t.Errorf("it was lost behind %s: %v; want 15s", took, err)
				}
				if sends && <-sent == nil {
					t.Error("nobody took it, and it was sent")
				}
			})
		})
	}
}

// A host that answers stays, and so does one that sends anything at all; only who is quiet is asked.
func TestAHostThatGivesASignOfLifeStays(t *testing.T) {
	for name, c := range map[string]struct {
		every time.Duration // 0: only when asked
		sign  ws.Frame
		pings bool
	}{
		"pongs":               {0, ws.NewPongFrame(nil), true},
		"frames when asked":   {0, ws.NewBinaryFrame(pong), true},
		"frames in good time": {9 * time.Second, ws.NewBinaryFrame(pong), false},
		"frames, a bit late":  {14 * time.Second, ws.NewBinaryFrame(pong), true},
		"its own pings":       {5 * time.Second, ws.NewPingFrame([]byte("there?")), false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				host, s := pipe(t)
				frames := heard(host)
				pings, pongs := 0, 0
				go func() {
					sign := ws.MustCompileFrame(c.sign)
					tick := make(<-chan time.Time)
					if c.every > 0 {
						ticker := time.NewTicker(c.every)
						defer ticker.Stop()
						tick = ticker.C
					}
					for {
						select {
						case <-tick:
							_, _ = host.Write(sign)
						case frame, open := <-frames:
							switch {
							case !open:
								return
							case frame.Header.OpCode == ws.OpPing:
								if pings++; c.every == 0 {
									_, _ = host.Write(sign)
								}
							case frame.Header.OpCode == ws.OpPong && bytes.Equal(frame.Payload, c.sign.Payload):
								pongs++
							}
						}
					}
				}()
				time.AfterFunc(time.Hour, func() { host.Close() })
				took, _, err := received(s)
				synctest.Wait()
				if took != time.Hour || errors.Is(err, errVanished) {
					t.Errorf("it was lost behind %s: %v", took, err)
				}
				if (pings > 0) != c.pings {
					t.Errorf("it was asked %d times", pings)
				}
				if c.sign.Header.OpCode == ws.OpPing && pongs != int(time.Hour/c.every)-1 && pongs != int(time.Hour/c.every) {
					t.Errorf("its pings were answered %d times", pongs)
				}
			})
		})
	}
}

func TestACloseFrameSaysWhy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host, s := pipe(t)
		frames := heard(host)
		go func() {
			_ = ws.WriteFrame(host, ws.NewCloseFrame(ws.NewCloseFrameBody(ws.StatusGoingAway, "the host restarts")))
		}()
		if _, _, err := received(s); err == nil || !strings.Contains(err.Error(), "the host restarts") || !strings.Contains(err.Error(), "1001") {
			t.Errorf("it ended with %v", err)
		}
		if answer := <-frames; answer.Header.OpCode != ws.OpClose {
			t.Errorf("it was answered by %+v", answer.Header)
		}
	})
}

// Its context ends a stream, and whoever waits for it.
func TestTheContextEndsAWebSocket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host, conn := net.Pipe()
		defer host.Close()
		ctx, cancel := context.WithCancel(t.Context())
		s := newWebSocket(ctx, conn)
		sent := make(chan error, 1)
		go func() { sent <- s.send(&guildhallv1.JoinRequest{}) }()
		time.AfterFunc(time.Second, cancel)
		if took, _, err := received(s); took != time.Second || !errors.Is(err, context.Canceled) {
			t.Errorf("it ended behind %s with %v", took, err)
		}
		if err := <-sent; !errors.Is(err, context.Canceled) {
			t.Errorf("send: %v", err)
		}
		s.close()
		s.close()
	})
}

// cable is a connection that can be cut without a word: what is written vanishes.
type cable struct {
	net.Conn
	cut atomic.Bool
}

func (c *cable) Write(b []byte) (int, error) {
	if c.cut.Load() {
		return len(b), nil
	}
	return c.Conn.Write(b)
}

// oneConn is a listener that gives one connection.
type oneConn struct {
	conns chan net.Conn
	over  chan struct{}
}

func (l *oneConn) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.over:
		return nil, net.ErrClosed
	}
}

func (l *oneConn) Close() error {
	close(l.over)
	return nil
}

func (l *oneConn) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

// quietRoom welcomes and says no more.
type quietRoom struct {
	guildhallv1.UnimplementedRoomServiceServer
}

func (quietRoom) Join(stream guildhallv1.RoomService_JoinServer) error {
	if err := stream.Send(&guildhallv1.JoinResponse{Frame: &guildhallv1.JoinResponse_Welcome{Welcome: &guildhallv1.Welcome{}}}); err != nil {
		return err
	}
	<-stream.Context().Done()
	return nil
}

// Over gRPC the keepalive does it: a host that is there may be quiet for long, one that has vanished is found out.
func TestAHostThatVanishesOverGRPC(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		listener := &oneConn{conns: make(chan net.Conn, 1), over: make(chan struct{})}
		server := grpc.NewServer(grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: answerWithin})) // as hosts have it
		guildhallv1.RegisterRoomServiceServer(server, quietRoom{})
		served := make(chan error, 1)
		go func() { served <- server.Serve(listener) }()
		var line *cable
		s, err := dialGRPC(t.Context(), "passthrough:///host", connectTimeout, func(context.Context, string) (net.Conn, error) {
			near, far := net.Pipe()
			line = &cable{Conn: near}
			listener.conns <- far
			return line, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.receive(); err != nil {
			t.Fatal(err)
		}
		const quiet = 10 * time.Minute
		time.AfterFunc(quiet, func() { line.cut.Store(true) })
		took, _, err := received(s)
		if took < quiet+answerWithin || took > quiet+quietFor+answerWithin {
			t.Errorf("it was found out %s behind the cut (%v), want at most %s", took-quiet, err, quietFor+answerWithin)
		}
		s.close()
		server.Stop()
		<-served
	})
}

// A host that does not answer a connection is given more time with each: everybody may be coming at once. One that has
// answered begins anew.
func TestAHostIsGivenMoreAndMoreTimeToAnswer(t *testing.T) {
	for _, transport := range []Transport{GRPC, WebSocket} {
		t.Run(transport.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := &Room{patience: connectTimeout, config: Config{
					Server: "http://frontend", Token: "token", Transport: transport,
					dialer: func(context.Context, string) (net.Conn, error) {
						host, conn := net.Pipe()
						go func() { _, _ = io.Copy(io.Discard, host) }()
						return conn, nil
					},
				}}
				if err := r.config.fill(); err != nil {
					t.Fatal(err)
				}
				assignment := &guildhallv1.Assignment{Address: "passthrough:///host", WebsocketUrl: "ws://host/join"}
				for i, want := range []time.Duration{3, 6, 12, 24, 24} {
					start := time.Now()
					if s, err := r.open(t.Context(), assignment); s != nil || err != nil {
						t.Fatalf("a host that does not answer gave %v, %v", s, err)
					}
					if took := time.Since(start); took < want*time.Second || took > want*time.Second+time.Second {
						t.Errorf("try %d was given up behind %s, want %s", i+1, took, want*time.Second)
					}
				}
			})
		})
	}
}
