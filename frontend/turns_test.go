package frontend

import (
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

// However many come, as many are worked on as there are processors; all have their turn, and nobody works on when nothing is left.
func TestTurns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var turns turns
		var working, done atomic.Int32
		open := make(chan struct{})
		many, few := 10*runtime.GOMAXPROCS(0), runtime.GOMAXPROCS(0)
		for range many {
			go func() {
				turns.do(func() {
					working.Add(1)
					<-open
					working.Add(-1)
				})
				done.Add(1)
			}()
		}
		synctest.Wait()
		if n := working.Load(); n != int32(few) || done.Load() != 0 {
			t.Errorf("%d are worked on, and %d are done; want %d, and none", n, done.Load(), few)
		}
		close(open)
		synctest.Wait()
		if done.Load() != int32(many) || turns.working != 0 || len(turns.waiting) != 0 {
			t.Errorf("%d of %d are done, %d goroutines are left and %d wait", done.Load(), many, turns.working, len(turns.waiting))
		}
		turns.do(func() { done.Add(1) })
		if done.Load() != int32(many)+1 {
			t.Error("who comes later is not worked on")
		}
	})
}
