package roomserver

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
	"github.com/guildhall-dev/guildhall/internal/pass"
)

func leaveFrame() *guildhallv1.JoinRequest {
	return &guildhallv1.JoinRequest{Frame: &guildhallv1.JoinRequest_Leave{Leave: &guildhallv1.Leave{}}}
}

func TestTheFirstFrameMustBeAHello(t *testing.T) { onEachWire(t, testTheFirstFrameMustBeAHello) }

func testTheFirstFrameMustBeAHello(t *testing.T, b *bundle) {
	h := b.host("h1")
	for name, first := range map[string]*guildhallv1.JoinRequest{
		"say":         {Frame: &guildhallv1.JoinRequest_Say{Say: &guildhallv1.Say{Id: "1", Body: []byte("hi")}}},
		"leave":       leaveFrame(),
		"no frame":    {},
		"empty hello": {Frame: &guildhallv1.JoinRequest_Hello{Hello: &guildhallv1.Hello{}}},
	} {
		m := h.call("p1")
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

// A second hello ends the session, after what was said before it.
func TestASecondHelloEndsTheSession(t *testing.T) { onEachWire(t, testASecondHelloEndsTheSession) }

func testASecondHelloEndsTheSession(t *testing.T, b *bundle) {
	h := b.host("h1")
	claim := h.openRoom(dragons)
	witness := h.join("witness", claim, nil)
	m := h.join("p1", claim, nil)
	m.say("before", "hi")
	m.hello(b.pass("p1", claim), nil)
	m.endsWith(guildhallv1.CloseCode_CLOSE_CODE_PROTOCOL, false)
	witness.told(1, "p1", guildhallv1.MemberState_MEMBER_STATE_GONE)
	witness.seen(1)
}

// A frame that is of a later version is ignored.
func TestAFrameOfALaterVersion(t *testing.T) { onEachWire(t, testAFrameOfALaterVersion) }

func testAFrameOfALaterVersion(t *testing.T, b *bundle) {
	h := b.host("h1")
	m := h.join("p1", h.openRoom(dragons), nil)
	m.send(&guildhallv1.JoinRequest{})
	unknown := []byte{0xfa, 0x3e, 0x01, 'x'} // field 1007, with one byte
	if m.json {
		unknown = []byte(`{"wave":{"hand":"left"}}`)
	}
	if err := m.link.send(unknown); err != nil {
		t.Fatal(err)
	}
	m.sayMany(1, 1)
}

// Wherever the stream breaks, the seat is free again and the room goes on.
func TestABrokenStreamFreesTheSeat(t *testing.T) { onEachWire(t, testABrokenStreamFreesTheSeat) }

func testABrokenStreamFreesTheSeat(t *testing.T, b *bundle) {
	h := b.host("h1")
	claim := h.openRoom(dragons)
	witness := h.join("witness", claim, nil)

	h.call("p1").cut() // before the hello

	m := h.call("p1") // between the hello and the welcome
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
	m = b.callOver(conn, "p4")
	m.hello(b.pass("p4", claim), nil)
	m.must("the welcome", func() bool { return m.welcome != nil })
	conn.Close()
	witness.told(1, "p4", guildhallv1.MemberState_MEMBER_STATE_GONE)

	m = h.join("p5", claim, nil) // half-closed: the player has nothing more to say, and leaves
	if err := m.link.done(); err != nil {
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

func TestHalfCloseBeforeTheHello(t *testing.T) { onEachWire(t, testHalfCloseBeforeTheHello) }

func testHalfCloseBeforeTheHello(t *testing.T, b *bundle) {
	m := b.host("h1").call("p1")
	if err := m.link.done(); err != nil {
		t.Fatal(err)
	}
	m.endsWith(guildhallv1.CloseCode_CLOSE_CODE_LEFT, false)
}

// A frame beyond what the transport takes ends the session, and nobody else's.
func TestAFrameThatIsFarTooLarge(t *testing.T) { onEachWire(t, testAFrameThatIsFarTooLarge) }

func testAFrameThatIsFarTooLarge(t *testing.T, b *bundle) {
	h := b.host("h1")
	claim := h.openRoom(dragons)
	witness := h.join("witness", claim, nil)
	m := h.join("p1", claim, nil)
	m.say("1", strings.Repeat("x", maxFrame(b.bodyBytes)+1))
	err := m.until(func() bool { return m.closed != nil })
	if told := m.closed.GetCode() == guildhallv1.CloseCode_CLOSE_CODE_PROTOCOL; told == (b.wire == overGRPC) {
		t.Errorf("the session ended with %v, %v; want PROTOCOL, and over gRPC the status alone", m.closed, err)
	}
	if b.wire == overGRPC && status.Code(errors.Unwrap(err)) != codes.ResourceExhausted {
		t.Errorf("the stream ended with %v, want ResourceExhausted", err)
	}
	witness.told(1, "p1", guildhallv1.MemberState_MEMBER_STATE_GONE)
	witness.say("1", "still here")
	witness.acked("1")
}

// Bytes that are no frame are told as a mistake, before and behind the hello, and nobody else is disturbed.
func TestBytesThatAreNoFrame(t *testing.T) { onEachWire(t, testBytesThatAreNoFrame) }

func testBytesThatAreNoFrame(t *testing.T, b *bundle) {
	h := b.host("h1")
	claim := h.openRoom(dragons)
	witness := h.join("witness", claim, nil)
	garbage := []byte{0xff, 0xff, 0xff}
	if b.wire == overJSON {
		garbage = []byte("{let me in") // text it has to be, or WebSocket itself would refuse it
	}
	for _, m := range []*member{h.call("p1"), h.join("p2", claim, nil)} {
		if err := m.link.send(garbage); err != nil {
			t.Fatal(err)
		}
		m.endsWith(guildhallv1.CloseCode_CLOSE_CODE_PROTOCOL, false)
	}
	witness.told(1, "p2", guildhallv1.MemberState_MEMBER_STATE_GONE)
	witness.sayMany(1, 1)
}

// lonelyDoor is a door of a host that nobody asks for a room.
func lonelyDoor() *door {
	return &door{host: newHost(hostConfig{
		name: "h1", logger: slog.New(slog.DiscardHandler), metrics: newMetrics(prometheus.NewRegistry()),
	}), keys: func() pass.PublicKeys { return nil }}
}

func TestNoHelloWithinTenSeconds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		stream := newInjected(t)
		start := time.Now()
		lonelyDoor().serve(stream)
		if took := time.Since(start); took != helloWithin {
			t.Errorf("the silent stream was closed after %s, want %s", took, helloWithin)
		}
		if got := stream.got(); len(got) != 1 || got[0].GetClosed().GetCode() != guildhallv1.CloseCode_CLOSE_CODE_PROTOCOL {
			t.Errorf("the silent stream was sent %v, want PROTOCOL", got)
		}
	})
}

// A hello that came in time is not cut off by the clock of the silent ones.
func TestAHelloInTimeStopsTheClock(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		stream := newInjected(t)
		go func() {
			<-time.After(helloWithin - time.Nanosecond)
			stream.says(&guildhallv1.JoinRequest{Frame: &guildhallv1.JoinRequest_Hello{Hello: &guildhallv1.Hello{}}})
		}()
		lonelyDoor().serve(stream)
		<-time.After(helloWithin)
		if got := stream.got(); len(got) != 1 || got[0].GetClosed().GetCode() != guildhallv1.CloseCode_CLOSE_CODE_PASS_REFUSED {
			t.Errorf("a late hello was answered with %v, want PASS_REFUSED alone", got)
		}
	})
}

func TestAStreamThatIsGoneBeforeItSaysAnything(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		stream := newInjected(t)
		stream.Abort()
		lonelyDoor().serve(stream)
		if got := stream.got(); len(got) != 0 {
			t.Errorf("a stream that was gone was sent %v", got)
		}
	})
}

// A session ends once, by its first reason, and who ends it later changes nothing.
func TestASessionEndsOnce(t *testing.T) {
	t.Parallel()
	stream := newInjected(t)
	s := newSession(stream)
	stream.slow = true
	if !s.send([][]byte{{}}) {
		t.Error("a session that does not keep up was not dropped")
	}
	if s.send([][]byte{{}}) {
		t.Error("a session that has ended was dropped for a second time: it would be counted twice")
	}
	s.end(leftClosed)
	if s.closed.GetCode() != guildhallv1.CloseCode_CLOSE_CODE_SLOW_CONSUMER || !s.closed.GetReconnect() {
		t.Errorf("the session ended with %v", s.closed)
	}
	if got := stream.got(); len(got) != 1 || got[0].GetClosed().GetCode() != guildhallv1.CloseCode_CLOSE_CODE_SLOW_CONSUMER {
		t.Errorf("the client was told %v, want SLOW_CONSUMER once", got)
	}
}
