package roomserver

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/guildhall-dev/guildhall"
	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
	"github.com/guildhall-dev/guildhall/internal/registry"
	"github.com/guildhall-dev/guildhall/internal/roomlog"
)

const (
	// inboxLength bounds what waits for a room; who sends more is made to wait.
	inboxLength = 256
	// pendingMessages bounds what waits for the log; beyond it the room takes nothing from its inbox.
	pendingMessages = 4096
	// releaseTimeout bounds giving the claim back.
	releaseTimeout = 5 * time.Second
)

// room is the live room of one group: one goroutine, which owns all that is said and who is here. Others speak to
// it through its inbox.
type room struct {
	// Static after construction.
	host  *host
	group guildhall.Group
	epoch guildhall.Epoch
	claim registry.Claim
	grant int64 // which of the host's leases it was opened under
	rules guildhall.KindRules
	inbox chan event
	stops chan end      // holds one
	over  chan struct{} // closed when the room takes no more from its inbox

	// For everybody to read.
	members atomic.Int64
	lastSeq atomic.Uint64

	// Owned by run.
	writer      *roomlog.Writer
	history     []*guildhallv1.Message   // the last messages, in order
	historySize int                      // in bytes
	shown       guildhall.Seq            // the number of the last message that everybody has been told
	said        map[sayKey]guildhall.Seq // what a resend is recognised by
	oldSaid     []sayKey                 // the keys of said, in order
	seats       []*session
	present     map[guildhall.PlayerID]*presence
	out         outbox             // what the next round tells
	nextRound   time.Time          // when it may be made
	roundDue    <-chan time.Time   // not nil: a round waits until then
	roundAt     time.Time          // when that is
	withOwn     []*session         // who is to be told something of their own
	frames      [][]byte           // for round, what one session is told
	pending     []*saying          // to be appended, in order
	unsaid      map[sayKey]*saying // pending and inFlight, by key
	inFlight    []*saying          // the batch that is being appended, or has to be tried again
	append      appending
	retry       <-chan time.Time // not nil: rest until then
}

// sayKey names what a player says: the same twice is a repetition.
type sayKey struct {
	player guildhall.PlayerID
	id     string
}

// saying is a message on its way to the log.
type saying struct {
	message *guildhallv1.Message
	session *session // who waits for the ack
	size    int
}

// event is something that happens to a room; the room's goroutine applies it.
type event interface{ apply(r *room) }

// end is why a room ends.
type end int

const (
	endIdle   end = iota + 1 // nobody has been here for the idle grace
	endMoved                 // the host is draining
	endFenced                // the room is another host's
	endBroken                // the log is not as this host left it
	endCutOff                // the host has had no lease for long
)

// String names a reason, for logs.
func (e end) String() string {
	return [...]string{"none", "idle", "moved", "fenced", "broken", "cut off"}[e]
}

func newRoom(h *host, claim registry.Claim, writer *roomlog.Writer, history []*guildhallv1.Message) *room {
	r := &room{
		host: h, group: claim.Group, epoch: claim.Epoch, claim: claim, grant: h.grants.Load(), rules: h.kinds[claim.Group.Kind],
		inbox: make(chan event, inboxLength), stops: make(chan end, 1), over: make(chan struct{}),
		writer: writer, said: map[sayKey]guildhall.Seq{}, present: map[guildhall.PlayerID]*presence{},
		out:    outbox{was: map[guildhall.PlayerID]bool{}, latest: map[signalKey]int{}},
		unsaid: map[sayKey]*saying{}, append: appending{answered: make(chan error, 1)},
	}
	for _, m := range history {
		r.remember(m)
	}
	r.shown = writer.LastSeq()
	r.lastSeq.Store(uint64(r.shown))
	return r
}

func keyOf(m *guildhallv1.Message) sayKey { return sayKey{guildhall.PlayerID(m.GetFrom()), m.GetId()} }

// post gives the room an event. It waits while the inbox is full, and is false if the room is over, or once done is closed.
func (r *room) post(done <-chan struct{}, e event) bool {
	select {
	case r.inbox <- e:
		return true
	case <-r.over:
		return false
	case <-done:
		return false
	}
}

// stop has the room end; the first reason counts.
func (r *room) stop(why end) {
	select {
	case r.stops <- why:
	default:
	}
}

// run is the room's life: it serves until there is a reason to end, says in the log what was said, gives the claim
// back, and sends away who is still here.
func (r *room) run() {
	why := r.serve()
	if why == endIdle || why == endMoved {
		why = r.flush(why)
	}
	if len(r.out.messages) > 0 {
		r.round() // what was said at last
	}
	r.tellOwn()
	close(r.over)
	if why != endFenced && why != endCutOff {
		r.release()
	}
	r.dismiss(moved)
	if why == endIdle && r.rules.History < guildhall.MaxHistory {
		r.host.running.Go(r.trim) // whoever opens the room again does not wait for it
	}
	r.host.metrics.over(why, r.host.mayServe() && r.grant == r.host.grants.Load())
	r.host.logger.Info("room is over", "group", r.group, "epoch", r.epoch, "why", why.String())
}

// serve applies events and appends what is said, until there is a reason to end.
func (r *room) serve() end {
	idle := time.NewTimer(r.rules.IdleGrace)
	defer idle.Stop()
	for {
		inbox := r.inbox
		if len(r.pending) >= pendingMessages {
			inbox = nil
		}
		wasEmpty := len(r.seats) == 0
		select {
		case e := <-inbox:
			e.apply(r)
			r.drainInbox()
		case ack := <-r.append.stored:
			if why := r.afterStored(ack); why != 0 {
				return why
			}
		case err := <-r.append.failed:
			if why := r.afterFailed(err); why != 0 {
				return why
			}
		case err := <-r.append.answered:
			if why := r.afterAppend(err); why != 0 {
				return why
			}
		case <-r.retry:
			r.retry = nil
		case <-r.roundDue:
			r.roundDue = nil
		case why := <-r.stops:
			return why
		case <-idle.C:
			if len(r.seats) == 0 && len(r.unsaid) == 0 && len(r.inbox) == 0 {
				return endIdle
			}
			idle.Reset(r.rules.IdleGrace) // something is on its way: look again when it has come through
		}
		if !wasEmpty && len(r.seats) == 0 {
			idle.Reset(r.rules.IdleGrace)
		}
		r.advance() // first, for the log works while the room tells
		r.tell()
	}
}

// drainInbox applies what else is there, so that it goes into one entry of the log.
func (r *room) drainInbox() {
	for len(r.pending) < pendingMessages {
		select {
		case e := <-r.inbox:
			e.apply(r)
		default:
			return
		}
	}
}

// release gives the claim back. If that fails, the room opens here again when somebody shows a pass for it, or
// somewhere else once this host is gone.
func (r *room) release() {
	ctx, cancel := context.WithTimeout(r.host.work, releaseTimeout)
	defer cancel()
	if err := r.host.registry.Release(ctx, r.claim); err != nil {
		r.host.logger.Warn("a claim could not be given back", "group", r.group, "error", err)
	}
}

// trim drops from the log what is more than the kind keeps. What is older than it keeps is swept by whoever has the turn.
func (r *room) trim() {
	ctx, cancel := context.WithTimeout(r.host.work, releaseTimeout)
	defer cancel()
	if err := r.writer.Trim(ctx, roomlog.TrimTo{Messages: max(r.rules.History, roomlog.TailMessages)}); err != nil {
		r.host.logger.Warn("a log could not be trimmed", "group", r.group, "error", err)
	}
}
