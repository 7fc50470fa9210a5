package openmatchlocal

import "open-match.dev/open-match/pkg/pb"

// waiter is the standing question of a FetchMatches call: has anything come that its profile could use? It is
// open while the match function runs too, so what comes then is not missed.
type waiter struct {
	// Static after construction. None: anything is of use.
	pools []poolFilter
	// One place: however much comes, one more run sees it all.
	wake chan struct{}
}

// wait opens a waiter for a profile; stopWaiting closes it.
func (s *store) wait(profile *pb.MatchProfile) *waiter {
	w := &waiter{pools: profilePools(profile), wake: make(chan struct{}, 1)}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiters[w] = struct{}{}
	return w
}

func (s *store) stopWaiting(w *waiter) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.waiters, w)
}

// wakeFor wakes every waiter that could use e. It wants mu held.
func (s *store) wakeFor(e searchable) {
	for w := range s.waiters {
		// A waiter that is to wake anyway costs a burst no filtering.
		if len(w.wake) == 0 && w.wants(e) {
			w.signal()
		}
	}
}

func (w *waiter) wants(e searchable) bool {
	for _, pool := range w.pools {
		if pool.passes(e) {
			return true
		}
	}
	return len(w.pools) == 0
}

func (w *waiter) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// reset forgets what has come so far, because a run that sees it is about to begin.
func (w *waiter) reset() {
	select {
	case <-w.wake:
	default:
	}
}

// profilePools gives none when a pool is invalid: the match function's query will say so better.
func profilePools(profile *pb.MatchProfile) []poolFilter {
	pools := make([]poolFilter, 0, len(profile.GetPools()))
	for _, pool := range profile.GetPools() {
		f, err := newPoolFilter(pool)
		if err != nil {
			return nil
		}
		pools = append(pools, f)
	}
	return pools
}
