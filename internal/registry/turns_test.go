package registry

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// One of many has the turn, and the next one has it when the period is over.
func TestTurn(t *testing.T) {
	b := setup(t)
	const period = time.Second // the least that NATS counts
	var turns atomic.Int64
	start := time.Now()
	var asking sync.WaitGroup
	for range 10 {
		asking.Go(func() {
			mine, err := b.Turn(b.ctx, "sweep", period)
			if err != nil {
				t.Error(err)
			}
			if mine {
				turns.Add(1)
			}
		})
	}
	asking.Wait()
	// Who asks late, on a machine that is busy, may have the next one.
	if n, most := turns.Load(), 1+int64(time.Since(start)/period); n < 1 || n > most {
		t.Fatalf("%d had the turn, want 1 to %d", n, most)
	}
	if mine, err := b.Turn(b.ctx, "other", period); err != nil || !mine {
		t.Errorf("the turn for something else: %t, %v", mine, err)
	}
	for again := false; !again; {
		var err error
		if again, err = b.Turn(b.ctx, "sweep", period); err != nil {
			t.Fatalf("there was no second turn: %v", err) // at the test's deadline
		}
	}
}
