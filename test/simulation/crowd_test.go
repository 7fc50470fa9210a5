package simulation

import (
	"cmp"
	"flag"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"
)

var (
	crowdGroups = flag.Int("groups", usualCrowd, "how many groups a crowd has")
	crowds      = flag.Int("crowds", 1, "how many seeds of a crowd to run")
)

// faultsOfOne hit one host, director or player; faultsOfAll hit everybody.
var (
	faultsOfOne = []faultKind{
		stallHost, stallHost, killHost, killHost, drainHost, stopHost, cutHost, deafHost, muteHost, hideHost, killDirector, stopDirector,
		cutDirector, deafDirector, cutPlayer, playerReturns,
	}
	faultsOfAll = []faultKind{stopNATS, loseNATS, lossyNATS, twiceNATS, staleNATS, slowNetwork, stubbornAgones, lostAllocation}
)

// newCrowd makes the plan of a seed in which very many groups live at once, on hosts that carry as many rooms as real ones.
// Something happens to one host, director or player for each four hundred groups, and four times to all at once.
func newCrowd(seed uint64, groups int) plan {
	rng := rand.New(rand.NewPCG(seed, 3))
	p := plan{
		Seed: seed, Directors: 4, Hosts: 3 + groups/500, Headroom: 50, Groups: groups, Players: 2, Says: 2, Rooms: 50,
		Length: 20 * time.Second, Clock: 0.92 + 0.16*rng.Float64(),
	}
	for n := range 14 + groups/400 {
		kinds := faultsOfOne
		if n < 4 {
			kinds = faultsOfAll
		}
		p.Faults = append(p.Faults, fault{
			Kind: kinds[rng.IntN(len(kinds))], Target: rng.IntN(1 << 16),
			At: time.Duration(rng.Int64N(int64(p.Length))), Lasts: time.Duration(rng.Int64N(int64(2 * leaseTTL))),
		})
	}
	slices.SortFunc(p.Faults, func(a, b fault) int { return cmp.Compare(a.At, b.At) })
	return p
}

// simulateCrowd runs a plan of a crowd, and tells what it took.
func simulateCrowd(t *testing.T, p plan, v variant) result {
	t.Helper()
	defer debug.SetGCPercent(debug.SetGCPercent(100)) // one run, and a large one
	began := time.Now()
	r := simulate(t, p, v, false)
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	t.Logf("seed %d: %d groups, %d rooms at once at most, %d hosts, %d faults, %d messages, %d events in %s: %s, %d MiB from the system",
		p.Seed, p.Groups, r.claims, r.hosts, len(p.Faults), r.stored, r.events, r.lasted.Round(time.Second),
		time.Since(began).Round(time.Second/10), memory.Sys>>20)
	return r
}

// TestCrowd runs seeds of very many groups at once. -groups says how many, -crowds how many seeds, -first where to begin.
func TestCrowd(t *testing.T) {
	for n := range uint64(*crowds) {
		p := newCrowd(*first+n, *crowdGroups)
		r := simulateCrowd(t, p, variant{})
		report(t, p, r)
		if r.claims < p.Groups/2 {
			t.Errorf("seed %d: at most %d rooms at once of %d groups is no crowd", p.Seed, r.claims, p.Groups)
		}
	}
}

// crowdMistakes are of those that a crowd must catch, too.
var crowdMistakes = []string{"no fencing", "long lease"}

func TestMistakesAreCaughtInACrowd(t *testing.T) {
	for _, m := range mistakes {
		if !slices.Contains(crowdMistakes, m.name) {
			continue
		}
		t.Run(strings.ReplaceAll(m.name, " ", "-"), func(t *testing.T) {
			for seed := range uint64(catchCrowds) {
				if r := simulateCrowd(t, newCrowd(seed, *crowdGroups), m.variant()); len(r.violations) > 0 {
					t.Logf("%s: caught by seed %d: %s", m.because, seed, r.violations[0])
					return
				}
			}
			t.Errorf("%s: %d crowds did not notice", m.because, catchCrowds)
		})
	}
}

// catchCrowds is how many crowds it may take to catch a mistake.
const catchCrowds = 40
