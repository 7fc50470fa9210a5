package roomserver

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
)

// says has a session say something, and gives the refusal; nil if it was taken.
func (r *room) says(s *session, id string, size int) *guildhallv1.Refused {
	before := len(r.pending)
	(&say{session: s, said: &guildhallv1.Say{Id: id, Body: make([]byte, size)}}).apply(r)
	if len(r.pending) > before || len(s.own) == 0 {
		return nil
	}
	frame, err := decodeResponse(s.own[len(s.own)-1], s.json)
	if err != nil {
		panic(err)
	}
	return frame.GetRefused()
}

// A burst is taken, what is more is refused with when to try again; and then it is taken.
func TestABurstAndThenARate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := unitRoom(t)
		r.host.limits = Limits{Messages: 10, MessagesBurst: 20, Bytes: 1 << 20, BytesBurst: 1 << 20}
		s := r.takesSeat("p1", newInjected(t))
		for n := range 20 {
			if refused := r.says(s, fmt.Sprint(n), 1); refused != nil {
				t.Fatalf("message %d of a burst of 20 was refused: %v", n, refused)
			}
		}
		for range 5 { // who is refused does not have to wait longer for it
			refused := r.says(s, "more", 1)
			if refused.GetCode() != guildhallv1.RefuseCode_REFUSE_CODE_RATE_LIMITED || refused.GetReason() == "" || refused.GetId() != "more" {
				t.Fatalf("the message behind the burst was refused with %v", refused)
			}
			if wait := refused.GetRetryAfterMs(); wait < 100 || wait > 102 {
				t.Fatalf("it is to come again after %d ms, want 100", wait)
			}
		}
		<-time.After(90 * time.Millisecond)
		if refused := r.says(s, "more", 1); refused.GetRetryAfterMs() < 10 || refused.GetRetryAfterMs() > 12 {
			t.Fatalf("a little too early it is refused with %v, want 10 ms more", refused)
		}
		<-time.After(time.Duration(r.says(s, "more", 1).GetRetryAfterMs()) * time.Millisecond)
		if refused := r.says(s, "more", 1); refused != nil {
			t.Fatalf("after the time that it was told, it was refused: %v", refused)
		}
	})
}

func TestBytesAreLimited(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := unitRoom(t)
		r.host.limits = Limits{Messages: 1000, MessagesBurst: 1000, Bytes: 1000, BytesBurst: 4096}
		s := r.takesSeat("p1", newInjected(t))
		if refused := r.says(s, "1", 4096); refused != nil {
			t.Fatalf("the largest message was refused: %v", refused)
		}
		refused := r.says(s, "2", 500)
		if wait := refused.GetRetryAfterMs(); refused.GetCode() != guildhallv1.RefuseCode_REFUSE_CODE_RATE_LIMITED || wait < 500 || wait > 502 {
			t.Fatalf("500 bytes more were refused with %v, want 500 ms", refused)
		}
		if refused := r.says(s, "3", 0); refused != nil {
			t.Errorf("a message without a body was refused for its bytes: %v", refused)
		}
		<-time.After(502 * time.Millisecond)
		if refused := r.says(s, "2", 500); refused != nil {
			t.Errorf("after its time it was refused: %v", refused)
		}
	})
}

// The limits are a player's, not a session's.
func TestLimitsAreSharedBySessions(t *testing.T) {
	t.Parallel()
	r := unitRoom(t)
	r.host.limits = Limits{Messages: 1, MessagesBurst: 10, Bytes: 1 << 20, BytesBurst: 1 << 20}
	var sessions []*session
	for range 4 {
		sessions = append(sessions, r.takesSeat("p1", newInjected(t)))
	}
	other := r.takesSeat("p2", newInjected(t))
	taken := 0
	for n := range 40 {
		if r.says(sessions[n%4], fmt.Sprint(n), 1) == nil {
			taken++
		}
	}
	if taken != 10 {
		t.Errorf("of four sessions of a player %d messages were taken, want the 10 of one", taken)
	}
	if refused := r.says(other, "1", 1); refused != nil {
		t.Errorf("another player was refused: %v", refused)
	}
}

// Whoever says again what is in the log is acked, whatever else they have said.
func TestResendsAreNotLimited(t *testing.T) { onEachWire(t, testResendsAreNotLimited) }

func testResendsAreNotLimited(t *testing.T, b *bundle) {
	b.limits = Limits{Messages: 1, MessagesBurst: 3, Bytes: 1 << 20, BytesBurst: 1 << 20}
	h := b.host("h1")
	m := h.join("p1", h.openRoom(dragons), nil)
	m.sayMany(1, 3)
	for range 10 {
		clear(m.acks)
		for n := 1; n <= 3; n++ {
			m.say(fmt.Sprint(n), fmt.Sprint("message ", n))
			if seq := m.acked(fmt.Sprint(n)); int(seq) != n {
				t.Fatalf("said again, %d was acked with %d", n, seq)
			}
		}
	}
	if len(m.refusals) != 0 {
		t.Errorf("resends were refused: %v", m.refusals)
	}
}

// Who goes on and on is sent away, for good; who stops in time is not.
func TestAFlood(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := unitRoom(t)
		r.host.limits = Limits{Messages: 1, MessagesBurst: 1, Bytes: 1 << 20, BytesBurst: 1 << 20}
		streams := []*injected{newInjected(t), newInjected(t)}
		patient, flooder := r.takesSeat("p1", streams[0]), r.takesSeat("p2", streams[1])
		for round := range 3 {
			r.says(patient, fmt.Sprint(round), 1)
			for range floodMost {
				if refused := r.says(patient, "more", 1); refused == nil {
					t.Fatal("it was taken")
				}
			}
			<-time.After((floodMost/floodTimes + 1) * time.Second)
		}
		r.says(flooder, "taken", 1)
		for range floodMost + 1 {
			r.says(flooder, "more", 1)
		}
		r.tell()
		if got := streams[0].got(); got[len(got)-1].GetClosed() != nil {
			t.Errorf("who stopped in time was sent away with %v", got[len(got)-1])
		}
		got := streams[1].got()
		closed := got[len(got)-1].GetClosed()
		if closed.GetCode() != guildhallv1.CloseCode_CLOSE_CODE_FLOOD || closed.GetReconnect() || closed.GetReason() == "" {
			t.Errorf("the flooder was told %v, want FLOOD and not to come back", closed)
		}
		if len(r.seats) != 1 || r.present["p2"] != nil {
			t.Error("the flooder's seat is not free")
		}
	})
}

// Some of what a flooder says is taken, and that does not save them; who comes again when they are told to stays.
func TestAFloodBetweenWhatIsTaken(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := unitRoom(t)
		r.host.limits = Limits{Messages: 10, MessagesBurst: 10, Bytes: 1 << 20, BytesBurst: 1 << 20}
		heeds, floods := r.takesSeat("p1", newInjected(t)), r.takesSeat("p2", newInjected(t))
		for n := range 2 * floodMost { // each is refused once
			id := fmt.Sprint(n)
			for refused := r.says(heeds, id, 1); refused != nil; refused = r.says(heeds, id, 1) {
				<-time.After(time.Duration(refused.GetRetryAfterMs()) * time.Millisecond)
			}
			r.tell()
		}
		if !heeds.seated {
			t.Error("who came again when they were told to was sent away")
		}
		start := time.Now()
		for n := 0; floods.seated && time.Since(start) < time.Minute; n++ {
			r.says(floods, fmt.Sprint(n), 1)
			r.tell()
			<-time.After(time.Millisecond)
		}
		if floods.seated {
			t.Error("who says a hundred times what they may is still here after a minute")
		}
	})
}

// The same on the wire, by a client that goes on whatever it is told.
func TestAFloodOnTheWire(t *testing.T) { onEachWire(t, testAFloodOnTheWire) }

func testAFloodOnTheWire(t *testing.T, b *bundle) {
	b.limits = Limits{Messages: 1, MessagesBurst: 1, Bytes: 1 << 20, BytesBurst: 1 << 20}
	h := b.host("h1")
	claim := h.openRoom(dragons)
	witness, m := h.join("witness", claim, nil), h.join("p1", claim, nil)
	start := time.Now()
	// It reads its refusals as it goes: who does not may be sent away for being slow first.
	for n := range 2 * floodMost {
		m.say(fmt.Sprint(n), "spam")
		m.must("answers", func() bool { return m.closed != nil || len(m.acks)+len(m.refusals) > n-64 })
		if m.closed != nil {
			break
		}
	}
	m.must("closed", func() bool { return m.closed != nil })
	m.endsWith(guildhallv1.CloseCode_CLOSE_CODE_FLOOD, false)
	witness.told(1, "p1", guildhallv1.MemberState_MEMBER_STATE_GONE)
	if n, took := len(witness.messages), time.Since(start); n > 1+int(took.Seconds()) {
		t.Errorf("the witness heard %d messages in %s of a player who may say one a second", n, took)
	}
}

// The welcome tells the limits.
func TestTheWelcomeTellsTheLimits(t *testing.T) {
	b := setup(t)
	b.limits = Limits{Messages: 7, MessagesBurst: 8, Bytes: 9, BytesBurst: 5000}
	h := b.host("h1")
	got := h.join("p1", h.openRoom(dragons), nil).welcome.GetLimits()
	if got.GetMessagesPerSecond() != 7 || got.GetMessagesBurst() != 8 || got.GetBytesPerSecond() != 9 || got.GetBytesBurst() != 5000 ||
		got.GetBodyBytes() != uint32(b.bodyBytes) || got.GetIdleSeconds() == 0 {
		t.Errorf("p1 was told %v", got)
	}
}
