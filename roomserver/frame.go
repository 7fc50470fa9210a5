package roomserver

import (
	"slices"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/guildhall-dev/guildhall"
	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
)

// frame is what the room tells, encoded once for each encoding in which somebody is told.
type frame struct {
	response    *guildhallv1.JoinResponse
	proto, json []byte
}

// bytes gives the frame encoded; nil if there is none.
func (f *frame) bytes(asJSON bool) []byte {
	switch {
	case f == nil:
		return nil
	case asJSON:
		if f.json == nil {
			f.json = encodeJSON(f.response)
		}
		return f.json
	}
	if f.proto == nil {
		f.proto = encodeProto(f.response)
	}
	return f.proto
}

func encode(response *guildhallv1.JoinResponse, asJSON bool) []byte {
	return (&frame{response: response}).bytes(asJSON)
}

// encodeProto encodes a frame that is made of what was decoded before: there is nothing in it that cannot be encoded.
func encodeProto(response *guildhallv1.JoinResponse) []byte {
	b, err := proto.Marshal(response)
	if err != nil {
		panic("roomserver: a frame does not encode: " + err.Error())
	}
	return b
}

// encodeJSON encodes a frame with bodies that are text as text.
func encodeJSON(response *guildhallv1.JoinResponse) []byte {
	b, err := protojson.Marshal(textual(response))
	if err != nil {
		panic("roomserver: a frame does not encode as JSON: " + err.Error())
	}
	return b
}

// textual gives a frame with bodies that are text as text. What is shared with others is copied.
func textual(response *guildhallv1.JoinResponse) *guildhallv1.JoinResponse {
	switch f := response.GetFrame().(type) {
	case *guildhallv1.JoinResponse_Events:
		events := &guildhallv1.Events{Events: slices.Clone(f.Events.GetEvents())}
		for i, event := range events.GetEvents() {
			switch e := event.GetEvent().(type) {
			case *guildhallv1.Event_Message:
				events.Events[i] = messageEvent(textualMessage(e.Message))
			case *guildhallv1.Event_Signal:
				if isText(e.Signal.GetContentType(), e.Signal.GetBody()) {
					signal := proto.CloneOf(e.Signal)
					signal.Text, signal.Body = string(signal.GetBody()), nil
					events.Events[i] = signalEvent(signal)
				}
			}
		}
		return &guildhallv1.JoinResponse{Frame: &guildhallv1.JoinResponse_Events{Events: events}}
	case *guildhallv1.JoinResponse_History:
		history := &guildhallv1.History{Before: f.History.GetBefore(), More: f.History.GetMore()}
		for _, m := range f.History.GetMessages() {
			history.Messages = append(history.Messages, textualMessage(m))
		}
		return &guildhallv1.JoinResponse{Frame: &guildhallv1.JoinResponse_History{History: history}}
	}
	return response
}

func textualMessage(m *guildhallv1.Message) *guildhallv1.Message {
	if len(m.GetBody()) == 0 || !isText(m.GetContentType(), m.GetBody()) {
		return m
	}
	return &guildhallv1.Message{
		Seq: m.GetSeq(), From: m.GetFrom(), Id: m.GetId(), Text: string(m.GetBody()), ContentType: m.GetContentType(),
		SaidAt: m.GetSaidAt(), To: m.GetTo(),
	}
}

// isText says whether a body is text, by its type, and what it says.
func isText(contentType string, body []byte) bool {
	return (contentType == "" || strings.HasPrefix(contentType, "text/") || strings.HasPrefix(contentType, "application/json")) &&
		utf8.Valid(body)
}

// decode reads a client's frame.
func decode(b []byte, asJSON bool) (*guildhallv1.JoinRequest, error) {
	request := &guildhallv1.JoinRequest{}
	if asJSON {
		return request, protojson.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(b, request)
	}
	return request, proto.Unmarshal(b, request)
}

// The frames of the room.

func eventsFrame(events []*guildhallv1.Event) *frame {
	return &frame{response: &guildhallv1.JoinResponse{Frame: &guildhallv1.JoinResponse_Events{Events: &guildhallv1.Events{Events: events}}}}
}

func messageEvent(m *guildhallv1.Message) *guildhallv1.Event {
	return &guildhallv1.Event{Event: &guildhallv1.Event_Message{Message: m}}
}

func signalEvent(s *guildhallv1.Signal) *guildhallv1.Event {
	return &guildhallv1.Event{Event: &guildhallv1.Event_Signal{Signal: s}}
}

func memberEvent(player guildhall.PlayerID, here bool) *guildhallv1.Event {
	state := guildhallv1.MemberState_MEMBER_STATE_GONE
	if here {
		state = guildhallv1.MemberState_MEMBER_STATE_HERE
	}
	return &guildhallv1.Event{Event: &guildhallv1.Event_Member{Member: &guildhallv1.Member{Player: string(player), State: state}}}
}

// maySee says whether a player may see a message.
func maySee(m *guildhallv1.Message, player guildhall.PlayerID) bool {
	return len(m.GetTo()) == 0 || m.GetFrom() == string(player) || slices.Contains(m.GetTo(), string(player))
}

// hide gives a message as those see it for whom it is not.
func hide(m *guildhallv1.Message) *guildhallv1.Message {
	return &guildhallv1.Message{Seq: m.GetSeq(), Hidden: true}
}

// messageEvents gives messages as a player sees them.
func messageEvents(messages []*guildhallv1.Message, player guildhall.PlayerID) []*guildhallv1.Event {
	events := make([]*guildhallv1.Event, len(messages))
	for i, m := range messages {
		if !maySee(m, player) {
			m = hide(m)
		}
		events[i] = messageEvent(m)
	}
	return events
}
