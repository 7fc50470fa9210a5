package e2e

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/guildhall-dev/guildhall"
	"github.com/guildhall-dev/guildhall/client"
)

// BenchmarkEnterFirst is Enter by the first player of a group: ticket, match, placement, OpenRoom, assignment.
func BenchmarkEnterFirst(b *testing.B) {
	benchmarkEnter(b, server, newParties)
}

// newParties gives a party that nobody has been in, each time.
func newParties(_ *testing.B, at *bundle) func() guildhall.Group {
	return func() guildhall.Group { return at.group("party") }
}

// BenchmarkEnterLive is Enter by a player whose group's room is live: claim and pass.
func BenchmarkEnterLive(b *testing.B) {
	benchmarkEnter(b, server, func(b *testing.B, at *bundle) func() guildhall.Group {
		group := at.group("guild")
		room, err := client.Join(at.ctx, client.Config{Server: at.server, Token: at.token("p0", group), HTTPClient: players}, group)
		if err != nil {
			b.Fatal(err)
		}
		for event := range room.Events() {
			if _, joined := event.(client.Joined); joined {
				break
			}
		}
		b.Cleanup(func() {
			go func() {
				for range room.Events() {
				}
			}()
			if err := room.Leave(context.Background()); err != nil {
				b.Error(err)
			}
		})
		return func() guildhall.Group { return group }
	})
}

// benchmarkEnter enters one after the other, and reports the percentiles that players feel.
func benchmarkEnter(b *testing.B, server string, prepare func(*testing.B, *bundle) func() guildhall.Group) {
	b.Helper()
	at := &bundle{t: b, ctx: context.WithoutCancel(b.Context()), server: server} // cleanup still calls
	next := prepare(b, at)
	groups := make([]guildhall.Group, b.N)
	tokens := make([]string, b.N)
	for i := range b.N {
		groups[i] = next()
		tokens[i] = at.token("p1", groups[i])
	}
	took := make([]time.Duration, b.N)
	b.ResetTimer()
	for i := range b.N {
		start := time.Now()
		if _, err := client.Enter(at.ctx, client.Config{Server: server, Token: tokens[i], HTTPClient: players}, groups[i]); err != nil {
			b.Fatal(err)
		}
		took[i] = time.Since(start)
	}
	b.StopTimer()
	slices.Sort(took)
	for _, p := range []struct {
		name string
		at   float64
	}{{"p50-ms", 0.50}, {"p95-ms", 0.95}, {"p99-ms", 0.99}} {
		b.ReportMetric(float64(took[int(p.at*float64(len(took)-1))].Microseconds())/1000, p.name)
	}
}
