package agoneslocal

import "time"

// heartbeat judges the signs of life of one game server: at each check the last one may be a period old,
// and so many failed checks in a row are too many. A sign of life forgives what failed before it.
type heartbeat struct {
	config   Health
	last     time.Time
	failures int
}

func newHeartbeat(config Health, now time.Time) heartbeat {
	return heartbeat{config: config, last: now}
}

// beat takes a sign of life.
func (b *heartbeat) beat(now time.Time) {
	b.last = now
	b.failures = 0
}

// check is due after the initial delay and then once a period; false means that the game server is given up.
func (b *heartbeat) check(now time.Time) bool {
	if now.Sub(b.last) > b.config.Period {
		b.failures++
	}
	return b.failures < b.config.FailureThreshold
}
