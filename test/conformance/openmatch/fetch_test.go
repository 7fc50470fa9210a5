package openmatch_test

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/rs/xid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"open-match.dev/open-match/pkg/pb"
)

func TestFetchMatchesRefuses(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		req     *pb.FetchMatchesRequest
		message string
	}{
		{"no config", &pb.FetchMatchesRequest{Profile: &pb.MatchProfile{}}, ".config is required"},
		{"no profile", &pb.FetchMatchesRequest{Config: &pb.FunctionConfig{}}, ".profile is required"},
	} {
		stream, err := shared.backend.FetchMatches(bounded(t), test.req)
		if err == nil {
			_, err = stream.Recv()
		}
		wantStatus(t, test.name, err, codes.InvalidArgument, test.message)
	}
}

func TestFetchMatchesOfAnEmptyPoolEndsCleanly(t *testing.T) {
	t.Parallel()
	newBench(t, shared, nil).fetchNothing()
}

func TestFetchMatchesGivesTheProposalWhole(t *testing.T) {
	t.Parallel()
	var b *bench
	var proposed *pb.Match
	extensions := map[string]*anypb.Any{"e": mustAny(t, "extension")}
	b = newBench(t, shared, func(ctx context.Context, profile *pb.MatchProfile, propose func(*pb.Match) error) error {
		tickets, err := b.queryTickets(ctx, profile.GetPools()[0])
		if err != nil || len(tickets) == 0 {
			return err
		}
		m := b.match(tickets...)
		m.Extensions, m.AllocateGameserver = extensions, true
		proposed = proto.Clone(m).(*pb.Match)
		return propose(m)
	})
	b.create()
	match := b.fetch(1)[0]
	if !proto.Equal(match, proposed) {
		t.Errorf("fetched %v\nwant %v", match, proposed)
	}
}

func TestFetchMatchesPassesTheProfileOn(t *testing.T) {
	t.Parallel()
	seen := make(chan *pb.MatchProfile, 1)
	b := newBench(t, shared, func(_ context.Context, profile *pb.MatchProfile, _ func(*pb.Match) error) error {
		select {
		case seen <- profile:
		default:
		}
		return nil
	})
	b.profile.Extensions = map[string]*anypb.Any{"e": mustAny(t, "profile")}
	b.fetchNothing()
	if got := <-seen; !proto.Equal(got, b.profile) {
		t.Errorf("the match function got %v, want %v", got, b.profile)
	}
}

func wantFetchError(t *testing.T, err error, parts ...string) {
	t.Helper()
	if status.Code(err) != codes.Unknown {
		t.Fatalf("FetchMatches: %v, want code Unknown", err)
	}
	message := status.Convert(err).Message()
	for _, part := range append(parts, "error(s) in FetchMatches call. syncErr=[", "], mmfErr=[") {
		if !strings.Contains(message, part) {
			t.Errorf("message %q, want %q in it", message, part)
		}
	}
}

func TestFetchMatchesWhoseFunctionFails(t *testing.T) {
	t.Parallel()
	b := newBench(t, shared, func(context.Context, *pb.MatchProfile, func(*pb.Match) error) error {
		return status.Error(codes.FailedPrecondition, "out of ideas")
	})
	_, err := b.fetchOnce(b.ctx())
	wantFetchError(t, err, "syncErr=[<nil>]", "FailedPrecondition", "out of ideas")
}

func TestFetchMatchesWhoseFunctionDoesNotListen(t *testing.T) {
	t.Parallel()
	b := newBench(t, shared, nil)
	stream, err := b.backend.FetchMatches(b.ctx(), &pb.FetchMatchesRequest{
		// Port 1 is nobody's.
		Config:  &pb.FunctionConfig{Host: functions.config.GetHost(), Port: 1},
		Profile: b.profile,
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = stream.Recv()
	wantFetchError(t, err, "syncErr=[<nil>]", "Unavailable")
}

// What a match function proposed before it failed still comes, ahead of the error.
func TestFetchMatchesWhoseFunctionFailsHalfway(t *testing.T) {
	t.Parallel()
	var b *bench
	b = newBench(t, shared, func(ctx context.Context, profile *pb.MatchProfile, propose func(*pb.Match) error) error {
		if err := b.onePerTicket(ctx, profile, propose); err != nil {
			return err
		}
		return errors.New("lost the thread")
	})
	ticket := b.create()
	ctx := b.ctx()
	for {
		matches, err := b.fetchOnce(ctx)
		wantFetchError(t, err, "lost the thread")
		if t.Failed() {
			return
		}
		if len(matches) > 0 {
			if got := idsOf(matches[0].GetTickets()); !sameIDs(got, []string{ticket.GetId()}) {
				t.Errorf("matched %v, want %v", got, ticket.GetId())
			}
			return
		}
	}
}

// Not parallel: in Open Match it may cancel the cycle for everybody.
func TestFetchMatchesWithOneMatchIDTwice(t *testing.T) { //nolint:paralleltest // see above
	id := xid.New().String()
	b := newBench(t, shared, func(_ context.Context, _ *pb.MatchProfile, propose func(*pb.Match) error) error {
		for range 2 {
			if err := propose(&pb.Match{MatchId: id}); err != nil {
				return err
			}
		}
		return nil
	})
	matches, err := b.fetchOnce(b.ctx())
	wantFetchError(t, err, "MatchMakingFunction returned same match_id twice: \""+id+"\"")
	if len(matches) > 0 {
		t.Errorf("fetched %v, want nothing", matches)
	}
}

func TestFetchedTicketsArePending(t *testing.T) {
	t.Parallel()
	b := newBench(t, shared, nil)
	first, second := b.create(), b.create()
	matches := b.fetch(2)
	got := append(idsOf(matches[0].GetTickets()), idsOf(matches[1].GetTickets())...)
	if !sameIDs(got, idsOf([]*pb.Ticket{first, second})) {
		t.Errorf("fetched %v, want %v and %v", got, first.GetId(), second.GetId())
	}
	b.queryUntil(b.pool())
	b.fetchNothing()
	third := b.create()
	if got := idsOf(b.fetch(1)[0].GetTickets()); !sameIDs(got, []string{third.GetId()}) {
		t.Errorf("fetched %v, want only %v", got, third.GetId())
	}
}

// criteria is what the default evaluator reads; the message is no part of the contract that Guildhall has.
func criteria(score float64) map[string]*anypb.Any {
	value := protowire.AppendTag(nil, 1, protowire.Fixed64Type)
	value = protowire.AppendFixed64(value, math.Float64bits(score))
	return map[string]*anypb.Any{"evaluation_input": {
		TypeUrl: "type.googleapis.com/openmatch.DefaultEvaluationCriteria",
		Value:   value,
	}}
}

// overlapping proposes, for two tickets, {a}, {a, b} and {b} with scores; nil for none.
func overlapping(b *bench, scores [3]*float64) function {
	return func(ctx context.Context, profile *pb.MatchProfile, propose func(*pb.Match) error) error {
		tickets, err := b.queryTickets(ctx, profile.GetPools()[0])
		if err != nil || len(tickets) < 2 {
			return err
		}
		for i, m := range []*pb.Match{b.match(tickets[0]), b.match(tickets...), b.match(tickets[1])} {
			if scores[i] != nil {
				m.Extensions = criteria(*scores[i])
			}
			if err := propose(m); err != nil {
				return err
			}
		}
		return nil
	}
}

func TestOverlappingProposals(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		scores [3]*float64
		sizes  []int // of the matches that survive
	}{
		{"the best has both", [3]*float64{new(1.0), new(3.0), new(2.0)}, []int{2}},
		{"the singles are better", [3]*float64{new(2.0), new(1.0), new(3.0)}, []int{1, 1}},
		{"a bad score beats none", [3]*float64{nil, new(-5.0), nil}, []int{2}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var b *bench
			b = newBench(t, shared, func(ctx context.Context, p *pb.MatchProfile, propose func(*pb.Match) error) error {
				return overlapping(b, test.scores)(ctx, p, propose)
			})
			b.create()
			b.create()
			for i, m := range b.fetch(len(test.sizes)) {
				if got := len(m.GetTickets()); got != test.sizes[i] {
					t.Errorf("match %d has %d tickets, want %d", i, got, test.sizes[i])
				}
			}
			b.fetchNothing()
		})
	}
}

func TestProposalWithUnreadableScoreIsDropped(t *testing.T) {
	t.Parallel()
	var b *bench
	b = newBench(t, shared, func(ctx context.Context, p *pb.MatchProfile, propose func(*pb.Match) error) error {
		tickets, err := b.queryTickets(ctx, p.GetPools()[0])
		if err != nil || len(tickets) == 0 {
			return err
		}
		bad, good := b.match(tickets...), b.match(tickets...)
		bad.Extensions = map[string]*anypb.Any{"evaluation_input": mustAny(t, "no criteria")}
		good.MatchFunction = "good"
		return errors.Join(propose(bad), propose(good))
	})
	b.create()
	if got := b.fetch(1)[0].GetMatchFunction(); got != "good" {
		t.Errorf("the match is of %q, want the one whose score can be read", got)
	}
}

// Many directors on one profile: every ticket is handed out once.
func TestConcurrentFetchesShareNoTicket(t *testing.T) {
	t.Parallel()
	b := newBench(t, shared, nil)
	const directors, tickets = 4, 40
	type result struct {
		matches []*pb.Match
		err     error
	}
	ctx, cancel := context.WithCancel(b.ctx())
	defer cancel()
	results := make(chan result)
	for range directors {
		go func() {
			for ctx.Err() == nil {
				matches, err := b.fetchOnce(ctx)
				select {
				case results <- result{matches, err}:
				case <-ctx.Done():
				}
			}
		}()
	}
	for range tickets {
		b.create()
	}
	seen := make(map[string]bool)
	for len(seen) < tickets {
		r := <-results
		if r.err != nil {
			t.Fatalf("FetchMatches, after %d tickets: %v", len(seen), r.err)
		}
		for _, m := range r.matches {
			for _, id := range idsOf(m.GetTickets()) {
				if seen[id] {
					t.Fatalf("ticket %s was handed out twice", id)
				}
				seen[id] = true
			}
		}
	}
}

func TestPendingTicketsComeBack(t *testing.T) {
	t.Parallel()
	s, timeout := timeouts(t, "PENDING_RELEASE")
	b := newBench(t, s, nil)
	ticket := b.create()
	b.fetch(1)
	// Asks until the timeout has passed: nothing else ends it.
	if got := idsOf(b.fetchWithin(timeout + eventually).GetTickets()); !sameIDs(got, []string{ticket.GetId()}) {
		t.Errorf("fetched %v, want %v again", got, ticket.GetId())
	}
}
