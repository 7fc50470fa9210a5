package director

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"open-match.dev/open-match/pkg/pb"

	"github.com/guildhall-dev/guildhall"
	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
	"github.com/guildhall-dev/guildhall/internal/ticket"
)

// smallBackend is Open Match's backend as an assigner sees it.
type smallBackend struct {
	pb.UnimplementedBackendServiceServer
	requests chan *pb.AssignTicketsRequest
	answers  chan backendAnswer // what to answer next
}

type backendAnswer struct {
	failures []*pb.AssignmentFailure
	err      error
}

// AssignTickets shows the request to the test and answers as it says.
func (b *smallBackend) AssignTickets(_ context.Context, request *pb.AssignTicketsRequest) (*pb.AssignTicketsResponse, error) {
	b.requests <- request
	answer := <-b.answers
	return &pb.AssignTicketsResponse{Failures: answer.failures}, answer.err
}

// assignWorld is an assigner, its backend, and an inbox where its answers arrive.
type assignWorld struct {
	*world
	backend  *smallBackend
	assigner *assigner
	inbox    string
	answers  chan *nats.Msg
	stop     func()
}

func setupAssign(t *testing.T) *assignWorld {
	w := &assignWorld{
		world: setup(t), inbox: nats.NewInbox(), answers: make(chan *nats.Msg, 100),
		backend: &smallBackend{requests: make(chan *pb.AssignTicketsRequest), answers: make(chan backendAnswer, 100)},
	}
	server := grpc.NewServer()
	pb.RegisterBackendServiceServer(server, w.backend)
	client := pb.NewBackendServiceClient(w.dial(w.serve(server)))
	if _, err := w.nats.ChanSubscribe(w.inbox, w.answers); err != nil {
		t.Fatal(err)
	}
	w.assigner = newAssigner(client, w.nats, slog.New(slog.DiscardHandler), newMetrics(prometheus.NewRegistry()))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.assigner.Run(ctx) }()
	stopped := false
	w.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the assigner ended: %v", err)
		}
	}
	t.Cleanup(w.stop)
	return w
}

// match makes a match of our tickets.
func (w *assignWorld) match(group guildhall.Group, ids ...string) *pb.Match {
	w.t.Helper()
	match := &pb.Match{}
	for _, id := range ids {
		made, err := ticket.New(ticket.Details{Group: group, Inbox: w.inbox, ExpiresAt: time.Now().Add(time.Minute)}, 1)
		if err != nil {
			w.t.Fatal(err)
		}
		made.Id = id
		match.Tickets = append(match.Tickets, made)
	}
	return match
}

func placementFor(group guildhall.Group) *guildhallv1.Placement {
	return &guildhallv1.Placement{Group: group.String(), Host: "h", Address: "127.0.0.1:1", Epoch: 7}
}

// told gives the next answer that arrives at the inbox.
func (w *assignWorld) told() *guildhallv1.Assigned {
	w.t.Helper()
	select {
	case message := <-w.answers:
		assigned := &guildhallv1.Assigned{}
		if err := proto.Unmarshal(message.Data, assigned); err != nil {
			w.t.Fatal(err)
		}
		return assigned
	case <-w.ctx.Done():
		w.t.Fatal("no answer arrives")
		return nil
	}
}

func TestAssignThenTell(t *testing.T) {
	w := setupAssign(t)
	w.assigner.assign(w.ctx, w.match(testGroup(1), "t1", "t2"), placementFor(testGroup(1)))
	request := <-w.backend.requests
	if len(w.answers) > 0 {
		t.Error("a frontend was told before Open Match had the assignment")
	}
	group := request.GetAssignments()[0]
	placement, err := ticket.ReadAssignment(group.GetAssignment())
	if err != nil || group.GetAssignment().GetConnection() != "127.0.0.1:1" || placement.GetEpoch() != 7 || len(group.GetTicketIds()) != 2 {
		t.Errorf("Open Match was told %v, %v", request, err)
	}
	w.backend.answers <- backendAnswer{}
	for _, id := range []string{"t1", "t2"} {
		if told := w.told(); told.GetTicketId() != id || !proto.Equal(told.GetPlacement(), placementFor(testGroup(1))) {
			t.Errorf("the frontend was told %v, want of %s", told, id)
		}
	}
}

// What is placed while one call is under way goes into the next one together, and a ticket once only.
func TestAssignInBatches(t *testing.T) {
	w := setupAssign(t)
	w.assigner.assign(w.ctx, w.match(testGroup(1), "t1"), placementFor(testGroup(1)))
	<-w.backend.requests
	w.assigner.assign(w.ctx, w.match(testGroup(2), "t2", "t3"), placementFor(testGroup(2)))
	w.assigner.assign(w.ctx, w.match(testGroup(3), "t4"), placementFor(testGroup(3)))
	w.assigner.assign(w.ctx, w.match(testGroup(2), "t3", "t5"), placementFor(testGroup(2)))
	w.backend.answers <- backendAnswer{}
	request := <-w.backend.requests
	w.backend.answers <- backendAnswer{}
	count := map[string]int{}
	for _, group := range request.GetAssignments() {
		for _, id := range group.GetTicketIds() {
			count[id]++
		}
	}
	if len(request.GetAssignments()) != 3 || len(count) != 4 {
		t.Errorf("the second call was %v", request)
	}
	for id, n := range count {
		if n != 1 {
			t.Errorf("ticket %s stands %d times in one call, which Open Match refuses", id, n)
		}
	}
}

func TestTicketsThatLeftAreNotTold(t *testing.T) {
	w := setupAssign(t)
	w.assigner.assign(w.ctx, w.match(testGroup(1), "gone", "here"), placementFor(testGroup(1)))
	<-w.backend.requests
	w.backend.answers <- backendAnswer{failures: []*pb.AssignmentFailure{{TicketId: "gone", Cause: pb.AssignmentFailure_TICKET_NOT_FOUND}}}
	if told := w.told(); told.GetTicketId() != "here" {
		t.Errorf("told %v", told)
	}
}

func TestAssignIsTriedAgainAndPlayersAreToldInTheEnd(t *testing.T) {
	w := setupAssign(t)
	w.assigner.assign(w.ctx, w.match(testGroup(1), "t1"), placementFor(testGroup(1)))
	for range assignTries {
		<-w.backend.requests
		w.backend.answers <- backendAnswer{err: context.DeadlineExceeded}
	}
	if told := w.told(); told.GetTicketId() != "t1" {
		t.Errorf("told %v", told)
	}
}

// The stop loses nothing that was handed over.
func TestStopAssignsWhatWasPlaced(t *testing.T) {
	w := setupAssign(t)
	w.assigner.assign(w.ctx, w.match(testGroup(1), "t1"), placementFor(testGroup(1)))
	<-w.backend.requests
	w.assigner.assign(w.ctx, w.match(testGroup(2), "t2"), placementFor(testGroup(2)))
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		w.stop()
	}()
	w.backend.answers <- backendAnswer{}
	<-w.backend.requests
	w.backend.answers <- backendAnswer{}
	<-stopped
	w.told()
	if told := w.told(); told.GetTicketId() != "t2" {
		t.Errorf("told %v", told)
	}
}
