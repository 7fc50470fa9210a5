package roomserver

import (
	"slices"
	"strings"
	"testing"

	"agones.dev/agones/pkg/sdk"

	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
	"github.com/guildhall-dev/guildhall/internal/registry"
)

func labelled(server *sdk.GameServer, on bool) {
	server.ObjectMeta.Labels = map[string]string{"agones.dev/fleet": "rooms"}
	if on {
		server.ObjectMeta.Labels["guildhall.dev/overflow"] = "true"
	}
}

func annotated(server *sdk.GameServer, on bool) {
	server.ObjectMeta.Annotations = map[string]string{}
	if on {
		server.ObjectMeta.Annotations["guildhall.dev/overflow"] = "true"
	}
}

// A host that the fleet has too many of moves its rooms and then asks for its end, and not before. That the mark goes away
// meanwhile changes nothing: its members are on their way, and directors have been told.
func TestAMarkedHostGivesWay(t *testing.T) {
	for name, marked := range map[string]func(*sdk.GameServer, bool){"by label": labelled, "by annotation": annotated} {
		t.Run(name, func(t *testing.T) {
			b := setup(t)
			car := newSidecar(gameServer("Ready"))
			claim := b.claim(dragons, "gs-1")
			car.hear = b.listens(func(what string) {
				if _, err := b.registry.Claim(b.ctx, dragons); what == "Shutdown" && err == nil {
					t.Error("Shutdown was asked for while a room was here")
				}
			})
			t.Cleanup(car.start(t))
			s := b.startService(car)
			m := s.callOver(dial(t, s.public.Addr().String()), "p1")
			m.hello(s.pass("p1", claim), nil)
			m.must("the welcome", func() bool { return m.welcome != nil })
			m.sayMany(1, 3)
			car.alter(func(server *sdk.GameServer) {
				server.Status.State = stateAllocated
				marked(server, true)
			})
			m.endsWith(guildhallv1.CloseCode_CLOSE_CODE_MOVED, true)
			car.alter(func(server *sdk.GameServer) { marked(server, false) })
			s.released(claim)
			car.await(b, "Shutdown was asked for", func() bool { return slices.Equal(car.calls, []string{"Ready", "Shutdown"}) })
			if lease := s.leaseIs(registry.HostClosing); lease.Rooms != 0 {
				t.Errorf("the closing lease is %+v", lease)
			}
			if err := s.stop(); err != nil {
				t.Errorf("stopping: %v", err)
			}
		})
	}
}

// What looks like the mark and is none drains nobody.
func TestWhoIsNotMarkedStays(t *testing.T) {
	for name, c := range map[string]struct {
		overflow string
		alter    func(*sdk.GameServer)
	}{
		"nobody's":      {"", func(server *sdk.GameServer) { labelled(server, true) }}, // Agones marks allocated ones alone
		"another value": {"drain=yes", func(server *sdk.GameServer) { labelled(server, true); allocate(server) }},
		"switched off":  {"none", func(server *sdk.GameServer) { labelled(server, true); annotated(server, true); allocate(server) }},
	} {
		t.Run(name, func(t *testing.T) {
			b := setup(t)
			car := startSidecar(t, gameServer("Ready"))
			config := b.config(car.address)
			config.AgonesOverflow = c.overflow
			s := b.startConfigured(car, config)
			car.alter(c.alter)
			car.await(b, "the watch is there", func() bool { return car.watches > 0 })
			car.alter(func(server *sdk.GameServer) { // it is told behind the mark, so whoever has heard of it has seen the mark
				server.Status.Counters[roomsCounter].Count = 7
			})
			car.await(b, "the counter is put right", func() bool { return car.shows(0, 50) })
			if lease, err := b.registry.Host(b.ctx, "gs-1"); err != nil || lease.Leaving() {
				t.Errorf("the lease is %+v, %v", lease, err)
			}
			select {
			case <-s.lifecycle.marked:
				t.Error("the host gives way")
			default:
			}
		})
	}
}

func allocate(server *sdk.GameServer) { server.Status.State = stateAllocated }

func TestParseMark(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"a=b", "agones.dev/x=1", "none"} {
		if m, err := parseMark(text); err != nil || m.String() != text {
			t.Errorf("%q is read as %q, %v", text, m, err)
		}
	}
	for _, text := range []string{"", "a", "a=", "=b", "None"} {
		if _, err := parseMark(text); err == nil || !strings.Contains(err.Error(), "GUILDHALL_AGONES_OVERFLOW") {
			t.Errorf("%q: %v, want an error that names the variable", text, err)
		}
	}
	if (mark{}).on(&sdk.GameServer_ObjectMeta{Labels: map[string]string{"": ""}}) {
		t.Error("no mark is on somebody")
	}
}
