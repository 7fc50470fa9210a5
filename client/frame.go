package client

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/guildhall-dev/guildhall"
	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
)

// frame is what a host sends at once: events, as the caller gets them, or something else.
type frame struct {
	events   []Event
	response *guildhallv1.JoinResponse // nil if it is events
}

// hidden is a message that was said to others: its number counts.
type hidden struct{ seq guildhall.Seq }

func (hidden) isEvent() {}

// decodeFrame reads a frame. It keeps nothing of encoded.
//
// Nearly all that a host sends is events, and a room of a thousand sends a thousand of each. So they are read straight into
// what the caller gets: by way of the structs that are generated from room.proto it takes three times as long and twice the
// memory. Whatever is not as a host writes it goes that way, whose word is the last in every case.
func decodeFrame(encoded []byte) (frame, error) {
	if events, err := decodeEvents(encoded); err == nil {
		return frame{events: events}, nil
	}
	return decodeAny(encoded)
}

// decodeAny is decodeFrame for all frames.
func decodeAny(encoded []byte) (frame, error) {
	response := &guildhallv1.JoinResponse{}
	if err := proto.Unmarshal(encoded, response); err != nil {
		return frame{}, fmt.Errorf("the host sent what is no frame: %w", err)
	}
	if _, isEvents := response.GetFrame().(*guildhallv1.JoinResponse_Events); !isEvents {
		return frame{response: response}, nil
	}
	events := make([]Event, 0, len(response.GetEvents().GetEvents()))
	for _, e := range response.GetEvents().GetEvents() {
		if out := eventOf(e); out != nil {
			events = append(events, out)
		}
	}
	return frame{events: events}, nil
}

// eventOf gives an event as the caller sees it; nil if it is of a later version.
func eventOf(event *guildhallv1.Event) Event {
	switch e := event.GetEvent().(type) {
	case *guildhallv1.Event_Message:
		if e.Message.GetHidden() {
			return hidden{guildhall.Seq(e.Message.GetSeq())}
		}
		return messageOf(e.Message)
	case *guildhallv1.Event_Member:
		return Member{
			Player: guildhall.PlayerID(e.Member.GetPlayer()),
			Here:   e.Member.GetState() == guildhallv1.MemberState_MEMBER_STATE_HERE,
		}
	case *guildhallv1.Event_Signal:
		return Signal{
			From: guildhall.PlayerID(e.Signal.GetFrom()), Topic: e.Signal.GetTopic(),
			Body: body(e.Signal.GetBody(), e.Signal.GetText()), ContentType: e.Signal.GetContentType(),
		}
	}
	return nil
}

// messageOf gives a message as the caller sees it.
func messageOf(m *guildhallv1.Message) Message {
	out := Message{
		Seq: guildhall.Seq(m.GetSeq()), From: guildhall.PlayerID(m.GetFrom()), ID: m.GetId(), Body: body(m.GetBody(), m.GetText()),
		ContentType: m.GetContentType(), SaidAt: m.GetSaidAt().AsTime(),
	}
	for _, player := range m.GetTo() {
		out.To = append(out.To, guildhall.PlayerID(player))
	}
	return out
}

// body gives a body that came as one or as text.
func body(body []byte, text string) []byte {
	if text != "" && len(body) == 0 {
		return []byte(text)
	}
	return body
}

// The numbers of the fields that decodeEvents knows, in the messages of room.proto.
const (
	responseEvents = 2 // JoinResponse.events
	eventsEvents   = 1 // Events.events
	eventMessage   = 1 // Event.message

	messageSeq    = 1
	messageFrom   = 2
	messageID     = 3
	messageBody   = 4
	messageType   = 5
	messageSaidAt = 6

	timestampSeconds = 1
	timestampNanos   = 2
)

// errUnusual says that a frame is not of the kind that decodeEvents reads.
var errUnusual = errors.New("not a frame of messages that everybody sees")

// decodeEvents reads a frame of nothing but messages for everybody, with their fields in order.
func decodeEvents(encoded []byte) ([]Event, error) {
	list, rest := nested(encoded, responseEvents)
	if list == nil || len(rest) > 0 {
		return nil, errUnusual
	}
	n := 0
	for rest := list; len(rest) > 0; n++ {
		var event []byte
		if event, rest = nested(rest, eventsEvents); event == nil {
			return nil, errUnusual
		}
	}
	events := make([]Event, 0, n)
	for len(list) > 0 {
		var event []byte
		event, list = nested(list, eventsEvents)
		said, rest := nested(event, eventMessage)
		if said == nil || len(rest) > 0 {
			return nil, errUnusual
		}
		m, err := decodeMessage(said)
		if err != nil {
			return nil, err
		}
		events = append(events, m)
	}
	return events, nil
}

// nested takes a field of a number, whose value is a message or a string, from the front; the value is nil if there is none.
func nested(encoded []byte, number protowire.Number) (value, rest []byte) {
	found, kind, n := protowire.ConsumeTag(encoded)
	if n < 0 || found != number || kind != protowire.BytesType {
		return nil, encoded
	}
	value, length := protowire.ConsumeBytes(encoded[n:])
	if length < 0 {
		return nil, encoded
	}
	return value, encoded[n+length:]
}

// number takes a field of a number, whose value is an integer, from the front; 0 if there is none.
func number(encoded []byte, number protowire.Number) (value uint64, rest []byte) {
	found, kind, n := protowire.ConsumeTag(encoded)
	if n < 0 || found != number || kind != protowire.VarintType {
		return 0, encoded
	}
	value, length := protowire.ConsumeVarint(encoded[n:])
	if length < 0 {
		return 0, encoded
	}
	return value, encoded[n+length:]
}

// decodeMessage reads a message that everybody sees.
func decodeMessage(rest []byte) (Message, error) {
	var out Message
	var seq uint64
	seq, rest = number(rest, messageSeq)
	from, rest := nested(rest, messageFrom)
	id, rest := nested(rest, messageID)
	said, rest := nested(rest, messageBody)
	contentType, rest := nested(rest, messageType)
	saidAt, rest := nested(rest, messageSaidAt)
	if len(rest) > 0 || !utf8.Valid(from) || !utf8.Valid(id) || !utf8.Valid(contentType) {
		return out, errUnusual
	}
	var err error
	if out.SaidAt, err = decodeTime(saidAt); err != nil {
		return out, err
	}
	out.Seq = guildhall.Seq(seq)
	var names strings.Builder // one piece of memory for both
	names.Grow(len(from) + len(id))
	names.Write(from)
	names.Write(id)
	out.From, out.ID = guildhall.PlayerID(names.String()[:len(from)]), names.String()[len(from):]
	out.ContentType = string(contentType)
	if len(said) > 0 {
		out.Body = slices.Clone(said)
	}
	return out, nil
}

// decodeTime reads a google.protobuf.Timestamp.
func decodeTime(rest []byte) (time.Time, error) {
	seconds, rest := number(rest, timestampSeconds)
	nanos, rest := number(rest, timestampNanos)
	if len(rest) > 0 {
		return time.Time{}, errUnusual
	}
	return time.Unix(int64(seconds), int64(int32(nanos))).UTC(), nil
}
