// Package simulation runs directors, hosts and players in a world in which everything that can go wrong does: messages
// that are late, lost or arrive twice, processes that crash or stand still, networks that are cut, clocks that differ.
// The director's placement, the host's rooms and leases, the registry and the log are the real ones; JetStream,
// Agones, the network and the players are simulated. A run is decided by its seed, whatever the machine does, and can be
// replayed; one that breaks a promise is made smaller before it is shown. docs/designs/simulation.md has the argument.
package simulation

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

var (
	seeds  = flag.Int("seeds", usualSeeds, "how many seeds to run")
	first  = flag.Uint64("first", 1, "the first seed")
	replay = flag.Uint64("replay", 0, "run this seed alone, and tell everything")
	given  = flag.String("plan", "", "run this plan alone, and tell everything")
)

const (
	// settleWithin is how long everybody may take to have seen everything when nothing goes wrong any more.
	settleWithin = 90 * time.Second
)

// dieWithin is how long the goroutines of dead processes may go on, to no effect. One that goes on longer is a leak, at which
// synctest panics.
const dieWithin = 2 * time.Minute

// result is what became of a run.
type result struct {
	violations []string
	trace      uint64
	lasted     time.Duration
	events     uint64 // that the world made happen
	claims     int    // at once, at most
	stored     int    // messages of all groups
	hosts      int    // that were started
}

// simulate runs a plan.
func simulate(t *testing.T, p plan, v variant, verbose bool) (r result) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(p, v)
		if verbose {
			w.verbose = t.Logf
		}
		w.live()
		r = result{
			violations: w.judge.violations, trace: w.trace.Sum64(), lasted: w.now(),
			events: w.order, claims: w.judge.claimsMost, stored: w.judge.told, hosts: len(w.hosts),
		}
	})
	return r
}

// live is the run: everything goes wrong, everything is mended, everybody leaves.
func (w *world) live() {
	broken := w.judge.failed
	w.startReader()
	w.run(w.plan.Length, broken)
	if !w.run(w.now()+settleWithin, func() bool { return broken() || w.allDone() }) {
		w.judge.settled()
	}
	w.judge.settled()
	for _, p := range w.players {
		p.leave()
	}
	if !w.run(w.now()+w.leaveWithin(), func() bool { return broken() || w.judge.nothingLeft() }) {
		w.judge.failf("leak: %s", strings.Join(w.judge.left(), ", "))
	}
	w.end()
}

func (w *world) allDone() bool { return w.all((*player).isDone) }

// all says whether something is true of all players. Of whom it was not when it was last asked is looked at first: among a
// hundred thousand it is asked with each message.
func (w *world) all(is func(*player) bool) bool {
	for n := range w.players {
		next := (w.looked + n) % len(w.players)
		if !is(w.players[next]) {
			w.looked = next
			return false
		}
	}
	return true
}

// leaveWithin is how long it may take until nothing is left when everybody has gone: graces, leases, and two looks of the
// reaper, which asks one host after the other.
func (w *world) leaveWithin() time.Duration {
	return time.Minute + time.Duration(len(w.hosts))*100*time.Millisecond
}

// end ends every process; what is still under way ends with it.
func (w *world) end() {
	w.over = true
	w.reader.crash()
	for _, d := range w.directors {
		d.crash()
	}
	for _, h := range w.hosts {
		h.crash()
		for _, s := range h.streams {
			s.cancel()
		}
	}
	w.broker.breakWatches(nil)
	w.run(w.now()+dieWithin, func() bool { return false })
}

// TestSeeds runs many seeds. -seeds says how many, -first where to begin.
func TestSeeds(t *testing.T) {
	if *replay != 0 || *given != "" {
		p := newPlan(*replay)
		if *given != "" {
			if err := json.Unmarshal([]byte(*given), &p); err != nil {
				t.Fatalf("-plan: %v", err)
			}
		}
		report(t, p, simulate(t, p, variant{}, true))
		return
	}
	const parts = 8
	var done atomic.Int64
	for part := range parts {
		t.Run(fmt.Sprint("part", part), func(t *testing.T) {
			t.Parallel()
			for n := part; n < *seeds && !t.Failed(); n += parts {
				p := newPlan(*first + uint64(n))
				if r := simulate(t, p, variant{}, false); len(r.violations) > 0 {
					smaller := p.shrink(func(p plan) bool { return len(simulate(t, p, variant{}, false).violations) > 0 })
					report(t, smaller, simulate(t, smaller, variant{}, false))
					t.Logf("the whole run: go test ./test/simulation -run TestSeeds -v -replay %d", p.Seed)
				}
				done.Add(1)
			}
		})
	}
	t.Cleanup(func() { t.Logf("%d seeds", done.Load()) })
}

// mostShown bounds what is shown of a run: when one promise to a crowd is broken many are.
const mostShown = 20

func report(t *testing.T, p plan, r result) {
	t.Helper()
	for n, v := range r.violations {
		if n == mostShown {
			t.Errorf("and %d more", len(r.violations)-n)
			break
		}
		t.Errorf("%s", v)
	}
	if len(r.violations) > 0 {
		t.Logf("%s\n%s", p, p.command())
	}
}

// TestSameSeedSameRun runs seeds twice: whatever the machine does, a run is the same.
func TestSameSeedSameRun(t *testing.T) {
	t.Parallel()
	for seed := range uint64(usualSeeds / 20) {
		p := newPlan(seed)
		a, b := simulate(t, p, variant{}, false), simulate(t, p, variant{}, false)
		if a.trace != b.trace {
			t.Errorf("seed %d gave two runs, of %s and of %s", seed, a.lasted, b.lasted)
		}
	}
}

// catchWithin is how many seeds it may take to catch a mistake.
const catchWithin = 4000

// TestMistakesAreCaught proves the bench: of each variant with a mistake in it, some seed must break a promise.
func TestMistakesAreCaught(t *testing.T) {
	if underRace {
		t.Skip("it takes many seeds, and shows nothing more under the race detector: run it without")
	}
	for _, m := range mistakes {
		t.Run(strings.ReplaceAll(m.name, " ", "-"), func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(catchWithin) {
				if r := simulate(t, newPlan(seed), m.variant(), false); len(r.violations) > 0 {
					t.Logf("%s: caught by seed %d: %s", m.because, seed, r.violations[0])
					return
				}
			}
			t.Errorf("%s: %d seeds did not notice", m.because, catchWithin)
		})
	}
}

func TestMain(m *testing.M) {
	flag.Parse()
	debug.SetGCPercent(400) // each run leaves all of itself behind
	os.Exit(m.Run())
}
