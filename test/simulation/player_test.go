package simulation

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/guildhall-dev/guildhall"
	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
)

// player is a client as client authors are told to write it: enter, say hello with the last number seen, say again what
// is not acked, come back when told to or when the connection is lost. The world's goroutine owns it.
type player struct {
	*process
	id    guildhall.PlayerID
	group guildhall.Group

	stream      *joined // nil: on the way
	seated      bool
	leaving     bool
	gone        bool
	connections int
	tries       int // of entering, of which only the last counts
	said        int
	resent      int
	unacked     []*guildhallv1.Say
	lastSeq     uint64
	epoch       uint64 // the latest one that it sat in
	cutUntil    time.Duration
}

// startPlayer has a player come, sooner or later, and say its messages.
func (w *world) startPlayer(group, number int) {
	name := fmt.Sprintf("player-%d-%d", group, number)
	p := &player{
		process: w.newProcess(name), id: guildhall.PlayerID(name),
		group: guildhall.Group{Kind: "guild", ID: fmt.Sprint("g", group)},
	}
	w.players = append(w.players, p)
	come := w.between(1, w.plan.Length*3/4)
	w.at(come, p.enter)
	for range w.plan.Says {
		w.at(w.between(come, w.plan.Length), p.say)
	}
	switch w.rng.IntN(4) {
	case 0: // some do not stay
		w.at(w.between(come, w.plan.Length), p.leave)
	case 1: // some do not even wait
		w.at(min(come+w.between(0, 2*time.Second), w.plan.Length), p.leave)
	}
}

// enter asks a director, any of them, for a way in.
func (p *player) enter() {
	if p.stream != nil || p.gone {
		return
	}
	w := p.world
	p.tries++
	try := p.tries
	d := w.directors[w.rng.IntN(len(w.directors))]
	if d.dead {
		p.again(try)
		return
	}
	w.request(p.process, d.process, func(answer func(any, error)) {
		d.enter(p.id, p.group, answer)
	}, func(value any, err error) {
		switch {
		case try != p.tries || p.stream != nil: // too late
		case err != nil:
			p.again(try)
		default:
			p.dial(value.(*entered))
		}
	})
	w.after(20*time.Second, func() { p.again(try) })
}

// again enters again after a pause, if nothing has come of a try.
func (p *player) again(try int) {
	if try != p.tries || p.stream != nil {
		return
	}
	p.tries++
	p.world.after(p.world.between(20*time.Millisecond, time.Second), p.enter)
}

// dial connects to the host and shows the pass.
func (p *player) dial(e *entered) {
	w := p.world
	h := w.find(e.host)
	if h == nil || h.dead || h.host == nil || w.now() < p.cutUntil {
		p.again(p.tries)
		return
	}
	p.connections++
	ctx, cancel := context.WithCancel(h.ctx)
	s := &joined{
		host: h, player: p, number: p.connections, ctx: ctx, cancel: cancel, frames: make(chan *guildhallv1.JoinRequest, 8+2*w.plan.Says), // hello, what was not acked, what is said, leave
		closed: make(chan struct{}),
	}
	p.stream = s
	after := p.lastSeq
	hello := &guildhallv1.Hello{Pass: e.pass, After: &after}
	w.sendInOrder(p.process, h.process, &s.toHost, func() {
		s.frames <- &guildhallv1.JoinRequest{Frame: &guildhallv1.JoinRequest_Hello{Hello: hello}}
		h.join(s)
	})
	w.after(15*time.Second, func() { // as a ping that is not answered
		if p.stream == s && !p.seated {
			s.reset()
			p.streamEnded(s)
		}
	})
}

// send sends a frame.
func (p *player) send(frame *guildhallv1.JoinRequest) {
	s := p.stream
	if s.broken {
		return
	}
	p.world.sendInOrder(p.process, s.host.process, &s.toHost, func() {
		if !s.broken {
			s.frames <- frame
		}
	})
}

// say says the next message.
func (p *player) say() {
	if p.leaving {
		return
	}
	p.said++
	id := fmt.Sprintf("%s-%d", p.name, p.said)
	say := &guildhallv1.Say{Id: id, Body: []byte(id)}
	p.unacked = append(p.unacked, say)
	p.world.judge.said(p, say)
	if p.seated {
		p.send(&guildhallv1.JoinRequest{Frame: &guildhallv1.JoinRequest_Say{Say: say}})
	}
}

// received sees a frame of the room.
func (p *player) received(s *joined, frame *guildhallv1.JoinResponse) {
	if p.stream != s {
		return
	}
	switch f := frame.GetFrame().(type) {
	case *guildhallv1.JoinResponse_Welcome:
		p.welcomed(f.Welcome)
	case *guildhallv1.JoinResponse_Events:
		for _, e := range f.Events.GetEvents() {
			if m := e.GetMessage(); m != nil {
				p.saw(m)
			}
		}
	case *guildhallv1.JoinResponse_Ack:
		p.world.judge.acked(p, f.Ack)
		p.unacked = slices.DeleteFunc(p.unacked, func(s *guildhallv1.Say) bool { return s.GetId() == f.Ack.GetId() })
	case *guildhallv1.JoinResponse_Refused:
		p.world.judge.failf("%s was refused: %v", p.name, f.Refused)
	case *guildhallv1.JoinResponse_Closed:
		p.closed(f.Closed)
	}
}

func (p *player) welcomed(welcome *guildhallv1.Welcome) {
	if welcome.GetEpoch() < p.epoch { // the host does not know yet that the room is elsewhere
		p.stream.reset()
		p.streamEnded(p.stream)
		return
	}
	if welcome.GetLastSeq() < p.lastSeq {
		p.world.judge.failf("order: %s has seen number %d, and is welcomed at epoch %d to a room that ends with %d", p.name, p.lastSeq, welcome.GetEpoch(), welcome.GetLastSeq())
	}
	p.seated, p.epoch = true, welcome.GetEpoch()
	if welcome.HistoryTruncated != nil {
		p.world.judge.failf("%s is told that history is gone up to %d, and nothing was dropped", p.name, welcome.GetHistoryTruncated())
	}
	for _, say := range p.unacked {
		if p.world.variant.freshIDs {
			p.resent++
			say.Id = fmt.Sprintf("%s-again-%d", p.name, p.resent)
		}
		p.send(&guildhallv1.JoinRequest{Frame: &guildhallv1.JoinRequest_Say{Say: say}})
	}
	if p.leaving {
		p.leave()
	}
}

// saw sees a message: each number once, without gaps.
func (p *player) saw(m *guildhallv1.Message) {
	if m.GetSeq() != p.lastSeq+1 {
		p.world.judge.failf("%s saw number %d behind %d", p.name, m.GetSeq(), p.lastSeq)
	}
	p.lastSeq = m.GetSeq()
	p.world.judge.seen(p, m)
}

func (p *player) closed(closed *guildhallv1.Closed) {
	s := p.stream
	if !closed.GetReconnect() && closed.GetCode() != guildhallv1.CloseCode_CLOSE_CODE_LEFT {
		p.world.judge.failf("%s was closed for good: %v", p.name, closed)
	}
	p.streamEnded(s)
}

// streamEnded comes back, if the stream that ended is the one that counts.
func (p *player) streamEnded(s *joined) {
	s.broken = true
	if p.stream != s {
		return
	}
	p.stream, p.seated = nil, false
	p.gone = p.leaving
	p.again(p.tries)
}

// leave gives the seat up. Whoever has none just stays away.
func (p *player) leave() {
	p.leaving = true
	switch {
	case p.stream == nil:
		p.gone = true
	case p.seated:
		p.send(&guildhallv1.JoinRequest{Frame: &guildhallv1.JoinRequest_Leave{Leave: &guildhallv1.Leave{}}})
	}
}

// cutOff breaks the player's connection, and lets no other come about for a while.
func (p *player) cutOff(until time.Duration) {
	p.cutUntil = until
	if p.stream != nil {
		p.stream.reset()
	}
}

// startAnew forgets everything, as an app that was ended and started again; what it had not been acked is lost with it.
func (p *player) startAnew() {
	if p.stream != nil {
		s := p.stream
		s.reset()
		p.stream, p.seated = nil, false
	}
	p.unacked, p.lastSeq, p.epoch = nil, 0, 0
	p.gone = p.leaving
	p.again(p.tries)
}

// isDone says whether everything has come to this player that was said, and everything it said is acked.
func (p *player) isDone() bool {
	return p.gone || p.seated && len(p.unacked) == 0 && p.lastSeq == p.world.judge.lastSeq(p.group)
}
