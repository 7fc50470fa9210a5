package openmatch_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"

	"github.com/rs/xid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"open-match.dev/open-match/pkg/pb"
)

var _ pb.MatchFunctionServer = (*functionServer)(nil)

// functionServer is one match function for all tests: the profile's name says whose it is.
type functionServer struct {
	pb.UnimplementedMatchFunctionServer

	config  *pb.FunctionConfig
	server  *grpc.Server
	stopped chan error

	mu sync.Mutex
	// Guarded by mu; by profile name.
	functions map[string]function
}

// function sends proposals for a profile.
type function func(ctx context.Context, profile *pb.MatchProfile, propose func(*pb.Match) error) error

func startFunctions() (*functionServer, error) {
	listener, config, err := listenForFunctions()
	if err != nil {
		return nil, err
	}
	f := &functionServer{
		config:    config,
		server:    grpc.NewServer(),
		stopped:   make(chan error, 1),
		functions: make(map[string]function),
	}
	pb.RegisterMatchFunctionServer(f.server, f)
	go func() { f.stopped <- f.server.Serve(listener) }()
	return f, nil
}

func (f *functionServer) stop() {
	f.server.Stop()
	<-f.stopped
}

func (f *functionServer) Run(req *pb.RunRequest, stream pb.MatchFunction_RunServer) error {
	f.mu.Lock()
	run, ok := f.functions[req.GetProfile().GetName()]
	f.mu.Unlock()
	if !ok {
		return status.Errorf(codes.NotFound, "no test has profile %s", req.GetProfile().GetName())
	}
	return run(stream.Context(), req.GetProfile(), func(m *pb.Match) error {
		return stream.Send(&pb.RunResponse{Proposal: m})
	})
}

func (f *functionServer) set(profile string, run function) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.functions[profile] = run
}

// bench is what a test works with: a server, a tag nobody else has, and a profile of one pool with that tag.
type bench struct {
	*services

	t       *testing.T
	tag     string
	profile *pb.MatchProfile
}

// newBench gives a bench on s whose match function is run; nil runs onePerTicket.
func newBench(t *testing.T, s *services, run function) *bench {
	t.Helper()
	tag := "conformance-" + xid.New().String()
	b := &bench{services: s, t: t, tag: tag, profile: &pb.MatchProfile{
		Name:  tag,
		Pools: []*pb.Pool{{Name: "all", TagPresentFilters: []*pb.TagPresentFilter{{Tag: tag}}}},
	}}
	if run == nil {
		run = b.onePerTicket
	}
	functions.set(tag, run)
	return b
}

// onePerTicket proposes a match for each ticket of the pool.
func (b *bench) onePerTicket(ctx context.Context, profile *pb.MatchProfile, propose func(*pb.Match) error) error {
	tickets, err := b.queryTickets(ctx, profile.GetPools()[0])
	if err != nil {
		return err
	}
	for _, t := range tickets {
		if err := propose(b.match(t)); err != nil {
			return err
		}
	}
	return nil
}

// match is a proposal with these tickets under a new id.
func (b *bench) match(tickets ...*pb.Ticket) *pb.Match {
	return &pb.Match{
		MatchId:       xid.New().String(),
		MatchProfile:  b.tag,
		MatchFunction: "conformance",
		Tickets:       tickets,
	}
}

// pool is the pool of the bench's tag.
func (b *bench) pool() *pb.Pool { return b.profile.GetPools()[0] }

// ctx bounds everything that the test does with it.
func (b *bench) ctx() context.Context {
	b.t.Helper()
	return bounded(b.t)
}

func bounded(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), eventually)
	t.Cleanup(cancel)
	return ctx
}

// create files a ticket that carries the bench's tag.
func (b *bench) create() *pb.Ticket {
	b.t.Helper()
	return b.createWith(&pb.SearchFields{})
}

func (b *bench) createWith(fields *pb.SearchFields) *pb.Ticket {
	b.t.Helper()
	fields.Tags = append(fields.Tags, b.tag)
	created, err := b.frontend.CreateTicket(b.ctx(), &pb.CreateTicketRequest{Ticket: &pb.Ticket{SearchFields: fields}})
	if err != nil {
		b.t.Fatalf("CreateTicket: %v", err)
	}
	return created
}

// fetchOnce is one FetchMatches call, read to its end.
func (b *bench) fetchOnce(ctx context.Context) ([]*pb.Match, error) {
	return b.fetchMatches(ctx, b.profile)
}

func (s *services) fetchMatches(ctx context.Context, profile *pb.MatchProfile) ([]*pb.Match, error) {
	stream, err := s.backend.FetchMatches(ctx, &pb.FetchMatchesRequest{Config: functions.config, Profile: profile})
	if err != nil {
		return nil, err
	}
	var matches []*pb.Match
	for {
		resp, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return matches, nil
		}
		if err != nil {
			return matches, err
		}
		matches = append(matches, resp.GetMatch())
	}
}

// fetch fetches until n matches have come.
func (b *bench) fetch(n int) []*pb.Match {
	b.t.Helper()
	ctx := b.ctx()
	var matches []*pb.Match
	for len(matches) < n {
		more, err := b.fetchOnce(ctx)
		if err != nil {
			b.t.Fatalf("FetchMatches, with %d of %d matches: %v", len(matches), n, err)
		}
		matches = append(matches, more...)
	}
	if len(matches) > n {
		b.t.Fatalf("fetched %d matches, want %d", len(matches), n)
	}
	return matches
}

// fetchNothing fetches once and wants a clean end without a match.
func (b *bench) fetchNothing() {
	b.t.Helper()
	matches, err := b.fetchOnce(b.ctx())
	if err != nil {
		b.t.Fatalf("FetchMatches: %v", err)
	}
	if len(matches) > 0 {
		b.t.Fatalf("fetched %v, want nothing", matches)
	}
}

func (b *bench) queryTickets(ctx context.Context, pool *pb.Pool) ([]*pb.Ticket, error) {
	pages, err := b.queryPages(ctx, pool)
	var tickets []*pb.Ticket
	for _, page := range pages {
		tickets = append(tickets, page...)
	}
	return tickets, err
}

func (b *bench) queryPages(ctx context.Context, pool *pb.Pool) ([][]*pb.Ticket, error) {
	stream, err := b.query.QueryTickets(ctx, &pb.QueryTicketsRequest{Pool: pool})
	if err != nil {
		return nil, err
	}
	var pages [][]*pb.Ticket
	for {
		resp, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return pages, nil
		}
		if err != nil {
			return pages, err
		}
		pages = append(pages, resp.GetTickets())
	}
}

// queryUntil asks for the tickets of a pool until they are the wanted ones, in any order.
func (b *bench) queryUntil(pool *pb.Pool, want ...*pb.Ticket) {
	b.t.Helper()
	ctx := b.ctx()
	for {
		got, err := b.queryTickets(ctx, pool)
		if err != nil {
			b.t.Fatalf("QueryTickets: %v", err)
		}
		if sameIDs(idsOf(got), idsOf(want)) {
			return
		}
		if ctx.Err() != nil {
			b.t.Fatalf("the pool has %v, want %v", idsOf(got), idsOf(want))
		}
	}
}

func (b *bench) assign(connection string, tickets ...*pb.Ticket) {
	b.t.Helper()
	resp, err := b.backend.AssignTickets(b.ctx(), &pb.AssignTicketsRequest{Assignments: []*pb.AssignmentGroup{{
		TicketIds: idsOf(tickets), Assignment: &pb.Assignment{Connection: connection},
	}}})
	if err != nil {
		b.t.Fatalf("AssignTickets: %v", err)
	}
	if len(resp.GetFailures()) > 0 {
		b.t.Fatalf("AssignTickets: failures %v", resp.GetFailures())
	}
}

func idsOf(tickets []*pb.Ticket) []string {
	ids := make([]string, len(tickets))
	for i, t := range tickets {
		ids[i] = t.GetId()
	}
	return ids
}

func sameIDs(a, b []string) bool {
	if len(a) != len(b) {
		return false
	}
	count := make(map[string]int)
	for i := range a {
		count[a[i]]++
		count[b[i]]--
	}
	for _, n := range count {
		if n != 0 {
			return false
		}
	}
	return true
}

// wantStatus fails unless err has the code, and the message where one is given.
func wantStatus(t *testing.T, what string, err error, code codes.Code, message string) {
	t.Helper()
	s := status.Convert(err)
	if s.Code() != code || message != "" && s.Message() != message {
		t.Errorf("%s: got %s %q, want %s %q", what, s.Code(), s.Message(), code, message)
	}
}

func notFound(id string) string { return fmt.Sprintf("Ticket id: %s not found", id) }
