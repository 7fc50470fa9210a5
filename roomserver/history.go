package roomserver

import (
	"context"
	"sort"
	"time"

	"golang.org/x/time/rate"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/guildhall-dev/guildhall"
	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
	"github.com/guildhall-dev/guildhall/internal/roomlog"
	"github.com/guildhall-dev/guildhall/internal/tracing"
)

const (
	// historyBytes bounds the messages that a room has at hand, beside the kind's history; older ones are in the log.
	historyBytes = 1 << 20
	// pageMessages and pageBytes bound what a session that catches up is sent before it has to take it.
	pageMessages = 256
	pageBytes    = frameBytes
	// readTimeout bounds reading a page of the log.
	readTimeout = 10 * time.Second
	// A page of the past, for who asks.
	historyUsual = 50
	historyMost  = 200
	// pagesPerSecond and pagesBurst bound how often one may: each page is read from the log. Who asks more often waits.
	pagesPerSecond = 10
	pagesBurst     = 20
)

// A session that sits down has missed what was said after the number that it knows. It catches up by pages, each of which it
// has to take before it gets the next, from the log and then from what the room has at hand; the last one is sent by the
// room itself, and from there on the session is told what is said. So there is no gap, nothing comes twice, the room does
// not wait for anybody, and nobody's queue has to hold a long history.

// sit takes a seat and catches up; false if the session ends before.
func (d *door) sit(s *session, room *room, hello *guildhallv1.Hello) bool {
	_, span := d.host.tracer.StartFrom(context.Background(), s.trace, "welcome", tracing.Internal, time.Time{})
	got, ok := d.welcome(s, room, hello)
	span.End(endedEarly(ok))
	for ok && !got.live {
		next := &follow{session: s, after: got.after, answer: make(chan missed, 1)}
		switch {
		case got.older:
			page, err := d.logAfter(room, got.after)
			if err != nil || len(page.Messages) == 0 || page.Messages[0].GetSeq() != uint64(got.after)+1 { // retention has overtaken it
				s.end(failed("what was missed could not be read"))
				return false
			}
			shown := upTo(page.Messages, got.upTo)
			next.said = ownOf(shown, s.player)
			next.after = d.give(s, shown)
		case len(got.page) > 0:
			next.after = d.give(s, got.page)
		}
		if !s.takesAll() {
			return false
		}
		got, ok = ask(s, room, next, next.answer)
	}
	return ok
}

// endedEarly is what a trace says of a session that ended before its welcome.
func endedEarly(ok bool) error {
	if ok {
		return nil
	}
	return status.Error(codes.Aborted, "the session ended before its welcome")
}

// welcome asks for the place, and waits until the room has answered with the welcome; false if the session ends before.
func (d *door) welcome(s *session, room *room, hello *guildhallv1.Hello) (got missed, ok bool) {
	asked := &sit{session: s, after: hello.After, last: hello.GetLast(), answer: make(chan missed, 1)}
	if got, ok = ask(s, room, asked, asked.answer); !ok || !got.older {
		return got, ok
	}
	page, err := d.logAfter(room, got.after) // what is retained of it says the welcome
	if err != nil {
		s.end(failed("what was missed could not be read"))
		return got, false
	}
	asked.looked, asked.gone = true, page.Truncated
	return ask(s, room, asked, asked.answer)
}

// ask gives the room an event and waits for the answer; false if the session ends before, or the room, which ends it.
func ask[T any](s *session, room *room, e event, answer <-chan T) (got T, ok bool) {
	if !room.post(s.ended, e) {
		s.end(moved) // the room is over, if the session is not
		return got, false
	}
	select {
	case got = <-answer:
		return got, true
	case <-s.ended:
		return got, false
	case <-room.over:
	}
	select {
	case got = <-answer: // just before the end
		return got, true
	default:
		s.end(moved)
		return got, false
	}
}

// give sends messages to a session that catches up, and gives the number of the last.
func (d *door) give(s *session, messages []*guildhallv1.Message) guildhall.Seq {
	s.send(s.encodeMessages(messages))
	return guildhall.Seq(messages[len(messages)-1].GetSeq())
}

// encodeMessages gives messages as the session sees them.
func (s *session) encodeMessages(messages []*guildhallv1.Message) [][]byte {
	var encoded [][]byte
	for _, f := range inFrames(messageEvents(messages, s.player)) {
		encoded = append(encoded, f.bytes(s.json))
	}
	return encoded
}

// upTo gives the messages up to a number: the log may have more already than the room has shown.
func upTo(messages []*guildhallv1.Message, most guildhall.Seq) []*guildhallv1.Message {
	n := sort.Search(len(messages), func(i int) bool { return messages[i].GetSeq() > uint64(most) })
	return messages[:n]
}

// said is something that a player has said.
type said struct {
	key sayKey
	seq guildhall.Seq
}

// ownOf gives what a player said among messages: they may say it again.
func ownOf(messages []*guildhallv1.Message, player guildhall.PlayerID) []said {
	var own []said
	for _, m := range messages {
		if m.GetFrom() == string(player) {
			own = append(own, said{key: keyOf(m), seq: guildhall.Seq(m.GetSeq())})
		}
	}
	return own
}

// logAfter reads a page of the log.
func (d *door) logAfter(room *room, after guildhall.Seq) (roomlog.Page, error) {
	ctx, cancel := context.WithTimeout(context.Background(), readTimeout)
	defer cancel()
	page, err := d.host.log.After(ctx, room.group, after, pageMessages)
	if err != nil {
		d.host.logger.Warn("the log could not be read", "group", room.group, "error", err)
	}
	return page, err
}

// readHistory answers with a page of the past.
func (d *door) readHistory(s *session, room *room, asked *guildhallv1.ReadHistory) {
	limit := min(historyMost, int(asked.GetLimit()))
	if limit == 0 {
		limit = historyUsual
	}
	if !s.takesAll() || !s.mayRead() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), readTimeout)
	defer cancel()
	page, err := d.host.log.Before(ctx, room.group, guildhall.Seq(asked.GetBefore()), limit)
	if err != nil {
		d.host.logger.Warn("the log could not be read", "group", room.group, "error", err)
		s.end(failed("the past could not be read"))
		return
	}
	history := &guildhallv1.History{Before: asked.GetBefore(), More: page.More}
	floor := room.floor()
	for _, m := range page.Messages {
		switch {
		case guildhall.Seq(m.GetSeq()) <= floor:
			history.More = false // the kind keeps no more
			continue
		case !maySee(m, s.player):
			m = hide(m)
		}
		history.Messages = append(history.Messages, m)
	}
	if len(history.GetMessages()) > 0 && guildhall.Seq(history.GetMessages()[0].GetSeq()) == floor+1 {
		history.More = false
	}
	s.send([][]byte{encode(&guildhallv1.JoinResponse{Frame: &guildhallv1.JoinResponse_History{History: history}}, s.json)})
}

// mayRead waits until the session may read one more page; false if it ends before.
func (s *session) mayRead() bool {
	if s.pages == nil {
		s.pages = rate.NewLimiter(pagesPerSecond, pagesBurst)
	}
	wait := time.NewTimer(s.pages.Reserve().Delay())
	defer wait.Stop()
	select {
	case <-wait.C:
		return true
	case <-s.ended:
		return false
	}
}

// floor gives the number up to which messages are not kept, for there are so many later ones.
func (r *room) floor() guildhall.Seq {
	return guildhall.Seq(max(0, int64(r.lastSeq.Load())-int64(r.rules.History)))
}

// missed is how a session goes on that catches up.
type missed struct {
	live  bool                   // it has all, and is told what is said
	after guildhall.Seq          // the number behind which it goes on
	older bool                   // with messages that are in the log only,
	upTo  guildhall.Seq          // up to this one
	page  []*guildhallv1.Message // with these; none: ask again
}

// follow is a session that has caught up to a number, and goes on.
type follow struct {
	session *session
	after   guildhall.Seq
	said    []said // what the player said in between
	answer  chan missed
}

// apply makes the session live if little is missing, otherwise it says how it goes on.
func (e *follow) apply(r *room) {
	if !e.session.seated {
		return // the session has ended
	}
	for _, own := range e.said {
		r.rememberSaid(own.key, own.seq)
	}
	got, frames := r.goOn(e.session, e.after)
	r.send(e.session, frames)
	e.answer <- got
}

// goOn says how a session goes on behind a number. If that is live, the frames are what it has missed.
func (r *room) goOn(s *session, after guildhall.Seq) (missed, [][]byte) {
	if after < r.atHand()-1 && after < r.shown {
		return missed{after: after, older: true, upTo: min(r.atHand()-1, r.shown)}, nil
	}
	page, whole := r.pageAfter(after)
	if !whole {
		return missed{after: after, page: page}, nil
	}
	s.live = true
	if len(page) == 0 {
		return missed{live: true}, nil
	}
	return missed{live: true}, s.encodeMessages(page)
}

// atHand gives the number of the first message that the room has at hand.
func (r *room) atHand() guildhall.Seq {
	if len(r.history) == 0 {
		return guildhall.Seq(r.lastSeq.Load()) + 1
	}
	return guildhall.Seq(r.history[0].GetSeq())
}

// pageAfter gives the messages after a number that have been shown and are at hand: all, or a first page of them.
func (r *room) pageAfter(after guildhall.Seq) (page []*guildhallv1.Message, whole bool) {
	size := 0
	from := min(len(r.history), int(max(after+1, r.atHand())-r.atHand()))
	for n, m := range r.history[from:] {
		if guildhall.Seq(m.GetSeq()) > r.shown {
			break
		}
		if n == pageMessages || size > pageBytes {
			return page, false
		}
		size += proto.Size(m)
		page = append(page, m)
	}
	return page, true
}

// remember keeps a message for those who come later, and forgets the oldest beyond what is kept at hand.
func (r *room) remember(m *guildhallv1.Message) {
	r.lastSeq.Store(m.GetSeq())
	r.history = append(r.history, m)
	r.historySize += proto.Size(m)
	for len(r.history) > r.rules.History || r.historySize > historyBytes && len(r.history) > 1 {
		r.historySize -= proto.Size(r.history[0])
		r.history[0] = nil // or the array would hold it
		r.history = r.history[1:]
	}
	r.rememberSaid(keyOf(m), guildhall.Seq(m.GetSeq()))
}

// rememberSaid keeps what a resend is recognised by, and forgets the oldest beyond what is kept.
func (r *room) rememberSaid(key sayKey, seq guildhall.Seq) {
	if _, known := r.said[key]; known {
		return
	}
	r.said[key] = seq
	r.oldSaid = append(r.oldSaid, key)
	if len(r.oldSaid) > resendMost {
		delete(r.said, r.oldSaid[0])
		r.oldSaid = r.oldSaid[1:]
	}
}
