package roomlog

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/guildhall-dev/guildhall"
)

// TestAppendsRaceBarriers has hosts that take the log from one another, each appending until it is fenced. What an
// Append called durable must be in the log once, in its writer's order, and before any later epoch's barrier;
// what it called fenced must not be there.
func TestAppendsRaceBarriers(t *testing.T) {
	t.Parallel()
	const hosts, rounds = 6, 8 // so few that the log retains all of it, also when nobody is fenced
	onBoth(t, func(t *testing.T, b *bench) {
		var (
			epochs atomic.Uint64
			mu     sync.Mutex
			acked  = map[string]guildhall.Epoch{} // by message id
			fenced = map[string]bool{}
			all    sync.WaitGroup
		)
		for range hosts {
			all.Go(func() {
				for range rounds {
					epoch := guildhall.Epoch(epochs.Add(1))
					writer, _, err := b.Open(b.ctx, dragons, epoch)
					if errors.Is(err, ErrFenced) {
						continue
					}
					if err != nil {
						t.Errorf("Open at epoch %d: %v", epoch, err)
						return
					}
					for n := 0; n < 40; n++ {
						ids := []string{fmt.Sprintf("%06d-%02d-a", epoch, n), fmt.Sprintf("%06d-%02d-b", epoch, n)}
						err := writer.Append(b.ctx, said(ids...))
						mu.Lock()
						for _, id := range ids {
							if err == nil {
								acked[id] = epoch
							} else {
								fenced[id] = true
							}
						}
						mu.Unlock()
						if errors.Is(err, ErrFenced) {
							break
						}
						if err != nil {
							t.Errorf("Append at epoch %d: %v", epoch, err)
							return
						}
					}
				}
			})
		}
		all.Wait()
		b.checkRaced(acked, fenced)
	})
}

func (b *bench) checkRaced(acked map[string]guildhall.Epoch, fenced map[string]bool) {
	b.t.Helper()
	if len(acked) == 0 || len(fenced) == 0 {
		b.t.Fatalf("no race: %d acked, %d fenced", len(acked), len(fenced))
	}
	b.checkEntries()
	found := map[string]bool{}
	last := ""
	for _, e := range b.entries() {
		for _, m := range e.Messages {
			switch epoch, ok := acked[m.Id]; {
			case found[m.Id]:
				b.t.Errorf("%s is in the log twice", m.Id)
			case fenced[m.Id]:
				b.t.Errorf("%s is in the log, and its writer was told that it is fenced", m.Id)
			case !ok || uint64(epoch) != e.Epoch:
				b.t.Errorf("%s is in an entry of epoch %d", m.Id, e.Epoch)
			case m.Id <= last: // ids rise with epochs and within a writer
				b.t.Errorf("%s is behind %s", m.Id, last)
			}
			found[m.Id], last = true, m.Id
		}
	}
	for id := range acked {
		if !found[id] {
			b.t.Errorf("%s was acked and is not in the log", id)
		}
	}
}

// TestOneOpens has many open the log at rising epochs at once. Whoever has the greatest can append in the end, and
// nobody else can.
func TestOneOpens(t *testing.T) {
	t.Parallel()
	const writers = 40
	onBoth(t, func(t *testing.T, b *bench) {
		opened := make([]*Writer, writers)
		var all sync.WaitGroup
		for n := range writers {
			all.Go(func() {
				writer, _, err := b.Open(b.ctx, dragons, guildhall.Epoch(n+1))
				if err != nil && !errors.Is(err, ErrFenced) {
					t.Errorf("Open at epoch %d: %v", n+1, err)
				}
				opened[n] = writer
			})
		}
		all.Wait()
		for n, writer := range opened[:writers-1] {
			if writer == nil {
				continue
			}
			if err := writer.Append(b.ctx, said("lost")); !errors.Is(err, ErrFenced) {
				t.Errorf("epoch %d of %d appends: %v, want ErrFenced", n+1, writers, err)
			}
		}
		b.say(opened[writers-1], "1")
		b.checkIDs("the log", b.checkEntries(), "1")
	})
}
