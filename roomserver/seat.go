package roomserver

import (
	"cmp"
	"fmt"
	"slices"
	"sort"

	"google.golang.org/protobuf/proto"

	"github.com/guildhall-dev/guildhall"
	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
)

// historyFrame and historyBytes bound the messages in one frame of history: gRPC clients take 4 MiB.
const (
	historyFrame = 64
	historyBytes = 512 << 10
)

// sessionsPerPlayer bounds the sessions of one player in one room: each costs the room a delivery of everything.
const sessionsPerPlayer = 8

// sit is a session asking for its place in the room.
type sit struct {
	session *session
	after   *uint64 // the last number seen; nil: nothing before now is wanted
	refused chan *guildhallv1.Closed
}

// apply seats the session: it gets the welcome, then what it has missed, then everything as it happens, with no gap
// between, for all of it is queued here and now.
func (e *sit) apply(r *room) {
	s := e.session
	if ban, banned := r.host.registry.BanInView(r.group, s.player); banned {
		e.refused <- evicted(cmp.Or(ban.Reason, "you are banned from this room"))
		return
	}
	if r.present[s.player] == 0 && len(r.present) >= r.rules.Capacity {
		e.refused <- &guildhallv1.Closed{
			Code:   guildhallv1.CloseCode_CLOSE_CODE_FULL,
			Reason: fmt.Sprintf("the room seats %d players and is full", r.rules.Capacity),
		}
		return
	}
	e.refused <- nil
	if r.present[s.player] >= sessionsPerPlayer {
		r.endOldest(s.player)
	}
	r.seated++
	s.number = r.seated
	r.sessions[s] = struct{}{}
	r.present[s.player]++
	r.host.players.Add(1)
	r.host.metrics.sessions.Inc()
	missed, truncated := r.missed(e.after)
	r.send(s, &guildhallv1.JoinResponse{Frame: &guildhallv1.JoinResponse_Welcome{Welcome: &guildhallv1.Welcome{
		Group: r.group.String(), Epoch: uint64(r.epoch), Player: string(s.player), Members: r.names(),
		LastSeq: r.lastSeq.Load(), HistoryTruncated: truncated,
		Limits: &guildhallv1.Limits{BodyBytes: uint32(r.host.bodyBytes)},
	}}})
	for len(missed) > 0 {
		var frame []*guildhallv1.Message
		frame, missed = nextHistory(missed)
		events := &guildhallv1.Events{}
		for _, m := range frame {
			events.Events = append(events.Events, &guildhallv1.Event{Event: &guildhallv1.Event_Message{Message: m}})
		}
		r.send(s, &guildhallv1.JoinResponse{Frame: &guildhallv1.JoinResponse_Events{Events: events}})
	}
	if r.present[s.player] == 1 {
		r.tell(s.player, guildhallv1.MemberState_MEMBER_STATE_HERE, s)
	}
}

// endOldest makes room for one more session of a player who has as many as one may have.
func (r *room) endOldest(player guildhall.PlayerID) {
	var oldest *session
	for s := range r.sessions {
		if s.player == player && (oldest == nil || s.number < oldest.number) {
			oldest = s
		}
	}
	r.forget(oldest)
	oldest.end(&guildhallv1.Closed{Code: guildhallv1.CloseCode_CLOSE_CODE_REPLACED, Reason: "you have opened too many connections"})
}

// missed gives the retained messages after a number, and up to which number they are not retained any more.
func (r *room) missed(after *uint64) (messages []*guildhallv1.Message, truncated *uint64) {
	if after == nil {
		return nil, nil
	}
	from := sort.Search(len(r.history), func(i int) bool { return r.history[i].GetSeq() > *after })
	messages = r.history[from:]
	first := r.lastSeq.Load() + 1
	if len(messages) > 0 {
		first = messages[0].GetSeq()
	}
	if gone := first - 1; gone > *after {
		truncated = &gone
	}
	return messages, truncated
}

// nextHistory takes the messages of the next frame of history, at least one.
func nextHistory(missed []*guildhallv1.Message) (frame, rest []*guildhallv1.Message) {
	n, size := 0, 0
	for n < len(missed) && n < historyFrame && size < historyBytes {
		size += proto.Size(missed[n])
		n++
	}
	return missed[:n], missed[n:]
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
	ended := 0
	for s := range r.sessions {
		if s.player == e.player {
			r.forget(s)
			s.end(evicted(e.reason))
			ended++
		}
	}
	e.evicted <- ended
}

// forget takes a session out of the room, and tells the others if the player is gone with it.
func (r *room) forget(s *session) {
	if _, here := r.sessions[s]; !here {
		return
	}
	delete(r.sessions, s)
	r.host.players.Add(-1)
	r.host.metrics.sessions.Dec()
	if r.present[s.player]--; r.present[s.player] > 0 {
		return
	}
	delete(r.present, s.player)
	r.tell(s.player, guildhallv1.MemberState_MEMBER_STATE_GONE, nil)
}

// dismiss ends every session. Nobody is told that the others are gone: they all meet again.
func (r *room) dismiss(closed *guildhallv1.Closed) {
	for s := range r.sessions {
		s.end(closed)
	}
	r.host.players.Add(-int64(len(r.sessions)))
	r.host.metrics.sessions.Sub(float64(len(r.sessions)))
	clear(r.sessions)
	clear(r.present)
	r.members.Store(0)
}

// tell tells everybody but one session about a player's presence.
func (r *room) tell(player guildhall.PlayerID, state guildhallv1.MemberState, except *session) {
	r.members.Store(int64(len(r.present)))
	r.broadcast(&guildhallv1.Events{Events: []*guildhallv1.Event{{
		Event: &guildhallv1.Event_Member{Member: &guildhallv1.Member{Player: string(player), State: state}},
	}}}, except)
}

// broadcast sends events to every session but one.
func (r *room) broadcast(events *guildhallv1.Events, except *session) {
	frame := &guildhallv1.JoinResponse{Frame: &guildhallv1.JoinResponse_Events{Events: events}}
	for s := range r.sessions {
		if s != except {
			r.send(s, frame)
		}
	}
}

func (r *room) ack(s *session, id string, seq guildhall.Seq) {
	r.send(s, &guildhallv1.JoinResponse{Frame: &guildhallv1.JoinResponse_Ack{Ack: &guildhallv1.Ack{Id: id, Seq: uint64(seq)}}})
}

// send queues a frame for a session. One that does not keep up is dropped: it comes back and resumes, and nobody
// has waited for it. Its place is freed by its own rise, for the room may be in the midst of its sessions here.
func (r *room) send(s *session, frame *guildhallv1.JoinResponse) {
	if !s.queue(frame) {
		r.host.metrics.dropped.WithLabelValues("slow_consumer").Inc()
	}
}
