package openmatch_test

import (
	"context"
	"testing"

	"github.com/rs/xid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"open-match.dev/open-match/pkg/pb"
)

func backfillNotFound(id string) string { return "Backfill id: " + id + " not found" }

func wantSame(t *testing.T, got, want proto.Message) {
	t.Helper()
	if !proto.Equal(got, want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
}

func (b *bench) createBackfill() *pb.Backfill {
	b.t.Helper()
	return b.createBackfillWith(&pb.SearchFields{})
}

func (b *bench) createBackfillWith(fields *pb.SearchFields) *pb.Backfill {
	b.t.Helper()
	fields.Tags = append(fields.Tags, b.tag)
	created, err := b.frontend.CreateBackfill(b.ctx(), &pb.CreateBackfillRequest{
		Backfill: &pb.Backfill{SearchFields: fields},
	})
	if err != nil {
		b.t.Fatalf("CreateBackfill: %v", err)
	}
	return created
}

func (b *bench) getBackfill(id string) (*pb.Backfill, error) {
	return b.frontend.GetBackfill(b.ctx(), &pb.GetBackfillRequest{BackfillId: id})
}

// backfillsUntil asks for the backfills of a pool until they are as wanted.
func (b *bench) backfillsUntil(what string, pool *pb.Pool, wanted func([]*pb.Backfill) bool) {
	b.t.Helper()
	ctx := b.ctx()
	for {
		found, err := b.queryBackfills(ctx, pool)
		if err != nil {
			b.t.Fatalf("%s: QueryBackfills, at last %v: %v", what, found, err)
		}
		if wanted(found) {
			return
		}
	}
}

func TestCreateBackfillRefuses(t *testing.T) {
	t.Parallel()
	_, err := shared.frontend.CreateBackfill(bounded(t), &pb.CreateBackfillRequest{})
	wantStatus(t, "no backfill", err, codes.InvalidArgument, ".backfill is required")
	_, err = shared.frontend.CreateBackfill(bounded(t), &pb.CreateBackfillRequest{
		Backfill: &pb.Backfill{CreateTime: timestamppb.Now()},
	})
	wantStatus(t, "a create time", err, codes.InvalidArgument, "backfills cannot be created with create time set")
}

func TestOtherBackfillCallsRefuse(t *testing.T) {
	t.Parallel()
	ctx, f, id := bounded(t), shared.frontend, xid.New().String()
	_, err := f.GetBackfill(ctx, &pb.GetBackfillRequest{BackfillId: id})
	wantStatus(t, "GetBackfill", err, codes.NotFound, backfillNotFound(id))
	_, err = f.UpdateBackfill(ctx, &pb.UpdateBackfillRequest{})
	wantStatus(t, "UpdateBackfill without one", err, codes.InvalidArgument, ".backfill is required")
	_, err = f.UpdateBackfill(ctx, &pb.UpdateBackfillRequest{Backfill: &pb.Backfill{}})
	wantStatus(t, "UpdateBackfill without id", err, codes.InvalidArgument, "backfill ID should exist")
	_, err = f.UpdateBackfill(ctx, &pb.UpdateBackfillRequest{Backfill: &pb.Backfill{Id: id}})
	wantStatus(t, "UpdateBackfill", err, codes.NotFound, backfillNotFound(id))
	_, err = f.DeleteBackfill(ctx, &pb.DeleteBackfillRequest{})
	wantStatus(t, "DeleteBackfill without id", err, codes.InvalidArgument, ".BackfillId is required")
	_, err = f.DeleteBackfill(ctx, &pb.DeleteBackfillRequest{BackfillId: id})
	wantStatus(t, "DeleteBackfill", err, codes.OK, "")
	_, err = f.AcknowledgeBackfill(ctx, &pb.AcknowledgeBackfillRequest{Assignment: &pb.Assignment{}})
	wantStatus(t, "AcknowledgeBackfill without id", err, codes.InvalidArgument, ".BackfillId is required")
	_, err = f.AcknowledgeBackfill(ctx, &pb.AcknowledgeBackfillRequest{BackfillId: id})
	wantStatus(t, "AcknowledgeBackfill without assignment", err, codes.InvalidArgument, ".Assignment is required")
	_, err = f.AcknowledgeBackfill(ctx, &pb.AcknowledgeBackfillRequest{BackfillId: id, Assignment: &pb.Assignment{}})
	wantStatus(t, "AcknowledgeBackfill", err, codes.NotFound, backfillNotFound(id))
}

func TestBackfillIsCreatedReadUpdatedDeleted(t *testing.T) {
	t.Parallel()
	b := newBench(t, shared, nil)
	filed := &pb.Backfill{
		Id:              "mine",
		Generation:      9,
		SearchFields:    &pb.SearchFields{Tags: []string{b.tag}},
		Extensions:      map[string]*anypb.Any{"e": mustAny(t, "extension")},
		PersistentField: map[string]*anypb.Any{"p": mustAny(t, "persistent")},
	}
	created, err := b.frontend.CreateBackfill(b.ctx(), &pb.CreateBackfillRequest{Backfill: filed})
	if err != nil {
		t.Fatal(err)
	}
	want := proto.Clone(filed).(*pb.Backfill)
	want.Id, want.CreateTime, want.Generation = created.GetId(), created.GetCreateTime(), 1
	wantSame(t, created, want)
	if len(created.GetId()) != 20 || created.GetCreateTime() == nil {
		t.Errorf("created %v, want an id of 20 characters and a create time", created)
	}

	update := &pb.Backfill{
		Id:              created.GetId(),
		SearchFields:    &pb.SearchFields{Tags: []string{b.tag, "second"}},
		Extensions:      map[string]*anypb.Any{"e": mustAny(t, "second")},
		PersistentField: map[string]*anypb.Any{"p": mustAny(t, "second")},
	}
	updated, err := b.frontend.UpdateBackfill(b.ctx(), &pb.UpdateBackfillRequest{Backfill: update})
	if err != nil {
		t.Fatal(err)
	}
	update.CreateTime, update.Generation = created.GetCreateTime(), 2
	wantSame(t, updated, update)
	got, err := b.getBackfill(created.GetId())
	if err != nil {
		t.Fatal(err)
	}
	wantSame(t, got, update)
	b.backfillsUntil("updated", b.pool(), func(found []*pb.Backfill) bool {
		return len(found) == 1 && proto.Equal(found[0], update)
	})

	if _, err := b.frontend.DeleteBackfill(b.ctx(), &pb.DeleteBackfillRequest{BackfillId: created.GetId()}); err != nil {
		t.Fatal(err)
	}
	_, err = b.getBackfill(created.GetId())
	wantStatus(t, "GetBackfill", err, codes.NotFound, backfillNotFound(created.GetId()))
	b.backfillsUntil("deleted", b.pool(), func(found []*pb.Backfill) bool { return len(found) == 0 })
}

// filling proposes all tickets of the pool with the backfill that choose gives.
func filling(b **bench, choose func(ctx context.Context) *pb.Backfill) function {
	return func(ctx context.Context, profile *pb.MatchProfile, propose func(*pb.Match) error) error {
		tickets, err := (*b).queryTickets(ctx, profile.GetPools()[0])
		if err != nil || len(tickets) == 0 {
			return err
		}
		m := (*b).match(tickets...)
		m.Backfill = choose(ctx)
		return propose(m)
	}
}

// newBackfillBench is a bench whose matches open a backfill.
func newBackfillBench(t *testing.T, s *services) *bench {
	t.Helper()
	var b *bench
	b = newBench(t, s, filling(&b, func(context.Context) *pb.Backfill {
		return &pb.Backfill{SearchFields: &pb.SearchFields{Tags: []string{b.tag}}}
	}))
	return b
}

func (b *bench) acknowledge(id, connection string) *pb.AcknowledgeBackfillResponse {
	b.t.Helper()
	resp, err := b.frontend.AcknowledgeBackfill(b.ctx(), &pb.AcknowledgeBackfillRequest{
		BackfillId: id, Assignment: &pb.Assignment{Connection: connection},
	})
	if err != nil {
		b.t.Fatalf("AcknowledgeBackfill: %v", err)
	}
	return resp
}

func TestMatchOpensABackfill(t *testing.T) {
	t.Parallel()
	b := newBackfillBench(t, shared)
	ticket := b.create()
	match := b.fetch(1)[0]
	opened := match.GetBackfill()
	if len(opened.GetId()) != 20 || opened.GetGeneration() != 1 || opened.GetCreateTime() == nil {
		t.Errorf("the match has backfill %v, want an id, generation 1 and a create time", opened)
	}
	stored, err := b.getBackfill(opened.GetId())
	if err != nil {
		t.Fatal(err)
	}
	wantSame(t, stored, opened)

	resp := b.acknowledge(opened.GetId(), "x:1")
	wantSame(t, resp.GetBackfill(), stored)
	if !sameIDs(idsOf(resp.GetTickets()), []string{ticket.GetId()}) {
		t.Fatalf("acknowledged tickets %v, want %v", idsOf(resp.GetTickets()), ticket.GetId())
	}
	if got := resp.GetTickets()[0].GetAssignment().GetConnection(); got != "x:1" {
		t.Errorf("the acknowledged ticket is assigned to %q, want x:1", got)
	}
	b.wantConnection(ticket, "x:1")
	b.queryUntil(b.pool())
	// Its tickets are assigned once.
	if again := b.acknowledge(opened.GetId(), "x:1").GetTickets(); len(again) > 0 {
		t.Errorf("acknowledged %v again", again)
	}
}

func TestMatchFillsABackfill(t *testing.T) {
	t.Parallel()
	var b *bench
	var existing *pb.Backfill
	b = newBench(t, shared, filling(&b, func(context.Context) *pb.Backfill {
		fill := proto.Clone(existing).(*pb.Backfill)
		fill.Extensions = map[string]*anypb.Any{"e": {TypeUrl: "x/y", Value: []byte("filled")}}
		return fill
	}))
	existing = b.createBackfill()
	ticket := b.create()
	match := b.fetch(1)[0]
	if got := match.GetBackfill().GetGeneration(); got != 1 {
		t.Errorf("the match has generation %d, want the proposal's, 1", got)
	}
	stored, err := b.getBackfill(existing.GetId())
	if err != nil {
		t.Fatal(err)
	}
	if stored.GetGeneration() != 2 || string(stored.GetExtensions()["e"].GetValue()) != "filled" {
		t.Errorf("the backfill is %v, want generation 2 and the match's extensions", stored)
	}
	resp := b.acknowledge(existing.GetId(), "x:1")
	if !sameIDs(idsOf(resp.GetTickets()), []string{ticket.GetId()}) {
		t.Errorf("acknowledged %v, want %v", idsOf(resp.GetTickets()), ticket.GetId())
	}
}

// A match for a backfill that has moved on is dropped, and its tickets stay free.
func TestMatchOfAnOldGenerationIsDropped(t *testing.T) {
	t.Parallel()
	var b *bench
	var existing *pb.Backfill
	b = newBench(t, shared, filling(&b, func(context.Context) *pb.Backfill { return existing }))
	existing = b.createBackfill()
	if _, err := b.frontend.UpdateBackfill(b.ctx(), &pb.UpdateBackfillRequest{Backfill: existing}); err != nil {
		t.Fatal(err)
	}
	ticket := b.create()
	b.queryUntil(b.pool(), ticket)
	b.fetchNothing()
	b.queryUntil(b.pool(), ticket)
	stored, err := b.getBackfill(existing.GetId())
	if err != nil {
		t.Fatal(err)
	}
	if stored.GetGeneration() != 2 {
		t.Errorf("generation %d, want 2 as before", stored.GetGeneration())
	}
}

func TestMatchOfALostBackfillIsDropped(t *testing.T) {
	t.Parallel()
	var b *bench
	b = newBench(t, shared, filling(&b, func(context.Context) *pb.Backfill {
		return &pb.Backfill{Id: xid.New().String(), Generation: 1}
	}))
	ticket := b.create()
	b.queryUntil(b.pool(), ticket)
	b.fetchNothing()
	b.queryUntil(b.pool(), ticket)
}

func TestUpdatedBackfillGivesItsTicketsBack(t *testing.T) {
	t.Parallel()
	b := newBackfillBench(t, shared)
	ticket := b.create()
	opened := b.fetch(1)[0].GetBackfill()
	b.queryUntil(b.pool())
	if _, err := b.frontend.UpdateBackfill(b.ctx(), &pb.UpdateBackfillRequest{Backfill: opened}); err != nil {
		t.Fatal(err)
	}
	b.queryUntil(b.pool(), ticket)
	if got := b.acknowledge(opened.GetId(), "x:1").GetTickets(); len(got) > 0 {
		t.Errorf("acknowledged %v, want none: they have gone back", got)
	}
}

func TestDeletedBackfillGivesItsTicketsBack(t *testing.T) {
	t.Parallel()
	b := newBackfillBench(t, shared)
	ticket := b.create()
	opened := b.fetch(1)[0].GetBackfill()
	b.queryUntil(b.pool())
	if _, err := b.frontend.DeleteBackfill(b.ctx(), &pb.DeleteBackfillRequest{BackfillId: opened.GetId()}); err != nil {
		t.Fatal(err)
	}
	b.queryUntil(b.pool(), ticket)
}

// A backfill that nobody acknowledges expires after four fifths of the pending release timeout. Open Match
// notices at the end of a cycle, so the test keeps cycles going.
func TestUnacknowledgedBackfillExpires(t *testing.T) {
	t.Parallel()
	s, timeout := timeouts(t, "PENDING_RELEASE")
	b := newBackfillBench(t, s)
	b.create()
	opened := b.fetch(1)[0].GetBackfill()
	ctx, cancel := context.WithTimeout(context.Background(), timeout+eventually)
	defer cancel()
	idle := newBench(t, s, nil)
	for {
		if _, err := idle.fetchOnce(ctx); err != nil {
			t.Fatal(err)
		}
		_, err := b.frontend.GetBackfill(ctx, &pb.GetBackfillRequest{BackfillId: opened.GetId()})
		if status.Code(err) == codes.NotFound {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}
