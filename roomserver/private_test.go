package roomserver

import (
	"fmt"
	"testing"

	"github.com/guildhall-dev/guildhall"
	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
)

func (m *member) whisper(id, text string, to ...string) {
	m.t.Helper()
	m.send(&guildhallv1.JoinRequest{Frame: &guildhallv1.JoinRequest_Say{Say: &guildhallv1.Say{Id: id, Text: text, To: to}}})
}

// readHistory asks for a page of the past and waits for it.
func (m *member) readHistory(before uint64, limit uint32) *guildhallv1.History {
	m.t.Helper()
	pages := len(m.pages)
	m.send(&guildhallv1.JoinRequest{Frame: &guildhallv1.JoinRequest_ReadHistory{ReadHistory: &guildhallv1.ReadHistory{Before: before, Limit: limit}}})
	m.must("a page of the past", func() bool { return len(m.pages) > pages })
	return m.pages[pages]
}

// checkSecrets checks that a player sees, of a conversation in which every third message is p1's to p2, what they may see, and
// of the rest the number alone.
func checkSecrets(t *testing.T, what string, player guildhall.PlayerID, messages []*guildhallv1.Message, from, to int) {
	t.Helper()
	if len(messages) != to-from+1 {
		t.Errorf("%s: %s has %d messages, want %d to %d", what, player, len(messages), from, to)
		return
	}
	for i, m := range messages {
		n := from + i
		secret := n%3 == 0
		may := !secret || player == "p1" || player == "p2"
		switch {
		case m.GetSeq() != uint64(n):
			t.Errorf("%s: %s has number %d in place %d", what, player, m.GetSeq(), n)
		case may && (m.GetHidden() || bodyOf(m) != fmt.Sprint("message ", n) || m.GetFrom() != "p1" || (len(m.GetTo()) > 0) != secret):
			t.Errorf("%s: %s sees number %d as %v", what, player, n, m)
		case !may && (!m.GetHidden() || m.GetFrom()+m.GetId()+bodyOf(m)+m.GetContentType() != "" || m.GetSaidAt() != nil || len(m.GetTo()) > 0):
			t.Errorf("%s: %s, for whom it is not, sees number %d as %v", what, player, n, m)
		}
	}
}

// What is said to some is seen by those and by all sessions of who said it; the others see that there is something with a
// number: at once, when they resume, from the log, and in the past.
func TestDirectMessages(t *testing.T) { onEachWire(t, testDirectMessages) }

func testDirectMessages(t *testing.T, b *bundle) {
	const said = 400 // more than a room that opens has at hand
	b.limits = unlimited
	h := b.host("h1")
	claim := h.openRoom(dragons)
	talker := h.join("p1", claim, nil)
	live := []*member{talker, h.join("p1", claim, nil), h.join("p2", claim, nil), h.join("p3", claim, nil)}
	for n := 1; n <= said; n++ {
		if text := fmt.Sprint("message ", n); n%3 == 0 {
			talker.whisper(fmt.Sprint(n), text, "p2", "absent")
		} else {
			talker.whisper(fmt.Sprint(n), text)
		}
		talker.acked(fmt.Sprint(n))
	}
	for i, m := range live {
		m.seen(said)
		checkSecrets(t, fmt.Sprint("live ", i), m.player, m.messages, 1, said)
	}
	check := func(what string, h *running) {
		for _, player := range []guildhall.PlayerID{"p1", "p2", "p3"} {
			for _, after := range []uint64{0, said - 7} {
				m := h.join(player, claim, &after)
				m.seen(said)
				checkSecrets(t, fmt.Sprintf("%s behind %d", what, after), player, m.messages, int(after)+1, said)
				page := m.readHistory(51, 50)
				checkSecrets(t, what+" in the past", player, page.GetMessages(), 1, 50)
				m.leave()
				m.ends()
			}
		}
	}
	check("in the room", h)
	h2 := b.host("h2")
	claim = h2.openRoom(dragons)
	check("from the log", h2)
}

// More recipients than may be are refused, and so is a message of two bodies.
func TestDirectMessagesThatAreRefused(t *testing.T) { onEachWire(t, testDirectMessagesThatAreRefused) }

func testDirectMessagesThatAreRefused(t *testing.T, b *bundle) {
	h := b.host("h1")
	m := h.join("p1", h.openRoom(dragons), nil)
	to := make([]string, maxRecipients+1)
	for i := range to {
		to[i] = fmt.Sprint("p", i)
	}
	m.whisper("many", "hi", to...)
	m.send(&guildhallv1.JoinRequest{Frame: &guildhallv1.JoinRequest_Say{Say: &guildhallv1.Say{Id: "both", Text: "a", Body: []byte("b")}}})
	m.must("two refusals", func() bool { return len(m.refusals) == 2 })
	for i, id := range []string{"many", "both"} {
		if got := m.refusals[i]; got.GetId() != id || got.GetCode() != guildhallv1.RefuseCode_REFUSE_CODE_MALFORMED {
			t.Errorf("%s was refused with %v", id, got)
		}
	}
	m.whisper("most", "hi", to[:maxRecipients]...)
	if seq := m.acked("most"); seq != 1 {
		t.Errorf("to as many as may be got number %d", seq)
	}
}
