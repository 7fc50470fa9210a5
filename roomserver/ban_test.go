package roomserver

import (
	"context"
	"testing"
	"time"

	"github.com/guildhall-dev/guildhall"
	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
	"github.com/guildhall-dev/guildhall/internal/registry"
)

// watching has a host see bans as they are made.
func (h *running) watching() {
	h.b.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 2)
	go func() { ended <- h.registry.Run(ctx) }()
	go func() { ended <- h.evictBanned(ctx) }()
	h.b.t.Cleanup(func() {
		cancel()
		for range 2 {
			if err := <-ended; err != nil {
				h.b.t.Error(err)
			}
		}
	})
	h.b.closed("the view of the bans", h.registry.Synced())
}

// Nobody who is banned sits in the room: not who is here, not who comes with a pass from before.
func TestABanHolds(t *testing.T) {
	b := setup(t)
	h := b.host("h1")
	h.watching()
	claim := h.openRoom(dragons)
	m, other := h.join("p1", claim, nil), h.join("p2", claim, nil)
	if err := b.registry.Ban(b.ctx, dragons, "p1", registry.Ban{Reason: "for shouting"}); err != nil {
		t.Fatal(err)
	}
	m.endsWith(guildhallv1.CloseCode_CLOSE_CODE_EVICTED, false)
	if m.closed.GetReason() != "for shouting" {
		t.Errorf("p1 was told %q", m.closed.GetReason())
	}
	if again := h.show(b.pass("p1", claim), nil); again.closed.GetCode() != guildhallv1.CloseCode_CLOSE_CODE_EVICTED {
		t.Errorf("with a pass from before, p1 got %v, %v", again.welcome, again.closed)
	}
	other.say("1", "without p1")
	other.acked("1")
	if err := b.registry.Unban(b.ctx, dragons, "p1"); err != nil {
		t.Fatal(err)
	}
	b.eventually("the ban is lifted", func() bool { _, banned := b.registry.BanInView(dragons, "p1"); return !banned })
	h.join("p1", claim, nil)
}

// A ban is of one group, and ends by itself.
func TestABanIsOfOneGroupAndForAWhile(t *testing.T) {
	b := setup(t)
	h := b.host("h1")
	h.watching()
	here, there := h.openRoom(dragons), h.openRoom(otherGroup)
	elsewhere := h.join("p1", there, nil)
	var until time.Time
	b.eventually("p1 is banned for a while", func() bool { // unless it is over before it is asked for
		until = time.Now().Add(time.Second)
		return b.registry.Ban(b.ctx, dragons, "p1", registry.Ban{Until: until}) == nil
	})
	b.eventually("the ban is seen", func() bool {
		_, banned := b.registry.BanInView(dragons, "p1")
		return banned || time.Now().After(until)
	})
	elsewhere.say("1", "in another room")
	elsewhere.acked("1")
	b.eventually("the ban is over", func() bool { return time.Now().After(until) })
	h.join(guildhall.PlayerID("p1"), here, nil)
}
