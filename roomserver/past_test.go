package roomserver

import (
	"fmt"
	"strings"
	"testing"

	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
)

// Pages backwards from the end to the beginning are all that was said, each once.
func TestReadingThePast(t *testing.T) { onEachWire(t, testReadingThePast) }

func testReadingThePast(t *testing.T, b *bundle) {
	const said = 523
	h := b.host("h1")
	claim := h.openRoom(dragons)
	m := h.join("p1", claim, nil)
	if page := m.readHistory(0, 10); len(page.GetMessages()) != 0 || page.GetMore() {
		t.Errorf("the past of a new group is %v", page)
	}
	m.sayMany(1, said)
	m.seen(said)
	for _, c := range []struct{ limit, page uint32 }{{0, historyUsual}, {1 << 31, historyMost}, {historyMost, historyMost}, {7, 7}} {
		before, next := uint64(0), uint64(said)
		for {
			page := m.readHistory(before, c.limit)
			messages := page.GetMessages()
			if page.GetBefore() != before || len(messages) != min(int(c.page), int(next)) {
				t.Fatalf("limit %d: before %d, a page before %d of %d messages came", c.limit, before, page.GetBefore(), len(messages))
			}
			for i, message := range messages {
				if want := next - uint64(len(messages)-1-i); message.GetSeq() != want || bodyOf(message) != fmt.Sprint("message ", want) {
					t.Fatalf("limit %d: before %d, place %d has %v, want number %d", c.limit, before, i, message, want)
				}
			}
			next -= uint64(len(messages))
			if page.GetMore() != (next > 0) {
				t.Fatalf("limit %d: before %d, there is more: %t, and %d are older", c.limit, before, page.GetMore(), next)
			}
			if next == 0 {
				break
			}
			before = next + 1
		}
	}
	if page := m.readHistory(1, 10); len(page.GetMessages()) != 0 || page.GetMore() {
		t.Errorf("before the first message there is %v", page)
	}
	if page := m.readHistory(said+1000, 1); len(page.GetMessages()) != 1 || page.GetMessages()[0].GetSeq() != said {
		t.Errorf("before a number of the future there is %v, want the last", page)
	}
}

// What the kind does not keep is not shown, though the log may still have it.
func TestThePastEndsWhereTheKindSays(t *testing.T) {
	const keep, said = 10, 25
	b := setup(t)
	b.rules.History = keep
	h := b.host("h1")
	m := h.join("p1", h.openRoom(dragons), nil)
	for n := range said { // an entry of the log for each, and so a history that is longer than the kind's
		m.sayMany(n+1, n+1)
	}
	for _, c := range []struct {
		before uint64
		limit  uint32
		first  uint64
		n      int
		more   bool
	}{{0, 100, 16, 10, false}, {0, 10, 16, 10, false}, {0, 9, 17, 9, true}, {18, 100, 16, 2, false}, {17, 1, 16, 1, false}, {16, 5, 0, 0, false}, {3, 5, 0, 0, false}} {
		page := m.readHistory(c.before, c.limit)
		first := uint64(0)
		if len(page.GetMessages()) > 0 {
			first = page.GetMessages()[0].GetSeq()
		}
		if len(page.GetMessages()) != c.n || first != c.first || page.GetMore() != c.more {
			t.Errorf("before %d, limit %d: %d messages from %d, more: %t; want %d from %d, %t",
				c.before, c.limit, len(page.GetMessages()), first, page.GetMore(), c.n, c.first, c.more)
		}
	}
}

// A page of the largest messages comes, or as much of it as may; it is no reason to drop who asked for it.
func TestAPageOfLargeMessages(t *testing.T) { onEachWire(t, testAPageOfLargeMessages) }

func testAPageOfLargeMessages(t *testing.T, b *bundle) {
	const said = historyMost
	b.limits = unlimited
	h := b.host("h1")
	claim := h.openRoom(dragons)
	m := h.join("p1", claim, nil)
	body := strings.Repeat("x", b.bodyBytes)
	for n := range said {
		m.say(fmt.Sprint(n), body)
		m.acked(fmt.Sprint(n))
	}
	before, got := uint64(0), 0
	for more := true; more; {
		page := m.readHistory(before, historyMost)
		if len(page.GetMessages()) == 0 {
			t.Fatalf("before %d, nothing came, and there is more", before)
		}
		more, before = page.GetMore(), page.GetMessages()[0].GetSeq()
		got += len(page.GetMessages())
	}
	if got != said {
		t.Errorf("%d messages came, want %d", got, said)
	}
}

// Who asks for the past again and again is answered in order, and the present goes on.
func TestAskingForThePastAgainAndAgain(t *testing.T) {
	const asked = 20
	b := setup(t)
	h := b.host("h1")
	m := h.join("p1", h.openRoom(dragons), nil)
	m.sayMany(1, asked)
	for n := range asked {
		m.send(&guildhallv1.JoinRequest{Frame: &guildhallv1.JoinRequest_ReadHistory{ReadHistory: &guildhallv1.ReadHistory{Before: uint64(n + 2), Limit: 1}}})
	}
	m.say("now", "meanwhile")
	m.send(&guildhallv1.JoinRequest{Frame: &guildhallv1.JoinRequest_Ping{Ping: &guildhallv1.Ping{}}})
	m.must("all", func() bool { return len(m.pages) == asked && m.pongs == 1 && m.acks["now"] != 0 })
	for n, page := range m.pages {
		if len(page.GetMessages()) != 1 || page.GetMessages()[0].GetSeq() != uint64(n+1) {
			t.Errorf("answer %d is %v", n, page)
		}
	}
}
