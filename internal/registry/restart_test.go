package registry

import (
	"context"
	"errors"
	"testing"

	"github.com/nats-io/nats.go"
)

func withCancel(b *bench) (context.Context, context.CancelFunc) { return context.WithCancel(b.ctx) }

// A restart of NATS must not cost a host its lease before its time: it goes on serving on the strength of it, and
// a director that found it gone would give its rooms to somebody else.
func TestLeaseSurvivesRestartOfNATS(t *testing.T) {
	t.Parallel()
	b := setup(t)
	grant := b.grant(alive("h"))
	b.restart()
	if got, err := b.Host(b.ctx, "h"); err != nil || got != alive("h") {
		t.Errorf("Host after a restart = %+v, %v", got, err)
	}
	if err := grant.Renew(b.ctx, alive("h")); err != nil {
		t.Errorf("Renew after a restart: %v", err)
	}
}

// The view follows what happens behind a restart, however many writes there were before it.
func TestViewSurvivesRestartOfNATS(t *testing.T) {
	t.Parallel()
	b := setupLease(t, MinLeaseTTL)
	grant := b.show(alive("before"))
	for range 50 {
		if err := grant.Renew(b.ctx, alive("before")); errors.Is(err, ErrLeaseLost) {
			grant = b.show(alive("before"))
		} else if err != nil {
			t.Fatal(err)
		}
	}
	for round := range 2 {
		b.restart()
		name := host(round)
		b.show(alive(name))
		b.awaitView("the host to expire", func() bool { _, found := b.HostInView(name); return !found })
	}
	if _, found := b.HostInView("before"); found {
		t.Error("the view has a host that expired around the restart")
	}
}

// What expires while NATS is down leaves the view when it is back.
func TestLeaseExpiresWhileNATSIsDown(t *testing.T) {
	t.Parallel()
	b := setupLease(t, MinLeaseTTL)
	b.show(alive("h"))
	port := b.stop()
	other := setupLease(t, MinLeaseTTL) // its lease is as long: when it has expired here, that one has too
	other.show(alive("clock"))
	other.awaitView("a lease's time", func() bool { _, found := other.HostInView("clock"); return !found })
	back := b.listen(nats.CONNECTED)
	b.start(port)
	back()
	b.awaitView("the host to leave the view", func() bool { _, found := b.HostInView("h"); return !found })
	if _, err := b.Host(b.ctx, "h"); !errors.Is(err, ErrNoLease) {
		t.Errorf("Host: %v, want ErrNoLease", err)
	}
}

func TestClaimsAndEpochsSurviveRestartOfNATS(t *testing.T) {
	t.Parallel()
	b := setup(t)
	held := b.take(dragons, "h", 0)
	wolves := dragons
	wolves.ID = "wolves"
	last := b.take(wolves, "h", 0)
	b.release(last)
	b.restart()
	if got, err := b.Claim(b.ctx, dragons); err != nil || got.Host != "h" || got.Epoch != held.Epoch {
		t.Errorf("Claim after a restart = %+v, %v; want %+v", got, err, held)
	}
	if again := b.take(wolves, "h", 0); again.Epoch <= last.Epoch {
		t.Errorf("epoch %d after a restart, %d before it", again.Epoch, last.Epoch)
	}
}

// restart restarts NATS and waits until the connection is back.
func (b *bench) restart() {
	b.t.Helper()
	port := b.stop()
	back := b.listen(nats.CONNECTED)
	b.start(port)
	back()
}
