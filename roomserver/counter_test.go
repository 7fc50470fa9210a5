package roomserver

import (
	"log/slog"
	"strings"
	"testing"

	"agones.dev/agones/pkg/sdk"
	"google.golang.org/grpc/codes"

	"github.com/guildhall-dev/guildhall"
	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
	"github.com/guildhall-dev/guildhall/internal/logtest"
)

// opens has the host open the room of a new claim, as a director does.
func (s *service) opens(group guildhall.Group) {
	s.t.Helper()
	request := &guildhallv1.OpenRoomRequest{Group: group.String(), Epoch: uint64(s.claim(group, "gs-1").Epoch)}
	if _, err := s.internalClient().OpenRoom(s.ctx, request); err != nil {
		s.t.Fatal(err)
	}
}

// The counter follows the rooms, and what could not be told is told later.
func TestTheCounterFollowsTheRooms(t *testing.T) {
	s := setup(t).setupService()
	car := s.sidecar
	car.await(s.bundle, "it counts none", func() bool { return car.shows(0, 50) })
	s.opens(dragons)
	car.await(s.bundle, "it counts one", func() bool { return car.shows(1, 50) })
	car.change(func() { car.refuse = codes.Unavailable })
	s.opens(otherGroup)
	car.await(s.bundle, "the sidecar has refused", func() bool { return car.refused > 0 })
	car.change(func() { car.refuse = codes.OK })
	car.await(s.bundle, "it counts two", func() bool { return car.shows(2, 50) })
	if _, err := s.internalClient().Drain(s.ctx, &guildhallv1.DrainRequest{}); err != nil {
		t.Fatal(err)
	}
	car.await(s.bundle, "it counts none again", func() bool { return car.shows(0, 50) })
}

// A sidecar writes down what it is told half a second later. One that restarts has lost it, and an allocation or an operator
// may change the counter too: it is put right.
func TestTheCounterIsPutRight(t *testing.T) {
	s := setup(t).setupService()
	car := s.sidecar
	s.opens(dragons)
	car.await(s.bundle, "it counts one", func() bool { return car.shows(1, 50) && car.watches > 0 })
	set := func(count, capacity int64) func(*sdk.GameServer) {
		return func(server *sdk.GameServer) {
			server.Status.Counters[roomsCounter] = &sdk.GameServer_Status_CounterStatus{Count: count, Capacity: capacity}
		}
	}
	car.change(func() { // in one moment, as the watch of the old sidecar tells nothing of it
		close(car.breaks)
		car.breaks = make(chan struct{})
		car.alterLocked(set(0, 10))
	})
	car.await(s.bundle, "it counts one after a restart", func() bool { return car.shows(1, 50) })
	car.alter(set(3, 50))
	car.await(s.bundle, "it counts one after another's count", func() bool { return car.shows(1, 50) })
	car.alter(set(1, 9))
	car.await(s.bundle, "it counts one of fifty after another's capacity", func() bool { return car.shows(1, 50) })
}

// A cluster without CountsAndLists, and a fleet without the counter, hear of it once; the host does its work.
func TestWithoutTheCounter(t *testing.T) {
	b := setup(t)
	server := gameServer("Ready")
	server.Status.Counters = nil
	car := startSidecar(t, server)
	config := b.config(car.address)
	log := &lines{}
	config.Logger = slog.New(slog.NewTextHandler(log, nil))
	s := b.startConfigured(car, config)
	for n := range 3 {
		car.await(b, "the counter was refused", func() bool { return car.refused > n })
		s.opens(group(n))
	}
	car.await(b, "the counter was refused", func() bool { return car.refused > 3 })
	if err := s.stop(); err != nil {
		t.Errorf("stopping: %v", err)
	}
	if got := log.with("CountsAndLists"); len(got) != 1 || !strings.Contains(got[0], "counter not found") {
		t.Errorf("the log says %q, want one line that tells why", got)
	}
}

// lines is a log.
type lines struct{ logtest.Buffer }

// with gives the lines that have a text.
func (l *lines) with(text string) (found []string) {
	for line := range strings.Lines(l.String()) {
		if strings.Contains(line, text) {
			found = append(found, line)
		}
	}
	return found
}
