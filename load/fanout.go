package load

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

const (
	// drainQuiet is for how long nothing may arrive, once nothing more is said, until what has not arrived is missing: longer
	// than a room takes to come back. drainWithin bounds it for a server that is slow, which is not one that loses.
	drainQuiet  = 10 * time.Second
	drainWithin = 2 * time.Minute
	// maxDeliveries bounds the memory of the check: one bit for each.
	maxDeliveries = 8e9
)

// FanoutConfig says how much is said to how many.
type FanoutConfig struct {
	Config
	Rooms, Members int
	// Rate is messages a second, over all rooms.
	Rate float64
	// Seconds is how long it is measured; Warmup how long they talk before.
	Seconds, Warmup float64
	// Size is the size of a message in bytes; 0 means 120.
	Size int
	// Signal sends signals, which are not kept and may be dropped, in place of messages.
	Signal bool
}

// FanoutResult is what came of it.
type FanoutResult struct {
	Test        string `json:"test"`
	Interrupted bool   `json:"interrupted"`
	Rooms       int    `json:"rooms"`
	Members     int    `json:"members"`
	Signals     bool   `json:"signals"`
	Transport   string `json:"transport"`
	Bytes       int    `json:"bytes"`
	// Published is what was said in the measured time and not refused, Acked what of it is durable. A refusal is an answer
	// to who says too much, and not a loss.
	Published int64 `json:"published"`
	Acked     int64 `json:"acked"`
	Refused   int64 `json:"refused"`
	// Unsent was due in the measured time and could not even be handed to the client.
	Unsent int64 `json:"unsent"`
	// Delivered counts each message that was published once for each member who has received it by the end. Missing is what
	// is left of published times members; Truncated is what of that they were told is not kept any more.
	Delivered  int64 `json:"delivered"`
	Missing    int64 `json:"missing"`
	Truncated  int64 `json:"truncated"`
	Duplicated int64 `json:"duplicated"`
	OutOfOrder int64 `json:"out_of_order"`
	Strays     int64 `json:"strays"`
	// Resumes counts members who lost their connection and came back.
	Resumes int64 `json:"resumes"`
	// Seconds is the measured time; what follows is of what arrived in it, whenever it was said.
	Seconds             float64 `json:"seconds"`
	DeliveredInSeconds  int64   `json:"delivered_in_seconds"`
	DeliveriesPerSecond float64 `json:"deliveries_per_second"`
	// DeliveriesPerCPUSecond is for each CPU second of the hosts.
	DeliveriesPerCPUSecond *float64 `json:"deliveries_per_cpu_second"`
	// ClientMicrosecondsPerDelivery is what it costs this process.
	ClientMicrosecondsPerDelivery float64 `json:"client_cpu_microseconds_per_delivery"`
	// LatencyMS is from when a message was due until a member received it. The sender is a member too, but not of signals.
	LatencyMS *Times `json:"latency_ms"`
	// DrainSeconds is how long the last ones took to arrive.
	DrainSeconds float64 `json:"drain_seconds"`
	Usage
	Series []Sample `json:"series"`
}

func (c *FanoutConfig) check() error {
	if c.Size == 0 {
		c.Size = 120
	}
	messages := c.Rate * (c.Warmup + c.Seconds)
	for _, err := range []error{
		between("rooms", c.Rooms, 1, MaxPlayers), between("members", c.Members, 1, MaxPlayers), between("rate", c.Rate, 0.1, MaxRate),
		between("seconds", c.Seconds, 0.1, MaxSeconds), between("warmup", c.Warmup, 0, MaxSeconds), between("size", c.Size, MinSize, 64<<10),
	} {
		if err != nil {
			return err
		}
	}
	switch {
	case c.Rooms*c.Members > MaxPlayers:
		return fmt.Errorf("%d rooms of %d members are %d players: at most %d are taken", c.Rooms, c.Members, c.Rooms*c.Members, MaxPlayers)
	case messages < 1:
		return fmt.Errorf("--rate %v for --seconds %v: that is not one message", c.Rate, c.Seconds)
	case messages*float64(c.Members) > maxDeliveries || messages >= 1<<32-1:
		return fmt.Errorf("%.0f messages to %d members each: at most %.0f deliveries can be checked; talk for a shorter time", messages, c.Members, float64(maxDeliveries))
	case c.Signal && c.Members < 2:
		return errors.New("--signal: nobody receives their own signals, so take at least 2 members")
	}
	return c.checkRooms(c.Rooms*c.Members, c.Rooms, c.Rooms*c.Members)
}

// fanout is one run of [Fanout].
type fanout struct {
	*run
	FanoutConfig
	rooms    []*hall
	members  []*member // of all rooms
	all      []*player
	times    *recorders
	warm     int // messages before the measured ones
	messages int
}

// Fanout seats members, lets them talk at a steady rate, and counts what arrives.
func Fanout(ctx context.Context, config FanoutConfig) (*FanoutResult, error) {
	if err := config.check(); err != nil {
		return nil, err
	}
	r, err := newRun(config.Config)
	if err != nil {
		return nil, err
	}
	defer r.close()
	f := newFanout(r, config)
	defer f.leaveAll(ctx, f.all)
	if err := f.seatAll(ctx, "seating", f.all); err != nil {
		return nil, unlessInterrupted(ctx, err)
	}
	return f.talk(ctx), nil
}

func newFanout(r *run, config FanoutConfig) *fanout {
	f := &fanout{
		run: r, FanoutConfig: config, times: newRecorders(),
		warm: int(config.Rate * config.Warmup), messages: int(config.Rate * (config.Warmup + config.Seconds)),
	}
	for room := range config.Rooms {
		h := newHall(f, room)
		f.rooms = append(f.rooms, h)
		for range config.Members {
			m := newMember(h, len(f.members), f.times)
			h.members, f.members = append(h.members, m), append(f.members, m)
			f.all = append(f.all, &m.player)
		}
	}
	return f
}

// talk lets them talk through the warm-up and the measured time, and adds up.
func (f *fanout) talk(ctx context.Context) *FanoutResult {
	f.meter.prepare(ctx)
	// A message whose sender has too many under way waits, but not for ever.
	saying, cancel := context.WithTimeout(ctx, seconds(f.Warmup+f.Seconds)+drainQuiet)
	defer cancel()
	told := f.tell("talking", int((f.Warmup+f.Seconds)*1000), f.talked())
	start := f.elapsed() + 50*time.Millisecond // so that the first message is not late
	said := 0
	var talking sync.WaitGroup
	talking.Go(func() {
		said = pace(saying, f.base, start, f.Rate, f.messages, func(k int, due time.Duration) { f.say(saying, k, due) })
	})
	rest(ctx, start+seconds(f.Warmup)-f.elapsed())
	finish := f.meter.watch(ctx, sampleEvery(f.Seconds), f.arrived)
	rest(ctx, start+seconds(f.Warmup+f.Seconds)-f.elapsed())
	window := finish()
	talking.Wait()
	told()
	drain := f.drain(ctx, said)
	f.leaveAll(ctx, f.all) // from here on the members are ours
	result := f.add(said)
	result.Interrupted, result.DrainSeconds = ctx.Err() != nil, drain.Seconds()
	result.divide(window)
	return result
}

// sampleEvery is a second, or less if there are not ten of them.
func sampleEvery(measured float64) time.Duration {
	return min(time.Second, max(200*time.Millisecond, seconds(measured/10)))
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// talked tells how many milliseconds have passed.
func (f *fanout) talked() func() int {
	start := time.Now()
	return func() int {
		return min(int(time.Since(start).Milliseconds()), int((f.Warmup+f.Seconds)*1000))
	}
}

// say says message k, which is of room k modulo the rooms; in each room the members take turns.
func (f *fanout) say(ctx context.Context, k int, due time.Duration) {
	h := f.rooms[k%len(f.rooms)]
	sender := h.members[k/len(f.rooms)%len(h.members)]
	if !sender.say(ctx, k, due) {
		sender.unsent = append(sender.unsent, uint32(k))
		sender.unheard.Add(1)
	}
}

// arrived is how many messages have arrived, those of the warm-up too.
func (f *fanout) arrived() int64 {
	total := int64(0)
	for _, m := range f.members {
		total += m.arrived.Load()
	}
	return total
}

// drain waits until all that was said has arrived; signals, which may be dropped, until no more come.
func (f *fanout) drain(ctx context.Context, said int) time.Duration {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainWithin)
	defer cancel()
	hearers := f.Members
	if f.Signal {
		hearers--
	}
	start := time.Now()
	last, changed := f.arrived(), start
	eventually(ctx, func() bool {
		now := f.arrived()
		if now != last {
			last, changed = now, time.Now()
		}
		quiet := drainQuiet
		if f.Signal {
			quiet = time.Second
		}
		return time.Since(changed) > quiet || now >= f.expected(said, int64(hearers))
	})
	return changed.Sub(start)
}

// expected is how many of the messages that were due can arrive, at so many members each.
func (f *fanout) expected(said int, hearers int64) int64 {
	messages, gone := int64(said), int64(0)
	for _, m := range f.members {
		messages -= m.unheard.Load()
		gone += m.goneEver.Load()
	}
	return messages*hearers - gone
}

// add adds up what all members have seen, once they have left.
func (f *fanout) add(said int) *FanoutResult {
	r := &FanoutResult{
		Test: "fanout", Rooms: f.Rooms, Members: f.Members, Signals: f.Signal, Transport: transportName(f.Transport), Bytes: f.Size,
	}
	for _, h := range f.rooms {
		h.tally(r, said)
	}
	r.LatencyMS = sumUp(f.histogram(), time.Millisecond)
	return r
}

func (f *fanout) histogram() *hdrhistogram.Histogram {
	for _, m := range f.members {
		m.times.flush()
	}
	return f.times.merged()
}

// divide fills in what follows from the rest.
func (r *FanoutResult) divide(w window) {
	r.Seconds, r.DeliveredInSeconds, r.Usage, r.Series = w.seconds, w.delivered, w.usage, w.samples
	r.DeliveriesPerSecond = float64(r.DeliveredInSeconds) / r.Seconds
	if r.ServerCPUSeconds != nil && *r.ServerCPUSeconds > 0 {
		each := float64(r.DeliveredInSeconds) / *r.ServerCPUSeconds
		r.DeliveriesPerCPUSecond = &each
	}
	if r.DeliveredInSeconds > 0 {
		r.ClientMicrosecondsPerDelivery = r.ClientCPUSeconds * 1e6 / float64(r.DeliveredInSeconds)
	}
}

// Breaches says which promises were broken. Signals may be dropped.
func (r *FanoutResult) Breaches() []string {
	var found []string
	if !r.Signals {
		found = breach(found, r.Missing, "deliveries are missing")
	}
	found = breach(found, r.Duplicated, "deliveries came twice")
	found = breach(found, r.OutOfOrder, "deliveries were out of order")
	return breach(found, r.Strays, "messages were received that nobody has said")
}

// Report shows it to people.
func (r *FanoutResult) Report() Report {
	what := "messages"
	if r.Signals {
		what = "signals"
	}
	out := Report{
		Title:    fmt.Sprintf("Fan-out: %d × %d members, %s of %d bytes over %s", r.Rooms, r.Members, what, r.Bytes, r.Transport),
		Breaches: r.Breaches(),
	}
	out.rowf("published", "%s in %.1f s; %s acked, %s refused, %s not sent", thousands(r.Published), r.Seconds, thousands(r.Acked), thousands(r.Refused), thousands(r.Unsent))
	out.rowf("delivered", "%s; %s missing, %s duplicated, %s out of order", thousands(r.Delivered), thousands(r.Missing), thousands(r.Duplicated), thousands(r.OutOfOrder))
	if r.Resumes > 0 || r.Truncated > 0 {
		out.rowf("resumed", "%s times; %s deliveries were not kept so long, and that was told", thousands(r.Resumes), thousands(r.Truncated))
	}
	out.rowf("deliveries", "%s a second%s", thousands(int64(r.DeliveriesPerSecond)), optional(r.DeliveriesPerCPUSecond, "; %.0f for each CPU second of the hosts"))
	out.times("latency", "ms", r.LatencyMS)
	out.rowf("the last ones", "%.2f s after the end", r.DrainSeconds)
	out.usage(r.Usage)
	out.rowf("client", "%.1f µs of CPU for each delivery", r.ClientMicrosecondsPerDelivery)
	out.cores(r.Series)
	return out
}
