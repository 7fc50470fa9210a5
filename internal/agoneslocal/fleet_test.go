package agoneslocal

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
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

func TestRunLeavesNoProcess(t *testing.T) {
	t.Parallel()
	b := setup(t, good, func(c *Config) { c.Fleet.Ready = 3 })
	fleet := b.ready(3)
	if err := b.stop(); err != nil {
		t.Fatal(err)
	}
	for _, gs := range fleet {
		if alive(gs.PID) {
			t.Errorf("%s is left", gs.Name)
		}
		if !b.log.has("game server ended", gs.Name, "cause=stopped", "exit status 0") {
			t.Errorf("%s did not end in good order", gs.Name)
		}
	}
	if left := b.GameServers(); len(left) != 0 {
		t.Errorf("left: %+v", left)
	}
}

func TestRunStopsWhatIsNotReadyYet(t *testing.T) {
	t.Parallel()
	b := setup(t, slow, nil)
	scheduled := b.wait("a process", func(all []GameServer) bool { return len(in(Scheduled, all)) == 1 })[0]
	if err := b.stop(); err != nil {
		t.Fatal(err)
	}
	if alive(scheduled.PID) {
		t.Error("it is left")
	}
}

func TestKillAllNeedsNoGrace(t *testing.T) {
	t.Parallel()
	b := setup(t, stubborn, func(c *Config) {
		c.Fleet.Ready = 2
		c.Fleet.StopGrace = time.Hour
	})
	fleet := b.ready(2)
	stopped := make(chan error, 1)
	go func() { stopped <- b.stop() }()
	b.wait("both to be stopping", func(all []GameServer) bool { return len(in(Shutdown, all)) == 2 })
	b.KillAll()
	select {
	case err := <-stopped:
		if err != nil {
			t.Error(err)
		}
	case <-b.ctx.Done():
		t.Fatal("Run did not return")
	}
	for _, gs := range fleet {
		if alive(gs.PID) {
			t.Errorf("%s is left", gs.Name)
		}
	}
}

func TestKillAllStartsNoOther(t *testing.T) {
	t.Parallel()
	b := setup(t, good, nil)
	b.ready(1)
	b.KillAll()
	b.wait("an empty fleet", func(all []GameServer) bool { return len(all) == 0 })
	if b.store.add(newGameServer(&Fleet{}, "set", nil, time.Now())) {
		t.Error("the store takes another")
	}
}

func TestCrashingOneBacksOff(t *testing.T) {
	t.Parallel()
	var starts atomic.Int32
	b := setup(t, broken, func(c *Config) {
		c.Fleet.CrashBackoff = CrashBackoff{First: 20 * time.Millisecond, Most: time.Hour}
		c.Fleet.Command = func(gs GameServer) *exec.Cmd {
			starts.Add(1)
			return inRole(broken)(gs)
		}
	})
	b.wait("the third crash", func([]GameServer) bool { return b.log.has("waiting before the next", "wait=80ms") })
	if got := starts.Load(); got != 3 {
		t.Errorf("%d starts before the third delay, want 3", got)
	}
	if !b.log.has("exited before it was Ready", "exit status "+strconv.Itoa(brokenStatus)) {
		t.Error("the log does not say the exit status")
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

func TestOutputIsPassedOn(t *testing.T) {
	t.Parallel()
	var output logBuffer
	b := setup(t, chatty, func(c *Config) {
		c.Fleet.Output = func(string) io.Writer { return &output }
	})
	b.ready(1)
	if err := b.stop(); err != nil {
		t.Fatal(err)
	}
	if got := output.String(); !strings.Contains(got, "to stdout\n") || !strings.Contains(got, "to stderr\n") {
		t.Errorf("output %q", got)
	}
}

func TestMetricsFollowTheFleet(t *testing.T) {
	t.Parallel()
	b := setup(t, good, nil)
	b.ready(1)
	if err := b.stop(); err != nil {
		t.Fatal(err)
	}
	families, err := b.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	for _, family := range families {
		text.WriteString(family.String() + "\n")
		for _, metric := range family.GetMetric() {
			if family.GetName() == "guildhall_agoneslocal_gameservers" && metric.GetGauge().GetValue() != 0 {
				t.Errorf("after the end: %v", metric)
			}
		}
	}
	if !strings.Contains(text.String(), "guildhall_agoneslocal_gameserver_exits_total") {
		t.Errorf("metrics:\n%s", &text)
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	command := inRole(good)
	for name, config := range map[string]Config{
		"no command":         {},
		"negative wait":      {BatchWait: -1, Fleet: Fleet{Command: command}},
		"negative buffer":    {Fleet: Fleet{Command: command, Ready: -1}},
		"negative period":    {Fleet: Fleet{Command: command, Health: Health{Period: -1}}},
		"backoff backwards":  {Fleet: Fleet{Command: command, CrashBackoff: CrashBackoff{First: 2, Most: 1}}},
		"port twice":         {Fleet: Fleet{Command: command, Ports: []string{"a", "a"}}},
		"port without name":  {Fleet: Fleet{Command: command, Ports: []string{""}}},
		"bad label":          {Fleet: Fleet{Command: command, Labels: map[string]string{"a b": "c"}}},
		"counter overfull":   {Fleet: Fleet{Command: command, Counters: map[string]Counter{"rooms": {Count: 2, Capacity: 1}}}},
		"list overfull":      {Fleet: Fleet{Command: command, Lists: map[string]List{"groups": {Values: []string{"a"}}}}},
		"list too long":      {Fleet: Fleet{Command: command, Lists: map[string]List{"groups": {Capacity: 1001}}}},
		"address not usable": {AllocatorListen: "256.0.0.1:0", Fleet: Fleet{Command: command}},
	} {
		if server, err := New(config); err == nil {
			server.Close()
			t.Errorf("%s: no error", name)
		}
	}
}

func TestCloseGivesUpTheListener(t *testing.T) {
	t.Parallel()
	server, err := New(Config{Fleet: Fleet{Command: inRole(good)}})
	if err != nil {
		t.Fatal(err)
	}
	address := server.AllocatorAddr()
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	if err := server.Close(); err != nil {
		t.Errorf("the second Close: %v", err)
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatalf("the address is still taken: %v", err)
	}
	listener.Close()
}

func TestTwoStandInsCannotShareARegistry(t *testing.T) {
	t.Parallel()
	b := setup(t, good, func(c *Config) { c.Fleet.Ready = 0 })
	if server, err := New(Config{Metrics: b.metrics, Fleet: Fleet{Command: inRole(good)}}); err == nil {
		server.Close()
		t.Error("no error")
	}
}

func TestWaitEndsWithItsContext(t *testing.T) {
	t.Parallel()
	b := setup(t, good, func(c *Config) { c.Fleet.Ready = 0 })
	ctx, cancel := context.WithCancel(b.ctx)
	cancel()
	err := b.Wait(ctx, func([]GameServer) bool { return false })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
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
