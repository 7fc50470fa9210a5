package client

import (
	"context"
	"slices"
	"sync"

	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
)

// seat is where the room's connection is, as far as senders need to know. There is no goroutine for sending while there is
// nothing to send: in a process with thousands of rooms most are silent at any moment.
type seat struct {
	// Static after construction.
	ctx    context.Context //nolint:containedctx // that of the session, for what its senders tell
	stream stream
	limits *guildhallv1.Limits // nil: the host did not say

	senders sync.WaitGroup

	// Guarded by Room.mu.
	sending  bool // a sender is at work, or has failed
	sent     int  // how many of Room.unacked have been sent
	asked    bool // the first of Room.asked has been sent
	left     bool // leave has been sent; nothing follows
	signaled bool // the last that was sent is a signal
}

// isTooLong says whether a body is beyond the limits.
func (s *seat) isTooLong(body []byte, text string) bool {
	return s.limits != nil && len(body)+len(text) > int(s.limits.GetBodyBytes())
}

// take begins to send by a seat: all that is not acked is said again, all that is not answered is asked again.
func (r *Room) take(s *seat) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seat = s
	r.asked = slices.DeleteFunc(r.asked, func(q *question) bool { return q.givenUp })
	r.sendLocked()
}

// giveBack waits for a seat's senders, whose stream has ended. What was for the moment is over.
func (r *Room) giveBack(s *seat) {
	r.mu.Lock()
	r.seat, r.signals = nil, nil
	r.mu.Unlock()
	s.senders.Wait()
}

// sendLocked sees to it that what is to be sent is sent. The caller holds mu.
func (r *Room) sendLocked() {
	s := r.seat
	if s == nil || s.sending {
		return
	}
	frame := r.nextLocked(s)
	if frame == nil {
		return
	}
	s.sending = true
	s.senders.Go(func() { r.send(s, frame) })
}

// send sends a frame, and goes on until there is nothing more to send. A body beyond the limits is refused here: one
// beyond what the transport takes as well would break the connection, again and again.
func (r *Room) send(s *seat, frame *guildhallv1.JoinRequest) {
	for ; frame != nil; frame = r.next(s) {
		if say := frame.GetSay(); say != nil && s.isTooLong(say.GetBody(), say.GetText()) {
			if r.refused(s.ctx, &guildhallv1.Refused{
				Id: say.GetId(), Code: guildhallv1.RefuseCode_REFUSE_CODE_BODY_TOO_LARGE, Reason: "the message is too long",
			}) != nil {
				return
			}
			continue
		}
		if s.stream.send(frame) != nil {
			return // the receiver finds out why
		}
	}
}

// next gives what to send next; nil if that is nothing, and the sender has ended.
func (r *Room) next(s *seat) *guildhallv1.JoinRequest {
	r.mu.Lock()
	defer r.mu.Unlock()
	frame := r.nextLocked(s)
	s.sending = frame != nil
	return frame
}

// nextLocked gives what to send next; nil if that is nothing. Signals overtake what is said, but only every second time:
// one who signals without a pause can still speak. The caller holds mu.
func (r *Room) nextLocked(s *seat) *guildhallv1.JoinRequest {
	says := s.sent < len(r.unacked)
	wasSignal := s.signaled
	s.signaled = false
	switch {
	case s.left || r.seat != s:
		return nil
	case len(r.asked) > 0 && !s.asked:
		s.asked = true
		q := r.asked[0]
		return &guildhallv1.JoinRequest{Frame: &guildhallv1.JoinRequest_ReadHistory{ReadHistory: &guildhallv1.ReadHistory{
			Before: q.before, Limit: q.limit,
		}}}
	case len(r.signals) > 0 && (!says || !wasSignal):
		s.signaled = true
		signal := r.signals[0].signal
		r.signals = slices.Delete(r.signals, 0, 1)
		return &guildhallv1.JoinRequest{Frame: &guildhallv1.JoinRequest_Signal{Signal: signal}}
	case says:
		say := r.unacked[s.sent].say
		s.sent++
		return &guildhallv1.JoinRequest{Frame: &guildhallv1.JoinRequest_Say{Say: say}}
	case r.leaving && len(r.unacked) == 0:
		s.left = true
		return &guildhallv1.JoinRequest{Frame: &guildhallv1.JoinRequest_Leave{Leave: &guildhallv1.Leave{}}}
	}
	return nil
}
