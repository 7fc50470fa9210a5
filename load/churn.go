package load

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/guildhall-dev/guildhall"
)

const (
	// settleWithin is how long it may take, once all is quiet, until everybody is back and has seen everything: longer than a
	// host that is killed at the last moment takes to be replaced.
	settleWithin = 30 * time.Second
	// maxSights bounds the memory of the check.
	maxSights = 2e8
)

// ChurnConfig says who comes and goes.
type ChurnConfig struct {
	Config
	Seconds         float64
	Groups, Players int
	// Rate is messages a second that all of them say together.
	Rate float64
	// KillEvery kills a host that has rooms, with kill -9, every so many seconds; 0 is never. Hosts must run on this machine.
	KillEvery float64
}

// ChurnResult is what came of it.
type ChurnResult struct {
	Test        string  `json:"test"`
	Interrupted bool    `json:"interrupted"`
	Transport   string  `json:"transport"`
	Groups      int     `json:"groups"`
	Players     int     `json:"players"`
	Seconds     float64 `json:"seconds"`
	Sent        int64   `json:"sent"`
	Acked       int64   `json:"acked"`
	Refused     int64   `json:"refused"`
	// Unanswered is messages that were neither acked nor refused in the end.
	Unanswered int64 `json:"unanswered"`
	Delivered  int64 `json:"delivered"`
	// Lost counts deliveries that should have been: a message that was acked, for each member who was to see it.
	Lost       int64 `json:"lost"`
	Duplicated int64 `json:"duplicated"`
	OutOfOrder int64 `json:"out_of_order"`
	// Conflicts counts numbers at which two messages were seen: two rooms.
	Conflicts   int64 `json:"conflicts"`
	SplitGroups int   `json:"split_groups"`
	Strays      int64 `json:"strays"`
	Joins       int64 `json:"joins"`
	Leaves      int64 `json:"leaves"`
	// Cuts is how often a player's connection was cut off without a word, to come back as a new client.
	Cuts int64 `json:"cuts"`
	// Resumes is how often anybody went on behind what they had seen: as a new client, or by themselves.
	Resumes     int64 `json:"resumes"`
	HostsKilled int   `json:"hosts_killed"`
	// RecoverySeconds is for each group of a killed host, until a message is acked in its next room.
	RecoverySeconds *Times `json:"recovery_seconds"`
	Unrecovered     int    `json:"unrecovered_groups"`
	// Failed is players who could not go on; FirstError is why.
	Failed     int    `json:"failed"`
	FirstError string `json:"first_error,omitempty"`
	Usage
	Series []Sample `json:"series"`
}

func (c *ChurnConfig) check() error {
	if c.Groups == 0 {
		c.Groups = 10
	}
	if c.Players == 0 {
		c.Players = 10 * c.Groups
	}
	if c.Rate == 0 {
		c.Rate = float64(c.Players)
	}
	for _, err := range []error{
		between("groups", c.Groups, 1, MaxPlayers), between("players", c.Players, 1, MaxPlayers), between("seconds", c.Seconds, 1, MaxSeconds),
		between("rate", c.Rate, 0.1, MaxRate),
	} {
		if err != nil {
			return err
		}
	}
	switch {
	case c.KillEvery != 0 && (c.KillEvery < 1 || c.KillEvery >= c.Seconds):
		return fmt.Errorf("--kill-every %vs: want at least 1s, and less than --seconds", c.KillEvery)
	case c.Groups > c.Players:
		return fmt.Errorf("%d groups of %d players: a group without players is none", c.Groups, c.Players)
	case c.Rate*c.Seconds*float64(c.Players)/float64(c.Groups) > maxSights:
		return fmt.Errorf("at most %.0f deliveries can be checked: talk less, or for a shorter time", float64(maxSights))
	}
	return c.checkRooms(c.Players, c.Groups, c.Players)
}

// churn is one run of [Churn].
type churn struct {
	*run
	ChurnConfig
	circles []*circle
	people  []*person
	tag     uint32
	next    atomic.Uint32 // the number of the next message

	sent, joins, leaves, cuts, resumes, seen atomic.Int64
}

// Churn lets players come, talk, leave and be cut off, and checks in the end what everybody has seen.
func Churn(ctx context.Context, config ChurnConfig) (*ChurnResult, error) {
	if err := config.check(); err != nil {
		return nil, err
	}
	r, err := newRun(config.Config)
	if err != nil {
		return nil, err
	}
	defer r.close()
	c := newChurn(r, config)
	k := &killer{churn: c, meter: newMeter(config.Server, r.calls[0])}
	if config.KillEvery > 0 {
		if err := k.check(ctx); err != nil {
			return nil, err
		}
	}
	everybody := make([]*player, len(c.people))
	for i, p := range c.people {
		everybody[i] = &p.player
	}
	if err := r.tokensFor(ctx, everybody); err != nil {
		return nil, err
	}
	return c.live(ctx, k), nil
}

func newChurn(r *run, config ChurnConfig) *churn {
	c := &churn{run: r, ChurnConfig: config, tag: tag(r.id)}
	for n := range config.Groups {
		c.circles = append(c.circles, &circle{group: r.group(n)})
	}
	for n := range config.Players {
		p := &person{churn: c, circle: c.circles[n%config.Groups]}
		p.number, p.group = n, p.circle.group
		p.circle.people = append(p.circle.people, p)
		c.people = append(c.people, p)
	}
	return c
}

// live lets them live until the time is up, brings everybody back, and checks.
func (c *churn) live(ctx context.Context, k *killer) *ChurnResult {
	c.meter.prepare(ctx)
	living, cancel := context.WithTimeout(ctx, seconds(c.Seconds))
	defer cancel()
	start := time.Now()
	finish := c.meter.watch(ctx, sampleEvery(c.Seconds), c.seen.Load)
	finished := c.tell("talking", int(c.Seconds*1000), func() int { return min(int(time.Since(start).Milliseconds()), int(c.Seconds*1000)) })
	c.each(func(p *person) { p.err = p.live(living) }, func() { k.kill(living) })
	window := finish()
	finished()
	settling, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleWithin)
	defer cancel()
	var back atomic.Int64
	finished = c.tell("everybody comes back", len(c.people), func() int { return int(back.Load()) })
	c.each(func(p *person) {
		p.comeBack(settling)
		back.Add(1)
	})
	c.each(func(p *person) { p.awaitAll(settling) })
	finished()
	c.each(func(p *person) { p.end() })
	result := c.add(k)
	result.Interrupted, result.Seconds, result.Usage, result.Series = ctx.Err() != nil, window.seconds, window.usage, window.samples
	return result
}

// each does something for everybody at once, and something beside.
func (c *churn) each(do func(*person), beside ...func()) {
	var doing sync.WaitGroup
	for _, f := range beside {
		doing.Go(f)
	}
	for _, p := range c.people {
		doing.Go(func() { do(p) })
	}
	doing.Wait()
}

// add checks all groups and adds up.
func (c *churn) add(k *killer) *ChurnResult {
	r := &ChurnResult{
		Test: "churn", Transport: transportName(c.Transport), Groups: c.Groups, Players: c.Players,
		Sent: c.sent.Load(), Joins: c.joins.Load(), Leaves: c.leaves.Load(), Cuts: c.cuts.Load(), Resumes: c.resumes.Load(),
		Delivered: c.seen.Load(), HostsKilled: k.killed,
	}
	var recoveries []time.Duration
	for _, circle := range c.circles {
		visits, acked := circle.visits()
		r.Acked += acked
		v := check(visits)
		r.Lost, r.Duplicated, r.OutOfOrder, r.Conflicts = r.Lost+v.lost, r.Duplicated+v.duplicated, r.OutOfOrder+v.disorder, r.Conflicts+v.conflicts
		if v.conflicts > 0 {
			r.SplitGroups++
		}
		recoveries = append(recoveries, circle.recoveries...)
		if circle.waiting.Load() {
			r.Unrecovered++
		}
	}
	for _, p := range c.people {
		r.Refused, r.Strays = r.Refused+p.refused, r.Strays+p.strays
		if p.err != nil {
			r.Failed, r.FirstError = r.Failed+1, p.err.Error()
		}
	}
	r.Unanswered = r.Sent - r.Acked - r.Refused
	r.RecoverySeconds = sumUpAll(recoveries, time.Second)
	return r
}

// circle is one group and its players.
type circle struct {
	// Static after construction.
	group  guildhall.Group
	people []*person

	last    atomic.Uint64 // the last number that anybody was acked in the end
	waiting atomic.Bool   // its host was killed, and nothing has been acked since

	mu         sync.Mutex
	since      time.Time       // guarded by mu; when the host was killed
	epoch      guildhall.Epoch // guarded by mu; of the room that was there
	recoveries []time.Duration // guarded by mu
}

// lost notes that the host of the room was killed.
func (c *circle) lost(epoch guildhall.Epoch) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waiting.Load() {
		return // it has not come back from the last time
	}
	c.since, c.epoch = time.Now(), epoch
	c.waiting.Store(true)
}

// acked notes that somebody was acked something in the room of an epoch. An ack that was on its way when the host died is
// of the room that died with it.
func (c *circle) acked(epoch guildhall.Epoch) {
	if !c.waiting.Load() {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waiting.Load() && epoch > c.epoch {
		c.recoveries = append(c.recoveries, time.Since(c.since))
		c.waiting.Store(false)
	}
}

// visits gives all visits of the group, and how many messages were acked.
func (c *circle) visits() (all []*visit, acked int64) {
	distinct := map[uint32]bool{}
	for _, p := range c.people {
		all = append(all, p.visits...)
		for _, v := range p.visits {
			for _, s := range v.acked {
				distinct[s.k] = true
			}
		}
	}
	return all, int64(len(distinct))
}

// Breaches says which promises were broken.
func (r *ChurnResult) Breaches() []string {
	found := breach(nil, r.Lost, "deliveries of acked messages are lost")
	found = breach(found, r.Duplicated, "deliveries came twice")
	found = breach(found, r.OutOfOrder, "deliveries were out of order")
	found = breach(found, r.Conflicts, "numbers were of two messages: two rooms")
	found = breach(found, r.Strays, "messages were received that nobody has said")
	found = breach(found, int64(r.Unrecovered), "groups did not come back after their host was killed")
	found = breach(found, int64(r.Failed), "players could not go on: "+r.FirstError)
	return breach(found, r.Unanswered, "messages have no answer")
}

// Report shows it to people.
func (r *ChurnResult) Report() Report {
	out := Report{
		Title: fmt.Sprintf("Churn: %s players of %d groups for %.0f s over %s", thousands(int64(r.Players)), r.Groups, r.Seconds, r.Transport), Breaches: r.Breaches(),
	}
	out.rowf("said", "%s; %s acked, %s refused, %s without an answer", thousands(r.Sent), thousands(r.Acked), thousands(r.Refused), thousands(r.Unanswered))
	out.rowf("delivered", "%s; %s lost, %s duplicated, %s out of order, %s conflicts", thousands(r.Delivered), thousands(r.Lost), thousands(r.Duplicated), thousands(r.OutOfOrder), thousands(r.Conflicts))
	out.rowf("came and went", "%s joins, %s leaves, %s cut off, %s resumes", thousands(r.Joins), thousands(r.Leaves), thousands(r.Cuts), thousands(r.Resumes))
	out.rowf("hosts killed", "%d; %d groups did not come back", r.HostsKilled, r.Unrecovered)
	if r.HostsKilled > 0 {
		out.times("recovery", "s", r.RecoverySeconds)
	}
	out.usage(r.Usage)
	out.cores(r.Series)
	return out
}
