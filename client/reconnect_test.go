package client_test

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"

	"connectrpc.com/connect"

	"github.com/guildhall-dev/guildhall"
	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
	"github.com/guildhall-dev/guildhall/client"
)

// sees reads messages up to a number and checks that the caller has had each once, in order, from first.
func (p *player) sees(first, last guildhall.Seq) {
	p.b.t.Helper()
	for len(p.messages) == 0 || p.messages[len(p.messages)-1] < last {
		until[client.Message](p)
	}
	for i, seq := range p.messages {
		if seq != first+guildhall.Seq(i) {
			p.b.t.Fatalf("the caller saw %v, want %d to %d", p.messages, first, last)
		}
	}
}

// A connection that breaks: the client comes back behind the last message, and says again what was not acked, in
// order, and nothing else.
func TestResumeAfterABrokenConnection(t *testing.T) {
	both(t, func(t *testing.T, b *bundle) {
		p := b.joins()
		v := b.seats(10)
		var acks []*client.Ack
		for _, id := range []string{"a", "b", "c", "d"} {
			acks = append(acks, p.says(id))
			v.hears(id)
		}
		v.ack("b", 11) // out of turn: what counts is the id
		v.shows(11, 12)
		p.sees(11, 12)
		b.acked(acks[1], 11)
		v.breaks()
		if got := until[client.Closed](p); got.Code != client.ConnectionLost || !got.Reconnect {
			t.Errorf("told %+v", got)
		}
		acks = append(acks, p.says("e")) // said while there is no connection
		v = b.visited()
		if v.hello.GetAfter() != 12 || v.hello.GetPass() != "pass 2" {
			t.Errorf("it came back with %v, want behind 12 and with a new pass", v.hello)
		}
		v.welcome(&guildhallv1.Welcome{Epoch: 7, Members: []string{"p1"}, LastSeq: 13})
		if got := until[client.Resumed](p); got.After != 12 || got.Epoch != 7 || got.TruncatedTo != 0 || len(got.Members) != 1 {
			t.Errorf("told %+v", got)
		}
		v.shows(13)
		for i, id := range []string{"a", "c", "d", "e"} {
			v.hears(id)
			v.ack(id, uint64(14+i))
		}
		p.sees(11, 13)
		for i, n := range []int{0, 2, 3, 4} {
			b.acked(acks[n], guildhall.Seq(14+i))
		}
		if n := count[client.Joined](p); n != 1 {
			t.Errorf("the caller was told %d times that they joined", n)
		}
		if n := count[client.Assigned](p); n != 1 {
			t.Errorf("the caller was told %d times of the same place", n)
		}
	})
}

// However often it breaks: everything said is acked once, in order, and everything shown is seen once.
func TestManyBrokenConnections(t *testing.T) {
	const said = 40
	both(t, func(t *testing.T, b *bundle) {
		p := b.joins()
		answered := make(chan error, 1)
		var acks []*client.Ack
		for n := range said {
			acks = append(acks, p.says(fmt.Sprint(n)))
		}
		go func() { // the caller reads on
			for range p.Events() {
			}
			answered <- p.Err()
		}()
		seq := uint64(0)
		for n := 0; n < said; {
			v := b.visited()
			if seq > 0 && v.hello.GetAfter() > seq {
				t.Fatalf("it has seen %d of %d messages", v.hello.GetAfter(), seq)
			}
			v.welcome(&guildhallv1.Welcome{LastSeq: seq})
			for range 3 { // of all that it says, three are taken
				if n == said {
					break
				}
				v.hears(fmt.Sprint(n))
				seq++
				v.ack(fmt.Sprint(n), seq)
				b.acked(acks[n], guildhall.Seq(seq))
				n++
			}
			v.breaks()
		}
		left := make(chan error, 1)
		go func() { left <- p.Leave(b.ctx) }()
		select {
		case v := <-b.host.visits: // it may be on its way back, or at an end already
			v.b = b
			v.next()
			v.welcome(&guildhallv1.Welcome{LastSeq: seq})
			v.left()
		case err := <-left:
			left <- err
		}
		if err := <-left; err != nil {
			t.Errorf("Leave: %v", err)
		}
		if err := <-answered; err != nil {
			t.Errorf("the room ended with %v", err)
		}
	})
}

// A host that shows messages again, or late, is not heard twice.
func TestRepeatedMessages(t *testing.T) {
	both(t, func(t *testing.T, b *bundle) {
		p := b.joins()
		v := b.seats(0)
		v.shows(1, 2, 3)
		v.shows(1, 2, 3)
		v.shows(2)
		v.shows(3, 4, 4, 5)
		p.sees(1, 5)
		v.breaks()
		v = b.seats(5)
		v.shows(1, 2, 3, 4, 5, 6) // a host that does not know how to resume
		p.sees(1, 6)
	})
}

// A hole in the numbers is mended by resuming, and never shown.
func TestAHoleIsResumed(t *testing.T) {
	both(t, func(t *testing.T, b *bundle) {
		p := b.joins()
		v := b.seats(0)
		v.shows(1, 2)
		v.shows(4)
		p.sees(1, 2)
		if got := until[client.Closed](p); got.Code != client.ConnectionLost || !got.Reconnect {
			t.Errorf("told %+v", got)
		}
		v = b.visited()
		if v.hello.GetAfter() != 2 {
			t.Errorf("it came back with %v, want behind 2", v.hello)
		}
		v.welcome(&guildhallv1.Welcome{LastSeq: 4})
		v.shows(3, 5) // the same in one frame
		v = b.visited()
		if v.hello.GetAfter() != 3 {
			t.Errorf("it came back with %v, want behind 3", v.hello)
		}
		v.welcome(&guildhallv1.Welcome{LastSeq: 5})
		v.shows(4, 5)
		p.sees(1, 5)
	})
}

// The first message after a join without a past is the one behind the welcome's number.
func TestAHoleRightBehindTheWelcome(t *testing.T) {
	both(t, func(t *testing.T, b *bundle) {
		b.joins()
		v := b.seats(10)
		v.shows(12)
		if v = b.visited(); v.hello.GetAfter() != 10 {
			t.Errorf("it came back with %v, want behind 10", v.hello)
		}
	})
}

// What retention has dropped meanwhile is told, and what follows it is no hole.
func TestTruncatedWhileAway(t *testing.T) {
	both(t, func(t *testing.T, b *bundle) {
		p := b.joins()
		v := b.seats(0)
		v.shows(1)
		p.sees(1, 1)
		v.breaks()
		v = b.visited()
		gone := uint64(7)
		v.welcome(&guildhallv1.Welcome{LastSeq: 8, HistoryTruncated: &gone})
		if got := until[client.Resumed](p); got.After != 1 || got.TruncatedTo != 7 {
			t.Errorf("told %+v, want that 2 to 7 are gone", got)
		}
		v.shows(8)
		if got := until[client.Message](p); got.Seq != 8 {
			t.Errorf("told number %d, want 8", got.Seq)
		}
	})
}

// Every code that says so brings the client back.
func TestCodesThatSayComeBack(t *testing.T) {
	both(t, func(t *testing.T, b *bundle) {
		p := b.joins()
		for code := range guildhallv1.CloseCode_name {
			v := b.seats(0)
			v.closes(guildhallv1.CloseCode(code), true)
			switch guildhallv1.CloseCode(code) {
			case guildhallv1.CloseCode_CLOSE_CODE_LEFT: // it is an end, whatever else is said
				if err := p.ends(); err != nil {
					t.Errorf("a room that was left ended with %v", err)
				}
				p = b.joins()
				continue
			case guildhallv1.CloseCode_CLOSE_CODE_FLOOD: // so is this: it would be the same the next time
				if err := p.ends(); err == nil || !strings.Contains(err.Error(), "flood") {
					t.Errorf("a room that was flooded ended with %v", err)
				}
				p = b.joins()
				continue
			}
			if got := until[client.Closed](p); !got.Reconnect || got.Reason != "because" {
				t.Errorf("told %+v", got)
			}
			if moved := count[client.Moved](p); (moved > 0) != (code == int32(guildhallv1.CloseCode_CLOSE_CODE_MOVED)) {
				t.Errorf("behind code %d the caller was told %d times of a move", code, moved)
			}
			p.seen = nil
		}
	})
}

// A room that moves is followed: another host, a later epoch, and the numbers go on.
func TestFollowAMove(t *testing.T) {
	both(t, func(t *testing.T, b *bundle) {
		p := b.joins()
		v := b.seats(0)
		ack := p.says("a")
		v.hears("a")
		v.shows(1)
		p.sees(1, 1)
		elsewhere := startHost(t)
		b.lobby.moves(func(a *guildhallv1.Assignment) {
			a.Host, a.Epoch = "h2", 9
			elsewhere.offer(a)
		})
		v.closes(guildhallv1.CloseCode_CLOSE_CODE_MOVED, true)
		b.host = elsewhere
		v = b.visited()
		if v.hello.GetAfter() != 1 {
			t.Errorf("it came to the new host with %v", v.hello)
		}
		v.welcome(&guildhallv1.Welcome{Epoch: 9, LastSeq: 1})
		v.hears("a")
		v.ack("a", 2)
		b.acked(ack, 2)
		until[client.Acked](p)
		var order []string
		for _, event := range p.seen {
			order = append(order, fmt.Sprintf("%T", event))
		}
		want := []string{"client.Assigned", "client.Joined", "client.Message", "client.Moved", "client.Closed", "client.Assigned", "client.Resumed", "client.Acked"}
		if !slices.Equal(order, want) {
			t.Errorf("told %v, want %v", order, want)
		}
	})
}

// A host that is gone, or that does not know the pass yet, is on the way in: the caller hears of neither.
func TestNoSeatYet(t *testing.T) {
	both(t, func(t *testing.T, b *bundle) {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		listener.Close() // nobody answers there
		b.lobby.moves(func(a *guildhallv1.Assignment) { offer(a, listener.Addr().String(), listener.Addr().String()) })
		b.lobby.answers(nil, nil, connect.NewError(connect.CodeUnavailable, errors.New("the frontend restarts")))
		p := b.joins()
		until[client.Assigned](p)
		b.lobby.moves(func(a *guildhallv1.Assignment) { b.host.offer(a) })
		for _, code := range []guildhallv1.CloseCode{
			guildhallv1.CloseCode_CLOSE_CODE_PASS_REFUSED, guildhallv1.CloseCode_CLOSE_CODE_MOVED, guildhallv1.CloseCode_CLOSE_CODE_INTERNAL,
		} {
			b.visited().closes(code, true)
		}
		b.visited().breaks()
		b.seats(0)
		until[client.Joined](p)
		never[client.Closed](t, p)
		never[client.Moved](t, p)
		if n := count[client.Assigned](p); n != 1 {
			t.Errorf("the caller was told %d times of the same place", n)
		}
	})
}

// A message of one's own that comes back is durable, whatever became of its ack: it is not said again, for a room recognises
// only what it still knows, or what the player has not seen.
func TestOnesOwnMessageIsAnAnswer(t *testing.T) {
	both(t, func(_ *testing.T, b *bundle) {
		p := b.joins()
		v := b.visited()
		v.welcome(&guildhallv1.Welcome{Player: "p1"})
		mine, other := p.says("mine"), p.says("other")
		v.hears("mine")
		v.hears("other")
		v.send(&guildhallv1.JoinResponse{Frame: &guildhallv1.JoinResponse_Events{Events: &guildhallv1.Events{Events: []*guildhallv1.Event{
			{Event: &guildhallv1.Event_Message{Message: &guildhallv1.Message{Seq: 1, From: "p2", Id: "other"}}},
			{Event: &guildhallv1.Event_Message{Message: &guildhallv1.Message{Seq: 2, From: "p1", Id: "mine"}}},
		}}}})
		b.acked(mine, 2)
		v.breaks()
		v = b.comesBack(2)
		v.hears("other") // and not the first one again: another player's message of that id is none of ours
		v.ack("other", 3)
		b.acked(other, 3)
		v.ack("mine", 2) // late, and told already
		v.ack("other", 3)
		v.shows(3)
		p.sees(1, 3)
		if n := count[client.Acked](p); n != 2 {
			b.t.Errorf("told of %d acks, want 2: %v", n, p.seen)
		}
	})
}
