package client_test

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/guildhall-dev/guildhall"
	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
	"github.com/guildhall-dev/guildhall/client"
)

// timeOfTests is when everything was said.
var timeOfTests = time.Unix(1700000000, 0).UTC()

func (v *visit) signals(signal *guildhallv1.Signal) {
	v.b.t.Helper()
	v.send(&guildhallv1.JoinResponse{Frame: &guildhallv1.JoinResponse_Events{Events: &guildhallv1.Events{Events: []*guildhallv1.Event{
		{Event: &guildhallv1.Event_Signal{Signal: signal}},
	}}}})
}

func TestSignals(t *testing.T) {
	both(t, func(t *testing.T, b *bundle) {
		p := b.joins()
		if err := p.Signal(b.ctx, &guildhallv1.Signal{Topic: "too early"}); err != nil {
			t.Errorf("Signal without a seat: %v", err)
		}
		v := b.visited()
		v.welcome(&guildhallv1.Welcome{Limits: &guildhallv1.Limits{BodyBytes: 16}})
		until[client.Joined](p)
		ack := p.says("a") // behind it there is a seat
		v.hears("a")
		v.ack("a", 1)
		b.acked(ack, 1)
		sent := &guildhallv1.Signal{Topic: "typing", Body: []byte("x"), ContentType: "text/html", To: []string{"p2"}}
		if err := p.Signal(b.ctx, sent); err != nil {
			t.Fatal(err)
		}
		if got := v.next().GetSignal(); !proto.Equal(got, sent) {
			t.Errorf("the host heard %v, want %v", got, sent)
		}
		var refused *client.RefusedError
		if err := p.Signal(b.ctx, &guildhallv1.Signal{Body: make([]byte, 17)}); !errors.As(err, &refused) ||
			refused.Code != guildhallv1.RefuseCode_REFUSE_CODE_BODY_TOO_LARGE {
			t.Errorf("a signal that is too long: %v", err)
		}
		v.signals(&guildhallv1.Signal{Topic: "typing", From: "p2", Body: []byte("y"), ContentType: "text/html"})
		want := client.Signal{From: "p2", Topic: "typing", Body: []byte("y"), ContentType: "text/html"}
		if got := until[client.Signal](p); !reflect.DeepEqual(got, want) {
			t.Errorf("told %+v, want %+v", got, want)
		}
		v.signals(&guildhallv1.Signal{Text: "as text"})
		if got := until[client.Signal](p); string(got.Body) != "as text" {
			t.Errorf("told %+v", got)
		}
		if err := p.Leave(canceled()); !errors.Is(err, context.Canceled) {
			t.Errorf("Leave: %v", err)
		}
		if err := p.Signal(b.ctx, sent); !errors.Is(err, client.ErrLeft) {
			t.Errorf("Signal behind the end: %v, want ErrLeft", err)
		}
	})
}

// What can never be sent is an error, and breaks no connection.
func TestSignalsThatCannotBe(t *testing.T) {
	both(t, func(t *testing.T, b *bundle) {
		p := b.joins()
		v := b.seats(0)
		for _, signal := range []*guildhallv1.Signal{
			{Topic: "\xff"}, {ContentType: "\xff"}, {Text: "\xff"}, {From: "\xff"}, {To: []string{"p2", "\xff"}},
			{Topic: strings.Repeat("x", 65)}, {ContentType: strings.Repeat("x", 129)}, {To: make([]string, 17)},
			{Body: []byte("x"), Text: "x"},
		} {
			if err := p.Signal(b.ctx, signal); err == nil {
				t.Errorf("%v was taken", signal)
			}
		}
		if err := p.Signal(canceled(), &guildhallv1.Signal{}); !errors.Is(err, context.Canceled) {
			t.Errorf("with a context that has ended: %v", err)
		}
		p.says("a")
		v.hears("a")
	})
}

// A message to somebody is a say with recipients; who sees it is told; what others see of it is its number.
func TestDirectMessages(t *testing.T) {
	both(t, func(t *testing.T, b *bundle) {
		p := b.joins()
		v := b.seats(0)
		ack, err := p.SayAs(b.ctx, &guildhallv1.Say{Id: "a", Text: "psst", To: []string{"p2", "p3"}})
		if err != nil {
			t.Fatal(err)
		}
		if got := v.hears("a"); !reflect.DeepEqual(got.GetTo(), []string{"p2", "p3"}) || got.GetText() != "psst" {
			t.Errorf("the host heard %v", got)
		}
		v.ack("a", 1)
		b.acked(ack, 1)
		v.send(&guildhallv1.JoinResponse{Frame: &guildhallv1.JoinResponse_Events{Events: &guildhallv1.Events{Events: []*guildhallv1.Event{
			{Event: &guildhallv1.Event_Message{Message: &guildhallv1.Message{Seq: 1, From: "p1", Id: "a", Text: "psst", To: []string{"p2", "p3"}}}},
		}}}})
		if got := until[client.Message](p); !reflect.DeepEqual(got.To, []guildhall.PlayerID{"p2", "p3"}) || string(got.Body) != "psst" {
			t.Errorf("told %+v", got)
		}
		v.hides(2, 3)
		v.shows(4)
		v.hides(5)
		if got := until[client.Message](p); got.Seq != 4 {
			t.Errorf("told number %d, want 4: the others are not for this player", got.Seq)
		}
		ack = p.says("b") // whose ack is behind number 5
		v.hears("b")
		v.ack("b", 6)
		b.acked(ack, 6)
		v.breaks()
		b.comesBack(5)
		if got := until[client.Resumed](p); got.After != 5 {
			t.Errorf("told %+v, want behind 5", got)
		}
		if _, err := p.SayAs(b.ctx, &guildhallv1.Say{Id: "c", To: []string{"\xff"}}); err == nil {
			t.Error("a recipient that is no UTF-8 was taken")
		}
	})
}

// A refusal says why, and when to try again.
func TestRefusedForAWhile(t *testing.T) {
	both(t, func(t *testing.T, b *bundle) {
		p := b.joins()
		v := b.seats(0)
		ack := p.says("a")
		v.hears("a")
		v.send(&guildhallv1.JoinResponse{Frame: &guildhallv1.JoinResponse_Refused{Refused: &guildhallv1.Refused{
			Id: "a", Code: guildhallv1.RefuseCode_REFUSE_CODE_RATE_LIMITED, Reason: "slow down", RetryAfterMs: 1500,
		}}})
		_, err := ack.Wait(b.ctx)
		var refused *client.RefusedError
		want := client.RefusedError{Code: guildhallv1.RefuseCode_REFUSE_CODE_RATE_LIMITED, Reason: "slow down", RetryAfter: 1500 * time.Millisecond}
		if !errors.As(err, &refused) || *refused != want || !strings.Contains(err.Error(), "slow down") || !strings.Contains(err.Error(), "1.5s") {
			t.Errorf("it was answered with %v, want %+v", err, want)
		}
		if got := until[client.Refused](p); got != (client.Refused{ID: "a", Code: want.Code, Reason: want.Reason, RetryAfter: want.RetryAfter}) {
			t.Errorf("told %+v", got)
		}
	})
}

// With Deliver there is no channel to read, and the order is the same.
func TestDeliver(t *testing.T) {
	both(t, func(t *testing.T, b *bundle) {
		var events []client.Event // without a lock: the race detector sees two at once
		seen := make(chan guildhall.Seq, 64)
		b.config.Deliver = func(event client.Event) {
			events = append(events, event)
			if m, ok := event.(client.Message); ok {
				seen <- m.Seq
			}
		}
		p := b.joins()
		v := b.visited()
		v.welcome(&guildhallv1.Welcome{Limits: &guildhallv1.Limits{BodyBytes: 8}})
		for seq := uint64(1); seq <= 30; seq++ {
			p.says("far too long") // is refused by a sender
			v.shows(seq)
			if got := <-seen; got != guildhall.Seq(seq) {
				t.Errorf("told number %d, want %d", got, seq)
			}
		}
		v.closes(guildhallv1.CloseCode_CLOSE_CODE_EVICTED, false)
		if event, open := <-p.Events(); open {
			t.Errorf("the channel gave %v", event)
		}
		_ = p.Err()
		if last, ok := events[len(events)-1].(client.Closed); !ok || last.Code != "evicted" {
			t.Errorf("the last event is %v", events[len(events)-1])
		}
	})
}

// Any number of goroutines may use a room, across connections that break.
func TestManyGoroutinesInOneRoom(t *testing.T) {
	both(t, func(t *testing.T, b *bundle) {
		const each = 40
		p := b.joins()
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				for range each {
					ack, err := p.Say(b.ctx, []byte("x"))
					if err != nil {
						t.Errorf("Say: %v", err)
						return
					}
					if _, err := ack.Wait(b.ctx); err != nil {
						t.Errorf("Wait: %v", err)
					}
				}
			})
			all.Go(func() {
				for range each {
					if err := p.Signal(b.ctx, &guildhallv1.Signal{Topic: "x"}); err != nil {
						t.Errorf("Signal: %v", err)
					}
					if got, err := p.History(b.ctx, 7, 1); err != nil || len(got.Messages) != 1 || got.Messages[0].Seq != 6 {
						t.Errorf("History: %+v, %v", got, err)
					}
				}
			})
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			all.Wait()
		}()
		seq, answered := uint64(0), 0
		v := b.seats(0)
		for {
			var frame *guildhallv1.JoinRequest
			select {
			case frame = <-v.frames:
			case <-done:
				return
			}
			if answered++; answered%100 == 0 {
				v.breaks()
				v = b.seats(seq)
				continue
			}
			switch {
			case frame.GetSay() != nil:
				seq++
				v.ack(frame.GetSay().GetId(), seq)
			case frame.GetReadHistory() != nil:
				v.tells(&guildhallv1.History{Before: 7, Messages: past(6)})
			}
		}
	})
}
