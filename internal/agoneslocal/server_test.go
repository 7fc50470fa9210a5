package agoneslocal

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

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
