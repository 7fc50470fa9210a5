package roomlog

import (
	"context"
	"flag"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/guildhall-dev/guildhall"
	"github.com/guildhall-dev/guildhall/internal/broker"
	"github.com/guildhall-dev/guildhall/internal/brokerlocal"
	"github.com/guildhall-dev/guildhall/internal/usage"
)

// benchmarkOn runs a benchmark on one node and on three, with as many streams as are given.
func benchmarkOn(b *testing.B, streams []int, run func(b *testing.B, log *Log)) {
	b.Helper()
	for _, nodes := range []int{1, 3} {
		for _, n := range streams {
			b.Run(fmt.Sprintf("nodes=%d/streams=%d", nodes, n), func(b *testing.B) {
				run(b, openLog(b, nodes, n))
			})
		}
	}
}

func startNATS(b *testing.B, nodes int) (url string) {
	b.Helper()
	if nodes == 1 {
		server, err := brokerlocal.Start(brokerlocal.Config{Folder: b.TempDir()})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(server.Stop)
		return server.URL()
	}
	cluster, err := brokerlocal.StartNodes(b.TempDir(), nodes)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(cluster.Stop)
	return cluster.URL()
}

func openLog(b *testing.B, nodes, streams int) *Log {
	b.Helper()
	conn, js, err := broker.Connect(broker.Config{NATS: startNATS(b, nodes), NATSTimeout: patience}, "bench", nil, slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(conn.Close)
	log, err := Open(context.Background(), js, Config{Replicas: nodes, Streams: streams})
	if err != nil {
		b.Fatal(err)
	}
	return log
}

// BenchmarkAppend has 64 groups append at once, an entry of one short message each time.
func BenchmarkAppend(b *testing.B) {
	const groups = 64
	benchmarkOn(b, []int{1, 4}, func(b *testing.B, log *Log) {
		ctx := context.Background()
		writers := make([]*Writer, groups)
		for g := range writers {
			var err error
			if writers[g], _, err = log.Open(ctx, guildhall.Group{Kind: "guild", ID: fmt.Sprint(g)}, 1); err != nil {
				b.Fatal(err)
			}
		}
		var left atomic.Int64
		left.Store(int64(b.N))
		b.ResetTimer()
		var all sync.WaitGroup
		for _, w := range writers {
			all.Go(func() {
				for left.Add(-1) >= 0 {
					if err := w.Append(ctx, said("a message of usual length")); err != nil {
						b.Error(err)
						return
					}
				}
			})
		}
		all.Wait()
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "appends/s")
	})
}

// BenchmarkOpen opens a group of 2,000 entries, of a short message each and of one of 4 KiB.
func BenchmarkOpen(b *testing.B) {
	for _, body := range []int{100, 4 << 10} {
		b.Run(fmt.Sprintf("body=%d", body), func(b *testing.B) {
			benchmarkOn(b, []int{1}, func(b *testing.B, log *Log) {
				ctx := context.Background()
				fill(b, log, 2000, body)
				for b.Loop() {
					if _, _, err := log.Open(ctx, dragons, 2); err != nil {
						b.Fatal(err)
					}
				}
			})
		})
	}
}

// BenchmarkPage reads a page of 50 out of the midst of 2,000 entries, among the entries of others.
func BenchmarkPage(b *testing.B) {
	benchmarkOn(b, []int{1}, func(b *testing.B, log *Log) {
		fill(b, log, 2000, 100)
		for n := 0; b.Loop(); n++ {
			if _, err := log.Before(context.Background(), dragons, guildhall.Seq(100+n%1800), 50); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// fill says so many messages in dragons, an entry each, and as many in others.
func fill(b *testing.B, log *Log, entries, body int) {
	b.Helper()
	ctx := context.Background()
	var all sync.WaitGroup
	for _, group := range []guildhall.Group{dragons, other} {
		all.Go(func() {
			w, _, err := log.Open(ctx, group, 1)
			if err != nil {
				b.Error(err)
				return
			}
			message := said("1")
			message[0].Body = make([]byte, body)
			for range entries {
				if err := w.Append(ctx, message); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
}

// benchGroups is how many groups BenchmarkGroups has; a hundred thousand take ten seconds and more for each turn.
var benchGroups = flag.Int("groups", 1000, "groups of BenchmarkGroups")

// BenchmarkGroups is what the log of many groups takes (-groups says how many), each with one entry of a message of usual length or with ten:
// on disk, in NATS's memory, and until NATS is back after a restart.
func BenchmarkGroups(b *testing.B) {
	for _, entries := range []int{1, 10} {
		b.Run(fmt.Sprint("entries=", entries), func(b *testing.B) { benchmarkGroups(b, entries) })
	}
}

func benchmarkGroups(b *testing.B, entries int) {
	const streams = 4
	groups := *benchGroups
	for b.Loop() {
		folder := b.TempDir()
		server, err := brokerlocal.Start(brokerlocal.Config{Folder: folder})
		if err != nil {
			b.Fatal(err)
		}
		before := usage.Heap()
		conn, js, err := broker.Connect(broker.Config{NATS: server.URL(), NATSTimeout: patience}, "bench", nil, slog.New(slog.DiscardHandler))
		if err != nil {
			b.Fatal(err)
		}
		log, err := Open(b.Context(), js, Config{Streams: streams})
		if err != nil {
			b.Fatal(err)
		}
		used := usage.CPU()
		speak(b, log, groups, entries)
		b.ReportMetric(float64((usage.CPU()-used).Microseconds())/float64(groups), "cpu-µs/group")
		b.ReportMetric(float64(usage.Heap()-before)/float64(groups), "heap-B/group")
		conn.Close()
		server.Stop()
		b.ReportMetric(float64(stored(b, folder))/float64(groups), "disk-B/group")
		began := time.Now()
		used = usage.CPU()
		if server, err = brokerlocal.Start(brokerlocal.Config{Folder: folder}); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(time.Since(began).Seconds(), "restart-s")
		b.ReportMetric((usage.CPU() - used).Seconds(), "restart-cpu-s")
		server.Stop()
	}
}

// speak opens the log of so many groups and says messages of 120 bytes in each.
func speak(b *testing.B, log *Log, groups, entries int) {
	b.Helper()
	var next atomic.Int64
	var speakers sync.WaitGroup
	for range 64 {
		speakers.Go(func() {
			for n := next.Add(1); n <= int64(groups); n = next.Add(1) {
				w, _, err := log.Open(b.Context(), guildhall.Group{Kind: "guild", ID: fmt.Sprint("dragons-", n)}, 1)
				for entry := 0; entry < entries && err == nil; entry++ {
					message := said("1")
					message[0].Body = make([]byte, 120)
					err = w.Append(b.Context(), message)
				}
				if err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	speakers.Wait()
}

// stored gives the bytes that the files of a folder take.
func stored(b *testing.B, folder string) (bytes int64) {
	b.Helper()
	err := filepath.WalkDir(folder, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err == nil {
			bytes += info.Size()
		}
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	return bytes
}
