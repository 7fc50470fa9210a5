package load

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/guildhall-dev/guildhall/client"
	"github.com/guildhall-dev/guildhall/internal/usage"
)

// IdleConfig says how many are quiet.
type IdleConfig struct {
	Config
	Connections int
	// Groups that they are spread over; 0 means as few as have room for them, with some to spare.
	Groups int
	// Settle is for how many seconds at most memory is read until it no longer changes; 0 means 20.
	Settle float64
}

// IdleResult is what they cost.
type IdleResult struct {
	Test        string `json:"test"`
	Interrupted bool   `json:"interrupted"`
	Transport   string `json:"transport"`
	Connections int    `json:"connections"`
	Groups      int    `json:"groups"`
	// RSSBefore is with one player in each group, so that all rooms and hosts are there; RSSAfter with Connections more.
	RSSBefore *int64 `json:"server_rss_bytes_before"`
	RSSAfter  *int64 `json:"server_rss_bytes_after"`
	// RSSBytesPerConnection is the difference, for each connection.
	RSSBytesPerConnection *float64 `json:"rss_bytes_per_connection"`
	// Seconds is how long they were quiet while their memory was watched; CPU is of this time.
	Seconds float64 `json:"seconds"`
	// Lost is connections that did not last.
	Lost int `json:"lost_connections"`
	Usage
}

func (c *IdleConfig) check() error {
	if err := between("connections", c.Connections, 1, MaxPlayers); err != nil {
		return err
	}
	if c.Groups == 0 {
		c.Groups = (c.Connections + c.capacity()/2) / max(1, c.capacity()/2)
	}
	if c.Settle == 0 {
		c.Settle = 20
	}
	for _, err := range []error{between("groups", c.Groups, 1, c.Connections), between("settle", c.Settle, 0.1, 600)} {
		if err != nil {
			return err
		}
	}
	return c.checkRooms(c.Connections+c.Groups, c.Groups, c.Connections+c.Groups)
}

// Idle seats players who say nothing, and asks how much memory the hosts have for each.
func Idle(ctx context.Context, config IdleConfig) (*IdleResult, error) {
	if err := config.check(); err != nil {
		return nil, err
	}
	r, err := newRun(config.Config)
	if err != nil {
		return nil, err
	}
	defer r.close()
	players := make([]*quiet, config.Groups+config.Connections)
	all := make([]*player, len(players))
	for i := range players {
		players[i] = &quiet{}
		players[i].number, players[i].group, players[i].hear = i, r.group(i%config.Groups), players[i].happened
		all[i] = &players[i].player
	}
	defer r.leaveAll(ctx, all)
	result := &IdleResult{Test: "idle", Transport: transportName(config.Transport), Groups: config.Groups}
	if err := r.seatAll(ctx, "opening rooms", all[:config.Groups]); err != nil {
		return nil, unlessInterrupted(ctx, err)
	}
	result.RSSBefore = r.settle(ctx, "memory before", config.Settle)
	err = r.seatAll(ctx, "seating", all[config.Groups:])
	if err != nil && !interrupted(ctx, err) {
		return nil, err
	}
	start, before := time.Now(), usage.CPU()
	if err == nil {
		result.Connections = config.Connections
		result.RSSAfter = r.settle(ctx, "memory after", config.Settle)
	}
	result.Usage = r.meter.usage(usage.CPU() - before)
	result.Seconds, result.Interrupted = time.Since(start).Seconds(), ctx.Err() != nil
	r.leaveAll(ctx, all) // from here on they are ours
	for _, p := range players {
		result.Lost += p.lost
	}
	result.divide()
	return result, nil
}

// unlessInterrupted says in place of an error that came of the interruption that it was one.
func unlessInterrupted(ctx context.Context, err error) error {
	if interrupted(ctx, err) {
		return errors.New("ended before everybody had a seat: nothing was measured")
	}
	return err
}

// quiet is a player who says nothing.
type quiet struct {
	player
	lost int // owned by the room's goroutine, and read when it has ended
}

func (q *quiet) happened(e client.Event) {
	if closed, ok := e.(client.Closed); ok && closed.Reconnect {
		q.lost++
	}
}

// settle reads the hosts' memory until it is the same three times, to a percent, and gives the last reading; nil if it
// cannot be read. A server gives back what its last work took a while after.
func (r *run) settle(ctx context.Context, stage string, most float64) *int64 {
	r.meter.prepare(ctx)
	r.meter.begin()
	if r.meter.why != "" {
		return nil
	}
	deadline := time.Now().Add(seconds(most))
	_, _, last := r.meter.sum()
	for same := 0; same < 3 && time.Now().Before(deadline); {
		if !rest(ctx, time.Second) {
			break
		}
		r.config.Progress(stage, int(most)-int(time.Until(deadline).Seconds()), int(most))
		r.meter.read(false)
		_, _, rss := r.meter.sum()
		if diff := rss - last; diff < last/100 && diff > -last/100 {
			same++
		} else {
			same = 0
		}
		last = rss
	}
	r.config.Progress(stage, int(most), int(most))
	return &last
}

func (r *IdleResult) divide() {
	if r.RSSBefore != nil && r.RSSAfter != nil && r.Connections > 0 {
		each := float64(*r.RSSAfter-*r.RSSBefore) / float64(r.Connections)
		r.RSSBytesPerConnection = &each
	}
}

// Breaches says what did not hold.
func (r *IdleResult) Breaches() []string {
	return breach(nil, int64(r.Lost), "connections did not last")
}

// Report shows it to people.
func (r *IdleResult) Report() Report {
	out := Report{
		Title:    fmt.Sprintf("Idle: %s connections in %d rooms over %s", thousands(int64(r.Connections)), r.Groups, r.Transport),
		Breaches: r.Breaches(),
	}
	if r.RSSBytesPerConnection != nil {
		out.rowf("memory", "%s for each connection: %s before, %s after", bytesText(int64(*r.RSSBytesPerConnection)), bytesText(*r.RSSBefore), bytesText(*r.RSSAfter))
	} else {
		out.rowf("memory", "not measured")
	}
	out.rowf("lost", "%d connections", r.Lost)
	out.usage(r.Usage)
	return out
}
