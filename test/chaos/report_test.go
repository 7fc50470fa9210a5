package chaos

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"
	"time"
)

// report is what a run has found.
type report struct {
	Seed                     uint64
	Seconds                  float64
	Groups, Players, Clients int
	Faults                   map[string]int
	Violations               map[breach]int
	Found                    []violation `json:",omitempty"`
	Sent, Acked, Delivered   int
	Resumes                  int
	Restarts                 map[string]int // ends of a process that were nobody's doing
	// Recovery is from the kill of a host to the first ack by another, for each group.
	RecoveryAll, RecoveryClean spread
	NotBack                    int
	// AckWait is from Say to ack: for the players this is what the faults cost.
	AckWait spread
}

func newReport(s size, took time.Duration, histories []history, faults []injected, found []violation) *report {
	r := &report{
		Seed: s.Seed, Seconds: took.Seconds(), Groups: s.Groups, Players: s.Groups * s.Players,
		Faults: map[string]int{}, Violations: map[breach]int{}, Restarts: map[string]int{}, Found: found,
	}
	for _, b := range breaches {
		r.Violations[b] = 0
	}
	for _, v := range found {
		r.Violations[v.Breach]++
	}
	for _, f := range faults {
		r.Faults[f.Kind]++
	}
	r.count(histories)
	r.recover(recoveries(histories, faults))
	return r
}

func (r *report) count(histories []history) {
	var waits []time.Duration
	for _, h := range histories {
		r.Clients += len(h.Visits)
		for _, v := range h.Visits {
			said := map[string]time.Time{}
			for _, e := range v.Events {
				switch e.Deed {
				case sent:
					r.Sent++
					said[e.ID] = e.At
				case acked:
					r.Acked++
					waits = append(waits, e.At.Sub(said[e.ID]))
				case seen:
					r.Delivered++
				case resumed:
					r.Resumes++
				}
			}
		}
	}
	r.AckWait = spreadOf(waits)
}

func (r *report) recover(recovered []recovery) {
	var all, clean []time.Duration
	for _, one := range recovered {
		switch {
		case !one.Back:
			r.NotBack++
			continue
		case one.Clean:
			clean = append(clean, one.Took)
		}
		all = append(all, one.Took)
	}
	r.RecoveryAll, r.RecoveryClean = spreadOf(all), spreadOf(clean)
}

// String gives the report as a table.
func (r *report) String() string {
	var b strings.Builder
	table := tabwriter.NewWriter(&b, 0, 4, 2, ' ', 0)
	fmt.Fprintf(table, "\nseed\t%d\nseconds\t%.0f\ngroups\t%d\nplayers\t%d\nclients\t%d\n", r.Seed, r.Seconds, r.Groups, r.Players, r.Clients)
	fmt.Fprintf(table, "sent\t%d\nacked\t%d\ndelivered\t%d\nresumed\t%d\n", r.Sent, r.Acked, r.Delivered, r.Resumes)
	total := 0
	for _, kind := range sortedKeys(r.Faults) {
		fmt.Fprintf(table, "fault: %s\t%d\n", kind, r.Faults[kind])
		total += r.Faults[kind]
	}
	fmt.Fprintf(table, "faults\t%d\n", total)
	for _, name := range sortedKeys(r.Restarts) {
		fmt.Fprintf(table, "ended by itself: %s\t%d\n", name, r.Restarts[name])
	}
	for _, one := range []struct {
		name string
		spread
	}{{"recovery, all", r.RecoveryAll}, {"recovery, clean", r.RecoveryClean}, {"say to ack", r.AckWait}} {
		fmt.Fprintf(table, "%s\t%d: median %s, p95 %s, worst %s\n", one.name, one.Count, one.Median, one.P95, one.Worst)
	}
	fmt.Fprintf(table, "groups that nobody spoke in after a kill\t%d\n", r.NotBack)
	for _, breach := range breaches {
		fmt.Fprintf(table, "violations: %s\t%d\n", breach, r.Violations[breach])
	}
	_ = table.Flush()
	return b.String()
}

// write writes the report as JSON.
func (r *report) write(file string) error {
	encoded, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(encoded, '\n'), 0o644)
}
