package frontend

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"google.golang.org/protobuf/proto"
	"open-match.dev/open-match/pkg/pb"

	"github.com/guildhall-dev/guildhall"
	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
	"github.com/guildhall-dev/guildhall/internal/tracing"
)

type waitsConfig struct {
	match     pb.FrontendServiceClient
	nats      *nats.Conn
	live      *live
	logger    *slog.Logger
	metrics   *metrics
	shards    int
	ticketTTL time.Duration
	lookAgain time.Duration
	// refileAfter is how long the first ticket of a wait stays without an answer before it is filed anew.
	refileAfter time.Duration
	tracer      tracing.Tracer
}

// waits is who waits at this frontend, by group. All that wait for one group share a wait, which is one goroutine
// with one Open Match ticket; it lives as long as somebody has a seat in it.
type waits struct {
	waitsConfig
	inbox string // the NATS subject where directors answer

	mu      sync.Mutex
	stopped bool                      // guarded by mu
	byGroup map[guildhall.Group]*wait // guarded by mu
	running sync.WaitGroup            // waits that run
}

// wait is the shared wait of one group.
type wait struct {
	group   guildhall.Group
	cancel  context.CancelFunc
	began   time.Time
	trace   string // of the ticket: the trace of whoever came first
	players atomic.Uint32
	answers chan *guildhallv1.Placement // what directors say; holds one
	done    chan struct{}               // closed when placement is set, or there will be none

	placement *guildhallv1.Placement   // written before done is closed
	seats     int                      // guarded by waits.mu
	state     guildhallv1.WaitingState // guarded by waits.mu
	changed   chan struct{}            // guarded by waits.mu; closed, and another made, when state changes
}

// isOver says whether the wait has ended.
func (w *wait) isOver() bool {
	select {
	case <-w.done:
		return true
	default:
		return false
	}
}

// seat is one player's part in a wait.
type seat struct {
	waits *waits
	wait  *wait
	once  sync.Once
}

func newWaits(config waitsConfig) *waits {
	w := &waits{waitsConfig: config, inbox: nats.NewInbox(), byGroup: map[guildhall.Group]*wait{}}
	config.metrics.follow(w.longest)
	return w
}

// longest gives how long the group that has waited longest has waited.
func (w *waits) longest() (longest time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, wait := range w.byGroup {
		longest = max(longest, time.Since(wait.began))
	}
	return longest
}

// Run listens to the directors until ctx ends, then ends all waits and withdraws their tickets.
func (w *waits) Run(ctx context.Context) error {
	subscription, err := w.nats.Subscribe(w.inbox, w.answer)
	if err != nil {
		return fmt.Errorf("listening for assignments: %w", err)
	}
	<-ctx.Done()
	w.mu.Lock()
	w.stopped = true
	for _, wait := range w.byGroup {
		wait.cancel()
	}
	w.mu.Unlock()
	w.running.Wait()
	if err := subscription.Unsubscribe(); err != nil && w.nats.IsConnected() {
		return fmt.Errorf("no longer listening for assignments: %w", err)
	}
	return nil
}

// join takes a seat in the group's wait; the caller must leave it. The one who comes first has the ticket filed, placed
// and opened in their own trace, for it is done once; the others' refer to it.
func (w *waits) join(ctx context.Context, group guildhall.Group) *seat {
	w.mu.Lock()
	defer w.mu.Unlock()
	shared := w.byGroup[group]
	if shared == nil {
		shared = w.begin(group, tracing.Parent(ctx))
	}
	return w.sit(ctx, shared)
}

// joinRunning takes a seat in the group's wait if there is one; the caller must leave it. Nobody has to look for the group's room
// first: the wait has, does so again every lookAgain, and is told.
func (w *waits) joinRunning(ctx context.Context, group guildhall.Group) *seat {
	w.mu.Lock()
	defer w.mu.Unlock()
	shared := w.byGroup[group]
	if shared == nil || shared.isOver() {
		return nil
	}
	return w.sit(ctx, shared)
}

// sit takes a seat in a wait. The caller holds mu.
func (w *waits) sit(ctx context.Context, shared *wait) *seat {
	shared.seats++
	shared.players.Add(1)
	w.metrics.waiting.Inc()
	tracing.Current(ctx).Link(shared.trace)
	return &seat{waits: w, wait: shared}
}

// begin starts the wait of a group. The caller holds mu.
func (w *waits) begin(group guildhall.Group, traceparent string) *wait {
	ctx, span := w.tracer.StartFrom(context.Background(), traceparent, "ticket", tracing.Producer, time.Time{})
	span.Kind(group.Kind)
	ctx, cancel := context.WithCancel(ctx)
	shared := &wait{
		group: group, cancel: cancel, trace: tracing.Parent(ctx), began: time.Now(),
		answers: make(chan *guildhallv1.Placement, 1), done: make(chan struct{}),
		state: guildhallv1.WaitingState_WAITING_STATE_QUEUED, changed: make(chan struct{}),
	}
	if w.stopped {
		cancel()
		span.End(errStopping)
		close(shared.done)
		return shared
	}
	w.byGroup[group] = shared
	w.running.Go(func() {
		placement, ticket := w.run(ctx, shared)
		span.Room(placement.GetHost(), placement.GetEpoch())
		span.End(ctx.Err())
		shared.placement = placement
		cancel()
		w.end(shared)
		close(shared.done)
		w.withdraw(ctx, ticket) // last, for the players wait for what is before it
	})
	return shared
}

// answered notes whether Open Match has answered a call for a wait, for those who wait to know.
func (w *waits) answered(shared *wait, err error) {
	state := guildhallv1.WaitingState_WAITING_STATE_QUEUED
	if err != nil {
		state = guildhallv1.WaitingState_WAITING_STATE_NO_MATCHMAKER
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if shared.state != state {
		shared.state = state
		close(shared.changed)
		shared.changed = make(chan struct{})
	}
}

// end makes sure that nobody joins a wait that is over.
func (w *waits) end(shared *wait) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.byGroup[shared.group] == shared {
		delete(w.byGroup, shared.group)
	}
}

// state gives what the wait waits for, and what is closed when that is another.
func (s *seat) state() (state guildhallv1.WaitingState, changed <-chan struct{}) {
	s.waits.mu.Lock()
	defer s.waits.mu.Unlock()
	return s.wait.state, s.wait.changed
}

// leave gives the seat up, once; the last one to leave ends the wait.
func (s *seat) leave() {
	s.once.Do(func() {
		s.waits.mu.Lock()
		defer s.waits.mu.Unlock()
		s.waits.metrics.waiting.Dec()
		s.wait.players.Add(^uint32(0))
		if s.wait.seats--; s.wait.seats == 0 {
			s.wait.cancel()
			if s.waits.byGroup[s.wait.group] == s.wait {
				delete(s.waits.byGroup, s.wait.group)
			}
		}
	})
}

// answer gives a director's word to the wait that it is for.
func (w *waits) answer(message *nats.Msg) {
	var assigned guildhallv1.Assigned
	if err := proto.Unmarshal(message.Data, &assigned); err != nil {
		w.logger.Warn("an answer does not decode", "error", err)
		return
	}
	group, err := guildhall.ParseGroup(assigned.GetPlacement().GetGroup())
	if err != nil {
		w.logger.Warn("an answer is for no group", "error", err)
		return
	}
	w.live.told(group, guildhall.Epoch(assigned.GetPlacement().GetEpoch()))
	w.mu.Lock()
	shared := w.byGroup[group]
	w.mu.Unlock()
	if shared == nil {
		return // everybody has left
	}
	select {
	case shared.answers <- assigned.GetPlacement():
	default: // it has one already
	}
}
