package openmatchlocal

import (
	"testing"

	"go.uber.org/goleak"
	"open-match.dev/open-match/pkg/pb"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// newTestStore is a store with cfg's timeouts, and the defaults where they are 0.
func newTestStore(t testing.TB, cfg Config) *store {
	t.Helper()
	cfg, err := cfg.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	s := newStore(cfg, newMetrics())
	t.Cleanup(s.close)
	return s
}

// file creates a ticket with tags.
func file(s *store, tags ...string) *pb.Ticket {
	return s.createTicket(&pb.Ticket{SearchFields: &pb.SearchFields{Tags: tags}})
}

func proposal(id string, tickets ...*pb.Ticket) *pb.Match {
	return &pb.Match{MatchId: id, Tickets: tickets}
}

func idOf(t *pb.Ticket) ticketID { return ticketID(t.GetId()) }

// inPools gives the ids of all available tickets.
func inPools(s *store) []string {
	var ids []string
	for _, t := range s.queryTickets(poolFilter{}) {
		ids = append(ids, t.GetId())
	}
	return ids
}

// accepts wants all proposals to be accepted.
func accepts(t *testing.T, s *store, proposals ...*pb.Match) {
	t.Helper()
	if v := s.accept(proposals, s.now()); len(v.accepted) != len(proposals) {
		t.Fatalf("accepted %d of %d proposals", len(v.accepted), len(proposals))
	}
}
