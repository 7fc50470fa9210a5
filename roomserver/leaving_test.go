package roomserver

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
	"github.com/guildhall-dev/guildhall/internal/registry"
)

// A host that was told to drain has nothing to wait for: it asks for its end when the last room has gone.
func TestADrainedHostAsksToBeShutDown(t *testing.T) {
	s := setup(t).setupService() // whose idle grace never ends
	s.opens(dragons)
	if _, err := s.internalClient().Drain(s.ctx, &guildhallv1.DrainRequest{}); err != nil {
		t.Fatal(err)
	}
	s.sidecar.await(s.bundle, "Shutdown was asked for", func() bool { return slices.Equal(s.sidecar.calls, []string{"Ready", "Shutdown"}) })
	s.leaseIs(registry.HostClosing)
}

// SIGTERM before Agones was asked for the end, as when a node is drained: the host moves its rooms, gives signs of life and
// keeps the counter true meanwhile, and tells Agones at last that it is done.
func TestAStopTellsAgones(t *testing.T) {
	b := setup(t)
	car := newSidecar(gameServer("Ready"))
	claim := b.claim(dragons, "gs-1")
	departing := false
	car.hear = func(ctx context.Context, what string) {
		if what != "Shutdown" {
			return
		}
		departing = true
		if got, err := b.registry.Claim(ctx, dragons); !errors.Is(err, registry.ErrNoClaim) {
			t.Errorf("Agones is told that the host is done, and it has the claim %+v, %v", got, err)
		}
		car.mu.Lock()
		beats := car.beats
		car.mu.Unlock()
		car.await(b, "the host lives on and has told that it has no room", func() bool { return car.beats > beats && car.shows(0, 50) })
	}
	t.Cleanup(car.start(t))
	server := b.newServer(b.config(car.address))
	server.lifecycle.lastWord = patience
	s := &service{bundle: b, Server: server, sidecar: car}
	stop := b.run(server)
	b.closed("the service is ready", server.admin.Started())
	s.opens(dragons)
	car.await(b, "it counts one", func() bool { return car.shows(1, 50) })
	if err := stop(); err != nil {
		t.Errorf("stopping: %v", err)
	}
	b.released(claim)
	if !departing {
		t.Error("Agones was not told")
	}
}

// What a room still waits for when the grace of a stop is over is given up.
func TestAStopIsForcedAfterItsGrace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := unitRoom(t)
		r.host.serveUntil.Store(0) // nothing may be appended
		r.pending = []*saying{{message: message("p1", 1), session: newSession(newInjected(t))}}
		r.host.state, r.host.capacity = registry.HostAllocated, 1
		s, _, err := r.host.take(dragons, 1)
		if err != nil {
			t.Fatal(err)
		}
		s.room = r
		close(s.opened)
		r.host.running.Go(func() {
			if why := r.flush(<-r.stops); why != endMoved {
				t.Errorf("the room ended because it was %s", why)
			}
			r.host.free(dragons, s)
		})
		start := time.Now()
		if err := r.host.drainWithin(t.Context(), 3*time.Second); err != nil {
			t.Error(err)
		}
		if took := time.Since(start); took != 3*time.Second {
			t.Errorf("the stop took %s, want its grace of 3s", took)
		}
	})
}
