package roomserver

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/guildhall-dev/guildhall"
	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
)

// What is acked is in the log when the ack arrives.
func TestAnAckMeansDurable(t *testing.T) {
	b := setup(t)
	h := b.host("h1")
	claim := h.openRoom(dragons)
	m := h.join("p1", claim, nil)
	for n := range 20 {
		id := fmt.Sprint(n)
		m.say(id, "durable")
		seq := m.acked(id)
		if end := b.logEnd(dragons); guildhall.Seq(end.GetLastSeq()) < seq {
			t.Fatalf("message %s was acked at %d while the log ended with %d", id, seq, end.GetLastSeq())
		}
	}
}

// What anyone has seen is in the log, too.
func TestSeenMeansDurable(t *testing.T) {
	b := setup(t)
	h := b.host("h1")
	claim := h.openRoom(dragons)
	talker, listener := h.join("p1", claim, nil), h.join("p2", claim, nil)
	for n := range 20 {
		talker.say(fmt.Sprint(n), "durable")
		listener.seen(uint64(n + 1))
		if end := b.logEnd(dragons); end.GetLastSeq() < uint64(n+1) {
			t.Fatalf("number %d was seen while the log ended with %d", n+1, end.GetLastSeq())
		}
	}
}

func TestEverythingSaidArrivesAsItWasSaid(t *testing.T) {
	onEachWire(t, testEverythingSaidArrivesAsItWasSaid)
}

func testEverythingSaidArrivesAsItWasSaid(t *testing.T, b *bundle) {
	h := b.host("h1")
	claim := h.openRoom(dragons)
	m := h.join("p1", claim, nil)
	before := time.Now().Add(-time.Second)
	said := &guildhallv1.Say{Id: strings.Repeat("i", maxIDBytes), Body: []byte{0, 0xff, '\n'}, ContentType: strings.Repeat("t", maxContentTypeBytes)}
	m.send(&guildhallv1.JoinRequest{Frame: &guildhallv1.JoinRequest_Say{Say: said}})
	m.acked(said.GetId())
	m.seen(1)
	got := m.messages[0]
	if got.GetFrom() != "p1" || got.GetId() != said.GetId() || !slices.Equal(got.GetBody(), said.GetBody()) || got.GetContentType() != said.GetContentType() {
		t.Errorf("%v became %v", said, got)
	}
	if at := got.GetSaidAt().AsTime(); at.Before(before) || at.After(time.Now()) {
		t.Errorf("it was said at %s, which is not now", at)
	}
	m.say("empty", "")
	m.acked("empty")
}

// Nothing is said twice: the same id of the same player is acked with the same number, in whatever session.
func TestAResendIsAckedAndNotSaidAgain(t *testing.T) {
	onEachWire(t, testAResendIsAckedAndNotSaidAgain)
}

func testAResendIsAckedAndNotSaidAgain(t *testing.T, b *bundle) {
	h := b.host("h1")
	claim := h.openRoom(dragons)
	witness := h.join("witness", claim, nil)
	m := h.join("p1", claim, nil)
	m.say("once", "the first time")
	first := m.acked("once")
	delete(m.acks, "once")
	m.say("once", "another body")
	if again := m.acked("once"); again != first {
		t.Errorf("the resend was acked with %d, want %d", again, first)
	}
	m.cut()
	m = h.join("p1", claim, nil)
	m.say("once", "the first time")
	if again := m.acked("once"); again != first {
		t.Errorf("the resend of a later session was acked with %d, want %d", again, first)
	}
	witness.say("once", "the same id of another player is another message")
	if seq := witness.acked("once"); seq != first+1 {
		t.Errorf("another player's message got number %d, want %d", seq, first+1)
	}
	witness.seen(2)
	if got := witness.bodies(); len(got) != 2 || got[0] != "1 p1: the first time" {
		t.Errorf("the room heard %v", got)
	}
}

// A resend that overtakes the ack of the first is acked where the player is now.
func TestAResendWhileTheFirstIsUnderWay(t *testing.T) {
	b := setup(t)
	h := b.hostOver("h1", b.registry, b.log) // without a lease: nothing is appended
	claim := h.openRoom(dragons)
	first := h.join("p1", claim, nil)
	first.say("once", "hi")
	first.say("", "refused behind it") // once this is refused, the message before it is waiting
	first.must("the refusal", func() bool { return len(first.refusals) == 1 })
	second := h.join("p1", claim, nil)
	second.say("once", "hi")
	second.say("", "refused behind it")
	second.must("the refusal", func() bool { return len(second.refusals) == 1 })
	h.extend(time.Now())
	if seq := second.acked("once"); seq != 1 {
		t.Errorf("the resend was acked with %d, want 1", seq)
	}
	second.say("next", "hi")
	if seq := second.acked("next"); seq != 2 {
		t.Errorf("the next message got number %d, want 2: the resend was said again", seq)
	}
}

// After the room has moved, the new host knows what was said on the old one.
func TestAResendOnAnotherHost(t *testing.T) { onEachWire(t, testAResendOnAnotherHost) }

func testAResendOnAnotherHost(t *testing.T, b *bundle) {
	h1, h2 := b.host("h1"), b.host("h2")
	claim := h1.openRoom(dragons)
	m := h1.join("p1", claim, nil)
	for n := range 5 {
		m.say(fmt.Sprint(n), "before the move")
		m.acked(fmt.Sprint(n))
	}
	moved := h2.openRoom(dragons) // h1 does not even know
	m2 := h2.join("p1", moved, behind(5))
	if m2.welcome.GetLastSeq() != 5 {
		t.Errorf("the new room begins behind number %d, want 5", m2.welcome.GetLastSeq())
	}
	m2.say("3", "before the move")
	if seq := m2.acked("3"); seq != m.acks["3"] {
		t.Errorf("the resend was acked with %d, want %d", seq, m.acks["3"])
	}
	m2.say("5", "behind the move")
	if seq := m2.acked("5"); seq != 6 {
		t.Errorf("the next message got number %d, want 6", seq)
	}
}

// What the room does not take it refuses by its id, and the session goes on.
func TestRefusedSays(t *testing.T) { onEachWire(t, testRefusedSays) }

func testRefusedSays(t *testing.T, b *bundle) {
	h := b.host("h1")
	claim := h.openRoom(dragons)
	m := h.join("p1", claim, nil)
	long := strings.Repeat("x", maxIDBytes+1)
	for _, c := range []struct {
		name string
		say  *guildhallv1.Say
		code guildhallv1.RefuseCode
	}{
		{"no id", &guildhallv1.Say{}, guildhallv1.RefuseCode_REFUSE_CODE_MALFORMED},
		{"a long id", &guildhallv1.Say{Id: long}, guildhallv1.RefuseCode_REFUSE_CODE_MALFORMED},
		// Byte 64 of this one is in the midst of a letter: cut there, it would be no text and could not be sent.
		{"a long id of wide letters", &guildhallv1.Say{Id: "x" + strings.Repeat("é", 40)}, guildhallv1.RefuseCode_REFUSE_CODE_MALFORMED},
		{"a long content type", &guildhallv1.Say{Id: "type", ContentType: strings.Repeat("t", maxContentTypeBytes+1)}, guildhallv1.RefuseCode_REFUSE_CODE_MALFORMED},
		{"a long body", &guildhallv1.Say{Id: "body", Body: make([]byte, b.bodyBytes+1)}, guildhallv1.RefuseCode_REFUSE_CODE_BODY_TOO_LARGE},
	} {
		m.refusals = nil
		m.send(&guildhallv1.JoinRequest{Frame: &guildhallv1.JoinRequest_Say{Say: c.say}})
		m.must("a refusal of "+c.name, func() bool { return len(m.refusals) > 0 })
		if got := m.refusals[0]; got.GetId() != c.say.GetId() || got.GetCode() != c.code || got.GetReason() == "" {
			t.Errorf("%s was refused with %v, want its id and %s", c.name, got, c.code)
		}
	}
	m.send(&guildhallv1.JoinRequest{Frame: &guildhallv1.JoinRequest_Say{Say: &guildhallv1.Say{Id: "fits", Body: make([]byte, b.bodyBytes)}}})
	if seq := m.acked("fits"); seq != 1 {
		t.Errorf("the message behind the refused ones got number %d, want 1", seq)
	}
}

// Whoever reads is no slow consumer, however fast they talk: no ack is lost in a burst.
func TestABurstOfOneTalker(t *testing.T) {
	const burst = 3000
	b := setup(t)
	b.limits = unlimited
	h := b.host("h1")
	claim := h.openRoom(dragons)
	m := h.join("p1", claim, nil)
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		for n := range burst {
			m.say(fmt.Sprint(n), "quick")
		}
	}()
	m.must("all acks", func() bool { return len(m.acks) == burst && m.lastSeen() == burst || m.closed != nil })
	if m.closed != nil {
		t.Errorf("a talker who reads was closed with %v after %d acks", m.closed, len(m.acks))
	}
	<-sent
	m.checkAcks()
}

// One entry of the log holds what arrived while the last one was written, within bounds.
func TestGroupCommitIsBounded(t *testing.T) {
	t.Parallel()
	r := &room{}
	for range 2*batchMessages + 1 {
		r.pending = append(r.pending, &saying{size: 10})
	}
	for _, want := range []int{batchMessages, batchMessages, 1, 0} {
		batch, rest := r.nextBatch()
		if len(batch) != want {
			t.Errorf("a batch has %d messages, want %d", len(batch), want)
		}
		r.pending = rest
	}
	largest := maxBodyBytes + maxIDBytes + maxContentTypeBytes + guildhall.MaxPlayerIDBytes + 64
	for range batchMessages {
		r.pending = append(r.pending, &saying{size: largest})
	}
	for len(r.pending) > 0 {
		batch, rest := r.nextBatch()
		if size := len(batch) * largest; size >= 1<<20 || len(batch) == 0 {
			t.Fatalf("a batch has %d messages of %d bytes: NATS takes less than 1 MiB", len(batch), size)
		}
		r.pending = rest
	}
}

// Messages of the largest size that can be configured go through the log and come back as history.
func TestTheLargestBodies(t *testing.T) {
	const n = 66 // more than gRPC takes in one frame
	b := setup(t)
	b.bodyBytes, b.limits = maxBodyBytes, unlimited
	h := b.host("h1")
	claim := h.openRoom(dragons)
	m := h.join("p1", claim, nil)
	body := strings.Repeat("x", maxBodyBytes)
	for i := range n { // one after the other: few of these are what may wait for one client
		m.say(fmt.Sprint(i), body)
		m.acked(fmt.Sprint(i))
		m.seen(uint64(i + 1))
	}
	late := h.join("p2", claim, behind(0))
	late.seen(n)
	if late.messages[0].GetSeq() != 1 {
		t.Errorf("the first message of history is number %d", late.messages[0].GetSeq())
	}
	h2 := b.host("h2")
	again := h2.join("p2", h2.openRoom(dragons), behind(0))
	again.seen(n)
	if len(again.messages) != n {
		t.Errorf("another host has %d messages, want %d", len(again.messages), n)
	}
}

// What one host has taken, and another with a lower limit would refuse, is acked there when it is said again: it is in
// the log.
func TestWhatWasSaidIsNotRefused(t *testing.T) {
	b := setup(t)
	h1 := b.host("h1")
	m := h1.join("p1", h1.openRoom(dragons), nil)
	m.say("a", "a body of some length")
	m.acked("a") // and that is lost on its way
	h1.stop()
	b.bodyBytes = 8
	h2 := b.host("h2")
	m = h2.join("p1", h2.openRoom(dragons), behind(0))
	m.say("a", "a body of some length")
	if seq := m.acked("a"); seq != 1 || len(m.refusals) != 0 {
		t.Errorf("acked as number %d, refused: %v", seq, m.refusals)
	}
}
