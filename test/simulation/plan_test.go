package simulation

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// plan is everything that is decided before a run: who takes part, how long it lasts, and what goes wrong when. The same
// plan gives the same run, to the nanosecond.
type plan struct {
	Seed      uint64
	Directors int
	Hosts     int // Ready ones that the fleet keeps
	Headroom  int // rooms
	Groups    int
	Players   int // in each group
	Says      int // by each player
	Rooms     int `json:",omitempty"` // on each host; 0 means 2
	Length    time.Duration
	// Clock is how fast NATS's clock goes by the hosts' clocks.
	Clock  float64
	Faults []fault
}

// fault is one thing that goes wrong.
type fault struct {
	Kind faultKind
	// Target picks the victim among those who live when it happens.
	Target int
	At     time.Duration
	// Lasts is how long it goes on; a crash is over at once.
	Lasts time.Duration
}

type faultKind string

// What can go wrong.
const (
	killHost       faultKind = "kill host"              // and the fleet starts another
	killDirector   faultKind = "kill director"          // and it is started again
	drainHost      faultKind = "drain host"             // SIGTERM
	stopHost       faultKind = "stop host"              // SIGSTOP, then SIGCONT
	stopDirector   faultKind = "stop director"          //
	cutHost        faultKind = "cut host from NATS"     // both ways
	deafHost       faultKind = "host hears no NATS"     // what it sends arrives
	muteHost       faultKind = "NATS hears no host"     // what it is sent arrives
	stallHost      faultKind = "NATS hears a host late" // what it sends waits and arrives in the end
	cutDirector    faultKind = "cut director from NATS" //
	deafDirector   faultKind = "director hears no NATS" //
	hideHost       faultKind = "cut host from directors"
	cutPlayer      faultKind = "cut player from hosts"
	stopNATS       faultKind = "NATS stands still" // what it is sent waits
	loseNATS       faultKind = "NATS is away"      // what it is sent is lost
	lossyNATS      faultKind = "a third of the messages is lost"
	twiceNATS      faultKind = "requests arrive twice"
	staleNATS      faultKind = "reads lag" // as of a deposed leader
	slowNetwork    faultKind = "the network is slow"
	stubbornAgones faultKind = "Agones refuses" // ResourceExhausted and Aborted, with servers to give
	lostAllocation faultKind = "replies of Agones are lost"
	playerReturns  faultKind = "player starts anew"
)

// faultKinds is what is drawn from: what makes two hosts believe that a room is theirs stands here more than once.
var faultKinds = []faultKind{
	stallHost, stallHost, stallHost, killHost,
	killHost, killDirector, drainHost, stopHost, stopDirector, cutHost, deafHost, muteHost, stallHost, cutDirector, deafDirector,
	hideHost, cutPlayer, stopNATS, loseNATS, lossyNATS, twiceNATS, staleNATS, slowNetwork, stubbornAgones,
	lostAllocation, playerReturns,
}

// newPlan makes the plan of a seed.
func newPlan(seed uint64) plan {
	rng := rand.New(rand.NewPCG(seed, 1))
	p := plan{
		Seed: seed, Directors: 1 + rng.IntN(3), Hosts: 1 + rng.IntN(3), Groups: 1 + rng.IntN(3), Players: 1 + rng.IntN(4),
		Says: 4 + rng.IntN(8), Length: time.Duration(10+rng.IntN(14)) * time.Second, Clock: 0.92 + 0.16*rng.Float64(),
	}
	if rng.IntN(2) == 0 {
		p.Headroom = 1 + rng.IntN(3)
	}
	for range rng.IntN(12) {
		f := fault{
			Kind: faultKinds[rng.IntN(len(faultKinds))], Target: rng.IntN(1 << 16),
			At: time.Duration(rng.Int64N(int64(p.Length))), Lasts: time.Duration(rng.Int64N(int64(leaseTTL))),
		}
		if rng.IntN(2) == 0 { // longer than a lease lives
			f.Lasts += leaseTTL
		}
		p.Faults = append(p.Faults, f)
	}
	slices.SortFunc(p.Faults, func(a, b fault) int { return cmp.Compare(a.At, b.At) })
	return p
}

func (p plan) roomsPerHost() int { return cmp.Or(p.Rooms, 2) }

// has says whether a kind of fault is part of the plan.
func (p plan) has(kind faultKind) bool {
	return slices.ContainsFunc(p.Faults, func(f fault) bool { return f.Kind == kind })
}

// String tells a plan to a person.
func (p plan) String() string {
	var text strings.Builder
	fmt.Fprintf(&text, "seed %d: %d directors, %d hosts, headroom %d, %d groups of %d players who say %d messages in %s; NATS's clock goes %.3f",
		p.Seed, p.Directors, p.Hosts, p.Headroom, p.Groups, p.Players, p.Says, p.Length, p.Clock)
	for _, f := range p.Faults {
		fmt.Fprintf(&text, "\n  %8s  %s for %s (target %d)", f.At.Round(time.Millisecond), f.Kind, f.Lasts.Round(time.Millisecond), f.Target)
	}
	return text.String()
}

// command gives the command that runs a plan again.
func (p plan) command() string {
	text, err := json.Marshal(p)
	if err != nil {
		return err.Error()
	}
	return "go test ./test/simulation -run TestSeeds -v -plan '" + string(text) + "'"
}

// shrink gives the smallest plan that it finds for which fails is still true: it takes faults away, then players, groups,
// messages and directors, one after the other, until nothing more can be taken.
func (p plan) shrink(fails func(plan) bool) plan {
	for {
		smaller, found := p.shrinkOnce(fails)
		if !found {
			return p
		}
		p = smaller
	}
}

func (p plan) shrinkOnce(fails func(plan) bool) (plan, bool) {
	for i := range p.Faults {
		try := p
		try.Faults = slices.Delete(slices.Clone(p.Faults), i, i+1)
		if fails(try) {
			return try, true
		}
	}
	for _, number := range []func(*plan) *int{
		func(p *plan) *int { return &p.Groups }, func(p *plan) *int { return &p.Players },
		func(p *plan) *int { return &p.Directors }, func(p *plan) *int { return &p.Hosts }, func(p *plan) *int { return &p.Says },
	} {
		try := p
		if n := number(&try); *n > 1 {
			*n--
			if fails(try) {
				return try, true
			}
		}
	}
	return p, false
}
