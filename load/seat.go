package load

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/guildhall-dev/guildhall"
	"github.com/guildhall-dev/guildhall/client"
)

const (
	// seatingAtOnce is how many players are on their way into a room at once, where it is not the way that is measured.
	seatingAtOnce = 256
	// seatWithin is how long one player may take until they are seated.
	seatWithin = 60 * time.Second
	// leaveWithin is how long they may take to leave.
	leaveWithin = 5 * time.Second
)

// player is one player with one client.
type player struct {
	// Static after construction.
	number int
	group  guildhall.Group
	token  string
	hear   func(client.Event) // called from the room's goroutine

	room   *client.Room
	seated chan struct{} // closed when there is a seat, for the first time
	why    atomic.Pointer[client.Closed]
}

// tokensFor gets the tokens of players, so that getting them is not part of what is measured.
func (r *run) tokensFor(ctx context.Context, players []*player) error {
	return r.forEach(ctx, "tokens", players, func(ctx context.Context, p *player) (err error) {
		p.token, err = r.config.Tokens(ctx, r.player(p.number), p.group)
		return err
	})
}

// forEach does something for all players, some at once, and tells how far it is. It ends with the first error.
func (r *run) forEach(ctx context.Context, stage string, players []*player, do func(context.Context, *player) error) error {
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(seatingAtOnce)
	var done atomic.Int64
	told := r.tell(stage, len(players), func() int { return int(done.Load()) })
	for _, p := range players {
		if groupCtx.Err() != nil {
			break
		}
		group.Go(func() error {
			err := do(groupCtx, p)
			done.Add(1)
			return err
		})
	}
	err := group.Wait()
	told()
	if err == nil && int(done.Load()) < len(players) {
		return ctx.Err()
	}
	return err
}

// tell tells how far a stage is until the function that it gives is called.
func (r *run) tell(stage string, total int, done func() int) func() {
	stop := make(chan struct{})
	var telling sync.WaitGroup
	telling.Go(func() {
		ticker := time.NewTicker(100 * time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				r.config.Progress(stage, done(), total)
			case <-stop:
				r.config.Progress(stage, done(), total)
				return
			}
		}
	})
	return func() {
		close(stop)
		telling.Wait()
	}
}

// join sends a player on the way. The room ends with ctx.
func (r *run) join(ctx context.Context, p *player, after *guildhall.Seq) error {
	p.seated = make(chan struct{})
	seated := p.seated
	config := r.client(p.number, p.token)
	config.After = after
	config.Deliver = func(e client.Event) {
		p.hear(e)
		switch e := e.(type) {
		case client.Joined:
			close(seated)
		case client.Closed:
			p.why.Store(&e)
		}
	}
	room, err := client.Join(ctx, config, p.group)
	p.room = room
	return err
}

// await waits until a player is seated. An error other than the context's says why they never will be.
func (p *player) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, seatWithin)
	defer cancel()
	select {
	case <-p.seated:
		return nil
	case <-p.room.Events(): // nothing is sent, so it is closed: the room has ended
		if err := p.room.Err(); err != nil {
			return fmt.Errorf("player %d never had a seat in %s: %w", p.number, p.group, err)
		}
		return fmt.Errorf("player %d never had a seat in %s", p.number, p.group)
	case <-ctx.Done():
		if closed := p.why.Load(); closed != nil {
			return fmt.Errorf("player %d has no seat in %s: %w (%s: %s)", p.number, p.group, ctx.Err(), closed.Code, closed.Reason)
		}
		return fmt.Errorf("player %d has no seat in %s: %w", p.number, p.group, ctx.Err())
	}
}

// seatAll seats players, some at once.
func (r *run) seatAll(ctx context.Context, stage string, players []*player) error {
	rooms := context.WithoutCancel(ctx) // they are left, so that what was measured until ctx ended is complete
	if err := r.tokensFor(ctx, players); err != nil {
		return err
	}
	return r.forEach(ctx, stage, players, func(ctx context.Context, p *player) error {
		if err := r.join(rooms, p, nil); err != nil {
			return err
		}
		return p.await(ctx)
	})
}

// leaveAll gives up all seats. When it returns nobody hears anything any more.
func (r *run) leaveAll(ctx context.Context, players []*player) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveWithin)
	defer cancel()
	// Who has left in the end and how is no part of a measurement: what must not be lost has been waited for.
	_ = r.forEach(ctx, "leaving", players, func(_ context.Context, p *player) error {
		if p.room != nil {
			_ = p.room.Leave(ctx)
		}
		return nil
	})
	for _, p := range players { // forEach does not begin what ctx is too late for
		if p.room != nil {
			_ = p.room.Leave(ctx)
		}
	}
}

// interrupted says whether a run that ended with an error was only told to end.
func interrupted(ctx context.Context, err error) bool {
	return err == nil || ctx.Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded))
}
