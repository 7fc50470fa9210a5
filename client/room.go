package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/guildhall-dev/guildhall"
	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
)

const (
	// eventsLength bounds what waits for the caller; one who does not read is dropped by the room and resumed later.
	eventsLength = 256
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
	player  string // as the host names it
	lastSeq guildhall.Seq
	// beginsBy is not 0 if the first message of this session may have any number up to it: the room was asked for the last
	// few, and retention decides how many there are.
	beginsBy guildhall.Seq
	epoch    guildhall.Epoch // the latest one that it sat in
	// olderSince is since when only rooms of earlier epochs have been found; zero if that is not so.
	olderSince time.Time
	assigned   Assigned // the last one told; Took is not compared
	// patience is how long a host may take to answer the next connection.
	patience time.Duration

	// delivering is held while Config.Deliver is called: a sender, too, may have something to tell.
	delivering sync.Mutex

	// Guarded by mu.
	mu      sync.Mutex
	leaving bool
	seat    *seat           // nil while there is none
	unacked []*Ack          // said and not acked, in order
	signals []pendingSignal // for this seat, the oldest first
	asked   []*question     // the first one may have been sent
	room    chan struct{}   // closed when there is room in unacked again; nil if nobody waits
}

// Join enters a group's room and stays there until ctx ends, [Room.Leave] is called, or the room says that coming
// back is of no use. It returns at once; the way in is told by events.
func Join(ctx context.Context, config Config, group guildhall.Group) (*Room, error) {
	if err := config.fill(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	r := &Room{
		config: config, group: group, cancel: cancel, ended: make(chan struct{}), patience: connectTimeout,
	}
	if config.Deliver == nil {
		r.events = make(chan Event, eventsLength)
	} else {
		r.events = make(chan Event)
	}
	if config.After != nil {
		r.lastSeq = *config.After
	}
	go func() {
		r.err = r.run(ctx)
		cancel()
		r.failWaiting()
		close(r.events)
		close(r.ended)
	}()
	return r, nil
}

// Events gives what happens, in order. It is closed when the room has ended; [Room.Err] says why. With Config.Deliver
// nothing comes before the end.
func (r *Room) Events() <-chan Event { return r.events }

// Err says why the room has ended: nil after Leave, the context's error after its end. It waits for the end.
func (r *Room) Err() error {
	<-r.ended
	return r.err
}

// Leave waits until all that was said is acked, gives up the seat and waits for the end. It may be called again. If
// ctx ends first, the room is left at once.
func (r *Room) Leave(ctx context.Context) error {
	r.mu.Lock()
	if !r.leaving {
		r.leaving = true
		r.makeRoomLocked()
		r.sendLocked()
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

// errOver says that the room is over for this player, as they or the room wanted it.
var errOver = errors.New("client: over")

// run enters, sits and comes back, until the room is over for this player.
func (r *Room) run(ctx context.Context) error {
	for pause := firstPause; ; pause = min(2*pause, maxPause) {
		start := time.Now()
		seated := false
		assignment, err := r.enter(ctx)
		if assignment != nil && err == nil {
			seated, err = r.sit(ctx, assignment)
		}
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

// enter is one way in. Nothing and no error means: try again.
func (r *Room) enter(ctx context.Context) (*guildhallv1.Assignment, error) {
	start := time.Now()
	assignment, err := enter(ctx, r.config, r.group, func(w *guildhallv1.Waiting) error { return r.tellWaiting(ctx, w) })
	if err != nil {
		if isFinal(err) || ctx.Err() != nil {
			return nil, err
		}
		r.config.Logger.Info("entering failed; trying again", "group", r.group, "error", err)
		return nil, nil
	}
	return assignment, r.tellAssigned(ctx, Assigned{
		Host: guildhall.HostName(assignment.GetHost()), Epoch: guildhall.Epoch(assignment.GetEpoch()), Took: time.Since(start),
	})
}

// tellWaiting tells of what a player would want to know while they wait.
func (r *Room) tellWaiting(ctx context.Context, w *guildhallv1.Waiting) error {
	if w.GetState() != guildhallv1.WaitingState_WAITING_STATE_NO_MATCHMAKER {
		return nil
	}
	return r.emit(ctx, Waiting{Reason: "the matchmaker does not answer"})
}

// tellAssigned tells of an assignment, once however often the way there is tried.
func (r *Room) tellAssigned(ctx context.Context, a Assigned) error {
	if a.Host == r.assigned.Host && a.Epoch == r.assigned.Epoch {
		return nil
	}
	r.assigned = a
	return r.emit(ctx, a)
}

// over tells of the end of a session, and gives why not to come back; nil means: come back.
func (r *Room) over(ctx context.Context, closed Closed) error {
	if closed.Code == codeName(guildhallv1.CloseCode_CLOSE_CODE_MOVED) {
		if err := r.emit(ctx, Moved{}); err != nil {
			return err
		}
	}
	if err := r.emit(ctx, closed); err != nil {
		return err
	}
	switch {
	case closed.Code == codeName(guildhallv1.CloseCode_CLOSE_CODE_LEFT):
		return errOver
	case !closed.Reconnect:
		return fmt.Errorf("the room closed the session: %s (%s)", closed.Reason, closed.Code)
	}
	return nil
}

// codeName gives a close code as users see it, for example slow_consumer.
func codeName(code guildhallv1.CloseCode) string {
	return strings.ToLower(strings.TrimPrefix(code.String(), "CLOSE_CODE_"))
}

// emit gives the caller an event.
func (r *Room) emit(ctx context.Context, e Event) error {
	if r.config.Deliver != nil {
		r.delivering.Lock()
		defer r.delivering.Unlock()
		if ctx.Err() == nil {
			r.config.Deliver(e)
		}
		return ctx.Err()
	}
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
