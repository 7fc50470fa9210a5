package openmatch_test

import (
	"context"
	"testing"
	"time"

	"github.com/rs/xid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"
	"open-match.dev/open-match/pkg/pb"
)

func mustAny(t *testing.T, text string) *anypb.Any {
	t.Helper()
	a, err := anypb.New(wrapperspb.String(text))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestCreateTicketRefuses(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		ticket  *pb.Ticket
		message string
	}{
		{"no ticket", nil, ".ticket is required"},
		{"an assignment", &pb.Ticket{Assignment: &pb.Assignment{}}, "tickets cannot be created with an assignment"},
		{"a create time", &pb.Ticket{CreateTime: timestamppb.Now()}, "tickets cannot be created with create time set"},
	} {
		_, err := shared.frontend.CreateTicket(bounded(t), &pb.CreateTicketRequest{Ticket: test.ticket})
		wantStatus(t, test.name, err, codes.InvalidArgument, test.message)
	}
}

func TestCreateTicketReturnsItAll(t *testing.T) {
	t.Parallel()
	b := newBench(t, shared, nil)
	filed := &pb.Ticket{
		Id: "mine",
		SearchFields: &pb.SearchFields{
			DoubleArgs: map[string]float64{"level": 7},
			StringArgs: map[string]string{"mode": "raid"},
			Tags:       []string{b.tag},
		},
		Extensions:      map[string]*anypb.Any{"e": mustAny(t, "extension")},
		PersistentField: map[string]*anypb.Any{"p": mustAny(t, "persistent")},
	}
	before := time.Now()
	created, err := shared.frontend.CreateTicket(b.ctx(), &pb.CreateTicketRequest{Ticket: filed})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := xid.FromString(created.GetId()); err != nil || len(created.GetId()) != 20 {
		t.Errorf("id %q, want an xid of 20 characters", created.GetId())
	}
	const skew = time.Minute // the server may be another machine
	at := created.GetCreateTime().AsTime()
	if at.Before(before.Add(-skew)) || at.After(time.Now().Add(skew)) {
		t.Errorf("create time %v, want now", at)
	}
	want := proto.Clone(filed).(*pb.Ticket)
	want.Id, want.CreateTime = created.GetId(), created.GetCreateTime()
	if !proto.Equal(created, want) {
		t.Errorf("created %v\nwant %v", created, want)
	}
	got, err := shared.frontend.GetTicket(b.ctx(), &pb.GetTicketRequest{TicketId: created.GetId()})
	if err != nil {
		t.Fatal(err)
	}
	if !proto.Equal(got, want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
}

func TestGetTicketThatIsNotThere(t *testing.T) {
	t.Parallel()
	id := xid.New().String()
	_, err := shared.frontend.GetTicket(bounded(t), &pb.GetTicketRequest{TicketId: id})
	wantStatus(t, "GetTicket", err, codes.NotFound, notFound(id))
}

func TestDeleteTicketThatIsNotThere(t *testing.T) {
	t.Parallel()
	_, err := shared.frontend.DeleteTicket(bounded(t), &pb.DeleteTicketRequest{TicketId: xid.New().String()})
	wantStatus(t, "DeleteTicket", err, codes.OK, "")
}

func TestDeleteTicket(t *testing.T) {
	t.Parallel()
	b := newBench(t, shared, nil)
	gone, stays := b.create(), b.create()
	b.queryUntil(b.pool(), gone, stays)
	if _, err := b.frontend.DeleteTicket(b.ctx(), &pb.DeleteTicketRequest{TicketId: gone.GetId()}); err != nil {
		t.Fatal(err)
	}
	if got, err := b.queryTickets(b.ctx(), b.pool()); err != nil || !sameIDs(idsOf(got), []string{stays.GetId()}) {
		t.Errorf("behind DeleteTicket the pool has %v, %v; want what stays", idsOf(got), err)
	}
	b.goneSoon(gone)
}

// goneSoon asks for a ticket until it is not found: Open Match deletes behind the reply.
func (b *bench) goneSoon(gone *pb.Ticket) {
	b.t.Helper()
	ctx := b.ctx()
	for {
		_, err := b.frontend.GetTicket(ctx, &pb.GetTicketRequest{TicketId: gone.GetId()})
		if err != nil {
			wantStatus(b.t, "GetTicket", err, codes.NotFound, notFound(gone.GetId()))
			return
		}
	}
}

func (b *bench) watch(ctx context.Context, id string) pb.FrontendService_WatchAssignmentsClient {
	b.t.Helper()
	stream, err := b.frontend.WatchAssignments(ctx, &pb.WatchAssignmentsRequest{TicketId: id})
	if err != nil {
		b.t.Fatalf("WatchAssignments: %v", err)
	}
	return stream
}

func wantAssignment(t *testing.T, stream pb.FrontendService_WatchAssignmentsClient, connection string) {
	t.Helper()
	resp, err := stream.Recv()
	if err != nil {
		t.Fatalf("waiting for %q: %v", connection, err)
	}
	if got := resp.GetAssignment().GetConnection(); got != connection {
		t.Fatalf("assigned to %q, want %q", got, connection)
	}
}

func TestWatchAssignmentsOfNoTicket(t *testing.T) {
	t.Parallel()
	b := newBench(t, shared, nil)
	id := xid.New().String()
	_, err := b.watch(b.ctx(), id).Recv()
	wantStatus(t, "WatchAssignments", err, codes.NotFound, notFound(id))
}

// The first message comes with the first assignment, the next only with a different one: if the repeated
// assignment were sent, or the stream ended after the first, the second wait would fail.
func TestWatchAssignmentsSendsChanges(t *testing.T) {
	t.Parallel()
	b := newBench(t, shared, nil)
	ticket := b.create()
	early := b.watch(b.ctx(), ticket.GetId())
	b.assign("one:1", ticket)
	wantAssignment(t, early, "one:1")
	b.assign("one:1", ticket)
	late := b.watch(b.ctx(), ticket.GetId())
	wantAssignment(t, late, "one:1")
	b.assign("two:2", ticket)
	wantAssignment(t, early, "two:2")
	wantAssignment(t, late, "two:2")
}

func TestWatchAssignmentsSeesExtensionsChange(t *testing.T) {
	t.Parallel()
	b := newBench(t, shared, nil)
	ticket := b.create()
	stream := b.watch(b.ctx(), ticket.GetId())
	for _, text := range []string{"first", "second"} {
		assignment := &pb.Assignment{Connection: "same", Extensions: map[string]*anypb.Any{"e": mustAny(t, text)}}
		_, err := b.backend.AssignTickets(b.ctx(), &pb.AssignTicketsRequest{Assignments: []*pb.AssignmentGroup{{
			TicketIds: []string{ticket.GetId()}, Assignment: assignment,
		}}})
		if err != nil {
			t.Fatal(err)
		}
		resp, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if !proto.Equal(resp.GetAssignment(), assignment) {
			t.Errorf("assigned %v, want %v", resp.GetAssignment(), assignment)
		}
	}
}

func TestWatchAssignmentsOfADeletedTicket(t *testing.T) {
	t.Parallel()
	b := newBench(t, shared, nil)
	ticket := b.create()
	b.assign("one:1", ticket)
	stream := b.watch(b.ctx(), ticket.GetId())
	wantAssignment(t, stream, "one:1")
	if _, err := b.frontend.DeleteTicket(b.ctx(), &pb.DeleteTicketRequest{TicketId: ticket.GetId()}); err != nil {
		t.Fatal(err)
	}
	_, err := stream.Recv()
	wantStatus(t, "WatchAssignments", err, codes.NotFound, notFound(ticket.GetId()))
}

func TestWatchAssignmentsEndsWithItsCaller(t *testing.T) {
	t.Parallel()
	b := newBench(t, shared, nil)
	ticket := b.create()
	b.assign("one:1", ticket)
	ctx, cancel := context.WithCancel(b.ctx())
	stream := b.watch(ctx, ticket.GetId())
	wantAssignment(t, stream, "one:1")
	cancel()
	if _, err := stream.Recv(); status.Code(err) != codes.Canceled {
		t.Errorf("WatchAssignments: %v, want Canceled", err)
	}
}

// An assigned ticket is deleted in time, and who watches it hears of that.
func TestAssignedTicketsExpire(t *testing.T) {
	t.Parallel()
	s, timeout := timeouts(t, "ASSIGNED_DELETE")
	b := newBench(t, s, nil)
	ticket := b.create()
	ctx, cancel := context.WithTimeout(context.Background(), timeout+eventually)
	defer cancel()
	stream := b.watch(ctx, ticket.GetId())
	b.assign("one:1", ticket)
	wantAssignment(t, stream, "one:1")
	_, err := stream.Recv()
	wantStatus(t, "WatchAssignments", err, codes.NotFound, notFound(ticket.GetId()))
	_, err = s.frontend.GetTicket(ctx, &pb.GetTicketRequest{TicketId: ticket.GetId()})
	wantStatus(t, "GetTicket", err, codes.NotFound, notFound(ticket.GetId()))
}
