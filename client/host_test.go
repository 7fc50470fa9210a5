package client_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"

	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
	"github.com/guildhall-dev/guildhall/client"
)

// A host whose first word is neither welcome nor closed is left, and tried again.
func TestAHostThatDoesNotWelcome(t *testing.T) {
	both(t, func(t *testing.T, b *bundle) {
		p := b.joins()
		ack := p.says("a")
		for _, first := range []*guildhallv1.JoinResponse{
			{},
			{Frame: &guildhallv1.JoinResponse_Events{Events: &guildhallv1.Events{}}},
			{Frame: &guildhallv1.JoinResponse_Ack{Ack: &guildhallv1.Ack{Id: "a", Seq: 1}}},
			{Frame: &guildhallv1.JoinResponse_Refused{Refused: &guildhallv1.Refused{Id: "a"}}},
		} {
			v := b.visited()
			v.send(first)
			if frame := v.next(); frame != nil {
				t.Errorf("behind %v the client went on with %v", first, frame)
			}
		}
		v := b.seats(0)
		v.hears("a")
		v.ack("a", 1)
		b.acked(ack, 1)
	})
}

// The end of the stream without a word is a broken connection, also when it looks orderly.
func TestAHostThatHangsUp(t *testing.T) {
	both(t, func(t *testing.T, b *bundle) {
		p := b.joins()
		v := b.visited()
		v.over <- nil // instead of a welcome
		v = b.seats(0)
		v.over <- nil
		if got := until[client.Closed](p); got.Code != client.ConnectionLost || !got.Reconnect {
			t.Errorf("told %+v", got)
		}
		b.seats(0)
		until[client.Resumed](p)
	})
}

// Frames that this client does not know, or that make no sense, are passed over.
func TestStrangeFrames(t *testing.T) {
	both(t, func(t *testing.T, b *bundle) {
		p := b.joins()
		v := b.seats(0)
		v.send(&guildhallv1.JoinResponse{})
		v.send(&guildhallv1.JoinResponse{Frame: &guildhallv1.JoinResponse_Events{}})
		v.send(&guildhallv1.JoinResponse{Frame: &guildhallv1.JoinResponse_Welcome{Welcome: &guildhallv1.Welcome{LastSeq: 99}}})
		v.ack("nobody said this", 1)
		v.refuse("nor this", guildhallv1.RefuseCode_REFUSE_CODE_MALFORMED)
		v.shows(1)
		p.sees(1, 1)
		ack := p.says("a")
		v.hears("a")
		v.ack("a", 2)
		v.ack("a", 2)
		b.acked(ack, 2)
	})
}

// A host that does not answer holds the client for as long as the caller wants.
func TestAHostThatNeverAnswers(t *testing.T) {
	both(t, func(t *testing.T, b *bundle) {
		p := b.joins()
		v := b.visited()
		ack := p.says("a")
		if err := p.Leave(canceled()); !errors.Is(err, context.Canceled) {
			t.Errorf("Leave: %v", err)
		}
		b.unanswered(ack)
		if frame := v.next(); frame != nil {
			t.Errorf("without a welcome the client sent %v", frame)
		}
	})
}

// A host that takes connections and never speaks gRPC is no end of the caller's patience either.
func TestAHostThatIsNoHost(t *testing.T) {
	both(t, func(t *testing.T, b *bundle) {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		accepted := make(chan net.Conn, 16)
		go func() {
			defer close(accepted)
			for {
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				accepted <- conn
			}
		}()
		b.lobby.moves(func(a *guildhallv1.Assignment) { offer(a, listener.Addr().String(), listener.Addr().String()) })
		p := b.joins()
		first := <-accepted
		if err := p.Leave(canceled()); !errors.Is(err, context.Canceled) {
			t.Errorf("Leave: %v", err)
		}
		first.Close()
		listener.Close()
		for conn := range accepted {
			conn.Close()
		}
	})
}

// What the room refuses is settled with its reason, and the session goes on.
func TestRefused(t *testing.T) {
	both(t, func(t *testing.T, b *bundle) {
		p := b.joins()
		v := b.seats(0)
		refused, good := p.says("a"), p.says("b")
		v.hears("a")
		v.hears("b")
		v.refuse("a", guildhallv1.RefuseCode_REFUSE_CODE_MALFORMED)
		if seq, err := refused.Wait(b.ctx); err == nil || errors.Is(err, client.ErrLeft) || !strings.Contains(err.Error(), "no") {
			t.Errorf("it was answered with %d, %v; want the reason", seq, err)
		}
		want := client.Refused{ID: "a", Code: guildhallv1.RefuseCode_REFUSE_CODE_MALFORMED, Reason: "no"}
		if got := until[client.Refused](p); got != want {
			t.Errorf("told %+v, want %+v", got, want)
		}
		v.breaks()
		v = b.seats(0)
		v.hears("b") // and not "a" again
		v.ack("b", 1)
		b.acked(good, 1)
	})
}

// A body beyond the room's limit is refused before it breaks the connection, and what comes behind it is said.
func TestABodyBeyondTheLimit(t *testing.T) {
	both(t, func(t *testing.T, b *bundle) {
		p := b.joins()
		said := func(id string, bytes int) *client.Ack {
			ack, err := p.SayAs(b.ctx, &guildhallv1.Say{Id: id, Body: make([]byte, bytes)})
			if err != nil {
				t.Fatal(err)
			}
			return ack
		}
		before, long, fits := said("before", 1), said("long", 9), said("fits", 8)
		v := b.visited()
		v.welcome(&guildhallv1.Welcome{Limits: &guildhallv1.Limits{BodyBytes: 8}})
		v.hears("before")
		v.hears("fits")
		if _, err := long.Wait(b.ctx); err == nil || errors.Is(err, client.ErrLeft) {
			t.Errorf("the long one was answered with %v", err)
		}
		if got := until[client.Refused](p); got.ID != "long" || got.Code != guildhallv1.RefuseCode_REFUSE_CODE_BODY_TOO_LARGE {
			t.Errorf("told %+v", got)
		}
		v.ack("before", 1)
		v.ack("fits", 2)
		b.acked(before, 1)
		b.acked(fits, 2)
	})
}

// The same id is one message: one answer settles everybody who waits for it, and Leave does not wait for another.
func TestTheSameIDTwice(t *testing.T) {
	both(t, func(t *testing.T, b *bundle) {
		p := b.joins()
		v := b.seats(0)
		first, second, other := p.says("a"), p.says("a"), p.says("b")
		v.hears("a")
		v.hears("a")
		v.hears("b")
		v.ack("a", 1)
		b.acked(first, 1)
		b.acked(second, 1)
		left := p.leaves(b.ctx)
		v.ack("b", 2)
		b.acked(other, 2)
		v.left()
		if err := <-left; err != nil {
			t.Errorf("Leave: %v", err)
		}
	})
}

// What no frame can carry is refused at once: on a connection it would break one after the other.
func TestWhatIsNoText(t *testing.T) {
	both(t, func(t *testing.T, b *bundle) {
		p := b.joins()
		for _, say := range []*guildhallv1.Say{{Id: "\xff"}, {Id: "a", ContentType: "\xff"}} {
			if _, err := p.SayAs(b.ctx, say); err == nil || errors.Is(err, client.ErrLeft) {
				t.Errorf("%q was taken: %v", say, err)
			}
		}
		v := b.seats(0)
		p.says("good")
		v.hears("good")
	})
}

// The caller may use a body's memory again.
func TestABodyIsCopied(t *testing.T) {
	both(t, func(t *testing.T, b *bundle) {
		p := b.joins()
		buffer := []byte("one")
		for range 2 {
			if _, err := p.Say(b.ctx, buffer); err != nil {
				t.Fatal(err)
			}
			copy(buffer, "two")
		}
		v := b.seats(0)
		for _, want := range []string{"one", "two"} {
			if got := string(v.next().GetSay().GetBody()); got != want {
				t.Errorf("the room heard %q, want %q", got, want)
			}
		}
	})
}

// Ids that Say makes are not made twice.
func TestIDsDiffer(t *testing.T) {
	both(t, func(t *testing.T, b *bundle) {
		p := b.joins()
		ids := map[string]bool{}
		for range 1000 {
			ack, err := p.Say(b.ctx, nil)
			if err != nil {
				t.Fatal(err)
			}
			ids[ack.ID()] = true
		}
		if len(ids) != 1000 {
			t.Errorf("1000 messages have %d ids", len(ids))
		}
	})
}

// The logger is told of ways in that were tried again, and never of a pass or a token.
func TestWhatIsLogged(t *testing.T) {
	both(t, func(t *testing.T, b *bundle) {
		var log bytes.Buffer // slog's handler locks it, and it is read after the end
		b.config.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		p := b.joins()
		b.visited().closes(guildhallv1.CloseCode_CLOSE_CODE_PASS_REFUSED, true)
		b.seats(0)
		until[client.Joined](p)
		_ = p.Leave(canceled())
		_ = p.ends() // behind this nobody writes any more
		if text := log.String(); !strings.Contains(text, "pass_refused") || strings.Contains(text, "pass 1") || strings.Contains(text, b.config.Token) {
			t.Errorf("logged: %s", text)
		}
	})
}

func TestManyPlayersOverOneClient(t *testing.T) {
	both(t, func(t *testing.T, b *bundle) {
		var all []*player
		for range 20 {
			all = append(all, b.joins())
		}
		var sessions []*visit
		for range all {
			sessions = append(sessions, b.seats(0))
		}
		for i, v := range sessions {
			v.shows(1)
			if i%2 == 0 {
				v.breaks()
			}
		}
		for range (len(all) + 1) / 2 {
			v := b.visited()
			if v.hello.GetAfter() > 1 {
				t.Errorf("one came back behind %d", v.hello.GetAfter())
			}
			v.welcome(&guildhallv1.Welcome{LastSeq: 1})
			v.shows(1)
		}
		for _, p := range all {
			p.sees(1, 1)
		}
		if n := b.lobby.entered(); n != len(all)+len(all)/2 {
			t.Errorf("%d players entered %d times: %s", len(all), n, fmt.Sprint(all))
		}
	})
}
