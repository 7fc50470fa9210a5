package openmatchlocal

import (
	"slices"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"open-match.dev/open-match/pkg/pb"
)

var _ pb.QueryServiceServer = (*query)(nil)

// query is the QueryService. A page may exceed the 4 MiB that a gRPC client takes by default, as Open Match's
// may.
type query struct {
	pb.UnimplementedQueryServiceServer

	store    *store
	pageSize int
}

func (q *query) QueryTickets(req *pb.QueryTicketsRequest, stream pb.QueryService_QueryTicketsServer) error {
	pool, err := requiredPool(req.GetPool())
	if err != nil {
		return err
	}
	for page := range slices.Chunk(q.store.queryTickets(pool), q.pageSize) {
		if err := stream.Send(&pb.QueryTicketsResponse{Tickets: page}); err != nil {
			return err
		}
	}
	return nil
}

func (q *query) QueryTicketIds(req *pb.QueryTicketIdsRequest, stream pb.QueryService_QueryTicketIdsServer) error {
	pool, err := requiredPool(req.GetPool())
	if err != nil {
		return err
	}
	for page := range slices.Chunk(q.store.queryTickets(pool), q.pageSize) {
		ids := make([]string, len(page))
		for i, t := range page {
			ids[i] = t.GetId()
		}
		if err := stream.Send(&pb.QueryTicketIdsResponse{Ids: ids}); err != nil {
			return err
		}
	}
	return nil
}

func (q *query) QueryBackfills(req *pb.QueryBackfillsRequest, stream pb.QueryService_QueryBackfillsServer) error {
	pool, err := requiredPool(req.GetPool())
	if err != nil {
		return err
	}
	for page := range slices.Chunk(q.store.queryBackfills(pool), q.pageSize) {
		if err := stream.Send(&pb.QueryBackfillsResponse{Backfills: page}); err != nil {
			return err
		}
	}
	return nil
}

func requiredPool(pool *pb.Pool) (poolFilter, error) {
	if pool == nil {
		return poolFilter{}, status.Error(codes.InvalidArgument, ".pool is required")
	}
	return newPoolFilter(pool)
}
