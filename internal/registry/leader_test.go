package registry

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/guildhall-dev/guildhall"
)

// TestLeaderStops stops and starts the nodes one after the other, the leader of the claims each time, while directors take
// and release one group's claim, a host renews its lease and players are banned.
func TestLeaderStops(t *testing.T) {
	t.Parallel()
	b := setupNodesLease(t, MinLeaseTTL)
	c := &chaos{bench: b, over: make(chan struct{}), happened: make(chan struct{}, 1), won: map[guildhall.Epoch]guildhall.HostName{}}
	var acting sync.WaitGroup
	for n := range 4 {
		r := b.openOn(b.url())
		acting.Go(func() { c.direct(r, host(n)) })
	}
	acting.Go(func() { c.keepLease(alive("h")) })
	acting.Go(c.banMany)
	for range 3 {
		c.stopLeader()
	}
	close(c.over)
	acting.Wait()
	if len(c.won) == 0 || len(c.banned) == 0 {
		t.Errorf("%d claims won, %d players banned", len(c.won), len(c.banned))
	}
	for _, player := range c.banned {
		b.banned(dragons, player)
		b.awaitBan(dragons, player, true)
	}
	b.awaitView("the host that gave its lease back to go", func() bool { _, found := b.HostInView("h"); return !found })
	b.show(alive("back"))
}

// chaos is what happens while nodes stop.
type chaos struct {
	*bench
	over     chan struct{} // closed at the end
	happened chan struct{} // holds one: somebody won

	mu     sync.Mutex
	won    map[guildhall.Epoch]guildhall.HostName // guarded by mu
	banned []guildhall.PlayerID                   // owned by banMany
}

func (c *chaos) isOver() bool {
	select {
	case <-c.over:
		return true
	default:
		return c.ctx.Err() != nil
	}
}

// direct takes the claim over what it finds, and sometimes gives it back.
func (c *chaos) direct(r *Registry, name guildhall.HostName) {
	last := guildhall.Epoch(0)
	for n := 0; !c.isOver(); n++ {
		ctx, cancel := context.WithTimeout(c.ctx, time.Second)
		claim, err := r.Claim(ctx, dragons)
		if err == nil && claim.Epoch < last {
			c.t.Errorf("%s reads epoch %d after epoch %d", name, claim.Epoch, last)
		}
		if err == nil || errors.Is(err, ErrNoClaim) {
			if claim, err = r.Take(ctx, dragons, name, claim.Epoch); err == nil {
				last = claim.Epoch
				c.win(claim)
			}
		}
		if err == nil && n%3 == 0 {
			_ = r.Release(ctx, claim) // it may not be answered: then the next one takes it over
		}
		cancel()
	}
}

func (c *chaos) win(claim Claim) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if other, twice := c.won[claim.Epoch]; twice {
		c.t.Errorf("epoch %d was given to %s and to %s", claim.Epoch, other, claim.Host)
	}
	c.won[claim.Epoch] = claim.Host
	select {
	case c.happened <- struct{}{}:
	default:
	}
}

// keepLease holds a lease as a host does, and gives it back in the end.
func (c *chaos) keepLease(lease Lease) {
	ticker := time.NewTicker(MinLeaseTTL / 3)
	defer ticker.Stop()
	var grant *Grant
	for !c.isOver() {
		ctx, cancel := context.WithTimeout(c.ctx, time.Second)
		var err error
		if grant == nil {
			grant, err = c.Grant(ctx, lease)
		} else {
			err = grant.Renew(ctx, lease)
		}
		if errors.Is(err, ErrLeaseLost) {
			grant = nil
		}
		cancel()
		<-ticker.C
	}
	for c.ctx.Err() == nil {
		ctx, cancel := context.WithTimeout(c.ctx, time.Second)
		if grant == nil {
			grant, _ = c.Grant(ctx, lease)
		}
		if grant != nil && grant.Renew(ctx, lease) == nil && grant.Return(ctx) == nil {
			cancel()
			return
		}
		cancel()
	}
}

// banMany bans one player after the other; those are remembered whose ban was acked.
func (c *chaos) banMany() {
	for n := 0; !c.isOver(); n++ {
		ctx, cancel := context.WithTimeout(c.ctx, time.Second)
		player := guildhall.PlayerID(fmt.Sprintf("p%d", n))
		if c.Ban(ctx, dragons, player, Ban{}) == nil {
			c.banned = append(c.banned, player)
		}
		cancel()
	}
}

// stopLeader stops the node that leads the claims, and starts it again once claims have been won without it.
func (c *chaos) stopLeader() {
	c.t.Helper()
	leader := c.leader()
	c.nodes.StopNode(leader)
	for range 20 {
		c.await(c.happened, "a claim to be taken without the leader")
	}
	if err := c.nodes.StartNode(leader); err != nil {
		c.t.Fatal(err)
	}
	for _, bucket := range []string{claimsBucket, leasesBucket, bansBucket} {
		c.awaitCurrent(bucket)
	}
}

// leader gives the node that leads the claims.
func (c *chaos) leader() int {
	for c.ctx.Err() == nil {
		stream, err := c.js.Stream(c.ctx, "KV_"+claimsBucket)
		var node int
		if err == nil && stream.CachedInfo().Cluster != nil {
			if _, err := fmt.Sscanf(stream.CachedInfo().Cluster.Leader, "nats-%d", &node); err == nil {
				return node
			}
		}
	}
	c.t.Fatal("the claims have no leader")
	return 0
}

// awaitCurrent waits until every node has the bucket: only then may the next one stop.
func (c *chaos) awaitCurrent(bucket string) {
	for c.ctx.Err() == nil {
		stream, err := c.js.Stream(c.ctx, "KV_"+bucket)
		if err != nil || stream.CachedInfo().Cluster == nil || len(stream.CachedInfo().Cluster.Replicas) != 2 {
			continue
		}
		if stream.CachedInfo().Cluster.Replicas[0].Current && stream.CachedInfo().Cluster.Replicas[1].Current {
			return
		}
	}
	c.t.Fatal("the nodes do not catch up")
}
