package roomserver

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"google.golang.org/grpc"

	"github.com/guildhall-dev/guildhall"
	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
	"github.com/guildhall-dev/guildhall/internal/registry"
)

// tail is what a room that opens has at hand of its log, at least.
const tail = 256

// joinLast seats a player behind the last so many messages.
func (h *running) joinLast(player guildhall.PlayerID, claim registry.Claim, last uint32) *member {
	h.b.t.Helper()
	m := h.greet(&guildhallv1.Hello{Pass: h.b.pass(player, claim), Last: last})
	m.player = player
	if m.welcome == nil {
		h.b.t.Fatalf("%s did not get a seat: %v", player, m.closed)
	}
	return m
}

// Who has seen nothing may ask for the last messages: as many as there are and are at hand.
func TestTheLastMessages(t *testing.T) { onEachWire(t, testTheLastMessages) }

func testTheLastMessages(t *testing.T, b *bundle) {
	const said = 20
	b.rules.History = 15
	h := b.host("h1")
	claim := h.openRoom(dragons)
	talker := h.join("talker", claim, nil)
	if m := h.joinLast("p1", claim, 5); m.welcome.GetLastSeq() != 0 || m.welcome.HistoryTruncated != nil {
		t.Errorf("in a new room, p1 was welcomed with %v", m.welcome)
	}
	talker.sayMany(1, said)
	talker.seen(said)
	var members []*member
	for _, last := range []uint32{0, 1, 5, 15, 16, 1 << 31} {
		m := h.joinLast("p2", claim, last)
		if m.welcome.HistoryTruncated != nil {
			t.Errorf("who asked for the last %d was told that history is truncated: nothing that they asked for is gone", last)
		}
		members = append(members, m)
	}
	talker.sayMany(said+1, said+1)
	for i, want := range []int{1, 2, 6, 16, 16, 16} {
		members[i].seen(said + 1)
		if got := members[i].numbers(); len(got) != want {
			t.Errorf("place %d: saw %v, want %d messages", i, got, want)
		}
	}
}

// If both are set, the number counts.
func TestAfterCountsBeforeLast(t *testing.T) {
	b := setup(t)
	h := b.host("h1")
	claim := h.openRoom(dragons)
	talker := h.join("talker", claim, nil)
	talker.sayMany(1, 10)
	m := h.greet(&guildhallv1.Hello{Pass: b.pass("p1", claim), After: behind(8), Last: 5})
	talker.sayMany(11, 11)
	m.seen(11)
	if got := m.numbers(); !slices.Equal(got, []uint64{9, 10, 11}) {
		t.Errorf("behind 8, or the last 5, p1 saw %v", got)
	}
}

// A room that opened elsewhere has only the end of a long log at hand. Who has missed more gets it from the log, while others
// talk as fast as they can: exactly once, in order, without a gap.
func TestCatchingUpWhileOthersTalk(t *testing.T) { onEachWire(t, testCatchingUpWhileOthersTalk) }

func testCatchingUpWhileOthersTalk(t *testing.T, b *bundle) {
	const before, during, talkers, late = 900, 300, 3, 6
	b.limits, b.rules.History = unlimited, guildhall.MaxHistory
	h1 := b.host("h1")
	first := h1.join("p000", h1.openRoom(dragons), nil)
	first.sayMany(1, before)
	h1.stop()
	h2 := b.host("h2")
	claim := h2.openRoom(dragons)
	b.inside(h2.room(dragons), func(r *room) {
		if n := len(r.history); n >= before {
			t.Errorf("the room has %d messages at hand: this is about one that has not", n)
		}
	})
	var all sync.WaitGroup
	talking := func(m *member) {
		for n := range during {
			m.say(fmt.Sprint("during ", n), "as fast as I can")
		}
	}
	const total = before + talkers*during
	var speakers, comers []*member
	for n := range talkers {
		speakers = append(speakers, h2.join(guildhall.PlayerID(fmt.Sprint("talker", n)), claim, nil))
	}
	for n := range late {
		comers = append(comers, h2.callNarrow(fmt.Sprint("late", n)))
	}
	for _, m := range speakers {
		all.Go(func() { talking(m) })
		all.Go(func() {
			if err := m.until(func() bool { return len(m.acks) == during && m.lastSeen() == total }); err != nil {
				t.Error(err)
			}
		})
	}
	for n, m := range comers {
		after := uint64(n * 10)
		m.hello(b.pass(m.player, claim), &after)
		all.Go(func() {
			if err := m.until(func() bool { return m.lastSeen() == total }); err != nil {
				t.Error(err)
				return
			}
			if got := m.numbers(); got[0] != after+1 || uint64(len(got)) != total-after || m.welcome.HistoryTruncated != nil {
				t.Errorf("behind %d, %s saw %d messages from %d, want all to %d", after, m.player, len(got), got[0], total)
			}
		})
	}
	all.Wait()
}

// callNarrow opens a stream through which little goes at once; it belongs to who reads.
func (h *running) callNarrow(player string) *member {
	h.b.t.Helper()
	if h.b.wire != overGRPC {
		return h.callSlow(guildhall.PlayerID(player))
	}
	return h.b.callOver(dial(h.b.t, h.address, grpc.WithStaticStreamWindowSize(64<<10), grpc.WithStaticConnWindowSize(64<<10)), guildhall.PlayerID(player))
}

// What a player said long before the end of the log is recognised when they say it again behind their welcome.
func TestAResendThatIsOlderThanWhatIsAtHand(t *testing.T) {
	onEachWire(t, testAResendThatIsOlderThanWhatIsAtHand)
}

func testAResendThatIsOlderThanWhatIsAtHand(t *testing.T, b *bundle) {
	b.limits = unlimited
	h1 := b.host("h1")
	claim := h1.openRoom(dragons)
	m, other := h1.join("p1", claim, nil), h1.join("p2", claim, nil)
	m.sayMany(1, 3) // and the acks are lost on their way
	other.sayMany(4, 3*tail)
	h1.stop()
	h2 := b.host("h2")
	claim = h2.openRoom(dragons)
	b.inside(h2.room(dragons), func(r *room) {
		if _, known := r.said[sayKey{"p1", "1"}]; known {
			t.Error("the room has all at hand: this is about one that has not")
		}
	})
	again := h2.join("p1", claim, behind(0))
	for n := 1; n <= 3; n++ {
		again.say(fmt.Sprint(n), fmt.Sprint("message ", n))
		if seq := again.acked(fmt.Sprint(n)); seq != guildhall.Seq(n) {
			t.Errorf("the resend of %d was acked with %d: it was said again", n, seq)
		}
	}
	again.say("next", "and on")
	if seq := again.acked("next"); seq != 3*tail+1 {
		t.Errorf("the next message got number %d, want %d", seq, 3*tail+1)
	}
}

// What the log does not retain any more is told by the welcome, also when the room has only the end at hand.
func TestTruncatedByTheLog(t *testing.T) {
	const keep, said = 600, 700
	b := setup(t)
	b.limits, b.rules.History = unlimited, keep
	h1 := b.host("h1")
	h1.join("p1", h1.openRoom(dragons), nil).sayMany(1, said)
	h1.stop()
	h2 := b.host("h2")
	claim := h2.openRoom(dragons)
	for after, first := range map[uint64]uint64{0: said - keep + 1, 99: said - keep + 1, 100: 101, 101: 102, 699: 700} {
		m := h2.join("p2", claim, &after)
		m.seen(said)
		got := m.numbers()
		if got[0] != first || len(got) != int(said-first+1) {
			t.Errorf("behind %d, p2 saw %d messages from %d, want from %d", after, len(got), got[0], first)
		}
		if told := m.welcome.GetHistoryTruncated(); told != first-1 && told != 0 || (told != 0) != (first > after+1) {
			t.Errorf("behind %d, p2 was told that history is gone up to %d", after, told)
		}
	}
}

// What the log has and the room has not shown yet is not a page's: the next round tells it, and once is enough.
func TestAPageHasNothingThatWasNotShown(t *testing.T) {
	t.Parallel()
	r := unitRoom(t)
	r.rules.History = 10
	for n := 1; n <= 10; n++ {
		r.remembers(message("p1", n))
	}
	r.shown = 10
	for n := 11; n <= 30; n++ { // in the log, and a round rests
		r.hears(message("p1", n))
	}
	s := newSession(newInjected(t))
	s.player = "p2"
	r.seat(s)
	next := &follow{session: s, after: 5, answer: make(chan missed, 1)}
	next.apply(r)
	if got := <-next.answer; got.live || got.older && got.upTo > r.shown {
		t.Errorf("behind 5, with 10 shown and 21 to 30 at hand, it goes on with %+v: what is behind 10 would come twice", got)
	}
}
