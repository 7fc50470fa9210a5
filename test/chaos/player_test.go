package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/rs/xid"

	"github.com/guildhall-dev/guildhall"
	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
	"github.com/guildhall-dev/guildhall/client"
)

const (
	// stayMean is how long a player stays, on average, before they go away for a while.
	stayMean = 45 * time.Second
	// awayMost is how long they stay away at most.
	awayMost = 5 * time.Second
	// leaveWithin is how long a player waits for the acks of what they said before they go all the same.
	leaveWithin = 20 * time.Second
)

// player is somebody who talks, leaves, and comes back as a new client.
type player struct {
	// Static after construction.
	town  *town
	book  *book
	name  guildhall.PlayerID
	group guildhall.Group
	token string
	pause time.Duration // between two messages, on average

	// Of the goroutine that plays.
	room  *client.Room
	visit *visit
	read  chan struct{} // closed when the visit's events have been read to their end
	last  *guildhall.Seq
}

// come joins the room as a new client; nil asks for nothing from before. It does not wait for the seat.
func (p *player) come(after *guildhall.Seq) error {
	room, err := client.Join(context.Background(), client.Config{
		Server: gateURL, Token: p.token, After: after, HTTPClient: p.town.gate.http,
	}, p.group)
	if err != nil {
		return err
	}
	p.room, p.visit, p.read = room, p.book.open(p.name, p.group, after), make(chan struct{})
	visit, read := p.visit, p.read
	go func() { // ends with the room, for which go waits
		defer close(read)
		visit.read(room)
	}()
	return nil
}

// goAway leaves, and remembers how far this player has seen.
func (p *player) goAway(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, leaveWithin)
	defer cancel()
	err := p.room.Leave(ctx)
	<-p.read
	seen := guildhall.Seq(p.visit.lastSeen.Load())
	p.room, p.last = nil, &seen
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return nil // what they said last may or may not have been said
	}
	return err
}

// play talks, goes and comes back until ctx ends. The player is in the room, or on the way there, when it returns.
func (p *player) play(ctx context.Context) error {
	if err := p.come(nil); err != nil {
		return err
	}
	for {
		until := time.Now().Add(time.Duration(float64(stayMean) * rand.ExpFloat64()))
		for time.Now().Before(until) {
			if !rest(ctx, p.pause/2+rand.N(p.pause)) {
				return nil
			}
			if _, err := p.say(ctx); err != nil && ctx.Err() == nil {
				return err
			}
		}
		if err := p.goAway(ctx); err != nil {
			return err
		}
		rest(ctx, rand.N(awayMost))
		if err := p.come(p.where()); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return nil
		}
	}
}

// where says where a client that comes back begins: behind what the player has seen, at the beginning, or now.
func (p *player) where() *guildhall.Seq {
	var beginning guildhall.Seq
	switch rand.N(3) {
	case 0:
		return &beginning
	case 1:
		return p.last
	}
	return nil
}

// say says something that nobody else says.
func (p *player) say(ctx context.Context) (*client.Ack, error) {
	id := xid.New().String()
	body := fmt.Appendf(nil, "%s says %s to %s", p.name, id, p.group)
	p.visit.sent(id, body)
	ack, err := p.room.SayAs(ctx, &guildhallv1.Say{Id: id, Body: body})
	if err != nil {
		return nil, fmt.Errorf("%s in %s cannot speak: %w (the room ended with %w)", p.name, p.group, err, p.ended())
	}
	return ack, nil
}

// ended says why the room has ended, if it has.
func (p *player) ended() error {
	select {
	case <-p.read:
		return p.room.Err()
	default:
		return errors.New("nothing: it goes on")
	}
}

// sayLast says a last message and waits until it is acked; it gives its number.
func (p *player) sayLast(ctx context.Context) (guildhall.Seq, error) {
	ack, err := p.say(ctx)
	if err != nil {
		return 0, err
	}
	seq, err := ack.Wait(ctx)
	if err != nil {
		return 0, fmt.Errorf("%s in %s said a last message and waits for its ack (seated: %t, host %s): %w",
			p.name, p.group, p.visit.seated.Load(), p.visit.at(), err)
	}
	return seq, nil
}

// awaitSeen waits until the player has seen a number.
func (p *player) awaitSeen(ctx context.Context, seq guildhall.Seq) error {
	if eventually(ctx, func() bool { return p.visit.lastSeen.Load() >= uint64(seq) }) {
		p.visit.Stayed = true
		return nil
	}
	return fmt.Errorf("%s in %s has seen up to %d and waits for %d: %w", p.name, p.group, p.visit.lastSeen.Load(), seq, ctx.Err())
}

// rest waits; it is false if ctx ends first.
func rest(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
