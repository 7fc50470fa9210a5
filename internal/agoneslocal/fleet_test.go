package agoneslocal

import (
	"context"
	"log/slog"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func TestFleetKeepsItsBuffer(t *testing.T) {
	t.Parallel()
	b := setup(t, good, func(c *Config) {
		c.Fleet.Ready = 2
		c.Fleet.Ports = []string{"game", "web"}
		c.Fleet.Labels = map[string]string{"version": "v1"}
	})
	name := regexp.MustCompile(`^guildhall-rooms-[a-z0-9]{5}-[a-z0-9]{5}$`)
	var ports []int
	for _, gs := range b.ready(2) {
		if !name.MatchString(gs.Name) {
			t.Errorf("name %q", gs.Name)
		}
		if gs.Address != "127.0.0.1" || gs.Namespace != "default" || !alive(gs.PID) {
			t.Errorf("%+v: want 127.0.0.1 in default and a process", gs)
		}
		if gs.Labels["agones.dev/fleet"] != "guildhall-rooms" || gs.Labels["version"] != "v1" {
			t.Errorf("labels %v", gs.Labels)
		}
		ports = append(ports, gs.Ports["game"], gs.Ports["web"])
	}
	if slices.Sort(ports); len(slices.Compact(ports)) != 4 || slices.Contains(ports, 0) {
		t.Errorf("ports %v, want four different ones", ports)
	}
}

func TestAllocatedOneIsReplacedInTheBuffer(t *testing.T) {
	t.Parallel()
	b := setup(t, good, nil)
	first := b.ready(1)[0]
	client, _ := b.sdk(first)
	if _, err := client.Allocate(b.ctx, empty); err != nil {
		t.Fatal(err)
	}
	second := b.ready(1)[0]
	if second.Name == first.Name {
		t.Error("the Allocated game server counts as the buffer")
	}
	if gs := b.reaches(first.Name, Allocated); !alive(gs.PID) {
		t.Error("the Allocated game server does not run")
	}
}

func TestMaxBoundsTheFleet(t *testing.T) {
	t.Parallel()
	b := setup(t, good, func(c *Config) {
		c.Fleet.Ready, c.Fleet.Max = 2, 2
	})
	for _, gs := range b.ready(2) {
		client, _ := b.sdk(gs)
		if _, err := client.Allocate(b.ctx, empty); err != nil {
			t.Fatal(err)
		}
	}
	all := b.wait("two Allocated", func(all []GameServer) bool { return len(in(Allocated, all)) == 2 })
	client, _ := b.sdk(all[0])
	if _, err := client.Shutdown(b.ctx, empty); err != nil {
		t.Fatal(err)
	}
	b.wait("the place to be taken", func(now []GameServer) bool {
		if len(now) > 2 {
			t.Errorf("%d game servers, at most 2 are wanted", len(now))
		}
		return len(in(Ready, now)) == 1
	})
}

func TestKilledOneIsNoticedAndReplaced(t *testing.T) {
	t.Parallel()
	b := setup(t, good, nil)
	first := b.ready(1)[0]
	if err := syscall.Kill(first.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	b.leaves(first.Name)
	if second := b.ready(1)[0]; second.Name == first.Name || second.PID == first.PID {
		t.Errorf("%+v is no other than %+v", second, first)
	}
	if !b.log.has("game server lost", first.Name, "signal: killed", "cause=died") {
		t.Error("the log does not say how it ended")
	}
}

func TestSilentOneIsUnhealthyAndReplaced(t *testing.T) {
	t.Parallel()
	b := setup(t, mute, func(c *Config) {
		c.Fleet.Health = Health{Period: 50 * time.Millisecond, InitialDelay: time.Second, FailureThreshold: 2}
	})
	first := b.ready(1)[0]
	b.leaves(first.Name)
	b.ready(1)
	if alive(first.PID) {
		t.Error("the Unhealthy game server was not stopped")
	}
	if !b.log.has("game server lost", first.Name, "cause=unhealthy", "exit status 0") {
		t.Error("the log does not say that it was Unhealthy")
	}
}

func TestHealthCanBeDisabled(t *testing.T) {
	t.Parallel()
	disabled := setup(t, mute, func(c *Config) {
		c.Fleet.Health = Health{Disabled: true, Period: time.Millisecond, InitialDelay: time.Millisecond, FailureThreshold: 1}
	})
	first := disabled.ready(1)[0]

	// By the time at which another fleet's has been found silent, so would this one's have been.
	enabled := setup(t, mute, func(c *Config) {
		c.Fleet.Health = Health{Period: time.Millisecond, InitialDelay: 100 * time.Millisecond, FailureThreshold: 1}
	})
	enabled.wait("a silent one to be found", func([]GameServer) bool { return enabled.log.has("cause=unhealthy") })
	if second := disabled.ready(1)[0]; second.Name != first.Name {
		t.Error("health is disabled, and still the game server was replaced")
	}
}

func TestShutdownStopsAndReplaces(t *testing.T) {
	t.Parallel()
	b := setup(t, good, nil)
	first := b.ready(1)[0]
	client, _ := b.sdk(first)
	if _, err := client.Shutdown(b.ctx, empty); err != nil {
		t.Fatal(err)
	}
	b.leaves(first.Name)
	b.ready(1)
	if !b.log.has("game server ended", first.Name, "cause=asked", "exit status 0") {
		t.Error("SIGTERM did not end it in good order")
	}
}

func TestGraceEndsWithKill(t *testing.T) {
	t.Parallel()
	b := setup(t, stubborn, func(c *Config) { c.Fleet.StopGrace = 50 * time.Millisecond })
	first := b.ready(1)[0]
	client, _ := b.sdk(first)
	if _, err := client.Shutdown(b.ctx, empty); err != nil {
		t.Fatal(err)
	}
	b.leaves(first.Name)
	if alive(first.PID) {
		t.Error("it outlived its grace")
	}
	if !b.log.has("outlived its grace", first.Name) || !b.log.has("cause=asked", "signal: killed") {
		t.Error("the log does not say so")
	}
}

func TestCrashingOneBacksOff(t *testing.T) {
	t.Parallel()
	var log logBuffer
	var starts atomic.Int32
	fourth := make(chan struct{})
	b := setup(t, broken, func(c *Config) {
		c.Logger = slog.New(slog.NewTextHandler(&log, nil))
		c.Fleet.CrashBackoff = CrashBackoff{First: 20 * time.Millisecond, Most: time.Hour}
		c.Fleet.Command = func(gs GameServer) *exec.Cmd {
			n := int(starts.Add(1))
			if waits := strings.Count(log.String(), "waiting before the next"); waits != n-1 {
				t.Errorf("start %d comes after %d delays", n, waits)
			}
			if n == 4 {
				close(fourth)
			}
			return inRole(broken)(gs)
		}
	})
	select {
	case <-fourth:
	case <-b.ctx.Done():
		t.Fatal("there was no fourth start")
	}
	if !log.has("waiting before the next", "wait=80ms") {
		t.Error("the delay does not double")
	}
	if !log.has("exited before it was Ready", "exit status "+strconv.Itoa(brokenStatus)) {
		t.Error("the log does not say the exit status")
	}
}

func TestWhatCountsAsACrash(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		moves   []State
		crashed uint64
	}{
		{[]State{Unhealthy}, 1},
		{[]State{Scheduled, Shutdown}, 1}, // else one that asks for its end at once would spin
		{[]State{Ready, Unhealthy}, 0},
		{[]State{Allocated, Shutdown}, 0},
		{[]State{Unhealthy, Shutdown, Unhealthy}, 1},
	} {
		store, s, _ := desk(t, Fleet{})
		for _, to := range c.moves {
			store.move(s.gs, to)
		}
		if got := store.census(); got.tally.crashed != c.crashed || got.buffer != 0 {
			t.Errorf("%v: %+v, want %d crashes", c.moves, got, c.crashed)
		}
	}
}

// The delays themselves, in virtual time, with a command that cannot start.
func TestStartsAreSpaced(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex // the two game servers of a round start at once
		var starts []time.Duration
		begin := time.Now()
		config := Config{Fleet: Fleet{Ready: 2, Command: func(GameServer) *exec.Cmd {
			mu.Lock()
			defer mu.Unlock()
			if since := time.Since(begin); !slices.Contains(starts, since) {
				starts = append(starts, since)
			}
			return exec.Command("/nonexistent/gameserver")
		}}}
		if err := config.complete(); err != nil {
			t.Fatal(err)
		}
		m, _ := newMetrics(nil)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Second)
		defer cancel()
		newFleet(config.Fleet, newStore(m), m, config.Logger).run(ctx)
		want := []time.Duration{0, 1, 3, 7, 15, 31, 61, 91}
		for i := range want {
			want[i] *= time.Second
		}
		if !slices.Equal(starts, want) {
			t.Errorf("starts at %v, want %v", starts, want)
		}
	})
}

func TestMissing(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		fleet  Fleet
		census census
		want   int
	}{
		{Fleet{Ready: 2}, census{}, 2},
		{Fleet{Ready: 2}, census{all: 5, buffer: 1}, 1},
		{Fleet{Ready: 2}, census{all: 5, buffer: 4}, 0},
		{Fleet{Ready: 2, Max: 3}, census{all: 2, buffer: 0}, 1},
		{Fleet{Ready: 2, Max: 3}, census{all: 3, buffer: 0}, 0},
		{Fleet{Ready: 2, Max: 3}, census{all: 4, buffer: 0}, 0},
	} {
		if got := c.fleet.missing(c.census); got != c.want {
			t.Errorf("Ready %d, Max %d, %+v: %d, want %d", c.fleet.Ready, c.fleet.Max, c.census, got, c.want)
		}
	}
}
