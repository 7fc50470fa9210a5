package roomserver

import (
	"sync"

	"github.com/guildhall-dev/guildhall"
	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
)

const (
	// queueLength bounds the frames that wait for a session's client.
	queueLength = 512
	// saysMost bounds what a session has said and not been answered; it is read on behind that. Without it, the
	// answers to whoever talks fast would fill their own queue, and drop them as slow although they read.
	saysMost = queueLength / 2
)

// session is one player's stream in one room. The room queues frames, the writer sends them, and whoever finds the
// session at its end says so, once.
type session struct {
	player guildhall.PlayerID
	number uint64 // of its seating in the room; owned by the room
	frames chan *guildhallv1.JoinResponse
	says   chan struct{} // one for each say whose answer has not been sent

	ending sync.Once
	ended  chan struct{}       // closed when closed is set
	closed *guildhallv1.Closed // why the session ended; written before ended is closed
	rushed bool                // the queue is not worth sending; written before ended is closed
}

func newSession(player guildhall.PlayerID) *session {
	return &session{
		player: player, frames: make(chan *guildhallv1.JoinResponse, queueLength), says: make(chan struct{}, saysMost),
		ended: make(chan struct{}),
	}
}

// maySay waits while too many says are not answered. It is false if the session ends meanwhile.
func (s *session) maySay() bool {
	select {
	case s.says <- struct{}{}:
		return true
	case <-s.ended:
		return false
	}
}

// answered notes that a say has its answer, or that it will get none.
func (s *session) answered() {
	select {
	case <-s.says:
	default:
	}
}

// queue queues a frame. It never waits: if the queue is full, the session ends, and it is false.
func (s *session) queue(frame *guildhallv1.JoinResponse) bool {
	select {
	case s.frames <- frame:
		return true
	default:
	}
	dropped := false
	s.ending.Do(func() {
		s.closed = &guildhallv1.Closed{
			Code: guildhallv1.CloseCode_CLOSE_CODE_SLOW_CONSUMER, Reason: "the connection did not keep up with the room", Reconnect: true,
		}
		s.rushed = true
		dropped = true
		close(s.ended)
	})
	return !dropped
}

// end ends the session, after what is queued.
func (s *session) end(closed *guildhallv1.Closed) {
	s.ending.Do(func() {
		s.closed = closed
		close(s.ended)
	})
}

// write sends what is queued until the session ends, and then why.
func (s *session) write(send func(*guildhallv1.JoinResponse) error) error {
	for {
		select {
		case frame := <-s.frames:
			if err := send(frame); err != nil {
				return err
			}
			if frame.GetAck() != nil || frame.GetRefused() != nil {
				s.answered()
			}
			continue
		case <-s.ended:
		}
		break
	}
	for !s.rushed {
		select {
		case frame := <-s.frames:
			if err := send(frame); err != nil {
				return err
			}
			continue
		default:
		}
		break
	}
	return send(&guildhallv1.JoinResponse{Frame: &guildhallv1.JoinResponse_Closed{Closed: s.closed}})
}
