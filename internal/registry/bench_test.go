package registry

import (
	"slices"
	"testing"
	"time"
)

// BenchmarkClaim is what a frontend does for everybody who enters, from the leader as it does, and by direct gets, which any
// replica answers: the price of never reading an older claim.
func BenchmarkClaim(b *testing.B) {
	for _, nodes := range []struct {
		name  string
		setup func(testing.TB) *bench
	}{{"one node", setup}, {"three nodes", setupNodes}} {
		for _, direct := range []bool{false, true} {
			name := nodes.name + "/leader"
			if direct {
				name = nodes.name + "/direct"
			}
			b.Run(name, func(b *testing.B) {
				bench := nodes.setup(b)
				bench.take(dragons, "h", 0)
				if direct {
					bench.allowDirect()
				}
				b.Run("alone", func(b *testing.B) { benchmarkAlone(b, bench.Registry) })
				b.Run("together", func(b *testing.B) { benchmarkTogether(b, bench.Registry) })
			})
		}
	}
}

func benchmarkAlone(b *testing.B, r *Registry) {
	var took []time.Duration
	for b.Loop() {
		start := time.Now()
		if _, err := r.Claim(b.Context(), dragons); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
}

func benchmarkTogether(b *testing.B, r *Registry) {
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := r.Claim(b.Context(), dragons); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// allowDirect has every replica answer for the claims, and the registry ask so. It puts it right for the next one.
func (b *bench) allowDirect() {
	b.t.Helper()
	config := b.streamOf(claimsBucket)
	config.AllowDirect = true
	if _, err := b.js.UpdateStream(b.ctx, config); err != nil {
		b.t.Fatal(err)
	}
	b.claims = bucketOf(b, b.js)
}
