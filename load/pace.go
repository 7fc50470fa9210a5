package load

import (
	"context"
	"time"
)

// pace calls do for the numbers from 0, each when it is due: number k at start + k/rate, counted from base. It makes up for
// what is late at once and leaves nothing out: whoever waits for the answer to the last one before the next hides how long
// everybody would have waited. It ends early with ctx, and gives how many there were.
func pace(ctx context.Context, base time.Time, start time.Duration, rate float64, count int, do func(k int, due time.Duration)) int {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for k := range count {
		due := start + time.Duration(float64(k)/rate*float64(time.Second))
		if wait := due - time.Since(base); wait > 0 {
			timer.Reset(wait)
			select {
			case <-timer.C:
			case <-ctx.Done():
				return k
			}
		} else if ctx.Err() != nil {
			return k
		}
		do(k, due)
	}
	return count
}
