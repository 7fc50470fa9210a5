package client_test

import (
	"context"
	"errors"
	"reflect"
	"testing"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/guildhall-dev/guildhall"
	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
	"github.com/guildhall-dev/guildhall/client"
)

// page is what a call of History gave.
type page struct {
	client.History
	err error
}

// reads asks for a page, in the background.
func (p *player) reads(ctx context.Context, before guildhall.Seq, limit int) <-chan page {
	read := make(chan page, 1)
	go func() {
		history, err := p.History(ctx, before, limit)
		read <- page{history, err}
	}()
	return read
}

// numbers gives the numbers of a page's messages.
func (h page) numbers() (numbers []guildhall.Seq) {
	for _, m := range h.Messages {
		numbers = append(numbers, m.Seq)
	}
	return numbers
}

// past makes messages of the past.
func past(numbers ...uint64) (messages []*guildhallv1.Message) {
	for _, seq := range numbers {
		messages = append(messages, &guildhallv1.Message{Seq: seq, From: "p2", Body: []byte("then")})
	}
	return messages
}

func (h page) shows(t *testing.T, numbers ...guildhall.Seq) {
	t.Helper()
	if h.err != nil || !reflect.DeepEqual(h.numbers(), numbers) {
		t.Errorf("the page has %v, %v; want %v", h.numbers(), h.err, numbers)
	}
}

func TestAPageOfHistory(t *testing.T) {
	both(t, func(t *testing.T, b *bundle) {
		p := b.joins()
		v := b.seats(9)
		read := p.reads(b.ctx, 8, 3)
		if asked := v.isAsked(8); asked.GetLimit() != 3 {
			t.Errorf("asked for %d messages, want 3", asked.GetLimit())
		}
		hidden := past(5, 6, 7)
		hidden[0] = &guildhallv1.Message{Seq: 5, Hidden: true}
		hidden[1].To, hidden[1].ContentType, hidden[1].SaidAt = []string{"p1"}, "text/html", timestamppb.New(timeOfTests)
		v.tells(&guildhallv1.History{Before: 8, Messages: hidden, More: true})
		got := <-read
		got.shows(t, 6, 7)
		if got.Next != 5 || !got.More {
			t.Errorf("the next page ends before %d, more: %t; want 5 and that there are", got.Next, got.More)
		}
		want := client.Message{Seq: 6, From: "p2", Body: []byte("then"), ContentType: "text/html", SaidAt: timeOfTests, To: []guildhall.PlayerID{"p1"}}
		if !reflect.DeepEqual(got.Messages[0], want) {
			t.Errorf("the first one is %+v, want %+v", got.Messages[0], want)
		}
		read = p.reads(b.ctx, 0, -1)
		if asked := v.isAsked(0); asked.GetLimit() != 0 {
			t.Errorf("asked for %d messages, want as many as the room thinks", asked.GetLimit())
		}
		v.tells(&guildhallv1.History{More: true}) // of what? whoever pages back would begin anew
		if got := <-read; got.err != nil || !reflect.DeepEqual(got.History, client.History{}) {
			t.Errorf("an empty page came as %+v", got)
		}
		v.shows(10) // the past does not count
		p.sees(10, 10)
	})
}

// Pages are asked for one at a time, and each caller gets theirs.
func TestPagesInOrder(t *testing.T) {
	both(t, func(t *testing.T, b *bundle) {
		p := b.joins()
		v := b.seats(0)
		first := p.reads(b.ctx, 10, 0)
		v.isAsked(10)
		second := p.reads(b.ctx, 20, 0)
		ack := p.says("a") // is not kept waiting by a page
		v.hears("a")
		v.ack("a", 1)
		b.acked(ack, 1)
		v.tells(&guildhallv1.History{Before: 99, Messages: past(98)}) // nobody asked for that
		v.tells(&guildhallv1.History{Before: 10, Messages: past(9)})
		v.tells(&guildhallv1.History{Before: 10, Messages: past(8)}) // nor for that
		(<-first).shows(t, 9)
		v.isAsked(20)
		v.tells(&guildhallv1.History{Before: 20, Messages: past(19)})
		(<-second).shows(t, 19)
	})
}

// A page that was asked for on a connection that broke is asked for again on the next one.
func TestAPageAcrossConnections(t *testing.T) {
	both(t, func(t *testing.T, b *bundle) {
		p := b.joins()
		read := p.reads(b.ctx, 10, 5) // before there is a seat
		for range 3 {
			v := b.seats(0)
			v.isAsked(10)
			v.breaks()
		}
		v := b.seats(0)
		v.tells(&guildhallv1.History{Before: 10, Messages: past(1)}) // whether or not it has been asked yet
		v.isAsked(10)
		v.tells(&guildhallv1.History{Before: 10, Messages: past(1)})
		(<-read).shows(t, 1)
	})
}

// The answer to a question that was given up is nobody else's, and on the next connection it is not asked again.
func TestAPageThatNobodyWaitsForAnyMore(t *testing.T) {
	both(t, func(t *testing.T, b *bundle) {
		p := b.joins()
		v := b.seats(0)
		ctx, cancel := context.WithCancel(b.ctx)
		given := p.reads(ctx, 10, 0)
		v.isAsked(10)
		cancel()
		if got := <-given; !errors.Is(got.err, context.Canceled) {
			t.Errorf("History: %v", got.err)
		}
		read := p.reads(b.ctx, 10, 0) // the same page
		v.tells(&guildhallv1.History{Before: 10, Messages: past(1)})
		v.isAsked(10)
		v.tells(&guildhallv1.History{Before: 10, Messages: past(2)})
		(<-read).shows(t, 2)

		ctx, cancel = context.WithCancel(b.ctx)
		given = p.reads(ctx, 20, 0)
		v.isAsked(20)
		cancel()
		<-given
		v.breaks()
		v = b.seats(0)
		read = p.reads(b.ctx, 30, 0)
		v.isAsked(30)
		v.tells(&guildhallv1.History{Before: 30})
		(<-read).shows(t)

		if _, err := p.History(canceled(), 40, 0); !errors.Is(err, context.Canceled) {
			t.Errorf("History with a context that has ended: %v", err)
		}
	})
}

// The end of the room is the answer to every question.
func TestNoPageBehindTheEnd(t *testing.T) {
	both(t, func(t *testing.T, b *bundle) {
		p := b.joins()
		v := b.seats(0)
		first := p.reads(b.ctx, 1, 0)
		v.isAsked(1)
		second := p.reads(b.ctx, 2, 0)
		v.closes(guildhallv1.CloseCode_CLOSE_CODE_EVICTED, false)
		for _, read := range []<-chan page{first, second, p.reads(b.ctx, 3, 0)} {
			if got := <-read; !errors.Is(got.err, client.ErrLeft) {
				t.Errorf("History: %v, want ErrLeft", got.err)
			}
		}
	})
}

// Whoever comes with Last sees so many from before, or as many as are kept, and then what is said.
func TestJoinWithTheLast(t *testing.T) {
	both(t, func(t *testing.T, b *bundle) {
		b.config.Last = 5
		p := b.joins()
		v := b.visited()
		if v.hello.After != nil || v.hello.GetLast() != 5 {
			t.Errorf("the hello is %v, want the last 5", v.hello)
		}
		v.welcome(&guildhallv1.Welcome{LastSeq: 41})
		if got := until[client.Joined](p); got.LastSeq != 41 {
			t.Errorf("told %+v", got)
		}
		v.shows(39) // retention has kept three
		v.hides(40)
		v.shows(41, 39, 42) // and nothing twice
		for until[client.Message](p).Seq != 42 {
		}
		if want := []guildhall.Seq{39, 41, 42}; !reflect.DeepEqual(p.messages, want) {
			t.Errorf("told %v, want %v", p.messages, want)
		}
		v.shows(44) // from here on a hole is a hole
		v = b.visited()
		if v.hello.GetAfter() != 42 || v.hello.GetLast() != 0 {
			t.Errorf("it came back with %v, want behind 42 and no last", v.hello)
		}
	})
}

// A connection that breaks before the first of the last: they are still wanted.
func TestTheLastAcrossConnections(t *testing.T) {
	for name, c := range map[string]struct{ said, after uint64 }{"many": {41, 36}, "few": {3, 0}, "none": {0, 0}} {
		t.Run(name, func(t *testing.T) {
			both(t, func(_ *testing.T, b *bundle) {
				b.config.Last = 5
				p := b.joins()
				b.seats(c.said).breaks()
				v := b.comesBack(c.after)
				v.shows(c.after + 1)
				p.sees(guildhall.Seq(c.after+1), guildhall.Seq(c.after+1))
			})
		})
	}
}

// Nothing is left of the last: what is said next comes first. One beyond that is a hole.
func TestTheLastAreGone(t *testing.T) {
	both(t, func(_ *testing.T, b *bundle) {
		b.config.Last = 5
		p := b.joins()
		v := b.seats(41)
		v.shows(42)
		p.sees(42, 42)
	})
	both(t, func(_ *testing.T, b *bundle) {
		b.config.Last = 5
		b.joins()
		b.seats(41).shows(43)
		b.comesBack(36)
	})
}

// Behind the first of the last a hole is a hole.
func TestAHoleInTheLast(t *testing.T) {
	both(t, func(_ *testing.T, b *bundle) {
		b.config.Last = 5
		p := b.joins()
		v := b.seats(41)
		v.shows(38, 40)
		v = b.comesBack(38)
		v.shows(39, 40)
		p.sees(38, 40)
	})
}

// After goes before Last.
func TestAfterAndLast(t *testing.T) {
	both(t, func(t *testing.T, b *bundle) {
		after := guildhall.Seq(3)
		b.config.After, b.config.Last = &after, 5
		b.joins()
		if v := b.visited(); v.hello.GetAfter() != 3 || v.hello.GetLast() != 0 {
			t.Errorf("the hello is %v", v.hello)
		}
	})
}
