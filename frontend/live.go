package frontend

import (
	"context"
	"errors"
	"maps"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/guildhall-dev/guildhall"
	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
	"github.com/guildhall-dev/guildhall/internal/registry"
)

// live finds the live rooms of groups. A claim that has just been written is not one yet: the host may be full and refuse,
// and players who were sent there would be sent on. So it counts when a director has said that the room is open, or when
// that is long decided.
type live struct {
	registry *registry.Registry
	reading  singleflight.Group // claims by group: a raid that comes at once asks once

	mu     sync.Mutex
	opened map[guildhall.Group]openedRoom // guarded by mu; by the word of directors, while claims are young
	most   int                            // guarded by mu; how many there may be before the old ones are dropped
}

// openedRoom is a room that a director has said to be open.
type openedRoom struct {
	epoch guildhall.Epoch
	told  time.Time
}

// leastOpened is how many opened rooms are remembered before old ones are looked for.
const leastOpened = 1024

func newLive(r *registry.Registry) *live {
	return &live{registry: r, opened: map[guildhall.Group]openedRoom{}, most: leastOpened}
}

// told notes a director's word.
func (l *live) told(group guildhall.Group, epoch guildhall.Epoch) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.opened[group] = openedRoom{epoch, time.Now()}
	if len(l.opened) > l.most {
		maps.DeleteFunc(l.opened, func(_ guildhall.Group, room openedRoom) bool {
			return time.Since(room.told) > registry.SettleTime
		})
		l.most = max(leastOpened, 2*len(l.opened))
	}
}

func (l *live) isOpen(claim registry.Claim) bool {
	if claim.IsSettled() {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.opened[claim.Group].epoch == claim.Epoch
}

// claim reads the group's claim, or shares what another is just reading. The one who reads may go away: the others want to
// know all the same.
func (l *live) claim(ctx context.Context, group guildhall.Group) (registry.Claim, error) {
	claim, err, _ := l.reading.Do(group.Key(), func() (any, error) {
		return l.registry.Claim(context.WithoutCancel(ctx), group)
	})
	return claim.(registry.Claim), err //nolint:forcetypeassert // the registry's
}

// find gives the group's room if it is live. The claim is read from the registry itself: a view would be late for the one
// who comes right behind the first.
func (l *live) find(ctx context.Context, group guildhall.Group) (*guildhallv1.Placement, bool, error) {
	claim, err := l.claim(ctx, group)
	if errors.Is(err, registry.ErrNoClaim) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	host, alive := l.registry.HostInView(claim.Host)
	if !alive || host.Leaving() || !l.isOpen(claim) {
		return nil, false, nil
	}
	return claim.PlacedOn(host), true, nil
}
