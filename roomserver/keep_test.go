package roomserver

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
	"github.com/guildhall-dev/guildhall/internal/registry"
)

// A host that is kept as headroom stays for as long as somebody keeps it, and a grace longer.
func TestAKeptHostStays(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := lonelyDoor().host
		h.idleGrace = time.Minute
		if err := h.keep(); err != nil || h.lease().State != registry.HostAllocated {
			t.Fatalf("kept, and its state is %s: %v", h.lease().State, err)
		}
		for range 10 {
			select {
			case <-h.closing:
				t.Fatal("a host that is kept closed")
			case <-time.After(59 * time.Second):
			}
			if err := h.keep(); err != nil {
				t.Fatal(err)
			}
		}
		start := time.Now()
		<-h.closing
		if time.Since(start) != time.Minute {
			t.Errorf("the host closed after %s, want a minute", time.Since(start))
		}
		if err := h.keep(); !errors.Is(err, errHostLeaving) {
			t.Errorf("a closing host was kept: %v", err)
		}
	})
}

// The grace ends in the very moment in which it begins anew: the timer that has fired finds that it is not due.
func TestKeptWhileTheTimerFires(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := lonelyDoor().host
		h.idleGrace = time.Minute
		h.allocated()
		<-time.After(time.Minute - time.Nanosecond)
		if err := h.keep(); err != nil {
			t.Fatal(err)
		}
		h.closeIfIdle()
		if state := h.lease().State; state != registry.HostAllocated {
			t.Errorf("the host is %s by a grace that was over", state)
		}
	})
}

func TestKeepOnTheWire(t *testing.T) {
	b := setup(t)
	h := b.host("h1")
	kept, err := h.internal.Keep(b.ctx, &guildhallv1.KeepRequest{})
	if err != nil || kept.GetIdleGrace().AsDuration() != b.idleGrace {
		t.Errorf("Keep answered %v, %v", kept, err)
	}
	if _, err := h.internal.Drain(b.ctx, &guildhallv1.DrainRequest{}); err != nil {
		t.Fatal(err)
	}
	if _, err := h.internal.Keep(b.ctx, &guildhallv1.KeepRequest{}); status.Code(err) != codes.Aborted {
		t.Errorf("Keep on a drained host: %v, want Aborted", err)
	}
}

// What was allocated in vain is told from what has served.
func TestIdleShutdownsAreCounted(t *testing.T) {
	for used, label := range map[bool]string{true: "true", false: "false"} {
		t.Run("used "+label, func(t *testing.T) {
			b := setup(t)
			b.idleGrace = soon
			h := b.host("h1")
			if used {
				h.openRoom(dragons)
				h.room(dragons).stop(endMoved)
			} else {
				h.allocated()
			}
			b.closed("the host closes", h.closing)
			families, err := h.gatherer.Gather()
			if err != nil {
				t.Fatal(err)
			}
			for _, family := range families {
				if family.GetName() != "guildhall_host_idle_shutdowns_total" {
					continue
				}
				for _, m := range family.GetMetric() {
					want := 0.0
					if m.GetLabel()[0].GetValue() == label {
						want = 1
					}
					if m.GetCounter().GetValue() != want {
						t.Errorf("it is counted as %v", m)
					}
				}
			}
		})
	}
}

// A host tells how full it is with each room that it opens.
func TestOpenRoomTellsHowFullTheHostIs(t *testing.T) {
	b := setup(t)
	h := b.host("h1")
	for n := range 3 {
		opened, err := h.internal.OpenRoom(b.ctx, &guildhallv1.OpenRoomRequest{
			Group: group(n).String(), Epoch: uint64(b.claim(group(n), "h1").Epoch),
		})
		if err != nil || opened.GetRooms() != uint32(n+1) {
			t.Errorf("OpenRoom %d answered %v, %v", n+1, opened, err)
		}
	}
}
