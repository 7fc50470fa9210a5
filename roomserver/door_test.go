package roomserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
)

func leaveFrame() *guildhallv1.JoinRequest {
	return &guildhallv1.JoinRequest{Frame: &guildhallv1.JoinRequest_Leave{Leave: &guildhallv1.Leave{}}}
}

func TestTheFirstFrameMustBeAHello(t *testing.T) {
	b := setup(t)
	h := b.host("h1")
	for name, first := range map[string]*guildhallv1.JoinRequest{
		"say":         {Frame: &guildhallv1.JoinRequest_Say{Say: &guildhallv1.Say{Id: "1", Body: []byte("hi")}}},
		"leave":       leaveFrame(),
		"no frame":    {},
		"empty hello": {Frame: &guildhallv1.JoinRequest_Hello{Hello: &guildhallv1.Hello{}}},
	} {
		m := b.call(h.conn, "p1")
		m.send(first)
		want := guildhallv1.CloseCode_CLOSE_CODE_PROTOCOL
		if name == "empty hello" {
			want = guildhallv1.CloseCode_CLOSE_CODE_PASS_REFUSED
		}
		if got := m.ends(); got.GetCode() != want {
			t.Errorf("a stream that began with %s was closed with %v, want %s", name, got, want)
		}
	}
}

// What comes behind the hello and is neither say nor leave ends the session, after what was said before it.
func TestASecondHelloEndsTheSession(t *testing.T) {
	b := setup(t)
	h := b.host("h1")
	claim := h.openRoom(dragons)
	witness := h.join("witness", claim, nil)
	for i, second := range []*guildhallv1.JoinRequest{
		{Frame: &guildhallv1.JoinRequest_Hello{Hello: &guildhallv1.Hello{Pass: b.pass("p1", claim)}}}, {},
	} {
		m := h.join("p1", claim, nil)
		m.say(fmt.Sprint("before ", i), "hi")
		m.send(second)
		m.endsWith(guildhallv1.CloseCode_CLOSE_CODE_PROTOCOL, false)
		witness.told(i+1, "p1", guildhallv1.MemberState_MEMBER_STATE_GONE)
	}
}

// Wherever the stream breaks, the seat is free again and the room goes on.
func TestABrokenStreamFreesTheSeat(t *testing.T) {
	b := setup(t)
	h := b.host("h1")
	claim := h.openRoom(dragons)
	witness := h.join("witness", claim, nil)

	b.call(h.conn, "p1").cut() // before the hello

	m := b.call(h.conn, "p1") // between the hello and the welcome
	m.hello(b.pass("p1", claim), nil)
	m.cut()

	m = h.join("p2", claim, nil) // behind the welcome
	m.cut()
	witness.told(1, "p2", guildhallv1.MemberState_MEMBER_STATE_GONE)

	m = h.join("p3", claim, nil) // behind a say whose ack nobody reads
	m.say("1", "last words")
	witness.seen(1)
	m.cut()
	witness.told(1, "p3", guildhallv1.MemberState_MEMBER_STATE_GONE)

	conn := dial(t, h.address) // with the connection
	m = b.call(conn, "p4")
	m.hello(b.pass("p4", claim), nil)
	m.must("the welcome", func() bool { return m.welcome != nil })
	conn.Close()
	witness.told(1, "p4", guildhallv1.MemberState_MEMBER_STATE_GONE)

	m = h.join("p5", claim, nil) // half-closed: the player has nothing more to say, and leaves
	if err := m.stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	m.endsWith(guildhallv1.CloseCode_CLOSE_CODE_LEFT, false)
	witness.told(1, "p5", guildhallv1.MemberState_MEMBER_STATE_GONE)

	// p1 may have been seated for a moment; by now all that it did was done before p2 came.
	witness.told(witness.count("p1", guildhallv1.MemberState_MEMBER_STATE_HERE), "p1", guildhallv1.MemberState_MEMBER_STATE_GONE)
	witness.say("2", "still here")
	if seq := witness.acked("2"); seq != 2 {
		t.Errorf("the next message got number %d, want 2", seq)
	}
}

func TestHalfCloseBeforeTheHello(t *testing.T) {
	b := setup(t)
	m := b.call(b.host("h1").conn, "p1")
	if err := m.stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	m.endsWith(guildhallv1.CloseCode_CLOSE_CODE_PROTOCOL, false)
}

// A frame beyond what the transport takes ends the session, and nobody else's.
func TestAFrameThatIsFarTooLarge(t *testing.T) {
	b := setup(t)
	h := b.host("h1")
	claim := h.openRoom(dragons)
	witness := h.join("witness", claim, nil)
	m := h.join("p1", claim, nil)
	m.say("1", strings.Repeat("x", b.bodyBytes+maxFrameOverhead+1))
	if err := m.until(func() bool { return false }); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("the stream ended with %v, want ResourceExhausted", err)
	}
	witness.told(1, "p1", guildhallv1.MemberState_MEMBER_STATE_GONE)
	witness.say("1", "still here")
	witness.acked("1")
}

// rawCodec sends bytes as they are, and reads frames as they should be.
type rawCodec struct{}

func (rawCodec) Marshal(v any) ([]byte, error) { return *(v.(*[]byte)), nil }
func (rawCodec) Name() string                  { return "proto" }

func (rawCodec) Unmarshal(data []byte, v any) error { return proto.Unmarshal(data, v.(proto.Message)) }

func TestBytesThatAreNoFrame(t *testing.T) {
	b := setup(t)
	h := b.host("h1")
	stream, err := h.conn.NewStream(b.ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true},
		guildhallv1.RoomService_Join_FullMethodName, grpc.ForceCodec(rawCodec{}))
	if err != nil {
		t.Fatal(err)
	}
	garbage := []byte{0xff, 0xff, 0xff}
	if err := stream.SendMsg(&garbage); err != nil {
		t.Fatal(err)
	}
	var frame guildhallv1.JoinResponse
	if err := stream.RecvMsg(&frame); err == nil {
		t.Errorf("garbage was answered with %v", &frame)
	}
}

// injected is a stream for the door in virtual time. It says what the test gives it, and keeps what it is sent.
type injected struct {
	grpc.ServerStream
	ctx  context.Context
	says chan *guildhallv1.JoinRequest // closed: the client has half-closed

	mu    sync.Mutex
	sent  []*guildhallv1.JoinResponse // guarded by mu
	stuck bool                        // the client does not read
}

func (i *injected) Context() context.Context { return i.ctx }

func (i *injected) Recv() (*guildhallv1.JoinRequest, error) {
	select {
	case frame, open := <-i.says:
		if !open {
			return nil, io.EOF
		}
		return frame, nil
	case <-i.ctx.Done():
		return nil, i.ctx.Err()
	}
}

func (i *injected) Send(frame *guildhallv1.JoinResponse) error {
	if i.stuck {
		<-i.ctx.Done()
		return i.ctx.Err()
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.sent = append(i.sent, frame)
	return nil
}

// lonelyDoor is a door of a host that nobody asks for a room.
func lonelyDoor() *door {
	return &door{host: newHost(hostConfig{
		name: "h1", logger: slog.New(slog.DiscardHandler), metrics: newMetrics(prometheus.NewRegistry()),
	})}
}

func TestNoHelloWithinTenSeconds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		stream := &injected{ctx: ctx, says: make(chan *guildhallv1.JoinRequest)}
		d := lonelyDoor()
		start := time.Now()
		if err := d.Join(stream); err != nil {
			t.Errorf("Join ended with %v, want a word to the client and no error", err)
		}
		if took := time.Since(start); took != helloWithin {
			t.Errorf("the silent stream was closed after %s, want %s", took, helloWithin)
		}
		if len(stream.sent) != 1 || stream.sent[0].GetClosed().GetCode() != guildhallv1.CloseCode_CLOSE_CODE_PROTOCOL {
			t.Errorf("the silent stream was sent %v, want PROTOCOL", stream.sent)
		}
		cancel() // as gRPC does behind Join
		d.sessions.Wait()
	})
}

// A client that has ended and does not take its last words holds the door for two seconds, not for ever.
func TestLastWordsThatNobodyTakes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		stream := &injected{ctx: ctx, says: make(chan *guildhallv1.JoinRequest, 1), stuck: true}
		stream.says <- leaveFrame()
		d := lonelyDoor()
		start := time.Now()
		if err := d.Join(stream); err == nil {
			t.Error("Join ended well and nothing was sent")
		}
		if took := time.Since(start); took != closeWithin {
			t.Errorf("Join took %s, want %s", took, closeWithin)
		}
		cancel()
		d.sessions.Wait()
	})
}

func TestAStreamThatIsGoneBeforeItSaysAnything(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		d := lonelyDoor()
		if err := d.Join(&injected{ctx: ctx, says: make(chan *guildhallv1.JoinRequest)}); err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("Join ended with %v", err)
		}
		d.sessions.Wait()
	})
}
