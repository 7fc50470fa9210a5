package simulation

import (
	"cmp"
	"container/heap"
	"context"
	"errors"
	"fmt"
	"hash"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"sync"
	"testing/synctest"
	"time"
)

// world is one run. Its goroutine, in run, owns everything but what is marked otherwise; processes are goroutines of
// their own, of which it wakes one at a time: it delivers one message, waits until everybody is blocked again
// (synctest.Wait), takes what they have sent meanwhile in an order that does not depend on Go's scheduler, and
// decides by the seed when each of it arrives, or whether it does.
type world struct {
	plan    plan
	variant variant
	rng     *rand.Rand
	start   time.Time
	queue   queue
	order   uint64 // of events at one instant
	trace   hash.Hash64
	verbose func(format string, v ...any)

	nats      *process
	agones    *process
	broker    *broker
	fleet     *fleet
	directors []*director
	hosts     []*host // all that ever were, in order
	named     map[string]*host
	players   []*player
	looked    int // the player whom all looks at first
	reader    *process
	judge     *judge
	weather   map[faultKind]time.Duration // until when it holds
	cuts      []cut
	stalls    []cut
	over      bool // nobody is started any more

	mu     sync.Mutex
	issued []issue       // guarded by mu; what processes have asked for since the last look
	wake   chan struct{} // holds one
}

// issue is something that a process wants done, by the world's goroutine.
type issue struct {
	at   time.Duration
	from string
	what string
	do   func()
}

// process is anything that can crash, stand still or be cut off.
type process struct {
	world   *world
	name    string
	ctx     context.Context
	kill    context.CancelFunc
	dead    bool          // owned by the world
	stopped time.Duration // until when it stands still; owned by the world
}

// cut is a broken way from one process to another, or a stalled one.
type cut struct {
	from, to *process // nil is everybody
	until    time.Duration
}

func (w *world) newProcess(name string) *process {
	ctx, kill := context.WithCancel(context.Background())
	return &process{world: w, name: name, ctx: ctx, kill: kill}
}

// now is how long the run has lasted.
func (w *world) now() time.Duration { return time.Since(w.start) }

// notef adds to the trace, by which two runs are compared.
func (w *world) notef(format string, v ...any) {
	line := fmt.Sprintf("%12d "+format+"\n", append([]any{int64(w.now())}, v...)...)
	_, _ = w.trace.Write([]byte(line)) // it never fails
	if w.verbose != nil {
		w.verbose("%s", line[:len(line)-1])
	}
}

// issue asks the world for something. Any goroutine may call it; what stands for the goroutine where several of one
// process may ask at one instant.
func (w *world) issue(from *process, what string, do func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.issued = append(w.issued, issue{at: w.now(), from: from.name, what: what, do: do})
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// event is something that happens at an instant.
type event struct {
	at    time.Duration
	order uint64
	do    func()
}

type queue []event

func (q queue) Len() int { return len(q) }
func (q queue) Less(i, j int) bool {
	return q[i].at < q[j].at || q[i].at == q[j].at && q[i].order < q[j].order
}
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(e any)   { *q = append(*q, e.(event)) }
func (q *queue) Pop() any {
	last := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return last
}

// at has something happen at an instant; after has it happen after a while.
func (w *world) at(when time.Duration, do func()) {
	w.order++
	heap.Push(&w.queue, event{at: when, order: w.order, do: do})
}

func (w *world) after(d time.Duration, do func()) { w.at(w.now()+d, do) }

// run lets things happen until done is true, or the instant end has come, which it then says.
func (w *world) run(end time.Duration, done func() bool) (inTime bool) {
	for {
		synctest.Wait()
		w.take()
		if done() {
			return true
		}
		next := end
		if len(w.queue) > 0 {
			next = min(next, w.queue[0].at)
		}
		if wait := next - w.now(); wait > 0 {
			timer := time.NewTimer(wait)
			select {
			case <-timer.C:
			case <-w.wake:
				timer.Stop()
				continue
			}
		}
		if len(w.queue) > 0 && w.queue[0].at <= w.now() {
			heap.Pop(&w.queue).(event).do()
			continue
		}
		if w.now() >= end {
			synctest.Wait()
			w.take()
			return false
		}
	}
}

// take does what processes have asked for, in an order of its own.
func (w *world) take() {
	w.mu.Lock()
	issued := w.issued
	w.issued = nil
	w.mu.Unlock()
	slices.SortStableFunc(issued, func(a, b issue) int {
		return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.from, b.from), cmp.Compare(a.what, b.what))
	})
	for _, i := range issued {
		w.notef("%s: %s", i.from, i.what)
		i.do()
	}
}

// between draws a duration.
func (w *world) between(least, most time.Duration) time.Duration {
	return least + time.Duration(w.rng.Int64N(int64(most-least)))
}

// delay draws how long a message travels: mostly a millisecond, now and then much more.
func (w *world) delay() time.Duration {
	d := w.between(100*time.Microsecond, 2*time.Millisecond)
	if w.is(slowNetwork) {
		d *= 100
	}
	switch n := w.rng.IntN(1000); {
	case n < 5:
		d += w.between(0, 4*time.Second)
	case n < 50:
		d += w.between(0, 300*time.Millisecond)
	}
	return d
}

// is says whether a kind of weather holds.
func (w *world) is(kind faultKind) bool { return w.now() < w.weather[kind] }

// isCut says whether nothing gets from one process to another now.
func (w *world) isCut(from, to *process) bool {
	w.cuts = slices.DeleteFunc(w.cuts, w.isOver)
	for _, c := range w.cuts {
		if (c.from == nil || c.from == from) && (c.to == nil || c.to == to) {
			return true
		}
	}
	return false
}

func (w *world) isOver(c cut) bool { return w.now() >= c.until }

// send has a message arrive, some time later or never.
func (w *world) send(from, to *process, arrive func()) {
	w.sendAfter(from, to, w.delay(), arrive, func() {})
}

// sendInOrder is send on a connection that keeps the order: last is when the message before it arrives.
func (w *world) sendInOrder(from, to *process, last *time.Duration, arrive func()) {
	w.sendInOrderOr(from, to, last, arrive, func() {})
}

// sendInOrderOr is sendInOrder for a connection that notices when a message is lost.
func (w *world) sendInOrderOr(from, to *process, last *time.Duration, arrive, lose func()) {
	*last = max(*last+1, w.now()+w.delay())
	w.sendAfter(from, to, *last-w.now(), arrive, lose)
}

func (w *world) sendAfter(from, to *process, d time.Duration, arrive, lose func()) {
	if from.dead {
		return
	}
	if from.stopped > w.now() { // what it believes it sends now leaves when it goes on
		d += from.stopped - w.now()
	}
	w.stalls = slices.DeleteFunc(w.stalls, w.isOver)
	for _, s := range w.stalls {
		if s.from == from && s.to == to {
			d += s.until - w.now()
		}
	}
	lost := w.isCut(from, to) || w.is(lossyNATS) && (from == w.nats || to == w.nats) && w.rng.IntN(3) == 0 ||
		w.is(loseNATS) && (from == w.nats || to == w.nats)
	w.after(d, func() { w.arrive(from, to, lost, arrive, lose) })
}

func (w *world) arrive(from, to *process, lost bool, arrive, lose func()) {
	switch {
	case lost || to.dead || w.isCut(from, to):
		lose()
	case to.stopped > w.now():
		w.at(to.stopped+w.between(1, time.Millisecond), func() { w.arrive(from, to, false, arrive, lose) })
	default:
		w.notef("%s -> %s", from.name, to.name)
		arrive()
	}
}

// errGone is what a dead process is told: none of what it still does has an effect.
var errGone = errors.New("this process is dead")

// request has a process ask another one and calls done with the answer, if there is one. The world's goroutine calls it.
func (w *world) request(from, to *process, serve func(answer func(any, error)), done func(any, error)) {
	w.send(from, to, func() {
		serve(func(value any, err error) {
			w.send(to, from, func() { done(value, err) })
		})
	})
}

// answer is what a call gives.
type answer struct {
	value any
	err   error
}

// call has a process ask another one, from any goroutine of it, and waits for the answer or the end of ctx. to and serve
// are for the world's goroutine to call: to when the question is asked, serve when it has arrived.
func (p *process) call(ctx context.Context, what string, to func() *process, serve func(answer func(any, error))) (any, error) {
	if p.ctx.Err() != nil {
		return nil, errGone
	}
	answers := make(chan answer, 2) // a request that arrives twice is answered twice
	p.world.issue(p, what, func() {
		done := func(value any, err error) {
			select {
			case answers <- answer{value, err}:
			default:
			}
		}
		other := to()
		p.world.request(p, other, serve, done)
		if other == p.world.nats && p.world.is(twiceNATS) {
			p.world.request(p, other, serve, done)
		}
	})
	select {
	case a := <-answers:
		return a.value, a.err
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-p.ctx.Done():
		return nil, errGone
	}
}

// crash ends a process as kill -9 does.
func (p *process) crash() {
	p.dead = true
	p.kill()
}

// newWorld makes the world of a plan, with everybody started.
func newWorld(p plan, v variant) *world {
	w := &world{
		plan: p, variant: v, rng: rand.New(rand.NewPCG(p.Seed, 2)), start: time.Now(), trace: fnv.New64a(),
		named: map[string]*host{}, weather: map[faultKind]time.Duration{}, wake: make(chan struct{}, 1),
	}
	w.nats, w.agones = w.newProcess("nats"), w.newProcess("agones")
	w.judge = newJudge(w)
	w.broker = newBroker(w)
	w.fleet = &fleet{world: w}
	w.fleet.keep()
	for n := range p.Directors {
		w.startDirector(n)
	}
	for g := range p.Groups {
		for n := range p.Players {
			w.startPlayer(g, n)
		}
	}
	for _, f := range p.Faults {
		w.at(f.At, func() { w.strike(f) })
	}
	return w
}

// strike makes a fault happen.
func (w *world) strike(f fault) {
	until := min(w.now()+f.Lasts, w.plan.Length)
	hosts, directors := w.fleet.processes(), w.directors
	w.notef("fault: %s until %s", f.Kind, until)
	switch f.Kind {
	case killDirector:
		d := directors[f.Target%len(directors)]
		d.crash()
		w.after(w.between(100*time.Millisecond, 2*time.Second), func() { w.startDirector(f.Target % len(directors)) })
	case stopDirector:
		directors[f.Target%len(directors)].stopped = until
	case cutDirector:
		w.isolate(directors[f.Target%len(directors)].process, w.nats, until)
	case deafDirector:
		w.cuts = append(w.cuts, cut{w.nats, directors[f.Target%len(directors)].process, until})
	case cutPlayer:
		w.players[f.Target%len(w.players)].cutOff(until)
	case stopNATS:
		w.nats.stopped = until
	case playerReturns:
		w.players[f.Target%len(w.players)].startAnew()
	case killHost, drainHost, stopHost, cutHost, deafHost, muteHost, stallHost, hideHost:
		if len(hosts) > 0 {
			w.strikeHost(f.Kind, hosts[f.Target%len(hosts)], until)
		}
	default:
		w.weather[f.Kind] = max(w.weather[f.Kind], until)
		if f.Kind == loseNATS || f.Kind == lossyNATS {
			w.broker.breakWatches(nil)
		}
	}
}

func (w *world) strikeHost(kind faultKind, h *host, until time.Duration) {
	switch kind {
	case killHost:
		h.die()
	case drainHost:
		h.terminate()
	case stopHost:
		h.stopped = until
	case cutHost:
		w.isolate(h.process, w.nats, until)
	case deafHost:
		w.cuts = append(w.cuts, cut{w.nats, h.process, until})
	case muteHost:
		w.cuts = append(w.cuts, cut{h.process, w.nats, until})
	case stallHost:
		w.stalls = append(w.stalls, cut{h.process, w.nats, until})
	case hideHost:
		for _, d := range w.directors {
			w.isolate(d.process, h.process, until)
		}
	}
}

// isolate cuts two processes off from each other.
func (w *world) isolate(a, b *process, until time.Duration) {
	w.cuts = append(w.cuts, cut{a, b, until}, cut{b, a, until})
	if b == w.nats {
		w.broker.breakWatches(a)
	}
}
