package client_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/guildhall-dev/guildhall"
	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
	"github.com/guildhall-dev/guildhall/client"
)

// visit is the host's end of one session.
type visit struct {
	b      *bundle
	end    end
	wire   *wire
	frames chan *guildhallv1.JoinRequest // what the client sent; closed when the session has ended
	over   chan error                    // ends the session
	hello  *guildhallv1.Hello
	doomed bool // the client may be gone before all is sent
}

// visited waits for the client's next session, and for its hello.
func (b *bundle) visited() *visit {
	b.t.Helper()
	select {
	case v := <-b.host.visits:
		v.b = b
		if v.hello = v.next().GetHello(); v.hello == nil {
			b.t.Fatal("the session did not begin with a hello")
		}
		return v
	case <-b.ctx.Done():
		b.t.Fatal("nobody came")
		return nil
	}
}

// seats waits for the client's next session and welcomes it.
func (b *bundle) seats(lastSeq uint64) *visit {
	b.t.Helper()
	v := b.visited()
	v.welcome(&guildhallv1.Welcome{LastSeq: lastSeq})
	return v
}

// next gives the client's next frame; nil if there is none any more.
func (v *visit) next() *guildhallv1.JoinRequest {
	v.b.t.Helper()
	select {
	case frame := <-v.frames:
		return frame
	case <-v.b.ctx.Done():
		v.b.t.Fatal("the client sends nothing")
		return nil
	}
}

// hears waits for a say and checks its id.
func (v *visit) hears(id string) *guildhallv1.Say {
	v.b.t.Helper()
	frame := v.next()
	if frame.GetSay().GetId() != id {
		v.b.t.Fatalf("the client sent %v, want the message %s", frame, id)
	}
	return frame.GetSay()
}

// left waits for the client to leave, says goodbye and ends.
func (v *visit) left() {
	v.b.t.Helper()
	if frame := v.next(); frame.GetLeave() == nil {
		v.b.t.Fatalf("the client sent %v, want that it leaves", frame)
	}
	v.closes(guildhallv1.CloseCode_CLOSE_CODE_LEFT, false)
}

func (v *visit) send(frame *guildhallv1.JoinResponse) {
	v.b.t.Helper()
	if err := v.end.Send(frame); err != nil && !v.doomed {
		v.b.t.Fatalf("sending to the client: %v", err)
	}
}

func (v *visit) welcome(w *guildhallv1.Welcome) {
	v.b.t.Helper()
	w.Group, w.Player = dragons.String(), "p1"
	v.send(&guildhallv1.JoinResponse{Frame: &guildhallv1.JoinResponse_Welcome{Welcome: w}})
}

func (v *visit) ack(id string, seq uint64) {
	v.b.t.Helper()
	v.send(&guildhallv1.JoinResponse{Frame: &guildhallv1.JoinResponse_Ack{Ack: &guildhallv1.Ack{Id: id, Seq: seq}}})
}

func (v *visit) refuse(id string, code guildhallv1.RefuseCode) {
	v.b.t.Helper()
	v.send(&guildhallv1.JoinResponse{Frame: &guildhallv1.JoinResponse_Refused{Refused: &guildhallv1.Refused{Id: id, Code: code, Reason: "no"}}})
}

// shows sends messages with these numbers in one frame.
func (v *visit) shows(numbers ...uint64) {
	v.b.t.Helper()
	events := &guildhallv1.Events{}
	for _, seq := range numbers {
		m := &guildhallv1.Message{Seq: seq, From: "p2", Id: fmt.Sprint(seq), Body: fmt.Appendf(nil, "message %d", seq)}
		events.Events = append(events.Events, &guildhallv1.Event{Event: &guildhallv1.Event_Message{Message: m}})
	}
	v.send(&guildhallv1.JoinResponse{Frame: &guildhallv1.JoinResponse_Events{Events: events}})
}

// hides sends messages that were said to others.
func (v *visit) hides(numbers ...uint64) {
	v.b.t.Helper()
	events := &guildhallv1.Events{}
	for _, seq := range numbers {
		m := &guildhallv1.Message{Seq: seq, Hidden: true}
		events.Events = append(events.Events, &guildhallv1.Event{Event: &guildhallv1.Event_Message{Message: m}})
	}
	v.send(&guildhallv1.JoinResponse{Frame: &guildhallv1.JoinResponse_Events{Events: events}})
}

// tells answers a question for history.
func (v *visit) tells(h *guildhallv1.History) {
	v.b.t.Helper()
	v.send(&guildhallv1.JoinResponse{Frame: &guildhallv1.JoinResponse_History{History: h}})
}

// isAsked waits for a question for history.
func (v *visit) isAsked(before uint64) *guildhallv1.ReadHistory {
	v.b.t.Helper()
	frame := v.next()
	if frame.GetReadHistory() == nil || frame.GetReadHistory().GetBefore() != before {
		v.b.t.Fatalf("the client sent %v, want a question for what is before %d", frame, before)
	}
	return frame.GetReadHistory()
}

// half sends half of a frame, and that is the end.
func (v *visit) half() {
	v.wire.halves.Store(true)
	_ = v.end.Send(&guildhallv1.JoinResponse{Frame: &guildhallv1.JoinResponse_Refused{Refused: &guildhallv1.Refused{
		Id: "x", Reason: strings.Repeat("long ", 20),
	}}}) // it fails, of course
}

// closes ends the session with a word.
func (v *visit) closes(code guildhallv1.CloseCode, reconnect bool) {
	v.b.t.Helper()
	v.send(&guildhallv1.JoinResponse{Frame: &guildhallv1.JoinResponse_Closed{Closed: &guildhallv1.Closed{
		Code: code, Reason: "because", Reconnect: reconnect,
	}}})
	v.over <- nil
}

// breaks ends the session without a word.
func (v *visit) breaks() { v.over <- status.Error(codes.Unavailable, "the cable was cut") }

// player is the client under test, and the caller who reads its events.
type player struct {
	*client.Room
	b        *bundle
	seen     []client.Event
	messages []guildhall.Seq
}

// joins has a player join the dragons.
func (b *bundle) joins() *player {
	b.t.Helper()
	room, err := client.Join(b.ctx, b.config, dragons)
	if err != nil {
		b.t.Fatal(err)
	}
	p := &player{b: b, Room: room}
	b.t.Cleanup(p.goes)
	return p
}

// goes ends a player whose test has ended.
func (p *player) goes() {
	gone := canceled()
	_ = p.Leave(gone) // the test has looked at what matters
	for range p.Events() {
	}
}

// next gives the next event; nil if the room has ended.
func (p *player) next() client.Event {
	p.b.t.Helper()
	select {
	case event, open := <-p.Events():
		if !open {
			return nil
		}
		p.seen = append(p.seen, event)
		if m, ok := event.(client.Message); ok {
			p.messages = append(p.messages, m.Seq)
		}
		return event
	case <-p.b.ctx.Done():
		p.b.t.Fatalf("nothing happens any more behind %v", p.seen)
		return nil
	}
}

// until reads events until there is one of type E.
func until[E client.Event](p *player) E {
	p.b.t.Helper()
	for {
		event := p.next()
		if e, ok := event.(E); ok {
			return e
		}
		if event == nil {
			var want E
			p.b.t.Fatalf("the room has ended (%v) before there was a %T", p.Err(), want)
		}
	}
}

// ends reads events until the room has ended, and gives its error.
func (p *player) ends() error {
	p.b.t.Helper()
	for p.next() != nil {
	}
	return p.Err()
}

// says says something by an id.
func (p *player) says(id string) *client.Ack {
	p.b.t.Helper()
	ack, err := p.SayAs(p.b.ctx, &guildhallv1.Say{Id: id, Body: []byte("body of " + id)})
	if err != nil {
		p.b.t.Fatalf("saying %s: %v", id, err)
	}
	return ack
}

// acked checks the answer to something said.
func (b *bundle) acked(ack *client.Ack, want guildhall.Seq) {
	b.t.Helper()
	if seq, err := ack.Wait(b.ctx); err != nil || seq != want {
		b.t.Errorf("%s was answered with %d, %v; want %d", ack.ID(), seq, err, want)
	}
}

// unanswered checks that something said ended with the room.
func (b *bundle) unanswered(ack *client.Ack) {
	b.t.Helper()
	if seq, err := ack.Wait(b.ctx); !errors.Is(err, client.ErrLeft) {
		b.t.Errorf("%s was answered with %d, %v; want ErrLeft", ack.ID(), seq, err)
	}
}

// count counts events of a type.
func count[E client.Event](p *player) (n int) {
	for _, event := range p.seen {
		if _, ok := event.(E); ok {
			n++
		}
	}
	return n
}

// never checks that an event of a type was not told.
func never[E client.Event](t *testing.T, p *player) {
	t.Helper()
	if n := count[E](p); n > 0 {
		var e E
		t.Errorf("%d times %T, want none: %v", n, e, p.seen)
	}
}
