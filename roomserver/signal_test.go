package roomserver

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/guildhall-dev/guildhall"
	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
)

func (m *member) signal(signal *guildhallv1.Signal) {
	m.t.Helper()
	m.send(&guildhallv1.JoinRequest{Frame: &guildhallv1.JoinRequest_Signal{Signal: signal}})
}

// signaled waits for so many signals and tells them, each as from, topic and body.
func (m *member) signaled(n int) []string {
	m.t.Helper()
	m.must(fmt.Sprint(n, " signals"), func() bool { return len(m.signals) >= n })
	var told []string
	for _, s := range m.signals {
		told = append(told, fmt.Sprintf("%s %s %s", s.GetFrom(), s.GetTopic(), string(s.GetBody())+s.GetText()))
	}
	return told
}

// heardOut has all members hear two messages of the first. Behind the second nothing older can come: in one round, messages are
// told before signals.
func heardOut(members ...*member) {
	members[0].t.Helper()
	for _, id := range []string{"behind all that", "and once more"} {
		members[0].say(id, id)
		seq := members[0].acked(id)
		for _, m := range members {
			m.seen(uint64(seq))
		}
	}
}

// A signal goes to everybody but the session that sent it: also to the player's other session.
func TestASignalGoesToTheOthers(t *testing.T) { onEachWire(t, testASignalGoesToTheOthers) }

func testASignalGoesToTheOthers(t *testing.T, b *bundle) {
	h := b.host("h1")
	claim := h.openRoom(dragons)
	phone, laptop, other := h.join("p1", claim, nil), h.join("p1", claim, nil), h.join("p2", claim, nil)
	phone.signal(&guildhallv1.Signal{Topic: "typing", Body: []byte("..."), From: "p2"}) // the room knows better
	for _, m := range []*member{laptop, other} {
		if got := m.signaled(1); got[0] != "p1 typing ..." {
			t.Errorf("%s was told %q", m.player, got)
		}
	}
	heardOut(phone, laptop, other)
	if len(phone.signals) != 0 || len(other.signals) != 1 {
		t.Errorf("the session that sent it was told %v, another %v", phone.signals, other.signals)
	}
}

// Only the recipients of a signal are told of it.
func TestASignalToSomebody(t *testing.T) { onEachWire(t, testASignalToSomebody) }

func testASignalToSomebody(t *testing.T, b *bundle) {
	h := b.host("h1")
	claim := h.openRoom(dragons)
	p1, p2, p3 := h.join("p1", claim, nil), h.join("p2", claim, nil), h.join("p3", claim, nil)
	p1.signal(&guildhallv1.Signal{Topic: "wave", Text: "hi", To: []string{"p2", "nobody"}})
	if got := p2.signaled(1); got[0] != "p1 wave hi" {
		t.Errorf("p2 was told %q", got)
	}
	heardOut(p1, p2, p3)
	if len(p3.signals)+len(p1.signals) != 0 {
		t.Errorf("p3 was told %v and p1 %v of what was for p2", p3.signals, p1.signals)
	}
}

// Within a round only the latest of a player about a topic, to the same recipients, is told.
func TestTheLatestSignalWins(t *testing.T) {
	t.Parallel()
	r := unitRoom(t)
	r.nextRound = time.Now().Add(never)
	streams := []*injected{newInjected(t), newInjected(t)}
	p1, p2 := r.takesSeat("p1", streams[0]), r.takesSeat("p2", streams[1])
	for n := range 10 {
		for _, s := range []*session{p1, p2} {
			(&signal{session: s, signal: &guildhallv1.Signal{Topic: "at", Text: fmt.Sprint(n)}}).apply(r)
			(&signal{session: s, signal: &guildhallv1.Signal{Topic: "at", Text: fmt.Sprint(n), To: []string{"p2"}}}).apply(r)
			(&signal{session: s, signal: &guildhallv1.Signal{Topic: "mood", Text: fmt.Sprint(n)}}).apply(r)
		}
	}
	r.round()
	for i, want := range []string{"p2 at 9 [], p2 mood 9 []", "p1 at 9 [], p1 at 9 [p2], p1 mood 9 [], p2 at 9 [p2]"} {
		var got []string
		for _, event := range streams[i].events() {
			if s := event.GetSignal(); s != nil {
				got = append(got, fmt.Sprintf("%s %s %s %v", s.GetFrom(), s.GetTopic(), s.GetBody(), s.GetTo()))
			}
		}
		if strings.Join(got, ", ") != want {
			t.Errorf("member %d was told %q, want %q", i+1, got, want)
		}
	}
}

// What cannot be a signal is dropped without a word, and so is one too many.
func TestSignalsThatAreDropped(t *testing.T) { onEachWire(t, testSignalsThatAreDropped) }

func testSignalsThatAreDropped(t *testing.T, b *bundle) {
	b.limits = Limits{Messages: 1, MessagesBurst: 5}
	h := b.host("h1")
	claim := h.openRoom(dragons)
	m, other := h.join("p1", claim, nil), h.join("p2", claim, nil)
	recipients := make([]string, maxRecipients+1)
	for i := range recipients {
		recipients[i] = "p2"
	}
	for _, bad := range []*guildhallv1.Signal{
		{Topic: strings.Repeat("t", maxTopicBytes+1)},
		{Topic: "body", Body: make([]byte, b.bodyBytes+1)},
		{Topic: "text", Text: strings.Repeat("x", b.bodyBytes+1)},
		{Topic: "both", Text: strings.Repeat("x", b.bodyBytes), Body: []byte("x")},
		{Topic: "type", ContentType: strings.Repeat("t", maxContentTypeBytes+1)},
		{Topic: "many", To: recipients},
	} {
		m.signal(bad)
	}
	start := time.Now()
	for n := range 20 { // more than may be sent at once
		m.signal(&guildhallv1.Signal{Topic: fmt.Sprint(n)})
	}
	heardOut(m, other)
	if n, took := len(other.signals), time.Since(start); n < 5 || n > 6+int(took.Seconds()) {
		t.Errorf("%d signals were told in %s, want the burst of 5 and one a second", n, took)
	}
	for _, s := range other.signals {
		if len(s.GetTopic()) > 2 {
			t.Errorf("%.20s was told", s.GetTopic())
		}
	}
	if m.closed != nil || len(m.refusals) != 0 {
		t.Errorf("who sent them was told %v, %v", m.closed, m.refusals)
	}
}

// A host whose lease may have run out passes no signals on: the room may be elsewhere.
func TestNoSignalsWithoutALease(t *testing.T) {
	b := setup(t)
	h := b.hostOver("h1", b.registry, b.log) // without a lease
	claim := h.openRoom(dragons)
	m, other := h.join("p1", claim, nil), h.join("p2", claim, nil)
	m.signal(&guildhallv1.Signal{Topic: "early"})
	m.say("", "refused behind it") // once this is refused, the signal has been applied
	m.must("the refusal", func() bool { return len(m.refusals) == 1 })
	h.extend(time.Now())
	m.signal(&guildhallv1.Signal{Topic: "late"})
	if got := other.signaled(1); got[0] != "p1 late " {
		t.Errorf("the other was told %q, want what came with the lease", got)
	}
}

// Who is behind misses signals, and nothing else.
func TestWhoIsBehindMissesSignals(t *testing.T) {
	t.Parallel()
	r := unitRoom(t)
	streams := []*injected{newInjected(t), newInjected(t), newInjected(t)}
	var sessions []*session
	for i, stream := range streams {
		sessions = append(sessions, r.takesSeat(players(len(streams))[i], stream))
	}
	streams[1].behind = true
	for n := 1; n <= 3; n++ {
		(&signal{session: sessions[0], signal: &guildhallv1.Signal{Topic: "at"}}).apply(r)
		r.hears(message("p000", n))
		r.takesSeat(guildhall.PlayerID(fmt.Sprint("late", n)), newInjected(t))
		r.round()
	}
	for i, want := range [][3]int{{3, 5, 0}, {3, 4, 0}, {3, 3, 3}} { // messages, members, signals
		if got := count(streams[i].events()); i == 1 && got[2] != 0 || i == 2 && got[2] != want[2] || got[0] != want[0] {
			t.Errorf("member %d was told %v messages, members and signals", i, got)
		}
	}
	if a, b := count(streams[1].events()), count(streams[2].events()); a[1] < 3 || b[1] < 3 {
		t.Errorf("who is behind was told of %d comings, another of %d; want at least the 3 latest", a[1], b[1])
	}
}

// count counts messages, members and signals.
func count(events []*guildhallv1.Event) (n [3]int) {
	for _, event := range events {
		switch event.GetEvent().(type) {
		case *guildhallv1.Event_Message:
			n[0]++
		case *guildhallv1.Event_Member:
			n[1]++
		case *guildhallv1.Event_Signal:
			n[2]++
		}
	}
	return n
}
