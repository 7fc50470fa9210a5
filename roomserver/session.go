package roomserver

import (
	"errors"
	"sync"

	"golang.org/x/time/rate"

	"github.com/guildhall-dev/guildhall"
	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
	"github.com/guildhall-dev/guildhall/internal/transport"
)

// saysMost bounds what a session has said and not been answered; it is read on behind that.
const saysMost = 256

// session is one player's stream in one room. Its goroutine reads; who has something to tell it sends.
type session struct {
	// Static after construction.
	stream transport.Stream
	json   bool
	says   chan struct{} // one for each say that has no answer

	// Owned by its own goroutine.
	pages *rate.Limiter // of the past; nil until the first

	// Static once it is seated.
	player guildhall.PlayerID
	trace  string // of its join

	// Owned by the room.
	seat     int // where it is among the room's seats
	seated   bool
	live     bool          // it is told what is said; until then it catches up
	own      [][]byte      // what it alone is told next
	welcomed []string      // who its welcome says is here; nil once a round has told it what changed since
	flood    *rate.Limiter // of what it says and is refused for its rate; nil until the first

	ending sync.Once
	ended  chan struct{}       // closed when closed is set
	closed *guildhallv1.Closed // why the session ended; written before ended is closed
}

func newSession(stream transport.Stream) *session {
	return &session{stream: stream, json: stream.IsJSON(), says: make(chan struct{}, saysMost), ended: make(chan struct{})}
}

// maySay waits while too many says are not answered, and while the client does not take its answers: who talks and does not
// read is not listened to. It is false if the session ends meanwhile.
func (s *session) maySay() bool {
	if !s.takesAll() {
		return false
	}
	select {
	case s.says <- struct{}{}:
		return true
	case <-s.ended:
		return false
	}
}

// takesAll waits until the client has taken all that was sent; false if the session ends before.
func (s *session) takesAll() bool {
	for {
		drained := s.stream.Drained()
		if drained == nil {
			return true
		}
		select {
		case <-drained:
		case <-s.ended:
			return false
		}
	}
}

// answered notes that a say has its answer, or that it will get none.
func (s *session) answered() {
	select {
	case <-s.says:
	default:
	}
}

// send sends frames. If the client does not keep up, the session ends, and slow is true.
func (s *session) send(frames [][]byte) (slow bool) {
	if len(frames) == 0 {
		return false
	}
	err := s.stream.Send(frames)
	switch {
	case err == nil:
		return false
	case errors.Is(err, transport.ErrSlow):
		return s.finish(slowClosed, true)
	}
	s.finish(leftClosed, true)
	return false
}

var slowClosed = &guildhallv1.Closed{
	Code: guildhallv1.CloseCode_CLOSE_CODE_SLOW_CONSUMER, Reason: "the connection did not keep up with the room", Reconnect: true,
}

// end ends the session, behind what was sent.
func (s *session) end(closed *guildhallv1.Closed) { s.finish(closed, false) }

// finish ends the session, once. It says whether it was this call that did.
func (s *session) finish(closed *guildhallv1.Closed, discard bool) (first bool) {
	s.ending.Do(func() {
		first = true
		s.closed = closed
		s.stream.Close(encode(&guildhallv1.JoinResponse{Frame: &guildhallv1.JoinResponse_Closed{Closed: closed}}, s.json), discard)
		close(s.ended)
	})
	return first
}
