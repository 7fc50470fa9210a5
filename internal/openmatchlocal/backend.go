package openmatchlocal

import (
	"context"
	"log/slog"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"open-match.dev/open-match/pkg/pb"
)

var _ pb.BackendServiceServer = (*backend)(nil)

// backend is the BackendService. FetchMatches is in fetch.go.
type backend struct {
	pb.UnimplementedBackendServiceServer

	store              *store
	functions          *matchFunctions
	fetchWait          time.Duration
	collectionInterval time.Duration
	stopping           <-chan struct{}
	log                *slog.Logger
	metrics            *metrics
}

// AssignTickets assigns what is there, whatever assignment it had, and reports what is not.
func (b *backend) AssignTickets(_ context.Context, req *pb.AssignTicketsRequest) (*pb.AssignTicketsResponse, error) {
	if err := checkAssignments(req.GetAssignments()); err != nil {
		return nil, err
	}
	resp := &pb.AssignTicketsResponse{}
	for _, group := range req.GetAssignments() {
		_, missing := b.store.assign(ticketIDs(group.GetTicketIds()), group.GetAssignment())
		for _, id := range missing {
			resp.Failures = append(resp.Failures, &pb.AssignmentFailure{
				TicketId: string(id),
				Cause:    pb.AssignmentFailure_TICKET_NOT_FOUND,
			})
		}
	}
	return resp, nil
}

// checkAssignments lets a request without any group pass, as Open Match does: it assigns nothing.
func checkAssignments(groups []*pb.AssignmentGroup) error {
	seen := make(map[string]bool)
	for _, group := range groups {
		if group.GetAssignment() == nil {
			return status.Error(codes.InvalidArgument, "AssignmentGroup.Assignment is required")
		}
		for _, id := range group.GetTicketIds() {
			if seen[id] {
				return status.Errorf(codes.InvalidArgument,
					"Ticket id %s is assigned multiple times in one assign tickets call", id)
			}
			seen[id] = true
		}
	}
	if len(groups) > 0 && len(seen) == 0 {
		return status.Error(codes.InvalidArgument, "AssignmentGroupTicketIds is empty")
	}
	return nil
}

func (b *backend) ReleaseTickets(_ context.Context, req *pb.ReleaseTicketsRequest) (*pb.ReleaseTicketsResponse, error) {
	b.store.release(ticketIDs(req.GetTicketIds()))
	return &pb.ReleaseTicketsResponse{}, nil
}

func (b *backend) ReleaseAllTickets(context.Context, *pb.ReleaseAllTicketsRequest) (*pb.ReleaseAllTicketsResponse, error) {
	b.store.releaseAll()
	return &pb.ReleaseAllTicketsResponse{}, nil
}

func ticketIDs(ids []string) []ticketID {
	typed := make([]ticketID, len(ids))
	for i, id := range ids {
		typed[i] = ticketID(id)
	}
	return typed
}
