package process

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// diary notes what happens, in order.
type diary struct {
	mu    sync.Mutex
	lines []string
}

func (d *diary) note(line string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, line)
}

// part is a service that notes its end.
func (d *diary) part(name string, ends error) Service {
	return Func(func(ctx context.Context) error {
		<-ctx.Done()
		d.note(name)
		return ends
	})
}

func (d *diary) check(t *testing.T, want ...string) {
	t.Helper()
	if !slices.Equal(d.lines, want) {
		t.Errorf("%v, want %v", d.lines, want)
	}
}

func TestRunAllStopsTheLastFirst(t *testing.T) {
	t.Parallel()
	var d diary
	slow := Func(func(ctx context.Context) error {
		<-ctx.Done()
		d.note("slow begins to stop")
		<-time.After(time.Hour) // in the bubble: no time passes outside
		d.note("slow")
		return nil
	})
	synctest.Test(t, func(t *testing.T) {
		ended := make(chan error)
		ctx, cancel := context.WithCancel(context.Background())
		go func() { ended <- RunAll(ctx, d.part("a", nil), d.part("b", nil), slow, d.part("d", nil)) }()
		synctest.Wait()
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("RunAll: %v", err)
		}
	})
	d.check(t, "d", "slow begins to stop", "slow", "b", "a")
}

func TestRunAllFirstFailureWins(t *testing.T) {
	t.Parallel()
	var d diary
	first, later := errors.New("first"), errors.New("later")
	err := RunAll(context.Background(),
		d.part("a", nil), Func(func(context.Context) error { return first }), d.part("c", later), d.part("d", context.Canceled))
	if !errors.Is(err, first) {
		t.Errorf("RunAll: %v, want %v", err, first)
	}
	d.check(t, "d", "c", "a")
}

func TestRunAllEarlyEndIsFailure(t *testing.T) {
	t.Parallel()
	var d diary
	err := RunAll(context.Background(), d.part("a", nil), Func(func(context.Context) error { return nil }))
	if err == nil || !strings.Contains(err.Error(), "ended by itself") {
		t.Errorf("RunAll: %v, want an error", err)
	}
	d.check(t, "a")
}

func TestRunAllStop(t *testing.T) {
	t.Parallel()
	failure := errors.New("could not stop")
	for _, test := range []struct {
		name string
		ends []error
		want error
	}{
		{"in order", []error{nil, nil, nil}, nil},
		{"by their contexts", []error{context.Canceled, fmt.Errorf("reading: %w", context.Canceled), nil}, nil},
		{"with a failure", []error{nil, failure, nil}, failure},
		{"with a failure, the others by their contexts", []error{context.Canceled, failure, context.Canceled}, failure},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var d diary
			var parts []Service
			for i, ends := range test.ends {
				parts = append(parts, d.part(fmt.Sprint(i), ends))
			}
			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			if err := RunAll(ctx, parts...); !errors.Is(err, test.want) {
				t.Errorf("RunAll: %v, want %v", err, test.want)
			}
			d.check(t, "2", "1", "0")
		})
	}
}

// A part's own cancellation is no stop that was asked for.
func TestRunAllCanceledWithoutStopIsFailure(t *testing.T) {
	t.Parallel()
	err := RunAll(context.Background(), Func(func(context.Context) error { return context.Canceled }))
	if !errors.Is(err, context.Canceled) {
		t.Errorf("RunAll: %v, want %v", err, context.Canceled)
	}
}

func TestRunAllKeepsValues(t *testing.T) {
	t.Parallel()
	type key struct{}
	ctx, cancel := context.WithCancel(context.WithValue(context.Background(), key{}, "kept"))
	defer cancel()
	err := RunAll(ctx, Func(func(ctx context.Context) error {
		if ctx.Value(key{}) != "kept" {
			t.Error("a part's context has lost the caller's values")
		}
		cancel()
		<-ctx.Done()
		return nil
	}))
	if err != nil {
		t.Errorf("RunAll: %v", err)
	}
}

func TestUndo(t *testing.T) {
	t.Parallel()
	var d diary
	step := func(name string, err error) func() error {
		return func() error { d.note(name); return err }
	}
	var failing Undo
	failing.Add(step("first", nil))
	failing.Add(step("second", errors.New("does not close")))
	failing.Add(step("third", nil))
	failing.Run()
	d.check(t, "third", "second", "first")

	var succeeding Undo
	succeeding.Add(step("never", nil))
	succeeding.Cancel()
	succeeding.Run()
	d.check(t, "third", "second", "first")
}

func TestEvery(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		ctx, cancel := context.WithCancel(context.Background())
		var calls []time.Duration
		Every(ctx, time.Minute, func() {
			calls = append(calls, time.Since(start))
			if len(calls) == 3 {
				cancel()
			}
		})
		if want := []time.Duration{time.Minute, 2 * time.Minute, 3 * time.Minute}; !slices.Equal(calls[:3], want) {
			t.Errorf("called after %v, want %v", calls, want)
		}
	})
}
