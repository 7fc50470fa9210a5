package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/rs/xid"

	"github.com/guildhall-dev/guildhall"
	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
)

const (
	// eventsLength bounds what waits for the caller; one who does not read is dropped by the room and resumed later.
	eventsLength = 256
	// unackedMost bounds what is said and not acked; beyond it Say waits.
	unackedMost = 1024
	// The pause before coming back: a random part of it, doubling up to the longest.
	firstPause = 20 * time.Millisecond
	maxPause   = time.Second
)

// ErrLeft says that the room was left before the call could be answered.
var ErrLeft = errors.New("client: the room was left")

// Room is a player's place in a group's room, across all connections it takes. Its methods are safe for use by any
// number of goroutines. Events must be read, or the room stands still.
type Room struct {
	// Static after construction.
	config Config
	group  guildhall.Group
	events chan Event
	cancel context.CancelFunc
	ended  chan struct{} // closed when run has ended; err is set then
	err    error

	// Owned by run.
	joined  bool
	lastSeq guildhall.Seq
	epoch   guildhall.Epoch // the latest one that it sat in
	// olderSince is since when only rooms of earlier epochs have been found; zero if that is not so.
	olderSince time.Time
	assigned   Assigned // the last one told; Took is not compared

	mu      sync.Mutex
	leaving bool          // guarded by mu
	unacked []*Ack        // guarded by mu; said and not acked, in order
	sent    int           // guarded by mu; how many of them this connection has been given
	changed chan struct{} // guarded by mu; closed and replaced when one of the above changes
}

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
// said.
func (a *Ack) Wait(ctx context.Context) (guildhall.Seq, error) {
	select {
	case <-a.done:
		return a.seq, a.err
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// Join enters a group's room and stays there until ctx ends, [Room.Leave] is called, or the room says that coming
// back is of no use. It returns at once; the way in is told by events.
func Join(ctx context.Context, config Config, group guildhall.Group) (*Room, error) {
	if err := config.fill(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	r := &Room{
		config: config, group: group, events: make(chan Event, eventsLength), cancel: cancel,
		ended: make(chan struct{}), changed: make(chan struct{}),
	}
	if config.After != nil {
		r.lastSeq = *config.After
	}
	go func() {
		r.err = r.run(ctx)
		cancel()
		r.failUnacked()
		close(r.events)
		close(r.ended)
	}()
	return r, nil
}

// Events gives what happens, in order. It is closed when the room has ended; [Room.Err] says why.
func (r *Room) Events() <-chan Event { return r.events }

// Err says why the room has ended: nil after Leave, the context's error after its end. It waits for the end.
func (r *Room) Err() error {
	<-r.ended
	return r.err
}

// Say says something to everybody. It returns as soon as the message is queued, and waits while too many are not
// acked. The message is said once, whatever happens to connections and hosts. The body is the caller's again when Say
// returns.
func (r *Room) Say(ctx context.Context, body []byte) (*Ack, error) {
	return r.SayAs(ctx, &guildhallv1.Say{Id: xid.New().String(), Body: bytes.Clone(body)})
}

// SayAs is [Room.Say] with an id and a content type of the caller's choice, who must not change what is said any
// more. The same id of the same player is said once.
func (r *Room) SayAs(ctx context.Context, say *guildhallv1.Say) (*Ack, error) {
	if !utf8.ValidString(say.GetId()) || !utf8.ValidString(say.GetContentType()) {
		return nil, errors.New("client: the id and the content type must be UTF-8") // no frame can carry anything else
	}
	ack := &Ack{say: say, done: make(chan struct{})}
	for {
		r.mu.Lock()
		changed := r.changed
		switch {
		case r.leaving:
			r.mu.Unlock()
			return nil, ErrLeft
		case len(r.unacked) < unackedMost:
			r.unacked = append(r.unacked, ack)
			r.changeLocked()
			r.mu.Unlock()
			return ack, nil
		}
		r.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Leave waits until all that was said is acked, gives up the seat and waits for the end. It may be called again. If
// ctx ends first, the room is left at once.
func (r *Room) Leave(ctx context.Context) error {
	r.mu.Lock()
	if !r.leaving {
		r.leaving = true
		r.changeLocked()
	}
	r.mu.Unlock()
	select {
	case <-r.ended:
		return r.err
	case <-ctx.Done():
		r.cancel()
		<-r.ended
		return ctx.Err()
	}
}

// changeLocked wakes whoever waits for a change. The caller holds mu.
func (r *Room) changeLocked() {
	close(r.changed)
	r.changed = make(chan struct{})
}

// errOver says that the room is over for this player, as they or the room wanted it.
var errOver = errors.New("client: over")

// run enters, sits and comes back, until the room is over for this player.
func (r *Room) run(ctx context.Context) error {
	for pause := firstPause; ; pause = min(2*pause, maxPause) {
		start := time.Now()
		seated, err := r.visit(ctx)
		switch {
		case errors.Is(err, errOver):
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			return err
		}
		if r.hasNothingLeft() {
			return nil
		}
		if seated && time.Since(start) > maxPause { // a room that fails right behind the seat is not asked in haste
			pause = firstPause
		}
		select {
		case <-time.After(pause/4 + rand.N(pause)):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// visit is one way in and one session. A nil error means: come back.
func (r *Room) visit(ctx context.Context) (seated bool, err error) {
	start := time.Now()
	assignment, err := Enter(ctx, r.config, r.group)
	if err != nil {
		if isFinal(err) || ctx.Err() != nil {
			return false, err
		}
		r.config.Logger.Info("entering failed; trying again", "group", r.group, "error", err)
		return false, nil
	}
	if err := r.tellAssigned(ctx, Assigned{
		Host: guildhall.HostName(assignment.GetHost()), Epoch: guildhall.Epoch(assignment.GetEpoch()), Took: time.Since(start),
	}); err != nil {
		return false, err
	}
	seated, closed, err := r.sit(ctx, assignment)
	if err != nil {
		return seated, err
	}
	if !seated && closed.Reconnect {
		// The registry may show a host for moments after its death: this is on the way in, not an event.
		r.config.Logger.Debug("no seat yet; trying again", "group", r.group, "host", assignment.GetHost(), "code", closed.Code, "reason", closed.Reason)
		return false, nil
	}
	if err := r.tellClosed(ctx, closed); err != nil {
		return seated, err
	}
	switch {
	case closed.Code == codeName(guildhallv1.CloseCode_CLOSE_CODE_LEFT):
		return seated, errOver
	case !closed.Reconnect:
		return seated, fmt.Errorf("the room closed the session: %s (%s)", closed.Reason, closed.Code)
	}
	return seated, nil
}

// tellAssigned tells of an assignment, once however often the way there is tried.
func (r *Room) tellAssigned(ctx context.Context, a Assigned) error {
	if a.Host == r.assigned.Host && a.Epoch == r.assigned.Epoch {
		return nil
	}
	r.assigned = a
	return r.emit(ctx, a)
}

func (r *Room) tellClosed(ctx context.Context, closed Closed) error {
	if closed.Code == codeName(guildhallv1.CloseCode_CLOSE_CODE_MOVED) {
		if err := r.emit(ctx, Moved{}); err != nil {
			return err
		}
	}
	return r.emit(ctx, closed)
}

// codeName gives a close code as users see it, for example slow_consumer.
func codeName(code guildhallv1.CloseCode) string {
	return strings.ToLower(strings.TrimPrefix(code.String(), "CLOSE_CODE_"))
}

// emit gives the caller an event.
func (r *Room) emit(ctx context.Context, e Event) error {
	select {
	case r.events <- e:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// hasNothingLeft says whether the caller has left and all that was said is acked.
func (r *Room) hasNothingLeft() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.leaving && len(r.unacked) == 0
}

// answer settles what was said by an id, however often: it is one message, and may have one answer.
func (r *Room) answer(id string, seq guildhall.Seq, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	sent := r.sent
	var rest []*Ack
	for i, ack := range r.unacked {
		if ack.ID() != id {
			rest = append(rest, ack)
			continue
		}
		ack.seq, ack.err = seq, err
		close(ack.done)
		if i < sent {
			r.sent--
		}
	}
	r.unacked = rest
	r.changeLocked()
}

// refused settles what is not said, and tells the caller.
func (r *Room) refused(ctx context.Context, refused *guildhallv1.Refused) error {
	r.answer(refused.GetId(), 0, fmt.Errorf("the room refused the message: %s", refused.GetReason()))
	return r.emit(ctx, Refused{ID: refused.GetId(), Code: refused.GetCode(), Reason: refused.GetReason()})
}

func (r *Room) failUnacked() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.leaving = true
	for _, ack := range r.unacked {
		ack.err = ErrLeft
		close(ack.done)
	}
	r.unacked = nil
	r.changeLocked()
}
