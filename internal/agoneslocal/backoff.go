package agoneslocal

import "time"

// backoff spaces the starts of game servers that crash: a delay that doubles, until one gets Ready.
type backoff struct {
	config CrashBackoff
	delay  time.Duration // the last one; 0 is none
	until  time.Time
}

// crashed begins the next delay and gives it. Crashes within a delay, of game servers that were started
// together, are one.
func (b *backoff) crashed(now time.Time) time.Duration {
	if now.Before(b.until) {
		return b.until.Sub(now)
	}
	b.delay = min(max(2*b.delay, b.config.First), b.config.Most)
	b.until = now.Add(b.delay)
	return b.delay
}

// forgive ends the delay: a game server got Ready.
func (b *backoff) forgive() {
	b.delay = 0
	b.until = time.Time{}
}

// wait gives what is left of the delay.
func (b *backoff) wait(now time.Time) time.Duration {
	return max(0, b.until.Sub(now))
}
