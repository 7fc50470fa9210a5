package chaos

import (
	"cmp"
	"context"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"
)

// injected is a fault that was, with its times.
type injected struct {
	Kind, Target string
	Begin, End   time.Time
}

// injector breaks things: one kind after the other in an order that a seed decides, so that each has its turn, and never
// two faults at one target.
type injector struct {
	// Static after construction.
	town   *town
	random *rand.Rand
	make   kinds
	kinds  []string
	log    func(format string, v ...any)
	// provoke is called while a host may be believed dead; nil if nobody minds.
	provoke func(ctx context.Context, host string)

	// Owned by run.
	bag []string // the kinds that have not had their turn

	mu      sync.Mutex
	locked  map[string]bool // guarded by mu
	history []injected      // guarded by mu; in the order of their ends
	running sync.WaitGroup
}

func newInjector(w *town, all kinds, seed uint64, only string, log func(string, ...any)) *injector {
	i := &injector{town: w, random: rand.New(rand.NewPCG(seed, seed)), make: all, locked: map[string]bool{}, log: log}
	for _, kind := range sortedKeys(all) {
		if only == "" || slices.Contains(strings.Split(only, ","), kind) {
			i.kinds = append(i.kinds, kind)
		}
	}
	return i
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }

// run injects a fault in each period until ctx ends, and returns when everything is mended.
func (i *injector) run(ctx context.Context, every time.Duration) {
	defer i.running.Wait()
	for rest(ctx, every) {
		i.inject(ctx)
	}
}

// inject injects one fault: of the next kind that can be just now. Those that cannot keep their turn.
func (i *injector) inject(ctx context.Context) {
	if len(i.bag) == 0 {
		i.bag = slices.Clone(i.kinds)
		i.random.Shuffle(len(i.bag), func(a, b int) { i.bag[a], i.bag[b] = i.bag[b], i.bag[a] })
	}
	for n, kind := range i.bag {
		f := i.make[kind](i.town, i.random)
		if f == nil || !i.lock(f) {
			continue
		}
		i.bag = slices.Delete(i.bag, n, n+1)
		i.begin(ctx, f)
		return
	}
}

func (i *injector) lock(f *fault) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, lock := range f.locks {
		if i.locked[lock] {
			return false
		}
	}
	for _, lock := range f.locks {
		i.locked[lock] = true
	}
	return true
}

// believedDeadAfter is when a host that is silent has lost its lease for sure.
const believedDeadAfter = 3200 * time.Millisecond

// begin starts a fault; run waits for its end.
func (i *injector) begin(ctx context.Context, f *fault) {
	begin := time.Now()
	i.log("%s %s: %s", begin.Format("15:04:05.000"), f.kind, f.target)
	if f.alone && i.provoke != nil {
		i.running.Go(func() {
			if rest(ctx, believedDeadAfter) {
				i.provoke(ctx, f.target)
			}
		})
	}
	i.running.Go(func() {
		f.apply(ctx)
		end := time.Now()
		i.log("%s %s: %s is over after %s", end.Format("15:04:05.000"), f.kind, f.target, end.Sub(begin).Round(time.Millisecond))
		i.mu.Lock()
		defer i.mu.Unlock()
		i.history = append(i.history, injected{Kind: f.kind, Target: f.target, Begin: begin, End: end})
		for _, lock := range f.locks {
			delete(i.locked, lock)
		}
	})
}

// all gives what was injected, in the order of the beginnings.
func (i *injector) all() []injected {
	i.mu.Lock()
	defer i.mu.Unlock()
	return slices.SortedFunc(slices.Values(i.history), func(a, b injected) int { return a.Begin.Compare(b.Begin) })
}
