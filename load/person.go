package load

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/guildhall-dev/guildhall"
	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
	"github.com/guildhall-dev/guildhall/client"
)

// person is a player who comes, talks, goes, and comes back as a new client.
type person struct {
	player
	churn  *churn
	circle *circle

	// Of the goroutine that lives.
	cancel context.CancelFunc // ends the room without a word
	visits []*visit
	open   []uint32 // said, and neither acked nor refused as far as this goroutine knows
	unsaid []uint32 // not even handed over, when the time was up
	acks   []*client.Ack
	here   bool // back in the end, and able to speak
	err    error

	// Owned by the room's goroutine while there is one.
	visit   *visit
	epoch   guildhall.Epoch
	refused int64
	strays  int64
	settled map[uint32]bool // acked or refused in this visit

	lastSeen atomic.Uint64
}

// live talks, goes and comes back until ctx ends.
func (p *person) live(ctx context.Context) error {
	stay, away := min(20, p.churn.Seconds/4), min(2, p.churn.Seconds/10)
	pause := float64(p.churn.Players) / p.churn.Rate
	if err := p.come(nil); err != nil {
		return err
	}
	for {
		until := time.Now().Add(seconds(stay * rand.ExpFloat64()))
		for time.Now().Before(until) {
			if !rest(ctx, seconds(pause*(0.5+rand.Float64()))) {
				return nil
			}
			if err := p.say(ctx, p.churn.newMessage()); err != nil {
				return p.unless(ctx, err)
			}
		}
		if err := p.depart(ctx); err != nil {
			return p.unless(ctx, err)
		}
		rest(ctx, seconds(away*rand.Float64()))
		if err := p.come(p.where()); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return nil
		}
	}
}

// unless gives an error unless it is that the time is up.
func (p *person) unless(ctx context.Context, err error) error {
	if interrupted(ctx, err) {
		return nil
	}
	return err
}

// where says where a client that comes back begins: behind what the player has seen, at the beginning, or now.
func (p *person) where() *guildhall.Seq {
	var beginning guildhall.Seq
	last := guildhall.Seq(p.lastSeen.Load())
	switch rand.N(4) {
	case 0:
		return nil
	case 1:
		return &beginning
	}
	return &last
}

// come joins as a new client, and says again what may not have been said. It does not wait for the seat.
func (p *person) come(after *guildhall.Seq) error {
	ctx, cancel := context.WithCancel(context.Background()) // a life ends with leave, or with a cut
	p.cancel = cancel
	p.visit, p.settled = &visit{}, map[uint32]bool{}
	p.visits = append(p.visits, p.visit)
	p.hear = func(e client.Event) { p.happened(e, after) }
	p.acks = nil
	p.churn.joins.Add(1)
	if after != nil {
		p.churn.resumes.Add(1)
	}
	if err := p.churn.join(ctx, &p.player, after); err != nil {
		cancel()
		return err
	}
	return p.sayAgain(ctx)
}

// sayAgain says what is open and not under way.
func (p *person) sayAgain(ctx context.Context) error {
	again := p.unsaid
	p.unsaid = nil
	for i, k := range again {
		if err := p.say(ctx, k); err != nil {
			p.unsaid = append(p.unsaid, again[i+1:]...)
			return err
		}
	}
	return nil
}

// newMessage gives the number of a message that has not been said.
func (c *churn) newMessage() uint32 {
	c.sent.Add(1)
	return c.next.Add(1)
}

// say says message k, for the first time or again: its id is the same.
func (p *person) say(ctx context.Context, k uint32) error {
	body := stamp{run: p.churn.tag, number: k, due: p.churn.elapsed()}.body(0)
	ack, err := p.room.SayAs(ctx, &guildhallv1.Say{Id: strconv.FormatUint(uint64(k), 10), Body: body})
	if err != nil {
		p.unsaid = append(p.unsaid, k)
		return err
	}
	p.open, p.acks = append(p.open, k), append(p.acks, ack)
	return nil
}

// depart leaves, or is cut off. When it returns the room's goroutine has ended.
func (p *person) depart(ctx context.Context) error {
	var err error
	if rand.N(2) == 0 {
		p.churn.cuts.Add(1)
		p.cancel()
		_ = p.room.Err() // the cut
	} else {
		p.churn.leaves.Add(1)
		ctx, cancel := context.WithTimeout(ctx, settleWithin)
		defer cancel()
		// Who has waited for acks long enough goes all the same, and says again what had none.
		if err = p.room.Leave(ctx); errors.Is(err, context.DeadlineExceeded) {
			err = nil
		}
	}
	p.close()
	return err
}

// close takes what the room's goroutine knows, once it has ended.
func (p *person) close() {
	p.cancel()
	p.room = nil
	for _, k := range p.open {
		if !p.settled[k] {
			p.unsaid = append(p.unsaid, k)
		}
	}
	p.open = nil
}

// happened is called for every event, in order.
func (p *person) happened(e client.Event, after *guildhall.Seq) {
	v := p.visit
	switch e := e.(type) {
	case client.Joined:
		v.seated, v.start, p.epoch = true, e.LastSeq, e.Epoch
		if after != nil {
			v.start = *after
		}
		p.lastSeen.Store(uint64(v.start))
		p.truncated(e.TruncatedTo)
	case client.Resumed:
		p.churn.resumes.Add(1)
		p.epoch = e.Epoch
		if uint64(e.After) != p.lastSeen.Load() {
			v.broken++
		}
		p.truncated(e.TruncatedTo)
	case client.Message:
		p.sees(e)
	case client.Acked:
		if k, err := strconv.ParseUint(e.ID, 10, 32); err == nil {
			v.acked = append(v.acked, sight{e.Seq, uint32(k)})
			p.settled[uint32(k)] = true
			p.circle.acked(p.epoch)
		}
	case client.Refused:
		if k, err := strconv.ParseUint(e.ID, 10, 32); err == nil {
			p.refused++
			p.settled[uint32(k)] = true
		}
	case client.Closed:
		if strings.Contains(e.Reason, "a message is missing") { // the client found a gap, and comes back to have it filled
			v.broken++
		}
	}
}

// truncated notes that all up to a number is not kept any more.
func (p *person) truncated(to guildhall.Seq) {
	if to == 0 {
		return
	}
	if uint64(to) < p.lastSeen.Load() { // the log is shorter than what this player has seen of it
		p.visit.broken++
	}
	p.visit.seen = append(p.visit.seen, sight{to, told})
	p.lastSeen.Store(uint64(to))
}

func (p *person) sees(e client.Message) {
	s, ok := readStamp(e.Body, p.churn.tag)
	if !ok {
		p.strays++
		return
	}
	p.visit.seen = append(p.visit.seen, sight{e.Seq, s.number})
	p.churn.seen.Add(1)
	p.lastSeen.Store(uint64(e.Seq))
}

// comeBack is there in the end, says a last message, and waits until all that was said has an answer.
func (p *person) comeBack(ctx context.Context) {
	if p.room == nil {
		last := guildhall.Seq(p.lastSeen.Load())
		if err := p.come(&last); err != nil {
			p.err = errors.Join(p.err, err)
			return
		}
	}
	if err := errors.Join(p.sayAgain(ctx), p.say(ctx, p.churn.newMessage())); err != nil {
		p.err = errors.Join(p.err, err)
		return
	}
	p.here = true
	for _, ack := range p.acks {
		if seq, err := ack.Wait(ctx); err == nil {
			for last := p.circle.last.Load(); uint64(seq) > last && !p.circle.last.CompareAndSwap(last, uint64(seq)); {
				last = p.circle.last.Load()
			}
		}
	}
}

// awaitAll waits until this player has seen the group's last message. Who has not when ctx ends should have.
func (p *person) awaitAll(ctx context.Context) {
	if !p.here {
		return
	}
	eventually(ctx, func() bool { return p.lastSeen.Load() >= p.circle.last.Load() })
}

// end leaves, and notes that the player had stayed.
func (p *person) end() {
	if p.room == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), leaveWithin)
	defer cancel()
	_ = p.room.Leave(ctx) // what it waits for has been waited for
	p.visit.stayed = p.here
	p.close()
}
