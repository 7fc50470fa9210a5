package roomserver

import (
	"strings"
	"unicode/utf8"

	"github.com/guildhall-dev/guildhall"
	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
)

const (
	// maxTopicBytes is the longest topic of a signal.
	maxTopicBytes = 64
	// maxRecipients is how many players something may be for.
	maxRecipients = 16
)

// signal is a player telling something for the moment.
type signal struct {
	session *session
	signal  *guildhallv1.Signal
}

// signalKey names what a signal tells: a later one of the same key takes its place.
type signalKey struct {
	player    guildhall.PlayerID
	topic, to string
}

// apply passes a signal on with what the room tells next. One that cannot be is dropped, as is one while the lease may have
// run out: this may not be the group's room any more.
func (e *signal) apply(r *room) {
	s, told := e.session, e.signal
	if !s.seated {
		return
	}
	if !r.maySignal(s, told) {
		r.host.metrics.signals.WithLabelValues("dropped").Inc()
		return
	}
	r.host.metrics.signals.WithLabelValues("passed").Inc()
	if told.GetText() != "" {
		told.Body, told.Text = []byte(told.GetText()), ""
	}
	told.From = string(s.player)
	key := signalKey{player: s.player, topic: told.GetTopic(), to: strings.Join(told.GetTo(), " ")}
	r.out.signal(key, signalling{signal: told, session: s})
}

func (r *room) maySignal(s *session, told *guildhallv1.Signal) bool {
	return len(told.GetTopic()) <= maxTopicBytes && len(told.GetContentType()) <= maxContentTypeBytes &&
		len(told.GetBody())+len(told.GetText()) <= r.host.bodyBytes && len(told.GetTo()) <= maxRecipients &&
		utf8.ValidString(told.GetTopic()) && r.host.mayServe() && r.present[s.player].limits.signal()
}
