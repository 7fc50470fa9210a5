package registry

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/guildhall-dev/guildhall"
	"github.com/guildhall-dev/guildhall/internal/usage"
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

// BenchmarkTakeAmong takes claims, 64 at once, where very many stand already, and lists them all, as each director does every
// 10 s.
func BenchmarkTakeAmong(b *testing.B) {
	const standing = 100_000
	for _, nodes := range []struct {
		name  string
		setup func(testing.TB) *bench
	}{{"one node", setup}, {"three nodes", setupNodes}} {
		b.Run(nodes.name, func(b *testing.B) {
			bench := nodes.setup(b)
			bench.ctx = b.Context() // that of tests is bounded
			bench.takeMany("there", standing)
			stored, rounds := bench.streamInfo(claimsBucket).State.Bytes, 0
			b.Run("take", func(b *testing.B) {
				rounds++
				used := usage.CPU()
				b.ResetTimer()
				bench.takeMany(fmt.Sprintf("new-%d-", rounds), b.N)
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "claims/s")
				b.ReportMetric(float64((usage.CPU()-used).Microseconds())/float64(b.N), "cpu-µs/op")
				b.ReportMetric(float64(stored)/standing, "stored-B/claim")
			})
			b.Run("list", func(b *testing.B) {
				used, listed := usage.CPU(), 0
				for b.Loop() {
					claims, err := bench.Claims(b.Context())
					if err != nil {
						b.Fatal(err)
					}
					listed += len(claims)
				}
				b.ReportMetric(float64((usage.CPU()-used).Nanoseconds())/float64(listed), "cpu-ns/claim")
			})
		})
	}
}

// takeMany takes the claims of so many groups, 64 at once.
func (b *bench) takeMany(name string, many int) {
	b.t.Helper()
	var next atomic.Int64
	var takers sync.WaitGroup
	for range 64 {
		takers.Go(func() {
			for n := next.Add(1); n <= int64(many); n = next.Add(1) {
				group := guildhall.Group{Kind: "guild", ID: fmt.Sprint(name, n)}
				if _, err := b.Take(b.ctx, group, guildhall.HostName(fmt.Sprint("rooms-abcde-", n/50)), 0); err != nil {
					b.t.Error(err)
					return
				}
			}
		})
	}
	takers.Wait()
}

func (b *bench) streamInfo(bucket string) *jetstream.StreamInfo {
	b.t.Helper()
	stream, err := b.js.Stream(b.ctx, "KV_"+bucket)
	if err != nil {
		b.t.Fatal(err)
	}
	return stream.CachedInfo()
}

// BenchmarkHosts is what each placement reads: the leases of ten thousand hosts, from the view; and what each of them costs
// when it is renewed.
func BenchmarkHosts(b *testing.B) {
	const hosts = 10_000
	bench := setupLease(b, MinLeaseTTL)
	bench.dropLeases() // those of tests live for a second
	writer, err := Open(b.Context(), bench.js, Config{LeaseTTL: time.Hour})
	if err != nil {
		b.Fatal(err)
	}
	before := usage.Heap()
	viewer, err := Open(b.Context(), connect(b, bench.url()), Config{LeaseTTL: time.Hour, Leases: true})
	if err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(b.Context())
	var viewing sync.WaitGroup
	viewing.Go(func() { _ = viewer.Run(ctx) }) // ends with ctx
	defer viewing.Wait()
	defer stop()
	used := usage.CPU()
	for n := range hosts {
		lease := alive(guildhall.HostName(fmt.Sprintf("rooms-abcde-%05d", n)))
		lease.Address, lease.InternalAddress, lease.Version = "203.0.113.17:7654", "10.0.12.34:7655", "v1.2.3"
		if _, err := writer.Grant(b.Context(), lease); err != nil {
			b.Fatal(err)
		}
	}
	last := guildhall.HostName(fmt.Sprintf("rooms-abcde-%05d", hosts-1))
	if _, err := viewer.AwaitHost(b.Context(), last, func(Lease) bool { return true }); err != nil {
		b.Fatal(err)
	}
	renewal := float64((usage.CPU() - used).Microseconds()) / hosts
	grown := float64(usage.Heap()-before) / hosts
	stored := float64(bench.streamInfo(leasesBucket).State.Bytes) / hosts
	used = usage.CPU()
	for b.Loop() {
		if len(viewer.Hosts()) != hosts {
			b.Fatal("the view has lost some")
		}
	}
	b.ReportMetric(float64((usage.CPU()-used).Microseconds())/float64(b.N), "cpu-µs/op")
	b.ReportMetric(renewal, "cpu-µs/write") // of the writer, NATS and the view
	b.ReportMetric(grown, "heap-B/lease")   // of NATS and the view
	b.ReportMetric(stored, "stored-B/lease")
}
