package e2e

import (
	"fmt"

	"github.com/guildhall-dev/guildhall"
	"github.com/guildhall-dev/guildhall/client"
)

// player is somebody in a room, and what they have seen so far.
type player struct {
	b    *bundle
	name guildhall.PlayerID
	room *client.Room
	// seen is every message, in the order of arrival; others is every other event.
	seen   []client.Message
	others []client.Event
}

// join brings a player into a room, and waits for the seat.
func (b *bundle) join(name string, group guildhall.Group) *player {
	b.t.Helper()
	p := b.enter(name, group, nil)
	until[client.Joined](p)
	return p
}

// enter sends a player on the way to a room.
func (b *bundle) enter(name string, group guildhall.Group, after *guildhall.Seq) *player {
	b.t.Helper()
	room, err := client.Join(b.ctx, client.Config{
		Server: b.server, Token: b.token(name, group), After: after, HTTPClient: players,
	}, group)
	if err != nil {
		b.t.Fatalf("%s joins %s: %v", name, group, err)
	}
	p := &player{b: b, name: guildhall.PlayerID(name), room: room}
	b.t.Cleanup(p.goAway)
	return p
}

// goAway ends whatever is left, so that the next test finds no player of this one.
func (p *player) goAway() {
	go func() {
		for range p.room.Events() { // read to the end: a room stands still when nobody reads
		}
	}()
	if err := p.room.Leave(p.b.t.Context()); err != nil && p.b.t.Context().Err() == nil {
		p.b.t.Errorf("%s leaves: %v", p.name, err)
	}
}

// next gives the next event.
func (p *player) next() client.Event {
	p.b.t.Helper()
	select {
	case event, open := <-p.room.Events():
		if !open {
			p.b.t.Fatalf("%s is out of the room: %v", p.name, p.room.Err())
		}
		if message, said := event.(client.Message); said {
			p.seen = append(p.seen, message)
		} else {
			p.others = append(p.others, event)
		}
		return event
	case <-p.b.ctx.Done():
		p.b.t.Fatalf("%s waits in vain; seen %d messages and %v", p.name, len(p.seen), p.others)
		return nil
	}
}

// until reads on to the next event of a type.
func until[E client.Event](p *player) E {
	p.b.t.Helper()
	for {
		if event, found := p.next().(E); found {
			return event
		}
	}
}

// untilSeen reads on until the player has seen so many messages.
func (p *player) untilSeen(n int) {
	p.b.t.Helper()
	for len(p.seen) < n {
		p.next()
	}
}

// say says something and gives the ack to wait for.
func (p *player) say(text string) *client.Ack {
	p.b.t.Helper()
	ack, err := p.room.Say(p.b.ctx, []byte(text))
	if err != nil {
		p.b.t.Fatalf("%s says %q: %v", p.name, text, err)
	}
	return ack
}

// bodies gives what the player has seen as numbered lines.
func (p *player) bodies() []string {
	lines := make([]string, len(p.seen))
	for i, m := range p.seen {
		lines[i] = fmt.Sprintf("%d %s: %s", m.Seq, m.From, m.Body)
	}
	return lines
}
