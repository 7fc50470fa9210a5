package openmatch_test

import (
	"context"
	"testing"
	"time"

	"github.com/rs/xid"
	"google.golang.org/grpc/codes"
	"open-match.dev/open-match/pkg/pb"
)

// fetchWithin is fetch for one match that may take longer than the rest of the suite allows.
func (b *bench) fetchWithin(limit time.Duration) *pb.Match {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	for {
		matches, err := b.fetchOnce(ctx)
		if err != nil {
			b.t.Fatalf("FetchMatches: %v", err)
		}
		if len(matches) > 0 {
			return matches[0]
		}
	}
}

func group(connection string, ids ...string) *pb.AssignmentGroup {
	return &pb.AssignmentGroup{TicketIds: ids, Assignment: &pb.Assignment{Connection: connection}}
}

func TestAssignTicketsRefuses(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		groups  []*pb.AssignmentGroup
		message string
	}{
		{"no assignment", []*pb.AssignmentGroup{{TicketIds: []string{"a"}}}, "AssignmentGroup.Assignment is required"},
		{"no ids", []*pb.AssignmentGroup{group("x:1"), group("y:1")}, "AssignmentGroupTicketIds is empty"},
		{
			"an id twice in a group", []*pb.AssignmentGroup{group("x:1", "a", "a")},
			"Ticket id a is assigned multiple times in one assign tickets call",
		},
		{
			"an id in two groups", []*pb.AssignmentGroup{group("x:1", "a"), group("y:1", "b", "a")},
			"Ticket id a is assigned multiple times in one assign tickets call",
		},
	} {
		_, err := shared.backend.AssignTickets(bounded(t), &pb.AssignTicketsRequest{Assignments: test.groups})
		wantStatus(t, test.name, err, codes.InvalidArgument, test.message)
	}
}

func TestAssignTicketsOfNoGroups(t *testing.T) {
	t.Parallel()
	resp, err := shared.backend.AssignTickets(bounded(t), &pb.AssignTicketsRequest{})
	if err != nil || len(resp.GetFailures()) > 0 {
		t.Errorf("AssignTickets: %v %v, want nothing", resp, err)
	}
}

// A refused call assigns nothing, not even what stands before the mistake.
func TestAssignTicketsRefusedAssignsNothing(t *testing.T) {
	t.Parallel()
	b := newBench(t, shared, nil)
	ticket := b.create()
	_, err := b.backend.AssignTickets(b.ctx(), &pb.AssignTicketsRequest{Assignments: []*pb.AssignmentGroup{
		group("x:1", ticket.GetId()), group("y:1", ticket.GetId()),
	}})
	wantStatus(t, "AssignTickets", err, codes.InvalidArgument, "")
	b.wantConnection(ticket, "")
	b.queryUntil(b.pool(), ticket)
}

func (b *bench) wantConnection(ticket *pb.Ticket, connection string) {
	b.t.Helper()
	got, err := b.frontend.GetTicket(b.ctx(), &pb.GetTicketRequest{TicketId: ticket.GetId()})
	if err != nil {
		b.t.Fatalf("GetTicket: %v", err)
	}
	if got.GetAssignment().GetConnection() != connection {
		b.t.Errorf("assigned to %q, want %q", got.GetAssignment().GetConnection(), connection)
	}
}

func TestAssignTicketsInPart(t *testing.T) {
	t.Parallel()
	b := newBench(t, shared, nil)
	one, two := b.create(), b.create()
	lost := []string{xid.New().String(), xid.New().String()}
	resp, err := b.backend.AssignTickets(b.ctx(), &pb.AssignTicketsRequest{Assignments: []*pb.AssignmentGroup{
		group("x:1", one.GetId(), lost[0]), group("y:1", lost[1], two.GetId()),
	}})
	if err != nil {
		t.Fatal(err)
	}
	var failed []string
	for _, f := range resp.GetFailures() {
		failed = append(failed, f.GetTicketId())
		if f.GetCause() != pb.AssignmentFailure_TICKET_NOT_FOUND {
			t.Errorf("cause %v, want TICKET_NOT_FOUND", f.GetCause())
		}
	}
	if !sameIDs(failed, lost) {
		t.Errorf("failures of %v, want %v", failed, lost)
	}
	b.wantConnection(one, "x:1")
	b.wantConnection(two, "y:1")
}

func TestAssignTicketsOverwrites(t *testing.T) {
	t.Parallel()
	b := newBench(t, shared, nil)
	ticket := b.create()
	b.assign("x:1", ticket)
	b.assign("y:1", ticket)
	b.wantConnection(ticket, "y:1")
}

// Assigned for good: neither a release nor a fetch brings it back.
func TestAssignedTicketsLeaveThePools(t *testing.T) {
	t.Parallel()
	b := newBench(t, shared, nil)
	fetched, waiting := b.create(), b.create()
	b.queryUntil(b.pool(), fetched, waiting)
	b.fetch(2)
	b.assign("x:1", fetched)
	b.release(fetched, waiting)
	b.queryUntil(b.pool(), waiting)
	b.assign("x:1", waiting)
	b.queryUntil(b.pool())
	b.fetchNothing()
}

func (b *bench) release(tickets ...*pb.Ticket) {
	b.t.Helper()
	_, err := b.backend.ReleaseTickets(b.ctx(), &pb.ReleaseTicketsRequest{TicketIds: idsOf(tickets)})
	if err != nil {
		b.t.Fatalf("ReleaseTickets: %v", err)
	}
}

func TestReleaseTickets(t *testing.T) {
	t.Parallel()
	b := newBench(t, shared, nil)
	released, kept := b.create(), b.create()
	b.queryUntil(b.pool(), released, kept)
	b.fetch(2)
	b.queryUntil(b.pool())
	b.release(released)
	b.queryUntil(b.pool(), released)
	if got := idsOf(b.fetch(1)[0].GetTickets()); !sameIDs(got, []string{released.GetId()}) {
		t.Errorf("fetched %v, want %v", got, released.GetId())
	}
}

func TestReleaseTicketsThatAreNotThere(t *testing.T) {
	t.Parallel()
	b := newBench(t, shared, nil)
	b.release(&pb.Ticket{Id: xid.New().String()})
	b.release()
	b.release(b.create())
}

// Not parallel: it releases the tickets of every test.
func TestReleaseAllTickets(t *testing.T) { //nolint:paralleltest // see above
	b := newBench(t, shared, nil)
	tickets := []*pb.Ticket{b.create(), b.create(), b.create()}
	b.queryUntil(b.pool(), tickets...)
	b.fetch(len(tickets))
	b.queryUntil(b.pool())
	if _, err := b.backend.ReleaseAllTickets(b.ctx(), &pb.ReleaseAllTicketsRequest{}); err != nil {
		t.Fatal(err)
	}
	b.queryUntil(b.pool(), tickets...)
}
