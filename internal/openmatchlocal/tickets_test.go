package openmatchlocal

import (
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"open-match.dev/open-match/pkg/pb"
)

func wantPools(t *testing.T, s *store, want ...*pb.Ticket) {
	t.Helper()
	var ids []string
	for _, ticket := range want {
		ids = append(ids, ticket.GetId())
	}
	if got := inPools(s); !slices.Equal(got, ids) {
		t.Errorf("in the pools %v, want %v", got, ids)
	}
}

func wantCensus(t *testing.T, s *store, want census) {
	t.Helper()
	if got := s.count(); got != want {
		t.Errorf("the store has %+v, want %+v", got, want)
	}
}

func TestTicketsKeepTheirOrder(t *testing.T) {
	t.Parallel()
	s := newTestStore(t, Config{})
	a, b, c := file(s), file(s), file(s)
	wantPools(t, s, a, b, c)
	accepts(t, s, proposal("m", a))
	s.release([]ticketID{idOf(a)})
	wantPools(t, s, b, c, a)
}

func TestPendingTicketsComeBackInTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newTestStore(t, Config{})
		a, b := file(s), file(s)
		accepts(t, s, proposal("1", a))
		advance(30 * time.Second)
		accepts(t, s, proposal("2", b))
		wantPools(t, s)
		advance(29 * time.Second)
		wantPools(t, s)
		advance(time.Second)
		wantPools(t, s, a)
		advance(30 * time.Second)
		wantPools(t, s, a, b)
	})
}

// A ticket that was released and fetched again is pending for the whole timeout from then.
func TestPendingStartsAnew(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newTestStore(t, Config{})
		a := file(s)
		accepts(t, s, proposal("1", a))
		advance(40 * time.Second)
		s.release([]ticketID{idOf(a)})
		accepts(t, s, proposal("2", a))
		advance(40 * time.Second)
		wantPools(t, s)
		advance(20 * time.Second)
		wantPools(t, s, a)
	})
}

func TestAssignedTicketsAreDeletedInTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newTestStore(t, Config{OrphanTimeout: time.Minute})
		a := file(s)
		s.assign([]ticketID{idOf(a)}, &pb.Assignment{Connection: "x:1"})
		advance(9 * time.Minute)
		// Assigned again, it lives ten minutes from now.
		s.assign([]ticketID{idOf(a)}, &pb.Assignment{Connection: "y:1"})
		advance(10*time.Minute - time.Nanosecond)
		if got, err := s.ticket(idOf(a)); err != nil || got.GetAssignment().GetConnection() != "y:1" {
			t.Errorf("got %v %v, want it at y:1", got, err)
		}
		advance(time.Nanosecond)
		if _, err := s.ticket(idOf(a)); status.Code(err) != codes.NotFound {
			t.Errorf("got %v, want NotFound", err)
		}
		wantCensus(t, s, census{})
	})
}

func TestOrphansAreDeletedInTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newTestStore(t, Config{OrphanTimeout: time.Minute, PendingReleaseTimeout: time.Hour})
		waiting, pending, assigned := file(s), file(s), file(s)
		accepts(t, s, proposal("m", pending))
		s.assign([]ticketID{idOf(assigned)}, &pb.Assignment{})
		advance(time.Minute - time.Nanosecond)
		wantCensus(t, s, census{available: 1, pending: 1, assigned: 1})
		advance(time.Nanosecond)
		wantCensus(t, s, census{assigned: 1})
		wantPools(t, s)
		for _, gone := range []*pb.Ticket{waiting, pending} {
			if _, err := s.ticket(idOf(gone)); status.Code(err) != codes.NotFound {
				t.Errorf("got %v, want NotFound", err)
			}
		}
	})
}

func TestWithoutOrphanTimeoutTicketsStay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newTestStore(t, Config{})
		a := file(s)
		advance(1000 * time.Hour)
		wantPools(t, s, a)
	})
}

func TestAssignedTicketsAreNotReleased(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newTestStore(t, Config{})
		fetched, waiting := file(s), file(s)
		accepts(t, s, proposal("m", fetched))
		_, missing := s.assign([]ticketID{idOf(fetched), idOf(waiting), "lost"}, &pb.Assignment{})
		if !slices.Equal(missing, []ticketID{"lost"}) {
			t.Errorf("missing %v, want lost", missing)
		}
		s.release([]ticketID{idOf(fetched), idOf(waiting), "lost"})
		s.releaseAll()
		advance(2 * time.Minute)
		wantPools(t, s)
		wantCensus(t, s, census{assigned: 2})
	})
}

func TestReleaseAll(t *testing.T) {
	t.Parallel()
	s := newTestStore(t, Config{})
	a, b, c := file(s), file(s), file(s)
	accepts(t, s, proposal("1", b, a))
	s.releaseAll()
	wantPools(t, s, c, b, a)
	wantCensus(t, s, census{available: 3})
}

// A ticket that somebody holds never changes under them.
func TestAssignmentCopiesTheTicket(t *testing.T) {
	t.Parallel()
	s := newTestStore(t, Config{})
	filed := &pb.Ticket{
		SearchFields:    &pb.SearchFields{Tags: []string{"a"}},
		Extensions:      map[string]*anypb.Any{"e": {TypeUrl: "x/y"}},
		PersistentField: map[string]*anypb.Any{"p": {TypeUrl: "x/z"}},
	}
	filed.ProtoReflect().SetUnknown([]byte{0x98, 0x06, 0x01}) // field 99: what a later version might add
	before := s.createTicket(filed)
	held := proto.Clone(before)
	tickets, _ := s.assign([]ticketID{idOf(before)}, &pb.Assignment{Connection: "x:1"})
	if !proto.Equal(before, held) {
		t.Errorf("the ticket became %v, want %v", before, held)
	}
	want := proto.Clone(held).(*pb.Ticket)
	want.Assignment = &pb.Assignment{Connection: "x:1"}
	if !proto.Equal(tickets[0], want) {
		t.Errorf("assigned %v, want %v", tickets[0], want)
	}
}

func TestWatchTicketSeesAssignmentsAndTheEnd(t *testing.T) {
	t.Parallel()
	s := newTestStore(t, Config{})
	id := idOf(file(s))
	for _, step := range []struct {
		connection string
		act        func()
	}{
		{"", func() { s.assign([]ticketID{id}, &pb.Assignment{Connection: "x:1"}) }},
		{"x:1", func() { s.assign([]ticketID{id}, &pb.Assignment{Connection: "y:1"}) }},
		{"y:1", func() { s.deleteTicket(id) }},
	} {
		ticket, changed, err := s.watchTicket(id)
		if err != nil || ticket.GetAssignment().GetConnection() != step.connection {
			t.Fatalf("watched %v %v, want %q", ticket, err, step.connection)
		}
		_, other, _ := s.watchTicket(id)
		select {
		case <-changed:
			t.Fatalf("changed before anything happened to %q", step.connection)
		default:
		}
		step.act()
		<-changed
		<-other
	}
	if _, _, err := s.watchTicket(id); status.Code(err) != codes.NotFound {
		t.Errorf("watched a deleted ticket: %v", err)
	}
}

func TestDeletedTicketsLeaveNothing(t *testing.T) {
	t.Parallel()
	s := newTestStore(t, Config{OrphanTimeout: time.Minute})
	waiting, pending, assigned := file(s), file(s), file(s)
	accepts(t, s, proposal("m", pending))
	s.assign([]ticketID{idOf(assigned)}, &pb.Assignment{})
	for _, ticket := range []*pb.Ticket{waiting, pending, assigned} {
		s.deleteTicket(idOf(ticket))
		s.deleteTicket(idOf(ticket))
	}
	wantCensus(t, s, census{})
	if n := s.pending.len() + s.orphans.len() + s.assigned.len(); n > 0 {
		t.Errorf("%d deadlines are left", n)
	}
}

// Directors that accept the same proposals at the same time share no ticket.
func TestConcurrentAcceptsShareNoTicket(t *testing.T) {
	t.Parallel()
	s := newTestStore(t, Config{})
	const tickets, directors = 200, 4
	var proposals []*pb.Match
	for range tickets {
		proposals = append(proposals, proposal("m", file(s)))
	}
	var wg sync.WaitGroup
	accepted := make([]int, directors)
	for i := range directors {
		wg.Go(func() {
			for _, m := range proposals {
				accepted[i] += len(s.accept([]*pb.Match{m}, s.now()).accepted)
			}
		})
	}
	wg.Wait()
	var sum int
	for _, n := range accepted {
		sum += n
	}
	if sum != tickets {
		t.Errorf("%d tickets were handed out %d times", tickets, sum)
	}
}
