package openmatchlocal

import (
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"open-match.dev/open-match/pkg/pb"
)

func backfillIDOf(b *pb.Backfill) backfillID { return backfillID(b.GetId()) }

// opened is a backfill with a pending ticket, as a match makes it.
func opened(t *testing.T, s *store) (*pb.Backfill, *pb.Ticket) {
	t.Helper()
	ticket := file(s)
	m := proposal("opens", ticket)
	m.Backfill = &pb.Backfill{}
	accepts(t, s, m)
	return m.GetBackfill(), ticket
}

func TestBackfillExpiresAtFourFifths(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newTestStore(t, Config{})
		b, ticket := opened(t, s)
		advance(48*time.Second - time.Nanosecond)
		wantPools(t, s)
		advance(time.Nanosecond)
		if _, err := s.backfill(backfillIDOf(b)); status.Code(err) != codes.NotFound {
			t.Errorf("the backfill: %v, want NotFound", err)
		}
		wantPools(t, s, ticket)
		if _, _, err := s.acknowledgeBackfill(backfillIDOf(b), &pb.Assignment{}); status.Code(err) != codes.NotFound {
			t.Errorf("acknowledged: %v, want NotFound", err)
		}
	})
}

func TestAcknowledgedBackfillLives(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newTestStore(t, Config{})
		b, ticket := opened(t, s)
		for range 5 {
			advance(47 * time.Second)
			if _, _, err := s.acknowledgeBackfill(backfillIDOf(b), &pb.Assignment{Connection: "x:1"}); err != nil {
				t.Fatal(err)
			}
		}
		got, err := s.ticket(idOf(ticket))
		if err != nil || got.GetAssignment().GetConnection() != "x:1" {
			t.Errorf("the ticket is %v %v, want it at x:1", got, err)
		}
		// An update is no sign of life.
		advance(40 * time.Second)
		if _, err := s.updateBackfill(b); err != nil {
			t.Fatal(err)
		}
		advance(8 * time.Second)
		wantCensus(t, s, census{assigned: 1})
	})
}

// Tickets that are gone are no reason to fail: the others are assigned.
func TestAcknowledgeSkipsLostTickets(t *testing.T) {
	t.Parallel()
	s := newTestStore(t, Config{})
	lost, kept := file(s), file(s)
	m := proposal("opens", lost, kept)
	m.Backfill = &pb.Backfill{}
	accepts(t, s, m)
	s.deleteTicket(idOf(lost))
	_, tickets, err := s.acknowledgeBackfill(backfillIDOf(m.GetBackfill()), &pb.Assignment{})
	if err != nil || len(tickets) != 1 || tickets[0].GetId() != kept.GetId() {
		t.Errorf("acknowledged %v %v, want the ticket that is left", tickets, err)
	}
}

func TestFillsOfOneBackfill(t *testing.T) {
	t.Parallel()
	s := newTestStore(t, Config{})
	b, first := opened(t, s)
	second, third := file(s), file(s)
	fill := func(id string, ticket *pb.Ticket, generation int64) *pb.Match {
		m := proposal(id, ticket)
		m.Backfill = &pb.Backfill{Id: b.GetId(), Generation: generation}
		return m
	}
	v := s.accept([]*pb.Match{fill("good", second, 1), fill("too late", third, 1)}, s.now())
	if len(v.accepted) != 1 || v.dropped != 1 {
		t.Fatalf("accepted %v, dropped %d, want one each", v.accepted, v.dropped)
	}
	wantPools(t, s, third)
	_, tickets, err := s.acknowledgeBackfill(backfillIDOf(b), &pb.Assignment{})
	if err != nil || len(tickets) != 2 {
		t.Errorf("acknowledged %v %v, want %v and %v", tickets, err, first.GetId(), second.GetId())
	}
}

func TestAcceptTellsWhenABackfillWasOutrun(t *testing.T) {
	t.Parallel()
	s := newTestStore(t, Config{})
	b := s.createBackfill(&pb.Backfill{})
	m := proposal("fills", file(s))
	m.Backfill = b
	before := s.now()
	if _, err := s.updateBackfill(b); err != nil {
		t.Fatal(err)
	}
	if v := s.accept([]*pb.Match{m}, before); v.dropped != 1 || !v.outrun {
		t.Errorf("updated since: %+v, want outrun", v)
	}
	if v := s.accept([]*pb.Match{m}, s.now()); v.dropped != 1 || v.outrun {
		t.Errorf("updated before: %+v, want not outrun", v)
	}
	before = s.now()
	s.deleteBackfill(backfillIDOf(b))
	if v := s.accept([]*pb.Match{m}, before); v.dropped != 1 || !v.outrun {
		t.Errorf("deleted since: %+v, want outrun", v)
	}
}

// Whoever holds a backfill sees it as it was.
func TestUpdateCopiesTheBackfill(t *testing.T) {
	t.Parallel()
	s := newTestStore(t, Config{})
	b := s.createBackfill(&pb.Backfill{})
	if _, err := s.updateBackfill(&pb.Backfill{Id: b.GetId()}); err != nil {
		t.Fatal(err)
	}
	if b.GetGeneration() != 1 {
		t.Errorf("the old backfill has generation %d, want 1", b.GetGeneration())
	}
}
