package chaos

import (
	"flag"
	"os"
	"testing"
	"time"
)

// What a run is made of; zero means what the size of this build says (race_test.go, norace_test.go).
var (
	runFor      = flag.Duration("chaos.for", 0, "how long faults are injected")
	faultEvery  = flag.Duration("chaos.every", 0, "how often a fault is injected")
	faultSeed   = flag.Uint64("chaos.seed", 0, "seed of the faults; 0 takes one from the clock")
	groupCount  = flag.Int("chaos.groups", 0, "groups")
	playerCount = flag.Int("chaos.players", 0, "players of each group")
	hostCount   = flag.Int("chaos.hosts", 0, "hosts that have rooms")
	directors   = flag.Int("chaos.directors", 0, "directors")
	frontends   = flag.Int("chaos.frontends", 0, "frontends")
	sayRate     = flag.Float64("chaos.rate", 0, "messages that all players together say in a second")
	calmKills   = flag.Int("chaos.kills", 0, "hosts that are killed one by one without any other fault, to measure recovery")
	onlyFaults  = flag.String("chaos.only", "", "kinds of faults to inject, separated by commas; all if empty")
	reportFile  = flag.String("chaos.report", "", "file for the report as JSON")
	keepFolder  = flag.String("chaos.keep", "", "folder for logs, histories and data, kept also after a good run")
	stormFull   = flag.Bool("chaos.storm", false, "run the storms at full size")
)

// TestMain makes this binary any of the processes of the installation, or the test that starts them.
func TestMain(m *testing.M) {
	if role := os.Getenv(roleVariable); role != "" {
		play(role)
	}
	os.Exit(m.Run())
}

// patience bounds every wait for an installation that is well: what takes longer has failed. It is no time limit for
// the product.
const patience = 2 * time.Minute

// size is what a run is made of.
type size struct {
	For, Every            time.Duration
	Seed                  uint64
	Groups, Players       int
	Hosts                 int
	Directors, Frontends  int
	Rate                  float64
	Kills                 int
	RoomIdle, HostIdle    time.Duration
	RoomsPerHost          int
	StormOne              int // players of the one group
	StormPlayers, StormOf int // players and groups of the many
}

// asked gives the size of this build, changed by flags.
func asked() size {
	s := builtSize
	set(&s.For, *runFor)
	set(&s.Every, *faultEvery)
	set(&s.Groups, *groupCount)
	set(&s.Players, *playerCount)
	set(&s.Hosts, *hostCount)
	set(&s.Directors, *directors)
	set(&s.Frontends, *frontends)
	set(&s.Rate, *sayRate)
	set(&s.Kills, *calmKills)
	set(&s.Seed, *faultSeed)
	set(&s.Seed, uint64(time.Now().UnixNano()))
	if *faultSeed != 0 {
		s.Seed = *faultSeed
	}
	if *stormFull {
		s.StormOne, s.StormPlayers, s.StormOf = 1000, 10_000, 576
	}
	s.RoomsPerHost = (s.Groups + s.Hosts - 1) / s.Hosts
	return s
}

func set[T comparable](into *T, value T) {
	var zero T
	if value != zero {
		*into = value
	}
}
