package openmatchlocal

import (
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"
	"open-match.dev/open-match/pkg/pb"
)

func profileOf(tags ...string) *pb.MatchProfile {
	profile := &pb.MatchProfile{Name: "test"}
	for _, tag := range tags {
		profile.Pools = append(profile.Pools, &pb.Pool{TagPresentFilters: []*pb.TagPresentFilter{{Tag: tag}}})
	}
	return profile
}

func wantWoken(t *testing.T, what string, w *waiter, want bool) {
	t.Helper()
	if got := len(w.wake) > 0; got != want {
		t.Errorf("%s: woken %v, want %v", what, got, want)
	}
	w.reset()
}

func TestWaiterWakesForItsPools(t *testing.T) {
	t.Parallel()
	s := newTestStore(t, Config{})
	w := s.wait(profileOf("a", "b"))
	file(s, "c")
	wantWoken(t, "another pool's ticket", w, false)
	file(s, "b")
	wantWoken(t, "a ticket", w, true)
	file(s, "a")
	file(s, "a")
	wantWoken(t, "two tickets", w, true)
	wantWoken(t, "nothing since", w, false)
	s.stopWaiting(w)
	file(s, "a")
	wantWoken(t, "closed", w, false)
}

func TestWaiterWithoutPoolsWakesForAll(t *testing.T) {
	t.Parallel()
	s := newTestStore(t, Config{})
	never := &timestamppb.Timestamp{Nanos: -1}
	for _, profile := range []*pb.MatchProfile{
		{},
		{Pools: []*pb.Pool{{CreatedAfter: never}}},
	} {
		w := s.wait(profile)
		file(s, "any")
		wantWoken(t, "any ticket", w, true)
		s.stopWaiting(w)
	}
}

func TestWaiterWakesWhenTicketsComeBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newTestStore(t, Config{})
		ticket := file(s, "a")
		w := s.wait(profileOf("a"))
		take := func() { accepts(t, s, proposal("m", ticket)) }

		take()
		wantWoken(t, "a ticket taken", w, false)
		s.release([]ticketID{idOf(ticket)})
		wantWoken(t, "a release", w, true)
		take()
		s.releaseAll()
		wantWoken(t, "a release of all", w, true)
		take()
		advance(time.Minute)
		wantWoken(t, "the pending timeout", w, true)
		s.assign([]ticketID{idOf(ticket)}, &pb.Assignment{})
		advance(10 * time.Minute)
		wantWoken(t, "an assignment and its end", w, false)
	})
}

func TestWaiterWakesForBackfills(t *testing.T) {
	t.Parallel()
	s := newTestStore(t, Config{})
	w := s.wait(profileOf("a"))
	b := s.createBackfill(&pb.Backfill{SearchFields: &pb.SearchFields{Tags: []string{"a"}}})
	wantWoken(t, "a new backfill", w, true)
	if _, err := s.updateBackfill(b); err != nil {
		t.Fatal(err)
	}
	wantWoken(t, "an updated backfill", w, true)
	s.createBackfill(&pb.Backfill{})
	wantWoken(t, "another pool's backfill", w, false)
}
