package roomserver

import (
	"fmt"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
)

// One room: whoever only listens never meets the log. The host looks at its claims while its lease is good.
func TestQuietRoomLearnsThatItIsElsewhere(t *testing.T) {
	b := setupLease(t, shortLease)
	h, _ := b.leasedHost(b.cable())
	listener := h.join("p1", h.openRoom(dragons), nil)
	b.claim(dragons, "h2") // by a director who believes h1 dead
	listener.endsWith(guildhallv1.CloseCode_CLOSE_CODE_MOVED, true)
	if claim, err := b.registry.Claim(b.ctx, dragons); err != nil || claim.Host != "h2" {
		t.Errorf("the other's claim is now %+v, %v", claim, err)
	}
}

// A player has eight sessions at most: the ninth ends the first, and nobody is told that the player was gone.
func TestOldestSessionOfAPlayerIsReplaced(t *testing.T) {
	onEachWire(t, testOldestSessionOfAPlayerIsReplaced)
}

func testOldestSessionOfAPlayerIsReplaced(t *testing.T, b *bundle) {
	h := b.host("h1")
	claim := h.openRoom(dragons)
	other := h.join("p2", claim, nil)
	var sessions []*member
	for range sessionsPerPlayer + 1 {
		sessions = append(sessions, h.join("p1", claim, nil))
	}
	sessions[0].endsWith(guildhallv1.CloseCode_CLOSE_CODE_REPLACED, false)
	sessions[1].say("1", "still here")
	other.seen(1)
	if n := other.count("p1", guildhallv1.MemberState_MEMBER_STATE_GONE); n != 0 {
		t.Errorf("p2 was told %d times that p1 is gone", n)
	}
}

// A log that was purged under a room is no reason to try for ever: the room ends, and opens anew with what is there.
func TestPurgedLogEndsTheRoom(t *testing.T) {
	b := setup(t)
	h := b.host("h1")
	claim := h.openRoom(dragons)
	m := h.join("p1", claim, nil)
	m.say("1", "before")
	m.acked("1")
	stream, err := b.js.Stream(b.ctx, "guildhall_log_0")
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Purge(b.ctx, jetstream.WithPurgeSubject(fmt.Sprintf("guildhall.log.0.%s", dragons.Key()))); err != nil {
		t.Fatal(err)
	}
	m.say("2", "after")
	m.endsWith(guildhallv1.CloseCode_CLOSE_CODE_MOVED, true)
	b.released(claim)
	again := h.join("p1", h.openRoom(dragons), nil)
	again.say("2", "after")
	if seq := again.acked("2"); seq != 1 {
		t.Errorf("the first message of the new log has number %d", seq)
	}
}
