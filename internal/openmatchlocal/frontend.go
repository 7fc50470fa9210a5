package openmatchlocal

import (
	"context"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
	"open-match.dev/open-match/pkg/pb"
)

var _ pb.FrontendServiceServer = (*frontend)(nil)

// frontend is the FrontendService.
type frontend struct {
	pb.UnimplementedFrontendServiceServer

	store    *store
	stopping <-chan struct{}
}

var errStopping = status.Error(codes.Unavailable, "the server is stopping")

func (f *frontend) CreateTicket(_ context.Context, req *pb.CreateTicketRequest) (*pb.Ticket, error) {
	t := req.GetTicket()
	switch {
	case t == nil:
		return nil, status.Error(codes.InvalidArgument, ".ticket is required")
	case t.GetAssignment() != nil:
		return nil, status.Error(codes.InvalidArgument, "tickets cannot be created with an assignment")
	case t.GetCreateTime() != nil:
		return nil, status.Error(codes.InvalidArgument, "tickets cannot be created with create time set")
	}
	return f.store.createTicket(t), nil
}

func (f *frontend) GetTicket(_ context.Context, req *pb.GetTicketRequest) (*pb.Ticket, error) {
	return f.store.ticket(ticketID(req.GetTicketId()))
}

func (f *frontend) DeleteTicket(_ context.Context, req *pb.DeleteTicketRequest) (*emptypb.Empty, error) {
	f.store.deleteTicket(ticketID(req.GetTicketId()))
	return &emptypb.Empty{}, nil
}

// WatchAssignments sends the assignment whenever it differs from what was sent last, until the ticket or the
// caller is gone.
func (f *frontend) WatchAssignments(req *pb.WatchAssignmentsRequest, stream pb.FrontendService_WatchAssignmentsServer) error {
	ctx := stream.Context()
	var sent *pb.Assignment
	for {
		t, changed, err := f.store.watchTicket(ticketID(req.GetTicketId()))
		if err != nil {
			return err
		}
		if a := t.GetAssignment(); a != nil && (sent == nil || !proto.Equal(sent, a)) {
			if err := stream.Send(&pb.WatchAssignmentsResponse{Assignment: a}); err != nil {
				return status.Error(codes.Aborted, err.Error())
			}
			sent = a
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return status.Error(codes.Aborted, ctx.Err().Error())
		case <-f.stopping:
			return errStopping
		}
	}
}

func (f *frontend) CreateBackfill(_ context.Context, req *pb.CreateBackfillRequest) (*pb.Backfill, error) {
	b := req.GetBackfill()
	switch {
	case b == nil:
		return nil, status.Error(codes.InvalidArgument, ".backfill is required")
	case b.GetCreateTime() != nil:
		return nil, status.Error(codes.InvalidArgument, "backfills cannot be created with create time set")
	}
	return f.store.createBackfill(b), nil
}

func (f *frontend) GetBackfill(_ context.Context, req *pb.GetBackfillRequest) (*pb.Backfill, error) {
	return f.store.backfill(backfillID(req.GetBackfillId()))
}

func (f *frontend) UpdateBackfill(_ context.Context, req *pb.UpdateBackfillRequest) (*pb.Backfill, error) {
	b := req.GetBackfill()
	switch {
	case b == nil:
		return nil, status.Error(codes.InvalidArgument, ".backfill is required")
	case b.GetId() == "":
		return nil, status.Error(codes.InvalidArgument, "backfill ID should exist")
	}
	return f.store.updateBackfill(b)
}

func (f *frontend) DeleteBackfill(_ context.Context, req *pb.DeleteBackfillRequest) (*emptypb.Empty, error) {
	if req.GetBackfillId() == "" {
		return nil, status.Error(codes.InvalidArgument, ".BackfillId is required")
	}
	f.store.deleteBackfill(backfillID(req.GetBackfillId()))
	return &emptypb.Empty{}, nil
}

func (f *frontend) AcknowledgeBackfill(_ context.Context, req *pb.AcknowledgeBackfillRequest) (*pb.AcknowledgeBackfillResponse, error) {
	switch {
	case req.GetBackfillId() == "":
		return nil, status.Error(codes.InvalidArgument, ".BackfillId is required")
	case req.GetAssignment() == nil:
		return nil, status.Error(codes.InvalidArgument, ".Assignment is required")
	}
	b, tickets, err := f.store.acknowledgeBackfill(backfillID(req.GetBackfillId()), req.GetAssignment())
	if err != nil {
		return nil, err
	}
	return &pb.AcknowledgeBackfillResponse{Backfill: b, Tickets: tickets}, nil
}
