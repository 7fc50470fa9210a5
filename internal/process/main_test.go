package process

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// roleVariable has this binary play a role instead of running tests: what ends a process needs a process.
const roleVariable = "GUILDHALL_TEST_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(roleVariable) {
	case "stubborn":
		playStubborn()
	case "main":
		Main("main", openRoled)
	}
	goleak.VerifyTestMain(m)
}

// patience is how long a test waits for an event on a busy machine.
const patience = time.Minute

func withPatience(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// receive waits for what a channel gives.
func receive[T any](t *testing.T, from <-chan T, what string) T {
	t.Helper()
	select {
	case got := <-from:
		return got
	case <-withPatience(t).Done():
		t.Fatalf("waiting for %s", what)
		panic("unreachable")
	}
}

// playStubborn is a process that takes no notice of its first signal.
func playStubborn() {
	ctx, stop := Signals(context.Background(), func() { fmt.Println("last act") }, func() { fmt.Println("very last act") })
	defer stop()
	fmt.Println("started")
	<-ctx.Done()
	fmt.Println(context.Cause(ctx))
	select {}
}

// roledConfig is the Config of the service in the role "main".
type roledConfig struct {
	Common
	Fail bool `split_words:"true" desc:"fail to open"`
}

type roled struct{ config roledConfig }

func openRoled(c roledConfig) (*roled, error) {
	if c.Fail {
		return nil, fmt.Errorf("asked to fail")
	}
	return &roled{config: c}, nil
}

// Run serves until ctx ends.
func (r *roled) Run(ctx context.Context) error {
	r.config.Logger.Info("running")
	fmt.Println("started")
	<-ctx.Done()
	return nil
}
