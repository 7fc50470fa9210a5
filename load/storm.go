package load

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/guildhall-dev/guildhall"
	"github.com/guildhall-dev/guildhall/client"
)

const (
	// stormWithin is how long a storm may take.
	stormWithin = 5 * time.Minute
	// stormHold is how long everybody stays once they have a seat: what is split then is so for good.
	stormHold = 1500 * time.Millisecond
	// goodbye is how long it may take a player to read that their room is elsewhere. Two rooms for a shorter time are one room
	// and a player who does not know yet.
	goodbye = time.Second
)

// StormConfig says who comes.
type StormConfig struct {
	Config
	Groups, Players int
	// Assign ends each player's way at the assignment: what a matchmaker does, without the room.
	Assign bool
}

// StormResult is what came of it.
type StormResult struct {
	Test        string  `json:"test"`
	Interrupted bool    `json:"interrupted"`
	Transport   string  `json:"transport"`
	Assign      bool    `json:"assign"`
	Players     int     `json:"players"`
	Groups      int     `json:"groups"`
	Seated      int     `json:"seated"`
	Failed      int     `json:"failed"`
	FirstError  string  `json:"first_error,omitempty"`
	Seconds     float64 `json:"seconds"` // until the last one was seated
	// PlayersPerSecond is those who were seated, by Seconds.
	PlayersPerSecond float64 `json:"players_per_second"`
	// SeatMS and AssignMS are from the start of all, for each.
	SeatMS   *Times `json:"seat_ms"`
	AssignMS *Times `json:"assign_ms"`
	// Rooms is how many different rooms there were, on Hosts hosts.
	Rooms int `json:"rooms"`
	Hosts int `json:"hosts"`
	// SplitGroups is groups with two rooms at once.
	SplitGroups int `json:"split_groups"`
	Usage
	Series []Sample `json:"series"`
}

func (c *StormConfig) check() error {
	for _, err := range []error{between("groups", c.Groups, 1, MaxPlayers), between("players", c.Players, 1, MaxPlayers)} {
		if err != nil {
			return err
		}
	}
	if c.Groups > c.Players {
		return fmt.Errorf("%d groups of %d players: a group without players is none", c.Groups, c.Players)
	}
	connections := c.Players
	if c.Assign {
		connections = 0 // to no host
	}
	return c.checkRooms(c.Players, c.Groups, connections)
}

// storm is one run of [Storm].
type storm struct {
	*run
	StormConfig
	ones  []*stormer
	all   []*player
	start time.Time
	done  atomic.Int64
}

// Storm seats players of many groups, all at once.
func Storm(ctx context.Context, config StormConfig) (*StormResult, error) {
	if err := config.check(); err != nil {
		return nil, err
	}
	r, err := newRun(config.Config)
	if err != nil {
		return nil, err
	}
	defer r.close()
	s := &storm{run: r, StormConfig: config}
	for i := range config.Players {
		o := &stormer{storm: s}
		o.number, o.group, o.hear = i, r.group(i%config.Groups), o.happened
		s.ones, s.all = append(s.ones, o), append(s.all, &o.player)
	}
	if err := r.tokensFor(ctx, s.all); err != nil {
		return nil, err
	}
	return s.blow(ctx), nil
}

// blow lets everybody come.
func (s *storm) blow(ctx context.Context) *StormResult {
	s.meter.prepare(ctx)
	told := s.tell("seating", s.Players, func() int { return int(s.done.Load()) })
	finish := s.meter.watch(ctx, time.Second, s.done.Load)
	s.start = time.Now()
	within, cancel := context.WithTimeout(ctx, stormWithin)
	defer cancel()
	var coming sync.WaitGroup
	for _, o := range s.ones {
		coming.Go(func() {
			o.err = o.come(within)
			s.done.Add(1)
		})
	}
	coming.Wait()
	window := finish()
	told()
	if !s.Assign {
		rest(ctx, stormHold)
		over := time.Now()
		s.leaveAll(ctx, s.all) // from here on they are ours
		return s.add(ctx, window, over)
	}
	return s.add(ctx, window, time.Now())
}

// stormer is one player of a storm.
type stormer struct {
	player
	storm *storm
	err   error

	// Owned by the room's goroutine, and read when it has ended.
	assigned time.Duration // since the start; 0 if never
	seatedAt time.Duration
	place    place // where they are sent
	stays    []stay
}

// place is where a room is.
type place struct {
	host  guildhall.HostName
	epoch guildhall.Epoch
}

// stay is a player in a group's room, from one instant to another.
type stay struct {
	group    guildhall.Group
	place    place
	from, to time.Time // to is zero while it lasts
}

// come comes and waits for the seat, or for the assignment.
func (o *stormer) come(ctx context.Context) error {
	if !o.storm.Assign {
		if err := o.storm.join(context.WithoutCancel(ctx), &o.player, nil); err != nil {
			return err
		}
		return o.await(ctx)
	}
	assignment, err := client.Enter(ctx, o.storm.client(o.number, o.token), o.group)
	if err != nil {
		return err
	}
	o.assigned = time.Since(o.storm.start)
	o.seatedAt = o.assigned
	now := time.Now() // a room to which nobody goes may end, and another be opened: what counts is that they do not take turns
	o.stays = []stay{{group: o.group, place: place{guildhall.HostName(assignment.GetHost()), guildhall.Epoch(assignment.GetEpoch())}, from: now, to: now}}
	return nil
}

func (o *stormer) happened(e client.Event) {
	switch e := e.(type) {
	case client.Assigned:
		o.place = place{e.Host, e.Epoch}
		if o.assigned == 0 {
			o.assigned = time.Since(o.storm.start)
		}
	case client.Joined:
		o.seatedAt = time.Since(o.storm.start)
		o.sit(e.Epoch)
	case client.Resumed:
		o.sit(e.Epoch)
	case client.Closed:
		if n := len(o.stays); n > 0 && o.stays[n-1].to.IsZero() {
			o.stays[n-1].to = time.Now()
		}
	}
}

func (o *stormer) sit(epoch guildhall.Epoch) {
	o.place.epoch = epoch
	o.stays = append(o.stays, stay{group: o.group, place: o.place, from: time.Now()})
}

// add adds up what all players have seen.
func (s *storm) add(ctx context.Context, w window, over time.Time) *StormResult {
	r := &StormResult{
		Test: "storm", Interrupted: ctx.Err() != nil, Transport: transportName(s.Transport), Assign: s.Assign,
		Players: s.Players, Groups: s.Groups, Usage: w.usage, Series: w.samples,
	}
	var seats, assignments []time.Duration
	var stays []stay
	for _, o := range s.ones {
		if o.err != nil {
			r.Failed++
			if r.FirstError == "" {
				r.FirstError = o.err.Error()
			}
		}
		if o.assigned > 0 {
			assignments = append(assignments, o.assigned)
		}
		if o.seatedAt > 0 {
			seats = append(seats, o.seatedAt)
			r.Seconds = max(r.Seconds, o.seatedAt.Seconds())
		}
		stays = append(stays, o.stays...)
	}
	r.Seated = len(seats)
	if r.Seconds > 0 {
		r.PlayersPerSecond = float64(r.Seated) / r.Seconds
	}
	r.SeatMS, r.AssignMS = sumUpAll(seats, time.Millisecond), sumUpAll(assignments, time.Millisecond)
	r.Rooms, r.Hosts = countPlaces(stays)
	r.SplitGroups = len(splits(stays, over))
	return r
}

// countPlaces gives how many rooms there were, and on how many hosts.
func countPlaces(stays []stay) (rooms, hosts int) {
	type room struct {
		group guildhall.Group
		place place
	}
	allRooms, allHosts := map[room]bool{}, map[guildhall.HostName]bool{}
	for _, s := range stays {
		allRooms[room{s.group, s.place}] = true
		allHosts[s.place.host] = true
	}
	return len(allRooms), len(allHosts)
}

// splits gives the groups of which players were in two rooms at once, for longer than it takes to say goodbye. What goes on
// goes on until over.
func splits(stays []stay, over time.Time) map[guildhall.Group]bool {
	type times struct{ first, last time.Time }
	byGroup := map[guildhall.Group]map[place]times{} // from when to when there was anybody in a room
	for _, s := range stays {
		if s.to.IsZero() || s.to.After(over) {
			s.to = over
		}
		rooms := byGroup[s.group]
		if rooms == nil {
			rooms = map[place]times{}
			byGroup[s.group] = rooms
		}
		t, known := rooms[s.place]
		if !known || s.from.Before(t.first) {
			t.first = s.from
		}
		if s.to.After(t.last) {
			t.last = s.to
		}
		rooms[s.place] = t
	}
	found := map[guildhall.Group]bool{}
	for group, rooms := range byGroup {
		for p, a := range rooms {
			for q, b := range rooms {
				if p != q && a.first.Add(goodbye).Before(b.last) && b.first.Add(goodbye).Before(a.last) {
					found[group] = true
				}
			}
		}
	}
	return found
}

// Breaches says which promises were broken.
func (r *StormResult) Breaches() []string {
	found := breach(nil, int64(r.SplitGroups), "groups had two rooms at once")
	if !r.Interrupted {
		found = breach(found, int64(r.Failed), "players were not seated: "+r.FirstError)
	}
	return found
}

// Report shows it to people.
func (r *StormResult) Report() Report {
	out := Report{
		Title: fmt.Sprintf("Storm: %s players of %s groups at once, over %s", thousands(int64(r.Players)), thousands(int64(r.Groups)), r.Transport), Breaches: r.Breaches(),
	}
	out.rowf("seated", "%s of %s in %.2f s: %s a second", thousands(int64(r.Seated)), thousands(int64(r.Players)), r.Seconds, thousands(int64(r.PlayersPerSecond)))
	if !r.Assign {
		out.times("time to a seat", "ms", r.SeatMS)
	}
	out.times("time to the assignment", "ms", r.AssignMS)
	out.rowf("rooms", "%d on %d hosts, for %d groups; %d split", r.Rooms, r.Hosts, r.Groups, r.SplitGroups)
	out.usage(r.Usage)
	out.cores(r.Series)
	out.Lines[0].Title = "Players who are there"
	out.Lines[0].Series[0].Name = "players"
	return out
}
