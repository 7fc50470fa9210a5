package roomserver

import (
	"context"
	"errors"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/guildhall-dev/guildhall"
	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
	"github.com/guildhall-dev/guildhall/internal/roomlog"
)

const (
	// batchMessages and batchBytes bound one entry of the log; NATS takes 1 MiB.
	batchMessages = 256
	batchBytes    = 128 << 10
	// resendMost is how many messages at least have to pass before a resend is not recognised any more. Beyond it, and
	// beyond what the log retains, it is said again.
	resendMost = 4096
	// appendTimeout bounds one append, appendPause is the rest before it is tried again.
	appendTimeout = 5 * time.Second
	appendPause   = 50 * time.Millisecond
	// flushTimeout bounds how long a room that ends goes on trying to append what was said.
	flushTimeout = 10 * time.Second
	// The longest names in a Say, in bytes.
	maxIDBytes          = 64
	maxContentTypeBytes = 128
)

// say is a player saying something.
type say struct {
	session *session
	said    *guildhallv1.Say
}

// apply takes a message in; once it is in the log it is acked and everybody sees it. What was said before is only
// acked.
func (e *say) apply(r *room) {
	s, said := e.session, e.said
	if _, here := r.sessions[s]; !here {
		return // dropped meanwhile; the client says it again elsewhere
	}
	key := sayKey{s.player, said.GetId()}
	if seq, before := r.said[key]; before { // also what this host would refuse, and another has taken
		r.host.metrics.repeated.Inc()
		r.ack(s, said.GetId(), seq)
		return
	}
	if refusal := r.refuse(said); refusal != nil {
		r.send(s, &guildhallv1.JoinResponse{Frame: &guildhallv1.JoinResponse_Refused{Refused: refusal}})
		return
	}
	if waiting := r.unsaid[key]; waiting != nil {
		waiting.session.answered()
		waiting.session = s // the ack goes to where the player is now
		return
	}
	message := &guildhallv1.Message{
		From: string(s.player), Id: said.GetId(), Body: said.GetBody(), ContentType: said.GetContentType(),
		SaidAt: timestamppb.Now(),
	}
	waiting := &saying{message: message, session: s, size: proto.Size(message)}
	r.pending = append(r.pending, waiting)
	r.unsaid[key] = waiting
}

// refuse says why a message cannot be taken; nil if it can.
func (r *room) refuse(said *guildhallv1.Say) *guildhallv1.Refused {
	refused := &guildhallv1.Refused{Id: said.GetId()}
	switch {
	case said.GetId() == "" || len(said.GetId()) > maxIDBytes:
		// The id goes back whole: by it the client finds what was refused.
		refused.Code, refused.Reason = guildhallv1.RefuseCode_REFUSE_CODE_MALFORMED, "the id must have 1 to 64 bytes"
	case len(said.GetContentType()) > maxContentTypeBytes:
		refused.Code, refused.Reason = guildhallv1.RefuseCode_REFUSE_CODE_MALFORMED, "the content type may have 128 bytes"
	case len(said.GetBody()) > r.host.bodyBytes:
		refused.Code, refused.Reason = guildhallv1.RefuseCode_REFUSE_CODE_BODY_TOO_LARGE, "the message is too long"
	default:
		return nil
	}
	return refused
}

// advance starts the next append: group commit. All that arrived while the last one was under way goes into one
// entry. It does nothing while one is under way, while a failed one rests, or when there is nothing to say; and
// while the lease may have run out it waits, for then another host may be opening this room.
func (r *room) advance() {
	if r.busy || r.retry != nil {
		return
	}
	if len(r.inFlight) == 0 {
		r.inFlight, r.pending = r.nextBatch()
	}
	if len(r.inFlight) == 0 {
		return
	}
	if !r.host.mayServe() {
		r.retry = time.After(appendPause)
		return
	}
	messages := make([]*guildhallv1.Message, len(r.inFlight))
	for i, waiting := range r.inFlight {
		messages[i] = waiting.message
	}
	r.busy = true
	go func() { // ends with the append, and run waits for that
		ctx, cancel := context.WithTimeout(context.Background(), appendTimeout)
		defer cancel()
		start := time.Now()
		err := r.writer.Append(ctx, messages)
		r.host.metrics.appended(time.Since(start), len(messages), err)
		r.appended <- err
	}()
}

func (r *room) nextBatch() (batch, rest []*saying) {
	n, size := 0, 0
	for n < len(r.pending) && n < batchMessages && size < batchBytes {
		size += r.pending[n].size
		n++
	}
	return r.pending[:n:n], r.pending[n:]
}

// afterAppend acks what is durable and shows it to everybody. It gives a reason to end if the log has refused this
// host for good, else 0. After any other error the same batch is tried again: it may be in the log already.
func (r *room) afterAppend(err error) end {
	r.busy = false
	if errors.Is(err, roomlog.ErrFenced) {
		return endFenced
	}
	if errors.Is(err, roomlog.ErrBroken) {
		r.host.logger.Error("the log is not as this host left it; the room opens anew", "group", r.group, "error", err)
		return endBroken
	}
	if err != nil {
		r.host.logger.Warn("an append failed; trying again", "group", r.group, "error", err)
		r.retry = time.After(appendPause)
		return 0
	}
	events := &guildhallv1.Events{}
	for _, waiting := range r.inFlight {
		key := keyOf(waiting.message)
		delete(r.unsaid, key)
		r.remember(waiting.message)
		r.ack(waiting.session, key.id, guildhall.Seq(waiting.message.GetSeq()))
		events.Events = append(events.Events, &guildhallv1.Event{Event: &guildhallv1.Event_Message{Message: waiting.message}})
	}
	r.inFlight = nil
	r.broadcast(events, nil)
	return 0
}

// remember keeps a message for those who come later, and forgets the oldest beyond the kind's history.
func (r *room) remember(m *guildhallv1.Message) {
	key := keyOf(m)
	r.lastSeq.Store(m.GetSeq())
	r.history = append(r.history, m)
	if excess := len(r.history) - r.rules.History; excess > 0 {
		clear(r.history[:excess]) // or the array would hold them
		r.history = r.history[excess:]
	}
	r.said[key] = guildhall.Seq(m.GetSeq())
	r.oldSaid = append(r.oldSaid, key)
	if excess := len(r.oldSaid) - max(resendMost, r.rules.History); excess > 0 {
		for _, old := range r.oldSaid[:excess] {
			delete(r.said, old)
		}
		r.oldSaid = r.oldSaid[excess:]
	}
}

// flush appends what was said before the end, as far as the log answers. It gives why the room ends: another reason
// if the log has refused this host.
func (r *room) flush(why end) end {
	deadline := time.After(flushTimeout)
	for {
		r.advance()
		if !r.busy && len(r.inFlight) == 0 && len(r.pending) == 0 {
			return why
		}
		select {
		case err := <-r.appended:
			if why := r.afterAppend(err); why != 0 {
				return why
			}
		case <-r.retry:
			r.retry = nil
		case <-deadline:
			// What is left was not acked: its senders say it again, wherever the room is then.
			if r.busy {
				if end := r.afterAppend(<-r.appended); end != 0 {
					return end
				}
			}
			return why
		}
	}
}
