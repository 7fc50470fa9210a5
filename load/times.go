package load

import (
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// longest is the longest time that is told from longer ones.
const longest = 10 * time.Minute

// Times sums up how long something took. Its numbers are milliseconds, or seconds where the field that has it says so.
type Times struct {
	P50  float64 `json:"p50"`
	P90  float64 `json:"p90"`
	P95  float64 `json:"p95"`
	P99  float64 `json:"p99"`
	P999 float64 `json:"p999"`
	Max  float64 `json:"max"`
	Mean float64 `json:"mean"`

	histogram *hdrhistogram.Histogram
	unit      time.Duration
}

func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(1, longest.Microseconds(), 3)
}

// record takes a time into a histogram of microseconds.
func record(h *hdrhistogram.Histogram, d time.Duration) {
	// What is beyond the histogram counts as its longest, which is the one error that RecordValue knows.
	_ = h.RecordValue(min(max(d, time.Microsecond), longest).Microseconds())
}

// sumUp gives the times of a histogram of microseconds; nil if there are none.
func sumUp(h *hdrhistogram.Histogram, unit time.Duration) *Times {
	if h.TotalCount() == 0 {
		return nil
	}
	t := &Times{histogram: h, unit: unit}
	t.P50, t.P90, t.P95, t.P99, t.P999 = t.at(50), t.at(90), t.at(95), t.at(99), t.at(99.9)
	t.Max, t.Mean = t.in(float64(h.Max())), t.in(h.Mean())
	return t
}

// at gives a percentile.
func (t *Times) at(percentile float64) float64 {
	return t.in(float64(t.histogram.ValueAtPercentile(percentile)))
}

func (t *Times) in(microseconds float64) float64 {
	return microseconds * float64(time.Microsecond) / float64(t.unit)
}

// sumUpAll gives the times of some durations.
func sumUpAll(all []time.Duration, unit time.Duration) *Times {
	h := newHistogram()
	for _, d := range all {
		record(h, d)
	}
	return sumUp(h, unit)
}

// recorders are histograms that many record into. There is not one for each player: ten thousand of them would not fit
// into a processor's caches, nor well into memory.
type recorders [64]struct {
	mu        sync.Mutex
	histogram *hdrhistogram.Histogram // guarded by mu
}

func newRecorders() *recorders {
	r := &recorders{}
	for i := range r {
		r[i].histogram = newHistogram()
	}
	return r
}

// batch is some times of one player on their way into a histogram. It is owned by whoever calls add.
type batch struct {
	to           *recorders
	index        int
	count        int
	microseconds [64]uint32
}

func (b *batch) add(d time.Duration) {
	b.microseconds[b.count] = uint32(min(max(d, time.Microsecond), longest).Microseconds())
	b.count++
	if b.count == len(b.microseconds) {
		b.flush()
	}
}

func (b *batch) flush() {
	into := &b.to[b.index%len(b.to)]
	into.mu.Lock()
	defer into.mu.Unlock()
	for _, value := range b.microseconds[:b.count] {
		_ = into.histogram.RecordValue(int64(value)) // add has bounded it
	}
	b.count = 0
}

// merged gives all that was recorded.
func (r *recorders) merged() *hdrhistogram.Histogram {
	all := newHistogram()
	for i := range r {
		r[i].mu.Lock()
		all.Merge(r[i].histogram)
		r[i].mu.Unlock()
	}
	return all
}
