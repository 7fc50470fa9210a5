package chaos

import (
	"slices"
	"time"
)

// recovery is how long one group was without acks after its host was killed.
type recovery struct {
	Group, Host string
	Killed      time.Time
	Took        time.Duration
	// Back says that it came back at all; Clean that no other fault was under way from the kill until then.
	Back, Clean bool
}

// seat is a moment of a group's life: who served it, and whether an ack came.
type seat struct {
	at    time.Time
	host  string
	epoch uint64
	acked bool
}

// recoveries gives, for each kill of a host and each group that was there, how long it took until the first ack of the
// group by another host.
func recoveries(histories []history, faults []injected) []recovery {
	var all []recovery
	for _, h := range histories {
		seats := seatsOf(h)
		for _, f := range faults {
			if f.Kind != "kill host" && f.Kind != calmKill || hostAt(seats, f.Begin) != f.Target {
				continue
			}
			r := recovery{Group: h.Group, Host: f.Target, Killed: f.Begin}
			for _, s := range seats {
				if s.acked && s.at.After(f.Begin) && s.host != f.Target {
					r.Back, r.Took = true, s.at.Sub(f.Begin)
					break
				}
			}
			r.Clean = r.Back && !disturbed(faults, f, f.Begin.Add(r.Took))
			all = append(all, r)
		}
	}
	return all
}

// seatsOf gives the seats and acks of a group in the order in which they came about.
func seatsOf(h history) []seat {
	var all []seat
	for _, v := range h.Visits {
		var epoch uint64
		for _, e := range v.Events {
			switch e.Deed {
			case joined, resumed:
				epoch = e.Epoch
				all = append(all, seat{at: e.At, host: e.Host, epoch: epoch})
			case acked:
				all = append(all, seat{at: e.At, host: e.Host, epoch: epoch, acked: true})
			}
		}
	}
	slices.SortFunc(all, func(a, b seat) int { return a.at.Compare(b.at) })
	return all
}

// hostAt gives the host of a group at a moment: the one of the latest epoch that anybody had been seated by.
func hostAt(seats []seat, at time.Time) string {
	var last seat
	for _, s := range seats {
		if s.at.After(at) {
			break
		}
		if s.epoch >= last.epoch {
			last = s
		}
	}
	return last.host
}

// disturbed says whether another fault was under way between a kill and the recovery.
func disturbed(faults []injected, kill injected, until time.Time) bool {
	for _, f := range faults {
		if f != kill && f.Begin.Before(until) && f.End.After(kill.Begin) {
			return true
		}
	}
	return false
}

// spread is the distribution of some durations.
type spread struct {
	Count              int
	Median, P95, Worst time.Duration
}

func spreadOf(durations []time.Duration) spread {
	if len(durations) == 0 {
		return spread{}
	}
	sorted := slices.Sorted(slices.Values(durations))
	at := func(p float64) time.Duration { return sorted[int(p*float64(len(sorted)-1))].Round(time.Millisecond) }
	return spread{Count: len(sorted), Median: at(0.5), P95: at(0.95), Worst: at(1)}
}
