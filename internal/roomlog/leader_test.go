package roomlog

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/guildhall-dev/guildhall"
	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
)

// TestLeaderStops stops and starts the nodes one after the other, the leader of the log each time, while writers append
// and take the log from one another. Nobody may find the log broken, be fenced but by a later epoch, or miss what was acked.
func TestLeaderStops(t *testing.T) {
	t.Parallel()
	b := setupNodes(t)
	var (
		epochs  atomic.Uint64
		mu      sync.Mutex
		acked   []string // in order, as one writer after the other said it
		writing sync.WaitGroup
		over    = make(chan struct{})
		heard   = make(chan struct{}, 1)
	)
	isOver := func() bool {
		select {
		case <-over:
			return true
		default:
			return b.ctx.Err() != nil
		}
	}
	writing.Go(func() {
		for !isOver() {
			epoch := guildhall.Epoch(epochs.Add(1))
			writer, messages := b.openAgain(epoch)
			if writer == nil {
				return
			}
			mu.Lock()
			// The tail has what was not acked too: of each epoch the last word at most.
			b.checkHas(fmt.Sprintf("epoch %d reads", epoch), messages, acked[max(0, len(acked)-TailMessages/2):])
			mu.Unlock()
			for n := 0; n < 200 && !isOver(); n++ {
				ids := []string{fmt.Sprintf("%d-%d-a", epoch, n), fmt.Sprintf("%d-%d-b", epoch, n)}
				if !b.appendAgain(writer, ids...) {
					return
				}
				mu.Lock()
				acked = append(acked, ids...)
				mu.Unlock()
				select {
				case heard <- struct{}{}:
				default:
				}
			}
		}
	})
	for range 3 {
		b.stopLeader(heard)
	}
	close(over)
	writing.Wait()
	log := b.checkEntries()
	b.checkHas("the log", log, acked[max(0, len(acked)-entriesPerGroup):]) // an entry has two, and some entries are barriers
	if len(acked) == 0 || int(epochs.Load()) == 0 {
		t.Error("nothing was said")
	}
	t.Logf("%d messages by %d epochs", len(log), epochs.Load())
}

// attempt is how long one try at something may take while nodes stop.
const attempt = 2 * time.Second

// openAgain opens the log, and tries until that is answered. The writer is nil if the test is over.
func (b *bench) openAgain(epoch guildhall.Epoch) (*Writer, []*guildhallv1.Message) {
	for {
		ctx, cancel := context.WithTimeout(b.ctx, attempt)
		writer, messages, err := b.Open(ctx, dragons, epoch)
		cancel()
		if err == nil {
			return writer, messages
		}
		if errors.Is(err, ErrFenced) || errors.Is(err, ErrBroken) || b.ctx.Err() != nil {
			b.t.Errorf("Open at epoch %d: %v", epoch, err)
			return nil, nil
		}
	}
}

// appendAgain appends as a room does: the same again until it is answered.
func (b *bench) appendAgain(writer *Writer, ids ...string) bool {
	messages := said(ids...)
	for {
		ctx, cancel := context.WithTimeout(b.ctx, attempt)
		err := writer.Append(ctx, messages)
		cancel()
		if err == nil {
			return true
		}
		if errors.Is(err, ErrFenced) || errors.Is(err, ErrBroken) || b.ctx.Err() != nil {
			b.t.Errorf("Append at epoch %d: %v", writer.epoch, err)
			return false
		}
	}
}

// stopLeader stops the node that leads the log, and starts it again once somebody has been heard meanwhile.
func (b *bench) stopLeader(heard chan struct{}) {
	b.t.Helper()
	leader := b.leader()
	b.nodes.StopNode(leader)
	for range 20 {
		select {
		case <-heard:
		case <-b.ctx.Done():
			b.t.Fatal("nobody is heard without the leader")
		}
	}
	if err := b.nodes.StartNode(leader); err != nil {
		b.t.Fatal(err)
	}
	b.awaitCurrent()
}

// leader gives the node that leads the log.
func (b *bench) leader() int {
	for b.ctx.Err() == nil {
		info, err := b.stream().Info(b.ctx)
		var node int
		if err == nil && info.Cluster != nil {
			if _, err := fmt.Sscanf(info.Cluster.Leader, "nats-%d", &node); err == nil {
				return node
			}
		}
	}
	b.t.Fatal("the log has no leader")
	return 0
}

// awaitCurrent waits until every node has the log: only then may the next one stop.
func (b *bench) awaitCurrent() {
	for b.ctx.Err() == nil {
		info, err := b.stream().Info(b.ctx)
		if err != nil || info.Cluster == nil || len(info.Cluster.Replicas) != 2 {
			continue
		}
		if info.Cluster.Replicas[0].Current && info.Cluster.Replicas[1].Current {
			return
		}
	}
	b.t.Fatal("the nodes do not catch up")
}

// checkHas sees that messages has every id that was acked, in order and once. What was not acked may be
// between.
func (b *bench) checkHas(what string, messages []*guildhallv1.Message, acked []string) {
	b.t.Helper()
	next, twice := 0, map[string]bool{}
	for _, m := range messages {
		if twice[m.Id] {
			b.t.Errorf("%s: %s twice", what, m.Id)
		}
		twice[m.Id] = true
		if next < len(acked) && m.Id == acked[next] {
			next++
		}
	}
	if next != len(acked) {
		b.t.Errorf("%s: %s was acked and is not there in its place", what, acked[next])
	}
}
