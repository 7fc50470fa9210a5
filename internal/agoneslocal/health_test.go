package agoneslocal

import (
	"testing"
	"time"
)

func TestHeartbeat(t *testing.T) {
	t.Parallel()
	begin := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	life := newHeartbeat(Health{Period: 2 * time.Second, FailureThreshold: 2}, begin)
	for _, step := range []struct {
		at      time.Duration
		beat    bool
		healthy bool
	}{
		{at: 2 * time.Second, healthy: true},
		{at: 4 * time.Second, healthy: true}, // the first failure
		{at: 5 * time.Second, beat: true},
		{at: 6 * time.Second, healthy: true},
		{at: 8 * time.Second, healthy: true}, // again the first
		{at: 10 * time.Second, healthy: false},
	} {
		now := begin.Add(step.at)
		if step.beat {
			life.beat(now)
			continue
		}
		if got := life.check(now); got != step.healthy {
			t.Errorf("at %v: healthy %t, want %t", step.at, got, step.healthy)
		}
	}
}

func TestHealthInWholeSeconds(t *testing.T) {
	t.Parallel()
	life := newHeartbeat(Health{Period: 1500 * time.Millisecond, InitialDelay: time.Millisecond, FailureThreshold: 3}, time.Time{})
	message := life.message()
	if message.GetPeriodSeconds() != 2 || message.GetInitialDelaySeconds() != 1 || message.GetFailureThreshold() != 3 {
		t.Errorf("%v", message)
	}
}

func TestBackoff(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	b := backoff{config: CrashBackoff{First: time.Second, Most: 5 * time.Second}}
	if wait := b.wait(now); wait != 0 {
		t.Errorf("wait of %v before the first crash", wait)
	}
	for _, want := range []time.Duration{1, 2, 4, 5, 5} {
		if got := b.crashed(now); got != want*time.Second {
			t.Errorf("delay %v, want %ds", got, want)
		}
		now = now.Add(want * time.Second)
		if wait := b.wait(now); wait != 0 {
			t.Errorf("wait of %v after the delay", wait)
		}
	}
	b.forgive()
	if got := b.crashed(now); got != time.Second {
		t.Errorf("delay %v after one got Ready, want 1s", got)
	}
	now = now.Add(300 * time.Millisecond)
	if got := b.crashed(now); got != 700*time.Millisecond {
		t.Errorf("a crash within the delay: %v, want what is left of it", got)
	}
	if wait := b.wait(now); wait != 700*time.Millisecond {
		t.Errorf("wait %v, want 700ms", wait)
	}
}

func TestFreePorts(t *testing.T) {
	t.Parallel()
	used := map[int]bool{}
	for port := firstPort; port <= lastPort; port++ {
		used[port] = port%2 == 0
	}
	ports, err := freePorts([]string{"game", "web"}, used)
	if err != nil {
		t.Fatal(err)
	}
	if ports["game"] == ports["web"] || ports["game"]%2 == 0 || ports["web"]%2 == 0 {
		t.Errorf("ports %v", ports)
	}
	for port := range used {
		used[port] = true
	}
	if ports, err := freePorts([]string{"game"}, used); err == nil {
		t.Errorf("ports %v, and all are taken", ports)
	}
}
