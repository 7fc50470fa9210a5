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
	players atomic.Uint32
	answers chan *guildhallv1.Placement // what directors say; holds one
	done    chan struct{}               // closed when placement is set, or there will be none

	placement *guildhallv1.Placement // written before done is closed
	seats     int                    // guarded by waits.mu
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
	return &waits{waitsConfig: config, inbox: nats.NewInbox(), byGroup: map[guildhall.Group]*wait{}}
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

// join takes a seat in the group's wait; the caller must leave it.
func (w *waits) join(group guildhall.Group) *seat {
	w.mu.Lock()
	defer w.mu.Unlock()
	shared := w.byGroup[group]
	if shared == nil {
		shared = w.begin(group)
	}
	shared.seats++
	shared.players.Add(1)
	w.metrics.waiting.Inc()
	return &seat{waits: w, wait: shared}
}

// begin starts the wait of a group. The caller holds mu.
func (w *waits) begin(group guildhall.Group) *wait {
	ctx, cancel := context.WithCancel(context.Background())
	shared := &wait{group: group, cancel: cancel, answers: make(chan *guildhallv1.Placement, 1), done: make(chan struct{})}
	if w.stopped {
		cancel()
		close(shared.done)
		return shared
	}
	w.byGroup[group] = shared
	w.running.Go(func() {
		placement, ticket := w.run(ctx, shared)
		shared.placement = placement
		cancel()
		w.end(shared)
		close(shared.done)
		w.withdraw(ctx, ticket) // last, for the players wait for what is before it
	})
	return shared
}

// end makes sure that nobody joins a wait that is over.
func (w *waits) end(shared *wait) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.byGroup[shared.group] == shared {
		delete(w.byGroup, shared.group)
	}
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
