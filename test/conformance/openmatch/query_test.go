package openmatch_test

import (
	"context"
	"errors"
	"io"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"open-match.dev/open-match/pkg/pb"
)

func (b *bench) queryIDs(ctx context.Context, pool *pb.Pool) ([]string, error) {
	stream, err := b.query.QueryTicketIds(ctx, &pb.QueryTicketIdsRequest{Pool: pool})
	if err != nil {
		return nil, err
	}
	var ids []string
	for {
		resp, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return ids, nil
		}
		if err != nil {
			return ids, err
		}
		ids = append(ids, resp.GetIds()...)
	}
}

func (b *bench) queryBackfills(ctx context.Context, pool *pb.Pool) ([]*pb.Backfill, error) {
	stream, err := b.query.QueryBackfills(ctx, &pb.QueryBackfillsRequest{Pool: pool})
	if err != nil {
		return nil, err
	}
	var backfills []*pb.Backfill
	for {
		resp, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return backfills, nil
		}
		if err != nil {
			return backfills, err
		}
		backfills = append(backfills, resp.GetBackfills()...)
	}
}

// queriesFail wants all three queries to refuse a pool.
func (b *bench) queriesFail(pool *pb.Pool, message string) {
	b.t.Helper()
	_, err := b.queryTickets(b.ctx(), pool)
	wantStatus(b.t, "QueryTickets", err, codes.InvalidArgument, message)
	_, err = b.queryIDs(b.ctx(), pool)
	wantStatus(b.t, "QueryTicketIds", err, codes.InvalidArgument, message)
	_, err = b.queryBackfills(b.ctx(), pool)
	wantStatus(b.t, "QueryBackfills", err, codes.InvalidArgument, message)
}

func TestQueriesRefuse(t *testing.T) {
	t.Parallel()
	b := newBench(t, shared, nil)
	never := &timestamppb.Timestamp{Nanos: -1}
	b.queriesFail(nil, ".pool is required")
	b.queriesFail(&pb.Pool{CreatedBefore: never}, ".invalid created_before value")
	b.queriesFail(&pb.Pool{CreatedAfter: never}, ".invalid created_after value")
}

func TestQueriesOfAnEmptyPool(t *testing.T) {
	t.Parallel()
	b := newBench(t, shared, nil)
	if pages, err := b.queryPages(b.ctx(), b.pool()); err != nil || len(pages) > 0 {
		t.Errorf("QueryTickets: %v %v, want no message", pages, err)
	}
	if ids, err := b.queryIDs(b.ctx(), b.pool()); err != nil || len(ids) > 0 {
		t.Errorf("QueryTicketIds: %v %v, want none", ids, err)
	}
	if backfills, err := b.queryBackfills(b.ctx(), b.pool()); err != nil || len(backfills) > 0 {
		t.Errorf("QueryBackfills: %v %v, want none", backfills, err)
	}
}

func TestQueryTicketsInPages(t *testing.T) {
	t.Parallel()
	size := pageSize(t)
	b := newBench(t, shared, nil)
	var tickets []*pb.Ticket
	for range 2*size + 1 {
		tickets = append(tickets, b.create())
	}
	b.queryUntil(b.pool(), tickets...)
	pages, err := b.queryPages(b.ctx(), b.pool())
	if err != nil {
		t.Fatal(err)
	}
	var sizes []int
	for _, page := range pages {
		sizes = append(sizes, len(page))
	}
	if !slices.Equal(sizes, []int{size, size, 1}) {
		t.Fatalf("pages of %v tickets, want %d, %d and 1", sizes, size, size)
	}
}

// The server pages by count and bounds no message: whoever queries has to take more than gRPC's default.
func TestPageBeyondTheDefaultOfClients(t *testing.T) {
	t.Parallel()
	b := newBench(t, shared, nil)
	const tickets, bytes = 9, 500 << 10 // in a page of ten
	large := map[string]*anypb.Any{"large": {TypeUrl: "x/y", Value: make([]byte, bytes)}}
	var filed []*pb.Ticket
	for range tickets {
		created, err := b.frontend.CreateTicket(b.ctx(), &pb.CreateTicketRequest{Ticket: &pb.Ticket{
			SearchFields: &pb.SearchFields{Tags: []string{b.tag}}, Extensions: large,
		}})
		if err != nil {
			t.Fatal(err)
		}
		filed = append(filed, created)
		t.Cleanup(func() { // they are a burden for the queries of others
			if _, err := b.frontend.DeleteTicket(bounded(t), &pb.DeleteTicketRequest{TicketId: created.GetId()}); err != nil {
				t.Error(err)
			}
		})
	}
	b.queryUntil(b.pool(), filed...)
	conn, err := grpc.NewClient(b.queryAddress, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	stream, err := pb.NewQueryServiceClient(conn).QueryTickets(b.ctx(), &pb.QueryTicketsRequest{Pool: b.pool()})
	if err == nil {
		_, err = stream.Recv()
	}
	wantStatus(t, "QueryTickets by a client with gRPC's default", err, codes.ResourceExhausted, "")
}

func TestQueryTicketIds(t *testing.T) {
	t.Parallel()
	b := newBench(t, shared, nil)
	var tickets []*pb.Ticket
	for range standInPageSize + 1 {
		tickets = append(tickets, b.create())
	}
	b.queryUntil(b.pool(), tickets...)
	ids, err := b.queryIDs(b.ctx(), b.pool())
	if err != nil {
		t.Fatal(err)
	}
	if !sameIDs(ids, idsOf(tickets)) {
		t.Errorf("ids %v, want %v", ids, idsOf(tickets))
	}
}

func TestQueriedTicketsAreWhole(t *testing.T) {
	t.Parallel()
	b := newBench(t, shared, nil)
	ticket := b.createWith(&pb.SearchFields{StringArgs: map[string]string{"mode": "raid"}})
	b.queryUntil(b.pool(), ticket)
	got, err := b.queryTickets(b.ctx(), b.pool())
	if err != nil {
		t.Fatal(err)
	}
	wantSame(t, got[0], ticket)
}

func doubleRange(low, high float64, exclude pb.DoubleRangeFilter_Exclude) *pb.DoubleRangeFilter {
	return &pb.DoubleRangeFilter{DoubleArg: "level", Min: low, Max: high, Exclude: exclude}
}

func equals(key, value string) *pb.StringEqualsFilter {
	return &pb.StringEqualsFilter{StringArg: key, Value: value}
}

// filters are tried on a ticket with level 5, mode raid and tag extra.
func filters(created time.Time) []struct {
	name   string
	pool   *pb.Pool
	passes bool
} {
	at := func(d time.Duration) *timestamppb.Timestamp { return timestamppb.New(created.Add(d)) }
	doubles := func(f ...*pb.DoubleRangeFilter) *pb.Pool { return &pb.Pool{DoubleRangeFilters: f} }
	strings := func(f ...*pb.StringEqualsFilter) *pb.Pool { return &pb.Pool{StringEqualsFilters: f} }
	tag := func(tag string) *pb.Pool {
		return &pb.Pool{TagPresentFilters: []*pb.TagPresentFilter{{Tag: tag}}}
	}
	return []struct {
		name   string
		pool   *pb.Pool
		passes bool
	}{
		{"nothing", &pb.Pool{}, true},
		{"inside", doubles(doubleRange(4, 6, pb.DoubleRangeFilter_NONE)), true},
		{"below", doubles(doubleRange(5.1, 6, pb.DoubleRangeFilter_NONE)), false},
		{"above", doubles(doubleRange(4, 4.9, pb.DoubleRangeFilter_NONE)), false},
		{"minimum in", doubles(doubleRange(5, 6, pb.DoubleRangeFilter_NONE)), true},
		{"maximum in", doubles(doubleRange(4, 5, pb.DoubleRangeFilter_NONE)), true},
		{"minimum out", doubles(doubleRange(5, 6, pb.DoubleRangeFilter_MIN)), false},
		{"minimum out, at the maximum", doubles(doubleRange(4, 5, pb.DoubleRangeFilter_MIN)), true},
		{"maximum out", doubles(doubleRange(4, 5, pb.DoubleRangeFilter_MAX)), false},
		{"maximum out, at the minimum", doubles(doubleRange(5, 6, pb.DoubleRangeFilter_MAX)), true},
		{"both out, at the minimum", doubles(doubleRange(5, 6, pb.DoubleRangeFilter_BOTH)), false},
		{"both out, at the maximum", doubles(doubleRange(4, 5, pb.DoubleRangeFilter_BOTH)), false},
		{"both out, inside", doubles(doubleRange(4, 6, pb.DoubleRangeFilter_BOTH)), true},
		{"no such number", doubles(&pb.DoubleRangeFilter{DoubleArg: "other", Min: -1, Max: 1}), false},
		{"string equal", strings(equals("mode", "raid")), true},
		{"string different", strings(equals("mode", "Raid")), false},
		{"no such string", strings(equals("other", "")), false},
		{"one of two strings", strings(equals("mode", "raid"), equals("mode", "duel")), false},
		{"tag", tag("extra"), true},
		{"no such tag", tag("extr"), false},
		{"created before its time", &pb.Pool{CreatedBefore: at(0)}, false},
		{"created before a moment later", &pb.Pool{CreatedBefore: at(time.Nanosecond)}, true},
		{"created after its time", &pb.Pool{CreatedAfter: at(0)}, false},
		{"created after a moment earlier", &pb.Pool{CreatedAfter: at(-time.Nanosecond)}, true},
	}
}

func filteredFields() *pb.SearchFields {
	return &pb.SearchFields{
		DoubleArgs: map[string]float64{"level": 5},
		StringArgs: map[string]string{"mode": "raid"},
		Tags:       []string{"extra"},
	}
}

// only narrows a pool to the bench's tag.
func (b *bench) only(pool *pb.Pool) *pb.Pool {
	pool.TagPresentFilters = append(pool.TagPresentFilters, &pb.TagPresentFilter{Tag: b.tag})
	return pool
}

func TestPoolFiltersOnTickets(t *testing.T) {
	t.Parallel()
	b := newBench(t, shared, nil)
	ticket := b.createWith(filteredFields())
	b.queryUntil(b.pool(), ticket)
	for _, test := range filters(ticket.GetCreateTime().AsTime()) {
		var want []string
		if test.passes {
			want = []string{ticket.GetId()}
		}
		got, err := b.queryIDs(b.ctx(), b.only(test.pool))
		if err != nil || !sameIDs(got, want) {
			t.Errorf("%s: got %v %v, want %v", test.name, got, err, want)
		}
	}
}

func TestPoolFiltersOnBackfills(t *testing.T) {
	t.Parallel()
	b := newBench(t, shared, nil)
	backfill := b.createBackfillWith(filteredFields())
	for _, test := range filters(backfill.GetCreateTime().AsTime()) {
		b.backfillsUntil(test.name, b.only(test.pool), func(found []*pb.Backfill) bool {
			return (len(found) == 1 && found[0].GetId() == backfill.GetId()) == test.passes
		})
	}
}
