package client

import (
	"context"
	"slices"

	"github.com/guildhall-dev/guildhall"
	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
)

// History is a page of messages of the past.
type History struct {
	// Messages are those of the page that the player may see, in order.
	Messages []Message
	// Next is where the page before this one ends: the next `before`. It is the number of the first message of this
	// page, whether the player may see it or not; 0 if the page is empty.
	Next guildhall.Seq
	// More says whether older messages are retained. Of a page may be hidden all there is, and more come before it.
	More bool
}

// question is a page that somebody waits for.
type question struct {
	before  uint64
	limit   uint32
	done    chan struct{} // closed when answer or err is set
	answer  History
	err     error
	givenUp bool // guarded by Room.mu; nobody waits any more, but it has been sent
}

// History asks for the messages before a number, or the latest if that is 0: so many at most, 50 if that is 0, and 200
// if it is more. It waits for the seat and for the answer; if the connection breaks meanwhile, it asks again on the
// next one. [ErrLeft] means that the room has ended. Pages are asked for one after the other, whoever calls.
func (r *Room) History(ctx context.Context, before guildhall.Seq, limit int) (History, error) {
	q := &question{before: uint64(before), limit: uint32(min(max(limit, 0), 1<<16)), done: make(chan struct{})}
	r.mu.Lock()
	if r.leaving {
		r.mu.Unlock()
		return History{}, ErrLeft
	}
	r.asked = append(r.asked, q)
	r.sendLocked()
	r.mu.Unlock()
	select {
	case <-q.done:
		return q.answer, q.err
	case <-ctx.Done():
		r.giveUp(q)
		return History{}, ctx.Err()
	}
}

// giveUp forgets a question that nobody waits for, unless its answer is on its way: that must not be another's.
func (r *Room) giveUp(q *question) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch i := slices.Index(r.asked, q); {
	case i == 0 && r.seat != nil && r.seat.asked:
		q.givenUp = true
	case i >= 0:
		r.asked = slices.Delete(r.asked, i, i+1)
	}
}

// told settles the question that was sent. An answer that nobody asked for is passed over.
func (r *Room) told(h *guildhallv1.History) {
	page := History{More: h.GetMore() && len(h.GetMessages()) > 0} // before nothing there is nothing to ask for
	for i, m := range h.GetMessages() {
		if i == 0 {
			page.Next = guildhall.Seq(m.GetSeq())
		}
		if !m.GetHidden() {
			page.Messages = append(page.Messages, messageOf(m))
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.seat == nil || !r.seat.asked || r.asked[0].before != h.GetBefore() {
		return
	}
	q := r.asked[0]
	r.asked = slices.Delete(r.asked, 0, 1)
	r.seat.asked = false
	q.answer = page
	close(q.done)
	r.sendLocked()
}
