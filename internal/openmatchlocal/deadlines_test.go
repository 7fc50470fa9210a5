package openmatchlocal

import (
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

type recorder struct {
	mu      sync.Mutex
	expired []ticketID
}

func (r *recorder) deadlines(after time.Duration) *deadlines[ticketID] {
	return newDeadlines(&r.mu, after, func(id ticketID) { r.expired = append(r.expired, id) })
}

// locked runs f as the owner of a deadlines does.
func (r *recorder) locked(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
}

func (r *recorder) wantExpired(t *testing.T, want ...ticketID) {
	t.Helper()
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	if !slices.Equal(r.expired, want) {
		t.Errorf("expired %v, want %v", r.expired, want)
	}
}

// advance lets the bubble's clock run.
func advance(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func TestDeadlinesExpireInOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var r recorder
		d := r.deadlines(10 * time.Second)
		r.locked(func() { d.add("a") })
		advance(4 * time.Second)
		r.locked(func() { d.add("b"); d.add("c") })
		advance(5 * time.Second)
		r.wantExpired(t)
		advance(time.Second)
		r.wantExpired(t, "a")
		advance(4 * time.Second)
		r.wantExpired(t, "a", "b", "c")
	})
}

func TestDeadlinesRemove(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var r recorder
		d := r.deadlines(10 * time.Second)
		r.locked(func() {
			first := d.add("first")
			d.add("second")
			d.remove(first)
			d.remove(first) // twice is no harm
			d.remove(nil)
		})
		advance(10 * time.Second)
		r.wantExpired(t, "second")
	})
}

// The timer that a removed head leaves behind must neither expire what came later nor be the last one.
func TestDeadlinesAfterTheHeadWasRemoved(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var r recorder
		d := r.deadlines(10 * time.Second)
		r.locked(func() { d.remove(d.add("gone")) })
		advance(6 * time.Second)
		r.locked(func() { d.add("late") })
		advance(5 * time.Second)
		r.wantExpired(t)
		advance(5 * time.Second)
		r.wantExpired(t, "late")
	})
}

func TestDeadlinesThatExpireNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var r recorder
		never := r.deadlines(0)
		stopped := r.deadlines(time.Second)
		r.locked(func() {
			never.add("never")
			stopped.add("stopped")
			stopped.stop()
			stopped.add("after the stop")
		})
		advance(time.Hour)
		r.wantExpired(t)
	})
}
