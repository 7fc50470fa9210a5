// Package secret follows keys, credentials and certificates in files that others replace while a process runs, as the
// kubelet does with those of a Secret. What cannot be read leaves in use what was there before.
package secret

import (
	"context"
	"crypto/sha256"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/guildhall-dev/guildhall/internal/process"
)

// Period is how often [Files.Run] looks at the files: so late at most is what [Value.Now] gives.
const Period = time.Second

// Files is all secrets of a process. It is safe for use by any number of goroutines.
type Files struct {
	// Static after construction.
	logger *slog.Logger
	reads  *prometheus.CounterVec

	mu       sync.Mutex
	followed []interface{ look() } // guarded by mu
}

// New makes a Files that follows nothing yet. A nil logger or registerer is told nothing.
func New(logger *slog.Logger, registerer prometheus.Registerer) *Files {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	return &Files{logger: logger, reads: promauto.With(registerer).NewCounterVec(prometheus.CounterOpts{
		Name: "guildhall_secret_reads_total",
		Help: "Secrets read anew from their files, by what and outcome: replaced, or failed, so that what was read before stays in use.",
	}, []string{"what", "outcome"})}
}

// Run looks at the files every [Period] until ctx ends.
func (f *Files) Run(ctx context.Context) error {
	process.Every(ctx, Period, func() {
		f.mu.Lock()
		followed := f.followed
		f.mu.Unlock()
		for _, value := range followed {
			value.look()
		}
	})
	return nil
}

// Value is what was read last from some files.
type Value[T any] struct {
	// Static after construction.
	what     string
	read     func() (T, error)
	names    []string
	logger   *slog.Logger
	replaced prometheus.Counter
	failed   prometheus.Counter

	current atomic.Pointer[T]

	mu     sync.Mutex
	sum    [sha256.Size]byte // guarded by mu; of the files that current was read from, or of later ones
	broken bool              // guarded by mu; the files could not be read since, and that has been told
}

// Follow reads a value for the first time, which must succeed, and has [Files.Run] read it anew when one of the files has
// changed. What names it in logs and metrics. If the value is a [slog.LogValuer], a change is logged with what that gives.
func Follow[T any](f *Files, what string, read func() (T, error), files ...string) (*Value[T], error) {
	v := &Value[T]{
		what: what, read: read, names: files, logger: f.logger,
		replaced: f.reads.WithLabelValues(what, "replaced"), failed: f.reads.WithLabelValues(what, "failed"),
	}
	v.sum, _ = sumOf(files) // before the reading: what is replaced in between is read once more
	first, err := read()
	if err != nil {
		return nil, err
	}
	v.current.Store(&first)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.followed = append(f.followed, v)
	return v, nil
}

// Now gives the value as it was at the last look. It reads no file: any number of calls a second cost nothing.
func (v *Value[T]) Now() T { return *v.current.Load() }

// Read looks at the files first. It is for what is needed seldom and must not be late.
func (v *Value[T]) Read() T {
	v.look()
	return v.Now()
}

// look reads the value anew if its files have changed, or could not be read the last time.
func (v *Value[T]) look() {
	v.mu.Lock()
	defer v.mu.Unlock()
	sum, err := sumOf(v.names)
	if err == nil && sum == v.sum && !v.broken {
		return
	}
	value, err := v.read()
	if err != nil {
		value, err = v.read() // between the one file and the other they may have been replaced
	}
	if err != nil {
		v.fail(err)
		return
	}
	if v.broken {
		v.logger.Info("a secret can be read again", "what", v.what)
	}
	v.current.Store(&value)
	if v.broken = false; sum == v.sum {
		return // what was there before is there again
	}
	v.sum = sum
	v.replaced.Inc()
	v.logger.Info("a secret was replaced", append([]any{"what", v.what}, shown(value)...)...)
}

// fail counts each failure and tells the first. The caller holds mu.
func (v *Value[T]) fail(err error) {
	v.failed.Inc()
	if !v.broken {
		v.logger.Error("a secret cannot be read: what was read before stays in use", "what", v.what, "error", err)
	}
	v.broken = true
}

// shown gives what of a value may be logged: only what it gives for that itself.
func shown(value any) []any {
	if valuer, ok := value.(slog.LogValuer); ok {
		return []any{"now", valuer.LogValue()}
	}
	return nil
}

// sumOf tells one state of some files from another.
func sumOf(names []string) (sum [sha256.Size]byte, err error) {
	all := sha256.New()
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			return sum, err
		}
		one := sha256.Sum256(text)
		all.Write(one[:])
	}
	return [sha256.Size]byte(all.Sum(nil)), nil
}
