package chaos

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/guildhall-dev/guildhall"
)

// crowd is all players of all groups.
type crowd struct {
	book    *book
	players []*player
	byGroup map[guildhall.Group][]*player
}

// newCrowd makes the players; nobody is in a room yet.
func newCrowd(w *town, s size) (*crowd, error) {
	c := &crowd{book: &book{}, byGroup: map[guildhall.Group][]*player{}}
	pause := time.Duration(float64(s.Groups*s.Players) / s.Rate * float64(time.Second))
	for g := range s.Groups {
		group := guildhall.Group{Kind: "guild", ID: fmt.Sprintf("g%d", g)}
		for i := range s.Players {
			p, err := newPlayer(w, c.book, group, fmt.Sprintf("p%d-%d", g, i), pause)
			if err != nil {
				return nil, err
			}
			c.players = append(c.players, p)
			c.byGroup[group] = append(c.byGroup[group], p)
		}
	}
	return c, nil
}

func newPlayer(w *town, b *book, group guildhall.Group, name string, pause time.Duration) (*player, error) {
	token, err := w.token(guildhall.PlayerID(name), group)
	return &player{town: w, book: b, name: guildhall.PlayerID(name), group: group, token: token, pause: pause}, err
}

// each lets all of some players do something at once, and gives what went wrong.
func each(players []*player, do func(*player) error) []error {
	var mu sync.Mutex
	var errs []error
	var doing sync.WaitGroup
	for _, p := range players {
		doing.Go(func() {
			if err := do(p); err != nil {
				mu.Lock()
				defer mu.Unlock()
				errs = append(errs, err)
			}
		})
	}
	doing.Wait()
	return errs
}

// lastWords has everybody say a last message; it gives the greatest number of each group, and who is stuck.
func (c *crowd) lastWords(ctx context.Context) (ends map[guildhall.Group]guildhall.Seq, stuck []error) {
	var mu sync.Mutex
	ends = map[guildhall.Group]guildhall.Seq{}
	stuck = each(c.players, func(p *player) error {
		seq, err := p.sayLast(ctx)
		mu.Lock()
		defer mu.Unlock()
		ends[p.group] = max(ends[p.group], seq)
		return err
	})
	return ends, stuck
}

// lateJoiners has somebody new come to each group who wants all that was ever said; it gives them, and who is stuck.
func (c *crowd) lateJoiners(ctx context.Context, w *town, ends map[guildhall.Group]guildhall.Seq) (late []*player, stuck []error) {
	for group := range c.byGroup {
		p, err := newPlayer(w, c.book, group, "late-"+group.ID, time.Hour)
		if err == nil {
			err = p.come(new(guildhall.Seq))
		}
		if err != nil {
			return late, append(stuck, err)
		}
		late = append(late, p)
	}
	return late, each(late, func(p *player) error { return p.awaitSeen(ctx, ends[p.group]) })
}
