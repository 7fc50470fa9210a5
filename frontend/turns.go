package frontend

import (
	"runtime"
	"sync"
)

// turns lets few calls at a time check or sign, which is most of the work of a call. When a game opens its doors, thousands
// of players call within the same moment. If all of them were worked on at once, whatever a call waits for besides, such as
// an answer of the registry, would have to wait behind all of them at every step, and calls would time out; a call that waits
// for its turn costs nobody anything.
//
// The work is done by goroutines that are there for as long as there is any. On the callers' own, each of the thousands would have to grow
// its stack for it: a twentieth of all that a player costs a frontend.
type turns struct {
	mu      sync.Mutex
	waiting []func() // guarded by mu
	working int      // guarded by mu; goroutines
}

// do does some work, which is a fraction of a millisecond long, when it is its turn, and returns when it is done.
func (t *turns) do(work func()) {
	done := make(chan struct{})
	t.mu.Lock()
	t.waiting = append(t.waiting, func() {
		defer close(done)
		work()
	})
	if t.working < runtime.GOMAXPROCS(0) { // more would not be faster
		t.working++
		go t.work()
	}
	t.mu.Unlock()
	<-done
}

// work does what waits, until nothing does.
func (t *turns) work() {
	for work := t.next(); work != nil; work = t.next() {
		work()
	}
}

// next gives what waits longest; nil if nothing does, and the goroutine is not counted any more.
func (t *turns) next() (work func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.waiting) == 0 {
		t.working--
		t.waiting = nil
		return nil
	}
	work, t.waiting[0] = t.waiting[0], nil
	t.waiting = t.waiting[1:]
	return work
}
