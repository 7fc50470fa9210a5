package roomserver

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/guildhall-dev/guildhall"
	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
)

// sessionsPerPlayer bounds the sessions of one player in one room: each costs the room a delivery of everything.
const sessionsPerPlayer = 8

// presence is a player who is here.
type presence struct {
	sessions []*session // the oldest first
	limits   *limiter
}

// sit is a session asking for its place in the room.
type sit struct {
	session *session
	after   *uint64       // the last number seen; nil: nothing before now is wanted,
	last    uint32        // but so many of the last
	looked  bool          // the log has been asked what it retains behind that number:
	gone    guildhall.Seq // what is gone for good; 0 if nothing is
	answer  chan missed
}

// apply seats the session: it gets the welcome and what it has missed, or goes on to catch up.
func (e *sit) apply(r *room) {
	s := e.session
	if closed := r.admit(s.player); closed != nil {
		s.end(closed)
		return
	}
	after, truncated := e.begin(r)
	if !e.looked && after < r.atHand()-1 && after < r.shown {
		e.answer <- missed{after: after, older: true} // the welcome has to say how much of that is retained
		return
	}
	r.seat(s)
	s.welcomed = r.names()
	got, frames := r.goOn(s, after)
	welcome := encode(&guildhallv1.JoinResponse{Frame: &guildhallv1.JoinResponse_Welcome{Welcome: &guildhallv1.Welcome{
		Group: r.group.String(), Epoch: uint64(r.epoch), Player: string(s.player), Members: s.welcomed,
		LastSeq: uint64(r.shown), HistoryTruncated: truncated, Limits: r.host.limits.proto(r.host.bodyBytes),
	}}}, s.json)
	r.send(s, append([][]byte{welcome}, frames...))
	e.answer <- got
	if len(r.seats) <= fewSeats && len(r.out.presence) > 0 {
		r.round() // that somebody came, before they can go: only where many come and go is that not worth a word
	}
}

// begin gives the number behind which the session begins, and up to which what it asked for is gone for good.
func (e *sit) begin(r *room) (after guildhall.Seq, truncated *uint64) {
	after = r.shown - min(r.shown, guildhall.Seq(e.last))
	if e.after != nil {
		after = min(r.shown, guildhall.Seq(*e.after))
	}
	gone := max(e.gone, min(r.shown, r.floor()))
	if gone <= after {
		return after, nil
	}
	if e.after != nil {
		told := uint64(gone)
		truncated = &told
	}
	return gone, truncated
}

// admit says why a player cannot be seated; nil if they can.
func (r *room) admit(player guildhall.PlayerID) *guildhallv1.Closed {
	if ban, banned := r.host.registry.BanInView(r.group, player); banned {
		return evicted(cmp.Or(ban.Reason, "you are banned from this room"))
	}
	if r.present[player] == nil && len(r.present) >= r.rules.Capacity {
		return &guildhallv1.Closed{
			Code:   guildhallv1.CloseCode_CLOSE_CODE_FULL,
			Reason: fmt.Sprintf("the room seats %d players and is full", r.rules.Capacity),
		}
	}
	return nil
}

// seat gives a session its place. A player who has as many sessions as one may have loses the oldest.
func (r *room) seat(s *session) {
	p := r.present[s.player]
	if p == nil {
		p = &presence{limits: newLimiter(r.host.limits)}
		r.present[s.player] = p
		r.out.changed(s.player, false)
	}
	if len(p.sessions) >= sessionsPerPlayer {
		oldest := p.sessions[0]
		r.forget(oldest)
		oldest.end(&guildhallv1.Closed{Code: guildhallv1.CloseCode_CLOSE_CODE_REPLACED, Reason: "you have opened too many connections"})
	}
	p.sessions = append(p.sessions, s)
	s.seated, s.seat = true, len(r.seats)
	r.seats = append(r.seats, s)
	r.members.Store(int64(len(r.present)))
	r.host.players.Add(1)
	r.host.metrics.sessions.Inc()
}

// forget takes a session out of the room.
func (r *room) forget(s *session) {
	if !s.seated {
		return
	}
	s.seated, s.live = false, false
	last := r.seats[len(r.seats)-1]
	last.seat = s.seat
	r.seats[s.seat] = last
	r.seats[len(r.seats)-1] = nil
	r.seats = r.seats[:len(r.seats)-1]
	r.host.players.Add(-1)
	r.host.metrics.sessions.Dec()
	p := r.present[s.player]
	p.sessions = slices.DeleteFunc(p.sessions, func(other *session) bool { return other == s })
	if len(p.sessions) == 0 {
		delete(r.present, s.player)
		r.out.changed(s.player, true)
		r.members.Store(int64(len(r.present)))
	}
}

// leave is a player's goodbye. It is answered behind all that has happened until then, also if the next round is not due: who
// has said something and leaves has seen it.
type leave struct{ session *session }

func (e *leave) apply(r *room) {
	if e.session.seated {
		r.tellOne(e.session, inFrames(r.sharedEvents()), r.signalsFrame())
	}
	e.session.end(leftClosed)
}

// names gives who is here, in alphabetical order.
func (r *room) names() []string {
	names := make([]string, 0, len(r.present))
	for player := range r.present {
		names = append(names, string(player))
	}
	slices.Sort(names)
	return names
}

// rise is a session giving up its place.
type rise struct{ session *session }

// apply frees the place.
func (e *rise) apply(r *room) { r.forget(e.session) }

// evict is an operator removing a player.
type evict struct {
	player  guildhall.PlayerID
	reason  string   // for the player to read
	evicted chan int // how many sessions were ended; holds one
}

func evicted(reason string) *guildhallv1.Closed {
	return &guildhallv1.Closed{Code: guildhallv1.CloseCode_CLOSE_CODE_EVICTED, Reason: reason}
}

// apply ends every session of the player.
func (e *evict) apply(r *room) {
	var sessions []*session
	if p := r.present[e.player]; p != nil {
		sessions = slices.Clone(p.sessions)
	}
	for _, s := range sessions {
		r.forget(s)
		s.end(evicted(e.reason))
	}
	e.evicted <- len(sessions)
}

// dismiss ends every session. Nobody is told that the others are gone: they all meet again.
func (r *room) dismiss(closed *guildhallv1.Closed) {
	for _, s := range r.seats {
		s.seated, s.live = false, false
		s.end(closed)
	}
	r.host.players.Add(-int64(len(r.seats)))
	r.host.metrics.sessions.Sub(float64(len(r.seats)))
	r.seats = nil
	clear(r.present)
	r.members.Store(0)
}
