package roomserver

import (
	"math"

	"golang.org/x/time/rate"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/guildhall-dev/guildhall"
	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
)

const (
	// resendMost is how many messages at least have to pass before a resend is not recognised any more; what its player has not
	// seen of them is recognised in any case.
	resendMost = 4096
	// The longest names in a Say, in bytes.
	maxIDBytes          = 64
	maxContentTypeBytes = 128
)

// How many messages a session may say that are refused for their rate, before it is sent away: so many at once, and in the
// long run this many times those that a player may say. Who heeds what a refusal says is refused about once for each message.
const (
	floodMost  = 2048
	floodTimes = 10
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
	if !s.seated {
		return // dropped meanwhile; the client says it again elsewhere
	}
	key := sayKey{s.player, said.GetId()}
	if seq, before := r.said[key]; before { // also what this host would refuse, and another has taken
		r.host.metrics.repeated.Inc()
		r.ack(s, said.GetId(), seq)
		return
	}
	if waiting := r.unsaid[key]; waiting != nil {
		waiting.session.answered()
		waiting.session = s // the ack goes to where the player is now
		return
	}
	if refusal := r.refuse(s, said); refusal != nil {
		r.refused(s, refusal)
		return
	}
	message := &guildhallv1.Message{
		From: string(s.player), Id: said.GetId(), Body: said.GetBody(), ContentType: said.GetContentType(),
		SaidAt: timestamppb.Now(), To: said.GetTo(),
	}
	if said.GetText() != "" {
		message.Body = []byte(said.GetText())
	}
	waiting := &saying{message: message, session: s, size: proto.Size(message)}
	r.pending = append(r.pending, waiting)
	r.unsaid[key] = waiting
}

// refuse says why a message cannot be taken; nil if it can.
func (r *room) refuse(s *session, said *guildhallv1.Say) *guildhallv1.Refused {
	refused := &guildhallv1.Refused{Id: said.GetId(), Code: guildhallv1.RefuseCode_REFUSE_CODE_MALFORMED}
	size := len(said.GetBody()) + len(said.GetText())
	switch {
	case said.GetId() == "" || len(said.GetId()) > maxIDBytes:
		// The id goes back whole: by it the client finds what was refused.
		refused.Reason = "the id must have 1 to 64 bytes"
	case len(said.GetContentType()) > maxContentTypeBytes:
		refused.Reason = "the content type may have 128 bytes"
	case len(said.GetBody()) > 0 && said.GetText() != "":
		refused.Reason = "the message has a body and a text; it may have one of them"
	case len(said.GetTo()) > maxRecipients:
		refused.Reason = "the message is for more than 16 players"
	case size > r.host.bodyBytes:
		refused.Code, refused.Reason = guildhallv1.RefuseCode_REFUSE_CODE_BODY_TOO_LARGE, "the message is too long"
	default:
		wait := r.present[s.player].limits.say(size)
		if wait == 0 {
			return nil
		}
		refused.Code, refused.Reason = guildhallv1.RefuseCode_REFUSE_CODE_RATE_LIMITED, "you say too much at once"
		refused.RetryAfterMs = uint32(min(wait.Milliseconds()+1, math.MaxUint32))
	}
	return refused
}

// refused answers a message that is not taken. Who goes on and on is sent away.
func (r *room) refused(s *session, refusal *guildhallv1.Refused) {
	r.host.metrics.refused.WithLabelValues(refusal.GetCode().String()).Inc()
	s.answered()
	r.tellOnly(s, &guildhallv1.JoinResponse{Frame: &guildhallv1.JoinResponse_Refused{Refused: refusal}})
	if refusal.GetCode() != guildhallv1.RefuseCode_REFUSE_CODE_RATE_LIMITED {
		return
	}
	if s.flood == nil {
		s.flood = rate.NewLimiter(rate.Limit(floodTimes*r.host.limits.Messages), floodMost)
	}
	if !s.flood.Allow() {
		r.forget(s)
		s.end(&guildhallv1.Closed{Code: guildhallv1.CloseCode_CLOSE_CODE_FLOOD, Reason: "you say far too much"})
	}
}

// ack tells who said a message that it is durable.
func (r *room) ack(s *session, id string, seq guildhall.Seq) {
	s.answered()
	r.tellOnly(s, &guildhallv1.JoinResponse{Frame: &guildhallv1.JoinResponse_Ack{Ack: &guildhallv1.Ack{Id: id, Seq: uint64(seq)}}})
}
