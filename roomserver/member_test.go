package roomserver

import (
	"errors"
	"fmt"
	"io"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/guildhall-dev/guildhall"
	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
	"github.com/guildhall-dev/guildhall/internal/registry"
)

// member is a player's end of one session. It belongs to one goroutine, and keeps what it has read.
type member struct {
	t      testing.TB
	player guildhall.PlayerID
	link   link
	json   bool

	welcome  *guildhallv1.Welcome
	messages []*guildhallv1.Message
	members  []*guildhallv1.Member
	signals  []*guildhallv1.Signal
	acks     map[string]guildhall.Seq
	refusals []*guildhallv1.Refused
	pages    []*guildhallv1.History
	pongs    int
	closed   *guildhallv1.Closed
}

// call opens a stream to a host and says nothing.
func (h *running) call(player guildhall.PlayerID) *member {
	h.b.t.Helper()
	if h.b.wire == overGRPC {
		return h.b.callOver(h.conn, player)
	}
	return h.b.member(player, h.b.dialWebSocket(h.address, h.b.wire == overJSON), h.b.wire == overJSON)
}

// callOver opens a stream over a connection of gRPC.
func (b *bundle) callOver(conn *grpc.ClientConn, player guildhall.PlayerID) *member {
	b.t.Helper()
	return b.member(player, b.openGRPC(conn), false)
}

func (b *bundle) member(player guildhall.PlayerID, link link, json bool) *member {
	b.t.Cleanup(link.cut)
	return &member{t: b.t, player: player, link: link, json: json, acks: map[string]guildhall.Seq{}}
}

// show shows a pass and reads the answer, which may be a refusal.
func (h *running) show(signed string, after *uint64) *member {
	h.b.t.Helper()
	return h.greet(&guildhallv1.Hello{Pass: signed, After: after})
}

// greet says hello and reads the answer.
func (h *running) greet(hello *guildhallv1.Hello) *member {
	h.b.t.Helper()
	m := h.call("")
	m.send(&guildhallv1.JoinRequest{Frame: &guildhallv1.JoinRequest_Hello{Hello: hello}})
	if err := m.read(); err != nil {
		h.b.t.Fatalf("reading the answer to a hello: %v", err)
	}
	return m
}

// join seats a player behind a number; nil: from now on.
func (h *running) join(player guildhall.PlayerID, claim registry.Claim, after *uint64) *member {
	h.b.t.Helper()
	m := h.show(h.b.pass(player, claim), after)
	m.player = player
	if m.welcome == nil {
		h.b.t.Fatalf("%s did not get a seat: %v", player, m.closed)
	}
	return m
}

// behind asks for what was said after a number.
func behind(seq uint64) *uint64 { return &seq }

func (m *member) send(frame *guildhallv1.JoinRequest) {
	m.t.Helper()
	encoded, err := encodeRequest(frame, m.json)
	if err != nil {
		m.t.Errorf("%s sends what does not encode: %v", m.player, err)
		return
	}
	if err := m.link.send(encoded); err != nil && !errors.Is(err, io.EOF) { // after EOF, read says why
		m.t.Errorf("%s sends: %v", m.player, err)
	}
}

// encodeRequest encodes a frame as a client does.
func encodeRequest(frame *guildhallv1.JoinRequest, json bool) ([]byte, error) {
	if json {
		return protojson.Marshal(frame)
	}
	return proto.Marshal(frame)
}

// decodeResponse decodes a frame as a client does.
func decodeResponse(encoded []byte, json bool) (*guildhallv1.JoinResponse, error) {
	frame := &guildhallv1.JoinResponse{}
	if json {
		return frame, protojson.Unmarshal(encoded, frame)
	}
	return frame, proto.Unmarshal(encoded, frame)
}

// cut breaks the connection off.
func (m *member) cut() { m.link.cut() }

func (m *member) hello(signed string, after *uint64) {
	m.t.Helper()
	m.send(&guildhallv1.JoinRequest{Frame: &guildhallv1.JoinRequest_Hello{Hello: &guildhallv1.Hello{Pass: signed, After: after}}})
}

func (m *member) say(id, body string) {
	m.t.Helper()
	m.send(&guildhallv1.JoinRequest{Frame: &guildhallv1.JoinRequest_Say{Say: &guildhallv1.Say{Id: id, Body: []byte(body)}}})
}

func (m *member) leave() {
	m.t.Helper()
	m.send(&guildhallv1.JoinRequest{Frame: &guildhallv1.JoinRequest_Leave{Leave: &guildhallv1.Leave{}}})
}

// read reads one frame and keeps it.
func (m *member) read() error {
	encoded, err := m.link.receive()
	if err != nil {
		return err
	}
	frame, err := decodeResponse(encoded, m.json)
	if err != nil {
		return fmt.Errorf("%s got what does not decode: %w", m.player, err)
	}
	if m.closed != nil {
		return fmt.Errorf("%s got %v behind closed, which is always the last", m.player, frame)
	}
	switch f := frame.GetFrame().(type) {
	case *guildhallv1.JoinResponse_Welcome:
		m.welcome = f.Welcome
	case *guildhallv1.JoinResponse_Events:
		return m.keep(f.Events.GetEvents())
	case *guildhallv1.JoinResponse_Ack:
		m.acks[f.Ack.GetId()] = guildhall.Seq(f.Ack.GetSeq())
	case *guildhallv1.JoinResponse_Refused:
		m.refusals = append(m.refusals, f.Refused)
	case *guildhallv1.JoinResponse_History:
		m.pages = append(m.pages, f.History)
	case *guildhallv1.JoinResponse_Pong:
		m.pongs++
	case *guildhallv1.JoinResponse_Closed:
		m.closed = f.Closed
	}
	return nil
}

// keep keeps events. A hole or a repetition in the numbers is an error, whatever the test is about.
func (m *member) keep(events []*guildhallv1.Event) error {
	if len(events) == 0 {
		return fmt.Errorf("%s got a frame without events", m.player)
	}
	for _, event := range events {
		if signalled := event.GetSignal(); signalled != nil {
			m.signals = append(m.signals, signalled)
			continue
		}
		if gone := event.GetMember(); gone != nil {
			m.members = append(m.members, gone)
			continue
		}
		said := event.GetMessage()
		if n := len(m.messages); n > 0 && said.GetSeq() != m.messages[n-1].GetSeq()+1 {
			return fmt.Errorf("%s got number %d behind %d", m.player, said.GetSeq(), m.messages[n-1].GetSeq())
		}
		m.messages = append(m.messages, said)
	}
	return nil
}

// until reads until yes is true.
func (m *member) until(yes func() bool) error {
	for !yes() {
		if err := m.read(); err != nil {
			return fmt.Errorf("%s reads on (closed: %v): %w", m.player, m.closed, err)
		}
	}
	return nil
}

// must is for waits in the test's own goroutine.
func (m *member) must(what string, yes func() bool) {
	m.t.Helper()
	if err := m.until(yes); err != nil {
		m.t.Fatalf("waiting for %s: %v", what, err)
	}
}

// acked waits for an ack and gives its number.
func (m *member) acked(id string) guildhall.Seq {
	m.t.Helper()
	m.must("the ack of "+id, func() bool { return m.acks[id] != 0 })
	return m.acks[id]
}

// seen waits for the message with a number.
func (m *member) seen(seq uint64) {
	m.t.Helper()
	m.must(fmt.Sprint("message ", seq), func() bool { return m.lastSeen() >= seq })
}

func (m *member) lastSeen() uint64 {
	if len(m.messages) == 0 {
		return 0
	}
	return m.messages[len(m.messages)-1].GetSeq()
}

// told waits to be told of a player's presence for the so-manieth time.
func (m *member) told(times int, player guildhall.PlayerID, state guildhallv1.MemberState) {
	m.t.Helper()
	m.must(fmt.Sprint(player, " ", state), func() bool { return m.count(player, state) >= times })
}

func (m *member) count(player guildhall.PlayerID, state guildhallv1.MemberState) (n int) {
	for _, e := range m.members {
		if e.GetPlayer() == string(player) && e.GetState() == state {
			n++
		}
	}
	return n
}

// ends waits until the session is closed, and then until the stream has ended well.
func (m *member) ends() *guildhallv1.Closed {
	m.t.Helper()
	m.must("closed", func() bool { return m.closed != nil })
	if err := m.read(); !errors.Is(err, io.EOF) {
		m.t.Errorf("%s got %v behind closed, want the end of the stream", m.player, err)
	}
	return m.closed
}

// endsWith checks how a session ends.
func (m *member) endsWith(code guildhallv1.CloseCode, reconnect bool) {
	m.t.Helper()
	closed := m.ends()
	if closed.GetCode() != code || closed.GetReconnect() != reconnect {
		m.t.Errorf("%s was closed with %v, want %s and reconnect=%t", m.player, closed, code, reconnect)
	}
	if closed.GetReason() == "" {
		m.t.Errorf("%s was closed with %s and was not told why", m.player, closed.GetCode())
	}
}

// bodies gives what was said, with its numbers.
func (m *member) bodies() []string {
	bodies := make([]string, len(m.messages))
	for i, said := range m.messages {
		bodies[i] = fmt.Sprintf("%d %s: %s", said.GetSeq(), said.GetFrom(), bodyOf(said))
	}
	return bodies
}

// bodyOf gives a message's body, which in JSON may be text.
func bodyOf(m *guildhallv1.Message) string { return string(m.GetBody()) + m.GetText() }

// logEnd reads the last entry of a group's log, past whoever writes it.
func (b *bundle) logEnd(group guildhall.Group) *guildhallv1.LogEntry {
	b.t.Helper()
	stream, err := b.js.Stream(b.ctx, "guildhall_log_0")
	if err != nil {
		b.t.Fatal(err)
	}
	last, err := stream.GetLastMsgForSubject(b.ctx, "guildhall.log.0."+group.Key())
	if err != nil {
		b.t.Fatalf("reading the end of the log of %s: %v", group, err)
	}
	entry := &guildhallv1.LogEntry{}
	if err := proto.Unmarshal(last.Data, entry); err != nil {
		b.t.Fatal(err)
	}
	return entry
}
