package load

import "testing"

// A host is killed under a churn: its groups come back, and nothing is lost. The server is this test's own.
func TestChurnKillsHosts(t *testing.T) {
	t.Parallel()
	stack, stop, err := startStack()
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Errorf("the stack ended: %v", err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	r, err := Churn(t.Context(), ChurnConfig{Config: Config{Server: stack.URL()}, Seconds: 10, Groups: 3, Players: 9, Rate: 30, KillEvery: 6})
	if err != nil {
		t.Fatal(err)
	}
	checkKept(t, r)
	if r.HostsKilled != 1 || r.RecoverySeconds == nil || r.Unrecovered != 0 {
		t.Errorf("it gave %+v", r)
	}
	checkTimes(t, checkShown(t, r)["recovery_seconds"])
}
