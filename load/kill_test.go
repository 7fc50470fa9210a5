package load

import (
	"context"
	"testing"
	"time"

	"github.com/guildhall-dev/guildhall/embedded"
)

// A host is killed under a churn: its groups come back, and nothing is lost. The server is this test's own.
func TestChurnKillsHosts(t *testing.T) {
	t.Parallel()
	stack, err := embedded.New(embedded.Config{HostCommand: testHost, Hosts: 2})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- stack.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the stack ended: %v", err)
		}
	})
	select {
	case <-stack.Ready():
	case <-time.After(patience):
		t.Fatal("the stack is never ready")
	}
	r, err := Churn(ctx, ChurnConfig{Config: Config{Server: stack.URL()}, Seconds: 10, Groups: 3, Players: 9, Rate: 30, KillEvery: 6})
	if err != nil {
		t.Fatal(err)
	}
	checkKept(t, r)
	if r.HostsKilled != 1 || r.RecoverySeconds == nil || r.Unrecovered != 0 {
		t.Errorf("it gave %+v", r)
	}
	checkTimes(t, checkShown(t, r)["recovery_seconds"])
}
