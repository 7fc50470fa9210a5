package roomserver

import (
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/guildhall-dev/guildhall"
	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
)

// What happens in a room is told to all at once, in one round over its seats. A round costs a system call for each seat, and
// the room does nothing else meanwhile. So after a long round the next one rests as long as that one took: what happens
// meanwhile goes out together, in the same number of system calls. A small room, or a quiet one, never waits.
const (
	// restFrom is how long a round takes after which the next one rests; restMost is the longest rest.
	restFrom = time.Millisecond
	restMost = 25 * time.Millisecond
	// In a room with more seats than fewSeats, who came and went may wait for presenceRest to be told together, or until
	// something else is told.
	fewSeats     = 50
	presenceRest = 250 * time.Millisecond
)

// outbox is what the next round tells.
type outbox struct {
	messages []*guildhallv1.Message
	private  bool                        // some message is not for everybody
	presence []guildhall.PlayerID        // who came or went, in the order of the first time
	was      map[guildhall.PlayerID]bool // whether they were here before
	since    time.Time                   // when presence was empty last
	signals  []signalling
	latest   map[signalKey]int // where a signal is among signals
	targeted bool              // some signal is not for everybody
}

// signalling is a signal under way.
type signalling struct {
	signal  *guildhallv1.Signal
	session *session // who sent it
}

func (o *outbox) say(m *guildhallv1.Message) {
	o.messages = append(o.messages, m)
	o.private = o.private || len(m.GetTo()) > 0
}

// changed notes that a player came, or went.
func (o *outbox) changed(player guildhall.PlayerID, wasHere bool) {
	if _, noted := o.was[player]; noted {
		return
	}
	if len(o.presence) == 0 {
		o.since = time.Now()
	}
	o.presence = append(o.presence, player)
	o.was[player] = wasHere
}

// signal notes a signal; the latest of its key counts.
func (o *outbox) signal(key signalKey, s signalling) {
	o.targeted = o.targeted || len(s.signal.GetTo()) > 0
	if i, waits := o.latest[key]; waits {
		o.signals[i] = s
		return
	}
	o.latest[key] = len(o.signals)
	o.signals = append(o.signals, s)
}

// clear empties the outbox after a round.
func (o *outbox) clear() {
	clear(o.messages)
	clear(o.signals)
	clear(o.was)
	clear(o.latest)
	o.messages, o.presence, o.signals, o.private, o.targeted = o.messages[:0], o.presence[:0], o.signals[:0], false, false
}

// rest gives how long the next round has to wait; 0: it is due.
func (r *room) rest() time.Duration {
	due := r.nextRound
	if len(r.out.messages) == 0 && len(r.out.signals) == 0 && len(r.seats) > fewSeats {
		due = later(due, r.out.since.Add(presenceRest))
	}
	return time.Until(due)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// tell makes a round if there is something to tell and it is due; otherwise it tells only what is for single sessions.
func (r *room) tell() {
	if len(r.out.messages)+len(r.out.presence)+len(r.out.signals) == 0 {
		r.tellOwn()
		return
	}
	if rest := r.rest(); rest > 0 {
		if due := time.Now().Add(rest); r.roundDue == nil || due.Before(r.roundAt) {
			r.roundDue, r.roundAt = time.After(rest), due
		}
		r.tellOwn()
		return
	}
	r.round()
}

// tellOwn tells what is for single sessions.
func (r *room) tellOwn() {
	for i, s := range r.withOwn {
		r.withOwn[i] = nil
		r.send(s, s.own)
		s.forgetOwn()
	}
	r.withOwn = r.withOwn[:0]
}

func (s *session) forgetOwn() {
	clear(s.own)
	s.own = s.own[:0]
}

// round tells everybody what has happened since the last one.
func (r *room) round() {
	start := time.Now()
	events, signals := inFrames(r.sharedEvents()), r.signalsFrame()
	told := 0
	for _, s := range r.seats {
		told += r.tellOne(s, events, signals)
	}
	clear(r.withOwn)
	r.withOwn = r.withOwn[:0]
	if n := len(r.out.messages); n > 0 {
		r.shown = guildhall.Seq(r.out.messages[n-1].GetSeq())
	}
	r.host.metrics.told(told, time.Since(start))
	r.out.clear()
	end := time.Now()
	if took := end.Sub(start); took >= restFrom {
		r.nextRound = end.Add(min(took, restMost))
	}
}

// tellOne tells a session what has happened since the last round, behind what is for it alone. It gives how many frames that
// was.
func (r *room) tellOne(s *session, events []*frame, signals *frame) int {
	frames := append(r.frames[:0], s.own...)
	for _, f := range r.eventsFor(s, events) {
		frames = append(frames, f.bytes(s.json))
	}
	if b := r.signalsFor(s, signals); b != nil {
		frames = append(frames, b)
	}
	r.send(s, frames)
	s.forgetOwn()
	s.welcomed = nil
	told := len(frames)
	clear(frames)
	r.frames = frames[:0]
	return told
}

// frameBytes bounds the events in one frame: a client should not have to hold a large one, nor a queue.
const frameBytes = 64 << 10

// inFrames puts events into frames, at least one into each.
func inFrames(events []*guildhallv1.Event) []*frame {
	var frames []*frame
	for len(events) > 0 {
		n, size := 0, 0
		for n < len(events) && (n == 0 || size < frameBytes) {
			size += proto.Size(events[n])
			n++
		}
		frames = append(frames, eventsFrame(events[:n:n]))
		events = events[n:]
	}
	return frames
}

// sharedEvents gives the events of this round as those see them for whom nothing is private.
func (r *room) sharedEvents() []*guildhallv1.Event {
	events := r.presenceEvents(nil)
	for _, m := range r.out.messages {
		if len(m.GetTo()) > 0 {
			m = hide(m)
		}
		events = append(events, messageEvent(m))
	}
	return events
}

// presenceEvents tells who came and went since the last round, or since the welcome of a session that is given. Who did both
// is not mentioned.
func (r *room) presenceEvents(since *session) []*guildhallv1.Event {
	events := make([]*guildhallv1.Event, 0, len(r.out.presence)+len(r.out.messages))
	for _, player := range r.out.presence {
		was := r.out.was[player]
		if since != nil && since.welcomed != nil {
			_, was = slices.BinarySearch(since.welcomed, string(player))
		}
		if here := r.present[player] != nil; here != was {
			events = append(events, memberEvent(player, here))
		}
	}
	return events
}

// eventsFor gives the events as a session sees them. One that catches up gets messages later.
func (r *room) eventsFor(s *session, shared []*frame) []*frame {
	switch {
	case !s.live:
		return inFrames(r.presenceEvents(s))
	case s.welcomed != nil && len(r.out.presence) > 0, r.out.private && slices.ContainsFunc(r.out.messages, func(m *guildhallv1.Message) bool {
		return len(m.GetTo()) > 0 && maySee(m, s.player)
	}):
		return inFrames(append(r.presenceEvents(s), messageEvents(r.out.messages, s.player)...))
	}
	return shared
}

// signalsFrame gives the signals of this round for those who sent none and for whom none is in particular; nil if there are
// none.
func (r *room) signalsFrame() *frame {
	if len(r.out.signals) == 0 {
		return nil
	}
	return signalsFrame(r.out.signals, func(signalled signalling) bool { return len(signalled.signal.GetTo()) == 0 })
}

// signalsFrame gives those signals that are wanted; nil if none is.
func signalsFrame(signals []signalling, wanted func(signalling) bool) *frame {
	var events []*guildhallv1.Event
	for _, signalled := range signals {
		if wanted(signalled) {
			events = append(events, signalEvent(signalled.signal))
		}
	}
	if len(events) == 0 {
		return nil
	}
	return eventsFrame(events)
}

// signalsFor gives the signals as a session sees them; nil if there are none, or if it is behind.
func (r *room) signalsFor(s *session, shared *frame) []byte {
	if len(r.out.signals) == 0 || s.stream.IsBehind() {
		return nil
	}
	if !r.out.targeted && !slices.ContainsFunc(r.out.signals, func(signalled signalling) bool { return signalled.session == s }) {
		return shared.bytes(s.json)
	}
	return signalsFrame(r.out.signals, func(signalled signalling) bool {
		if to := signalled.signal.GetTo(); len(to) > 0 {
			return slices.Contains(to, string(s.player))
		}
		return signalled.session != s
	}).bytes(s.json)
}

// tellOnly has a session told something that is for it alone.
func (r *room) tellOnly(s *session, response *guildhallv1.JoinResponse) {
	if !s.seated {
		return
	}
	if len(s.own) == 0 {
		r.withOwn = append(r.withOwn, s)
	}
	s.own = append(s.own, encode(response, s.json))
}

// send sends frames to a session. One that does not keep up is dropped: it comes back and resumes, and nobody has waited for
// it. Its place is freed by its own rise.
func (r *room) send(s *session, frames [][]byte) {
	if s.send(frames) {
		r.host.metrics.dropped.WithLabelValues("slow_consumer").Inc()
	}
}
