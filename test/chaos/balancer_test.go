package chaos

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/guildhall-dev/guildhall/client"
)

// balancer sends each call of the players to one of the frontends that are ready, as the load balancer before them does.
type balancer struct {
	// Static after start.
	doors   []*door
	http    *http.Client // what players call with
	next    atomic.Uint64
	stop    context.CancelFunc
	running sync.WaitGroup
}

// door is one frontend as its load balancer knows it.
type door struct {
	address  string
	frontend *service
	open     atomic.Bool
}

// checkEvery is how often a load balancer looks after a frontend.
const checkEvery = 500 * time.Millisecond

// gateURL is what players are told to call; its host is replaced.
const gateURL = "http://guildhall.test"

func newBalancer() *balancer {
	b := &balancer{http: client.NewHTTPClient()}
	b.http.Transport = &throughDoor{balancer: b, base: b.http.Transport}
	return b
}

func (b *balancer) add(address string, frontend *service) {
	b.doors = append(b.doors, &door{address: address, frontend: frontend})
}

// start looks after the frontends until halt.
func (b *balancer) start() {
	ctx, cancel := context.WithCancel(context.Background())
	b.stop = cancel
	for _, d := range b.doors {
		d.open.Store(true)
		b.running.Go(func() {
			ticker := time.NewTicker(checkEvery)
			defer ticker.Stop()
			for {
				select {
				case <-ticker.C:
					d.open.Store(d.frontend.ready(ctx))
				case <-ctx.Done():
					return
				}
			}
		})
	}
}

func (b *balancer) halt() {
	if b.stop != nil {
		b.stop()
		b.running.Wait()
	}
	b.http.CloseIdleConnections()
}

// throughDoor picks the frontend of a call.
type throughDoor struct {
	balancer *balancer
	base     http.RoundTripper
}

// RoundTrip sends a request to the next frontend that is ready. If none is, it sends it to the next all the same: to be
// late with an answer is what a frontend does under load, too.
func (t *throughDoor) RoundTrip(request *http.Request) (*http.Response, error) {
	b := t.balancer
	first := b.next.Add(1)
	d := b.doors[first%uint64(len(b.doors))]
	for i := range uint64(len(b.doors)) {
		if next := b.doors[(first+i)%uint64(len(b.doors))]; next.open.Load() {
			d = next
			break
		}
	}
	there := request.Clone(request.Context())
	there.URL.Host, there.Host = d.address, d.address
	return t.base.RoundTrip(there)
}

// CloseIdleConnections passes on what http.Client asks for.
func (t *throughDoor) CloseIdleConnections() {
	if base, ok := t.base.(*http.Transport); ok {
		base.CloseIdleConnections()
	}
}
