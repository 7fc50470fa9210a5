package matchfunction

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/rs/xid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"open-match.dev/open-match/pkg/pb"

	"github.com/guildhall-dev/guildhall/internal/ticket"
	"github.com/guildhall-dev/guildhall/internal/tracing"
)

// function answers Open Match's backend.
type function struct {
	pb.UnimplementedMatchFunctionServer
	query   pb.QueryServiceClient
	metrics *metrics
	tracer  tracing.Tracer
}

var _ pb.MatchFunctionServer = (*function)(nil)

// Run streams one proposal for each group that waits in the profile's pools.
func (f *function) Run(request *pb.RunRequest, stream pb.MatchFunction_RunServer) error {
	profile := request.GetProfile()
	if profile == nil {
		return status.Error(codes.InvalidArgument, "the request has no profile")
	}
	start := time.Now()
	tickets, err := f.queryPools(stream.Context(), profile.GetPools())
	if err != nil {
		return err
	}
	matches, foreign, err := Matches(profile.GetName(), tickets, time.Now(), func() string { return xid.New().String() })
	if err != nil {
		return status.Errorf(codes.Internal, "grouping %d tickets: %v", len(tickets), err)
	}
	for _, match := range matches {
		err := stream.Send(&pb.RunResponse{Proposal: match})
		f.trace(stream.Context(), match, start, err)
		if err != nil {
			return fmt.Errorf("sending a proposal: %w", err)
		}
	}
	f.metrics.ran(time.Since(start), len(tickets), foreign, len(matches))
	return nil
}

// trace notes a match in the trace of its first ticket, from the start of the run.
func (f *function) trace(ctx context.Context, match *pb.Match, start time.Time, err error) {
	if !f.tracer.IsOn() {
		return
	}
	if traces := ticket.Traceparents(match.GetTickets()); len(traces) > 0 && match.GetAllocateGameserver() {
		_, span := f.tracer.StartFrom(ctx, traces[0], "match", tracing.Internal, start)
		span.End(err)
	}
}

func (f *function) queryPools(ctx context.Context, pools []*pb.Pool) ([]*pb.Ticket, error) {
	var tickets []*pb.Ticket
	for _, pool := range pools {
		pages, err := f.query.QueryTickets(ctx, &pb.QueryTicketsRequest{Pool: pool})
		if err != nil {
			return nil, queryError(pool, err)
		}
		for {
			page, err := pages.Recv()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return nil, queryError(pool, err)
			}
			tickets = append(tickets, page.GetTickets()...)
		}
	}
	return tickets, nil
}

func queryError(pool *pb.Pool, err error) error {
	return status.Errorf(status.Code(err), "querying pool %q: %v", pool.GetName(), err)
}
