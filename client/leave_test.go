package client_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
	"github.com/guildhall-dev/guildhall/client"
)

// leaves has a player leave, in the background.
func (p *player) leaves(ctx context.Context) <-chan error {
	left := make(chan error, 1)
	go func() { left <- p.Leave(ctx) }()
	return left
}

// Leave waits for the acks of all that was said, across connections, and only then gives up the seat.
func TestLeaveWaitsForAcks(t *testing.T) {
	both(t, func(t *testing.T, b *bundle) {
		p := b.joins()
		v := b.seats(0)
		acks := []*client.Ack{p.says("a"), p.says("b")}
		left := p.leaves(b.ctx)
		v.hears("a")
		v.hears("b")
		v.ack("a", 1)
		b.acked(acks[0], 1)
		v.breaks()
		if frame := v.next(); frame != nil {
			t.Errorf("with something to be acked, the client sent %v", frame)
		}
		v = b.seats(1)
		v.hears("b")
		v.ack("b", 2)
		v.left() // the next frame is the leave
		if err := <-left; err != nil {
			t.Errorf("Leave: %v", err)
		}
		b.acked(acks[0], 1)
		b.acked(acks[1], 2)
		if err := p.Leave(b.ctx); err != nil {
			t.Errorf("Leave again: %v", err)
		}
		if _, err := p.Say(b.ctx, []byte("too late")); !errors.Is(err, client.ErrLeft) {
			t.Errorf("Say after Leave: %v, want ErrLeft", err)
		}
	})
}

func TestSayWhileLeaving(t *testing.T) {
	both(t, func(t *testing.T, b *bundle) {
		p := b.joins()
		v := b.seats(0)
		p.says("a")
		v.hears("a")
		left := p.leaves(b.ctx)
		for { // from some moment on it is ErrLeft, and stays so
			if _, err := p.SayAs(b.ctx, &guildhallv1.Say{Id: "a"}); errors.Is(err, client.ErrLeft) {
				break
			}
		}
		if _, err := p.Say(b.ctx, nil); !errors.Is(err, client.ErrLeft) {
			t.Errorf("Say while leaving: %v, want ErrLeft", err)
		}
		v.ack("a", 1)
		for frame := v.next(); frame.GetLeave() == nil; frame = v.next() {
			if frame.GetSay().GetId() != "a" {
				t.Fatalf("the client sent %v", frame)
			}
		}
		v.closes(guildhallv1.CloseCode_CLOSE_CODE_LEFT, false)
		if err := <-left; err != nil {
			t.Errorf("Leave: %v", err)
		}
	})
}

// Leave with a context that has ended leaves at once; what was not acked says so.
func TestLeaveAtOnce(t *testing.T) {
	both(t, func(t *testing.T, b *bundle) {
		p := b.joins()
		v := b.seats(0)
		ack := p.says("a")
		v.hears("a")
		if err := p.Leave(canceled()); !errors.Is(err, context.Canceled) {
			t.Errorf("Leave: %v", err)
		}
		b.unanswered(ack)
		if err := p.ends(); !errors.Is(err, context.Canceled) {
			t.Errorf("the room ended with %v", err)
		}
		if frame := v.next(); frame != nil {
			t.Errorf("the client sent %v and was told to leave at once", frame)
		}
	})
}

// The end of Join's context ends everything and settles every ack.
func TestTheEndOfTheContext(t *testing.T) {
	both(t, func(t *testing.T, b *bundle) {
		ctx, cancel := context.WithCancel(b.ctx)
		room, err := client.Join(ctx, b.config, dragons)
		if err != nil {
			t.Fatal(err)
		}
		p := &player{b: b, Room: room}
		v := b.seats(0)
		var acks []*client.Ack
		for n := range 10 {
			acks = append(acks, p.says(fmt.Sprint(n)))
		}
		v.ack("0", 1)
		b.acked(acks[0], 1)
		cancel()
		if err := p.ends(); !errors.Is(err, context.Canceled) {
			t.Errorf("the room ended with %v", err)
		}
		for _, ack := range acks[1:] {
			b.unanswered(ack)
		}
		if err := p.Leave(b.ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("Leave behind the end: %v, want why it ended", err)
		}
	})
}

// Wait gives up with its own context, and can be called again.
func TestWaitGivesUp(t *testing.T) {
	both(t, func(t *testing.T, b *bundle) {
		p := b.joins()
		v := b.seats(0)
		ack := p.says("a")
		if _, err := ack.Wait(canceled()); !errors.Is(err, context.Canceled) {
			t.Errorf("Wait: %v", err)
		}
		v.hears("a")
		v.ack("a", 1)
		<-ack.Done()
		b.acked(ack, 1)
		b.acked(ack, 1)
	})
}

// A caller who does not read events stands still, and can still leave.
func TestEventsThatNobodyReads(t *testing.T) {
	both(t, func(t *testing.T, b *bundle) {
		p := b.joins()
		v := b.seats(0)
		for seq := uint64(1); seq <= 2000; seq++ { // far more than fits between
			v.shows(seq)
		}
		ack := p.says("a")
		v.hears("a") // what is said goes out, whatever comes in
		v.ack("a", 2001)
		leaving, cancel := context.WithCancel(b.ctx)
		left := p.leaves(leaving)
		cancel()
		if err := <-left; !errors.Is(err, context.Canceled) {
			t.Errorf("Leave: %v", err)
		}
		b.unanswered(ack) // its ack is behind events that nobody reads
		if err := p.ends(); !errors.Is(err, context.Canceled) {
			t.Errorf("the room ended with %v", err)
		}
		for i, seq := range p.messages {
			if int(seq) != i+1 {
				t.Fatalf("message %d is number %d", i+1, seq)
			}
		}
	})
}

// Leave while the connection is broken and nothing is left to be said needs no other one.
func TestLeaveWithoutAConnection(t *testing.T) {
	both(t, func(t *testing.T, b *bundle) {
		p := b.joins()
		b.seats(0).breaks()
		until[client.Closed](p)
		left := p.leaves(b.ctx)
		select {
		case v := <-b.host.visits: // it was on its way back already
			v.b = b
			v.next()
			v.welcome(&guildhallv1.Welcome{})
			v.left()
			if err := <-left; err != nil {
				t.Errorf("Leave: %v", err)
			}
		case err := <-left:
			if err != nil {
				t.Errorf("Leave: %v", err)
			}
		}
	})
}

// While too many are not acked, Say waits; an ack makes room, the caller's context gives up.
func TestTooManyUnacked(t *testing.T) {
	const most = 1024
	both(t, func(t *testing.T, b *bundle) {
		p := b.joins()
		v := b.seats(0)
		for n := range most {
			p.says(fmt.Sprint(n))
		}
		if _, err := p.Say(canceled(), nil); !errors.Is(err, context.Canceled) {
			t.Errorf("one too many, with a context that has ended: %v", err)
		}
		said := make(chan error, 1)
		go func() {
			_, err := p.Say(b.ctx, nil)
			said <- err
		}()
		v.hears("0")
		select {
		case err := <-said:
			t.Errorf("one too many was taken: %v", err)
		default:
		}
		v.ack("0", 1)
		if err := <-said; err != nil {
			t.Errorf("Say with room for one: %v", err)
		}
		go func() {
			_, err := p.Say(b.ctx, nil)
			said <- err
		}()
		if err := p.Leave(canceled()); !errors.Is(err, context.Canceled) {
			t.Errorf("Leave: %v", err)
		}
		if err := <-said; !errors.Is(err, client.ErrLeft) {
			t.Errorf("Say while the room ends: %v, want ErrLeft", err)
		}
	})
}

// Codes that say not to come back end the room: with or without a seat, and everything said is settled.
func TestCodesThatSayStayAway(t *testing.T) {
	t.Parallel()
	for name, code := range map[string]guildhallv1.CloseCode{
		"full": guildhallv1.CloseCode_CLOSE_CODE_FULL, "evicted": guildhallv1.CloseCode_CLOSE_CODE_EVICTED, "protocol": guildhallv1.CloseCode_CLOSE_CODE_PROTOCOL,
		"replaced": guildhallv1.CloseCode_CLOSE_CODE_REPLACED, "flood": guildhallv1.CloseCode_CLOSE_CODE_FLOOD,
	} {
		for _, seated := range []bool{false, true} {
			t.Run(fmt.Sprint(name, " seated=", seated), func(t *testing.T) {
				both(t, func(t *testing.T, b *bundle) {
					p := b.joins()
					ack := p.says("a")
					v := b.visited()
					if seated {
						v.welcome(&guildhallv1.Welcome{})
					}
					v.closes(code, false)
					if got := until[client.Closed](p); got != (client.Closed{Code: name, Reason: "because"}) {
						t.Errorf("told %+v", got)
					}
					if err := p.ends(); err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "because") {
						t.Errorf("the room ended with %v", err)
					}
					b.unanswered(ack)
					if n := b.lobby.entered(); n != 1 {
						t.Errorf("it entered %d times", n)
					}
				})
			})
		}
	}
}
