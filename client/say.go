package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/rs/xid"

	"github.com/guildhall-dev/guildhall"
	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
)

const (
	// unackedMost bounds what is said and not acked; beyond it Say waits.
	unackedMost = 1024
	// unackedKept is how much room for it stays when all is acked.
	unackedKept = 16
)

// Ack is the answer to something said, once there is one.
type Ack struct {
	say  *guildhallv1.Say
	done chan struct{} // closed when seq or err is set
	seq  guildhall.Seq
	err  error
}

// ID gives the message's id.
func (a *Ack) ID() string { return a.say.GetId() }

// Done gives a channel that is closed when there is an answer.
func (a *Ack) Done() <-chan struct{} { return a.done }

// Wait waits until the message is durable, and gives its number. [ErrLeft] means that it may or may not have been
// said, a [*RefusedError] that it has not.
func (a *Ack) Wait(ctx context.Context) (guildhall.Seq, error) {
	select {
	case <-a.done:
		return a.seq, a.err
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// RefusedError says that the room did not take something: it was not said.
type RefusedError struct {
	Code guildhallv1.RefuseCode
	// Reason is for a person to read.
	Reason string
	// RetryAfter is after how long it would be taken, to a millisecond; 0 if it would not be.
	RetryAfter time.Duration
}

// Error tells the reason.
func (e *RefusedError) Error() string {
	if e.RetryAfter > 0 {
		return fmt.Sprintf("the room refused the message: %s (try again in %s)", e.Reason, e.RetryAfter)
	}
	return "the room refused the message: " + e.Reason
}

// Say says something to everybody. It returns as soon as the message is queued, and waits while too many are not
// acked. The message is said once, whatever happens to connections and hosts. The body is the caller's again when Say
// returns.
func (r *Room) Say(ctx context.Context, body []byte) (*Ack, error) {
	return r.SayAs(ctx, &guildhallv1.Say{Id: xid.New().String(), Body: bytes.Clone(body)})
}

// SayAs is [Room.Say] with an id, a content type and recipients of the caller's choice, who must not change what is said
// any more. The same id of the same player is said once. If Say.to is set, only these players and the sender see the
// message.
func (r *Room) SayAs(ctx context.Context, say *guildhallv1.Say) (*Ack, error) {
	if !isText(say.GetId(), say.GetContentType(), say.GetText()) || !isText(say.GetTo()...) {
		return nil, errors.New("client: the id, the content type, the text and the recipients must be UTF-8") // no frame can carry anything else
	}
	ack := &Ack{say: say, done: make(chan struct{})}
	for {
		r.mu.Lock()
		switch {
		case r.leaving:
			r.mu.Unlock()
			return nil, ErrLeft
		case len(r.unacked) < unackedMost:
			r.unacked = append(r.unacked, ack)
			r.sendLocked()
			r.mu.Unlock()
			return ack, nil
		}
		if r.room == nil {
			r.room = make(chan struct{})
		}
		room := r.room
		r.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// isText says whether strings can be carried by a frame.
func isText(strings ...string) bool {
	return !slices.ContainsFunc(strings, func(s string) bool { return !utf8.ValidString(s) })
}

// answer settles what was said by an id, however often: it is one message, and may have one answer. It says whether anybody
// waited for it.
func (r *Room) answer(id string, seq guildhall.Seq, err error) (waited bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	waiting := len(r.unacked)
	rest := r.unacked[:0]
	sent := 0
	if r.seat != nil {
		sent = r.seat.sent
	}
	for i, ack := range r.unacked {
		if ack.ID() != id {
			rest = append(rest, ack)
			continue
		}
		ack.seq, ack.err = seq, err
		close(ack.done)
		if i < sent {
			r.seat.sent--
		}
	}
	clear(r.unacked[len(rest):])
	if r.unacked = rest; len(rest) == 0 && cap(rest) > unackedKept {
		r.unacked = nil
	}
	r.makeRoomLocked()
	r.sendLocked()
	return len(rest) < waiting
}

// acked settles what is durable, and tells the caller if it had not been told.
func (r *Room) acked(ctx context.Context, id string, seq guildhall.Seq) error {
	if !r.answer(id, seq, nil) {
		return nil
	}
	return r.emit(ctx, Acked{ID: id, Seq: seq})
}

// makeRoomLocked wakes whoever waits for room to say something, or for the end. The caller holds mu.
func (r *Room) makeRoomLocked() {
	if r.room != nil && (r.leaving || len(r.unacked) < unackedMost) {
		close(r.room)
		r.room = nil
	}
}

// refused settles what is not said, and tells the caller.
func (r *Room) refused(ctx context.Context, refused *guildhallv1.Refused) error {
	after := time.Duration(refused.GetRetryAfterMs()) * time.Millisecond
	r.answer(refused.GetId(), 0, &RefusedError{Code: refused.GetCode(), Reason: refused.GetReason(), RetryAfter: after})
	return r.emit(ctx, Refused{ID: refused.GetId(), Code: refused.GetCode(), Reason: refused.GetReason(), RetryAfter: after})
}

// failWaiting settles whoever still waits for the room, which has ended.
func (r *Room) failWaiting() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.leaving = true
	for _, ack := range r.unacked {
		ack.err = ErrLeft
		close(ack.done)
	}
	for _, q := range r.asked {
		q.err = ErrLeft
		close(q.done)
	}
	r.unacked, r.asked = nil, nil
	r.makeRoomLocked()
}
