package frontend

import "runtime"

// turns lets few calls at a time check or sign, which is most of the work of a call. When a game opens its doors, thousands
// of players call within the same moment. If all of them were worked on at once, whatever a call waits for besides, such as
// an answer of the registry, would have to wait behind all of them at every step, and calls would time out; a call that waits
// for its turn costs nobody anything.
type turns chan struct{}

// newTurns makes one turn for each processor: more would not be faster.
func newTurns() turns { return make(turns, runtime.GOMAXPROCS(0)) }

// take waits for a turn, which is a fraction of a millisecond long. The caller gives it back.
func (t turns) take() { t <- struct{}{} }

func (t turns) give() { <-t }
