package client_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
	"github.com/guildhall-dev/guildhall/client"
)

// laterFrame is a frame that only a later version knows.
func laterFrame() []byte {
	return protowire.AppendBytes(protowire.AppendTag(nil, 99, protowire.BytesType), []byte("from the future"))
}

// wrongs are what a host may do behind the welcome, when it has shown three messages and heard one. What ends the session
// is mended by the next one.
var wrongs = []struct {
	name string
	ends bool
	do   func(v *visit)
}{
	{"nothing", false, func(*visit) {}},
	{"a gap", true, func(v *visit) { v.shows(5) }},
	{"a gap in one frame", true, func(v *visit) { v.shows(3, 5) }},
	{"a hidden gap", true, func(v *visit) { v.hides(5) }},
	{"messages again", false, func(v *visit) { v.shows(1, 2, 3); v.shows(3); v.shows(1) }},
	{"hidden messages that were shown", false, func(v *visit) { v.hides(2, 3) }},
	{"number 0", false, func(v *visit) { v.shows(0) }},
	{"a second welcome", false, func(v *visit) { v.welcome(&guildhallv1.Welcome{Epoch: 99, LastSeq: 99}) }},
	{"an ack for nobody", false, func(v *visit) { v.ack("nobody", 1) }},
	{"a refusal for nobody", false, func(v *visit) { v.refuse("nobody", guildhallv1.RefuseCode_REFUSE_CODE_RATE_LIMITED) }},
	{"history nobody asked for", false, func(v *visit) {
		v.tells(&guildhallv1.History{Messages: []*guildhallv1.Message{{Seq: 99}}, More: true})
	}},
	{"a pong nobody asked for", false, func(v *visit) {
		v.send(&guildhallv1.JoinResponse{Frame: &guildhallv1.JoinResponse_Pong{Pong: &guildhallv1.Pong{}}})
	}},
	{"a frame of a later version", false, func(v *visit) { _ = v.end.garbage(laterFrame()) }},
	{"an empty frame", false, func(v *visit) { _ = v.end.garbage(nil) }},
	{"empty parts", false, func(v *visit) {
		for _, frame := range []*guildhallv1.JoinResponse{
			{Frame: &guildhallv1.JoinResponse_Events{}}, {Frame: &guildhallv1.JoinResponse_Ack{}}, {Frame: &guildhallv1.JoinResponse_Refused{}},
			{Frame: &guildhallv1.JoinResponse_History{}}, {Frame: &guildhallv1.JoinResponse_Events{Events: &guildhallv1.Events{Events: []*guildhallv1.Event{
				{}, {Event: &guildhallv1.Event_Member{}}, {Event: &guildhallv1.Event_Signal{}}, {Event: &guildhallv1.Event_Message{}},
			}}}},
		} {
			v.send(frame)
		}
	}},
	{"garbage", true, func(v *visit) { _ = v.end.garbage([]byte("\xffgarbage")) }},
	{"half of a frame as a whole one", true, func(v *visit) { _ = v.end.garbage([]byte{0x12, 0x7f, 0x0a}) }},
	{"text that is no UTF-8", true, func(v *visit) { _ = v.end.garbage([]byte{0x2a, 0x03, 0x12, 0x01, 0xff}) }},
	{"half of a frame", true, (*visit).half},
	{"too large a frame", true, func(v *visit) { _ = v.end.garbage(make([]byte, 8<<20+1)) }},
	{"an end without a word", true, func(v *visit) { v.breaks() }},
	{"an orderly end without a word", true, func(v *visit) { v.over <- nil }},
	{"a closed that says nothing", true, func(v *visit) {
		v.closes(guildhallv1.CloseCode_CLOSE_CODE_UNSPECIFIED, true)
	}},
	{"a code of a later version", true, func(v *visit) { v.closes(77, true) }},
}

// Whatever a host does, the caller sees each message once and in order, and what they said is answered.
func TestAHostThatMisbehaves(t *testing.T) {
	t.Parallel()
	for _, wrong := range wrongs {
		t.Run(wrong.name, func(t *testing.T) {
			both(t, func(_ *testing.T, b *bundle) {
				p := b.joins()
				v := b.seats(0)
				v.shows(1, 2, 3)
				ack := p.says("a")
				v.hears("a")
				wrong.do(v)
				if wrong.ends {
					v = b.comesBack(3)
					v.hears("a")
				}
				v.shows(4)
				v.ack("a", 5)
				p.sees(1, 4)
				b.acked(ack, 5)
				p.tellsOnly(1)
			})
		})
	}
}

// comesBack waits for the client, which must have seen messages up to a number, and welcomes it.
func (b *bundle) comesBack(after uint64) *visit {
	b.t.Helper()
	v := b.visited()
	if v.hello.After == nil || v.hello.GetAfter() != after {
		b.t.Errorf("it came back with %v, want behind %d", v.hello, after)
	}
	v.welcome(&guildhallv1.Welcome{LastSeq: after})
	return v
}

// tellsOnly checks that the caller was told of so many ways in.
func (p *player) tellsOnly(joined int) {
	p.b.t.Helper()
	if n := count[client.Joined](p); n != joined {
		p.b.t.Errorf("told %d times of a way in, want %d: %v", n, joined, p.seen)
	}
}

// What a host may do in place of a welcome: it is left, and tried again, and the caller hears nothing of it.
func TestAHostThatMisbehavesAtTheDoor(t *testing.T) {
	t.Parallel()
	for _, wrong := range wrongs {
		if wrong.name == "a second welcome" || wrong.name == "nothing" {
			continue // that is how it should be, or how to wait for ever
		}
		t.Run(wrong.name, func(t *testing.T) {
			both(t, func(t *testing.T, b *bundle) {
				p := b.joins()
				v := b.visited()
				v.doomed = true // whatever comes first is the last
				wrong.do(v)
				v = b.visited()
				if v.hello.After != nil {
					t.Errorf("it had seen nothing, and came back with %v", v.hello)
				}
				v.welcome(&guildhallv1.Welcome{})
				v.shows(1)
				p.sees(1, 1)
				p.tellsOnly(1)
				never[client.Closed](t, p)
			})
		})
	}
}

// A connection that ends at any step costs nothing but the way back.
func TestAnEndAtEachStep(t *testing.T) {
	t.Parallel()
	steps := []func(v *visit, p *player){
		func(v *visit, _ *player) { v.welcome(&guildhallv1.Welcome{}) },
		func(v *visit, _ *player) { v.shows(1) },
		func(v *visit, _ *player) { v.hears("a") },
		func(v *visit, _ *player) { v.shows(2) },
		func(v *visit, _ *player) { v.ack("a", 2) },
	}
	for taken := range len(steps) + 1 {
		for name, end := range map[string]func(*visit){"breaks": (*visit).breaks, "half a frame": (*visit).half} {
			t.Run(fmt.Sprint(name, " behind step ", taken), func(t *testing.T) {
				both(t, func(_ *testing.T, b *bundle) {
					p := b.joins()
					ack := p.says("a")
					v := b.visited()
					for _, step := range steps[:taken] {
						step(v, p)
					}
					end(v)
					v = b.visited()
					v.welcome(&guildhallv1.Welcome{LastSeq: v.hello.GetAfter()})
					for seq := v.hello.GetAfter() + 1; seq <= 3; seq++ {
						v.shows(seq)
					}
					p.sees(1, 3)
					select {
					case <-ack.Done():
					default:
						v.hears("a")
						v.ack("a", 2)
					}
					b.acked(ack, 2)
				})
			})
		}
	}
}

// A frame may be as large as a page of history with large messages.
func TestALargeFrame(t *testing.T) {
	both(t, func(t *testing.T, b *bundle) {
		p := b.joins()
		v := b.seats(0)
		for i, size := range []int{0, 1, 125, 126, 1000, 1024, 1 << 16, 8<<20 - 100} {
			body := bytes.Repeat([]byte{'x'}, size)
			v.send(&guildhallv1.JoinResponse{Frame: &guildhallv1.JoinResponse_Events{Events: &guildhallv1.Events{Events: []*guildhallv1.Event{
				{Event: &guildhallv1.Event_Message{Message: &guildhallv1.Message{Seq: uint64(i + 1), Body: body}}},
			}}}})
			if got := until[client.Message](p); !bytes.Equal(got.Body, body) {
				t.Errorf("a body of %d bytes came as one of %d", size, len(got.Body))
			}
		}
	})
}

// What the client sends comes whole, whatever its size.
func TestLargeBodies(t *testing.T) {
	both(t, func(t *testing.T, b *bundle) {
		p := b.joins()
		v := b.seats(0)
		for _, size := range []int{0, 1, 100, 125, 126, 1 << 10, 1<<16 - 1, 1 << 16, 1 << 20} {
			body := bytes.Repeat([]byte("0123456789abcdef"), size/16+1)[:size]
			if _, err := p.Say(b.ctx, body); err != nil {
				t.Fatal(err)
			}
			if got := v.next().GetSay().GetBody(); !bytes.Equal(got, body) {
				t.Errorf("a body of %d bytes came as one of %d", size, len(got))
			}
		}
	})
}

// A host that never reads is still heard, costs a bounded amount of memory, and does not keep anybody from leaving.
func TestAHostThatNeverReads(t *testing.T) {
	both(t, func(t *testing.T, b *bundle) {
		b.host.deaf.Store(true)
		p := b.joins()
		v := b.seats(0)
		large := make([]byte, 64<<10) // 1024 of them are more than any socket takes
		for range 1024 {
			if _, err := p.Say(b.ctx, large); err != nil {
				t.Fatal(err)
			}
		}
		for n := range 1000 { // nobody waits for a signal
			if err := p.Signal(b.ctx, &guildhallv1.Signal{Topic: fmt.Sprint(n)}); err != nil {
				t.Fatal(err)
			}
		}
		asked := make(chan error, 1)
		go func() {
			_, err := p.History(b.ctx, 0, 0)
			asked <- err
		}()
		v.shows(1, 2, 3)
		p.sees(1, 3)
		if _, err := p.Say(canceled(), nil); !errors.Is(err, context.Canceled) {
			t.Errorf("one too many: %v", err)
		}
		if err := p.Leave(canceled()); !errors.Is(err, context.Canceled) {
			t.Errorf("Leave: %v", err)
		}
		if err := <-asked; !errors.Is(err, client.ErrLeft) {
			t.Errorf("History: %v, want ErrLeft", err)
		}
	})
}
