package roomserver

import (
	"fmt"
	"slices"
	"testing"

	"github.com/guildhall-dev/guildhall"
	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
)

// sayMany says messages, numbered by their ids from 1, and waits for the acks.
func (m *member) sayMany(from, to int) {
	m.t.Helper()
	for n := from; n <= to; n++ {
		m.say(fmt.Sprint(n), fmt.Sprint("message ", n))
	}
	for n := from; n <= to; n++ {
		m.acked(fmt.Sprint(n))
	}
}

// numbers gives the numbers of what was seen.
func (m *member) numbers() []uint64 {
	var numbers []uint64
	for _, said := range m.messages {
		numbers = append(numbers, said.GetSeq())
	}
	return numbers
}

// Resume: after=N gets exactly N+1 and so on, and then what happens.
func TestResumeFromEachNumber(t *testing.T) { onEachWire(t, testResumeFromEachNumber) }

func testResumeFromEachNumber(t *testing.T, b *bundle) {
	const said = 5
	h := b.host("h1")
	claim := h.openRoom(dragons)
	talker := h.join("talker", claim, nil)
	talker.sayMany(1, said)
	var resumed []*member
	for after := range uint64(said + 1) {
		resumed = append(resumed, h.join("p1", claim, &after))
	}
	fresh := h.join("p2", claim, nil)
	talker.sayMany(said+1, said+1)
	for after, m := range resumed {
		m.seen(said + 1)
		if got := m.numbers(); len(got) != said+1-after || got[0] != uint64(after+1) {
			t.Errorf("behind %d, p1 saw %v", after, got)
		}
		if m.welcome.HistoryTruncated != nil || m.welcome.GetLastSeq() != said {
			t.Errorf("behind %d, p1 was welcomed with %v", after, m.welcome)
		}
	}
	fresh.seen(said + 1)
	if got := fresh.numbers(); !slices.Equal(got, []uint64{said + 1}) {
		t.Errorf("p2 asked for nothing from before and saw %v", got)
	}
}

// A number that the room has not reached yet gets nothing from before, and no lie about truncation.
func TestResumeBehindTheFuture(t *testing.T) {
	b := setup(t)
	h := b.host("h1")
	claim := h.openRoom(dragons)
	m := h.join("p1", claim, behind(1<<63))
	if m.welcome.HistoryTruncated != nil || m.welcome.GetLastSeq() != 0 {
		t.Errorf("the welcome is %v", m.welcome)
	}
	m.sayMany(1, 1)
}

// What retention has dropped is told: up to which number, exactly.
func TestTruncatedHistoryIsTold(t *testing.T) { onEachWire(t, testTruncatedHistoryIsTold) }

func testTruncatedHistoryIsTold(t *testing.T, b *bundle) {
	const keep, said = 10, 25
	b.rules.History = keep
	h1 := b.host("h1")
	claim := h1.openRoom(dragons)
	h1.join("talker", claim, nil).sayMany(1, said)
	check := func(h *running, what string) {
		for _, c := range []struct {
			after     uint64
			truncated uint64 // 0: nothing is gone
		}{{0, said - keep}, {said - keep - 1, said - keep}, {said - keep, 0}, {said - 1, 0}, {said, 0}} {
			m := h.join("p1", claim, &c.after)
			if got := m.welcome.GetHistoryTruncated(); got != c.truncated || (m.welcome.HistoryTruncated != nil) != (c.truncated > 0) {
				t.Errorf("%s, behind %d: told that history is gone up to %d, want %d", what, c.after, got, c.truncated)
			}
			first := max(c.after, c.truncated) + 1
			if first > said {
				continue
			}
			m.seen(said)
			if got := m.numbers(); got[0] != first || len(got) != int(said-first+1) {
				t.Errorf("%s, behind %d: saw %v, want from %d to %d", what, c.after, got, first, said)
			}
			m.cut()
		}
	}
	check(h1, "in the room")
	h2 := b.host("h2")
	claim = h2.openRoom(dragons)
	check(h2, "in the room after it")
}

// What is not shown any more is still recognised when it is said again: a phone in a tunnel comes back with what it
// said before two hundred others spoke.
func TestRetentionForgetsBodiesBeforeIDs(t *testing.T) {
	b := setup(t)
	b.rules.History = 3
	h := b.host("h1")
	claim := h.openRoom(dragons)
	m := h.join("p1", claim, nil)
	m.sayMany(1, 4)
	b.inside(h.room(dragons), func(r *room) {
		if len(r.history) != 3 || len(r.said) != 4 {
			t.Errorf("the room keeps %d messages and %d ids, want 3 and 4", len(r.history), len(r.said))
		}
	})
	delete(m.acks, "2")
	m.say("2", "kept")
	if seq := m.acked("2"); seq != 2 {
		t.Errorf("the oldest that is kept was acked with %d, want 2", seq)
	}
	delete(m.acks, "1")
	m.say("1", "not shown any more")
	if seq := m.acked("1"); seq != 1 {
		t.Errorf("the oldest was acked with %d, want 1", seq)
	}
	b.inside(h.room(dragons), func(r *room) {
		for i := range resendMost {
			r.remember(&guildhallv1.Message{From: "p2", Id: fmt.Sprint("later ", i), Seq: uint64(5 + i)})
		}
		if len(r.said) != resendMost || len(r.oldSaid) != resendMost {
			t.Errorf("the room remembers %d ids in %d places, want %d", len(r.said), len(r.oldSaid), resendMost)
		}
	})
}

// History longer than a page comes whole, and before what happens.
func TestHistoryInManyPages(t *testing.T) { onEachWire(t, testHistoryInManyPages) }

func testHistoryInManyPages(t *testing.T, b *bundle) {
	const said = 3*pageMessages + 1
	h := b.host("h1")
	claim := h.openRoom(dragons)
	talker := h.join("talker", claim, nil)
	talker.sayMany(1, said)
	m := h.join("p1", claim, behind(0))
	talker.sayMany(said+1, said+1)
	m.seen(said + 1)
	if got := m.numbers(); len(got) != said+1 || got[0] != 1 {
		t.Errorf("p1 saw %d messages from number %d", len(got), got[0])
	}
}

// A page, and each of its frames, is bounded in messages and in bytes.
func TestPagesAreBounded(t *testing.T) {
	t.Parallel()
	const large = frameBytes/2 + 1
	for name, c := range map[string]struct {
		body int
		page int   // messages
		in   []int // frames
	}{
		"small": {10, pageMessages, []int{pageMessages}},
		"large": {large, 2, []int{2}},
	} {
		r := unitRoom(t)
		for range pageMessages + 1 {
			r.remembers(&guildhallv1.Message{From: "p1", Body: make([]byte, c.body)})
		}
		r.shown = guildhall.Seq(r.lastSeq.Load())
		page, whole := r.pageAfter(r.atHand() - 1)
		if len(page) != c.page || whole {
			t.Errorf("a page of %s messages has %d of them, whole: %t; want %d and not", name, len(page), whole, c.page)
		}
		var in []int
		for _, f := range inFrames(messageEvents(page, "p1")) {
			in = append(in, len(f.response.GetEvents().GetEvents()))
		}
		if !slices.Equal(in, c.in) {
			t.Errorf("%s messages came in frames of %v, want %v", name, in, c.in)
		}
	}
}

// Nothing acknowledged is lost when a player's connection breaks in the midst of what they say: they resume, say
// again what was not acked, and everything is there once.
func TestBrokenOffAndResumed(t *testing.T) { onEachWire(t, testBrokenOffAndResumed) }

func testBrokenOffAndResumed(t *testing.T, b *bundle) {
	const said = 60
	h := b.host("h1")
	claim := h.openRoom(dragons)
	witness := h.join("witness", claim, nil)
	acked := map[string]bool{}
	after := uint64(0)
	for round := range 6 {
		m := h.join("p1", claim, &after)
		for n := range said {
			if id := fmt.Sprint(n); !acked[id] {
				m.say(id, fmt.Sprint("message ", n))
			}
		}
		want := min(said, 10*(round+1)) - len(acked)
		m.must("some acks", func() bool { return len(m.acks) >= want })
		m.cut()
		for id := range m.acks {
			acked[id] = true
		}
		after = max(after, m.lastSeen())
	}
	if len(acked) != said {
		t.Fatalf("%d messages were acked, want %d", len(acked), said)
	}
	end := h.join("end", claim, nil)
	end.say("end", "that is all")
	last := uint64(end.acked("end"))
	witness.seen(last)
	times := map[string]int{}
	for _, m := range witness.messages {
		times[m.GetId()]++
	}
	if len(times) != said+1 || last != said+1 {
		t.Errorf("the room heard %d messages under %d ids, want %d", last, len(times), said+1)
	}
}
