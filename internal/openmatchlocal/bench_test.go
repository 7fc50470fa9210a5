package openmatchlocal

import (
	"fmt"
	"strconv"
	"sync/atomic"
	"testing"

	"open-match.dev/open-match/pkg/pb"
)

// BenchmarkCreateTicket creates over the wire, from several callers on one connection.
func BenchmarkCreateTicket(b *testing.B) {
	w := startWire(b, Config{})
	ctx := testContext(b)
	req := &pb.CreateTicketRequest{Ticket: &pb.Ticket{SearchFields: &pb.SearchFields{
		StringArgs: map[string]string{"kind": "guild", "shard": "3"},
	}}}
	b.SetParallelism(32)
	b.ReportAllocs()
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			if _, err := w.frontend.CreateTicket(ctx, req); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "creates/s")
}

// BenchmarkStoreCreate is the store's part of it, while directors wait for other pools.
func BenchmarkStoreCreate(b *testing.B) {
	for _, waiters := range []int{0, 16} {
		b.Run(fmt.Sprintf("%d waiters", waiters), func(b *testing.B) {
			s := newTestStore(b, Config{})
			for range waiters {
				s.wait(profileOf("other"))
			}
			b.ReportAllocs()
			for b.Loop() {
				file(s, "a")
			}
		})
	}
}

// BenchmarkQuery looks for a shard's 100 tickets among so many.
func BenchmarkQuery(b *testing.B) {
	for _, tickets := range []int{100, 10_000} {
		b.Run(strconv.Itoa(tickets), func(b *testing.B) {
			s := newTestStore(b, Config{})
			for i := range tickets {
				s.createTicket(&pb.Ticket{SearchFields: &pb.SearchFields{StringArgs: map[string]string{
					"kind": "guild", "shard": strconv.Itoa(i % (tickets / 100)),
				}}})
			}
			pool := mustFilter(b, &pb.Pool{StringEqualsFilters: []*pb.StringEqualsFilter{
				{StringArg: "kind", Value: "guild"}, {StringArg: "shard", Value: "0"},
			}})
			b.ReportAllocs()
			for b.Loop() {
				if got := len(s.queryTickets(pool)); got != 100 {
					b.Fatalf("found %d, want 100", got)
				}
			}
		})
	}
}

// BenchmarkTicketToMatch is a ticket's way from CreateTicket to the director that waits for it.
func BenchmarkTicketToMatch(b *testing.B) {
	w := startWire(b, Config{FetchWait: long})
	var runs atomic.Int64
	f := startFunction(b, func(r ranFunction) error {
		runs.Add(1)
		return proposeAvailable(w.store, r)
	})
	go func() { // nobody reads what the function tells of its runs
		for range f.runs {
			continue
		}
	}()
	defer close(f.runs)
	ctx := testContext(b)
	for b.Loop() {
		result := w.goFetch(ctx, f.config, profileOf("a"))
		req := &pb.CreateTicketRequest{Ticket: &pb.Ticket{SearchFields: &pb.SearchFields{Tags: []string{"a"}}}}
		if _, err := w.frontend.CreateTicket(ctx, req); err != nil {
			b.Fatal(err)
		}
		if got := <-result; got.err != nil || len(got.matches) != 1 {
			b.Fatalf("fetched %v", got)
		}
	}
	b.ReportMetric(float64(runs.Load())/float64(b.N), "runs/ticket")
}
