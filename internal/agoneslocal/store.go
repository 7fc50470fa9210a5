package agoneslocal

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// store keeps every game server of the fleet, as the Kubernetes API does for Agones: whoever changes one
// changes it here, and whoever waits for a change waits here. Nothing blocks while it holds the lock.
type store struct {
	metrics *metrics // static after construction

	mu      sync.Mutex
	servers map[string]*gameServer
	version uint64        // grows with each change
	changed chan struct{} // closed at the next change
	tally   tally
	closed  bool // takes no new game server
}

// tally counts what happened since the beginning.
type tally struct {
	readied uint64 // moves to Ready
	crashed uint64 // game servers that came to an end and never were of use
}

// add counts a move. A crash counts at the very moment at which the game server is no longer one of the
// buffer: whoever sees that one is missing sees why, too.
func (t *tally) add(gs *gameServer) {
	switch {
	case gs.State == Ready:
		t.readied++
	case gs.State.ending() && !gs.useful:
		t.crashed++
	}
}

func newStore(m *metrics) *store {
	return &store{metrics: m, servers: map[string]*gameServer{}, changed: make(chan struct{})}
}

// add takes a new game server in, unless killAll was called.
func (s *store) add(gs *gameServer) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.servers[gs.Name] = gs
	s.metrics.states.WithLabelValues(string(gs.State)).Inc()
	s.touch(gs)
	return true
}

// update lets change change gs, and tells everybody, unless it returns an error: then it has changed nothing.
func (s *store) update(gs *gameServer, change func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := gs.State
	if err := change(); err != nil {
		return err
	}
	s.settle(gs, before)
	return nil
}

// move changes the state of a game server.
func (s *store) move(gs *gameServer, to State) {
	s.update(gs, func() error { //nolint:errcheck // it never fails
		gs.move(to, time.Now())
		return nil
	})
}

// settle accounts for a change of gs, whose state was before. The lock is held.
func (s *store) settle(gs *gameServer, before State) {
	if gs.State != before {
		s.metrics.states.WithLabelValues(string(before)).Dec()
		s.metrics.states.WithLabelValues(string(gs.State)).Inc()
		s.tally.add(gs)
	}
	s.touch(gs)
}

// touch gives gs a new version and tells everybody. The lock is held.
func (s *store) touch(gs *gameServer) {
	s.version++
	gs.version = s.version
	gs.generation++
	if len(gs.watchers) > 0 {
		message := gs.message()
		for w := range gs.watchers {
			w.push(message)
		}
	}
	s.wake()
}

func (s *store) wake() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// makeReady makes a game server Ready if it may be, by way of RequestReady, as in a cluster, where a
// controller takes it from the one to the other.
func (s *store) makeReady(gs *gameServer, may func() bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !may() {
		return
	}
	for _, to := range []State{RequestReady, Ready} {
		before := gs.State
		gs.move(to, time.Now())
		s.settle(gs, before)
	}
}

// remove forgets a game server.
func (s *store) remove(gs *gameServer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if gs.reserve != nil {
		gs.reserve.Stop()
	}
	delete(s.servers, gs.Name)
	s.metrics.states.WithLabelValues(string(gs.State)).Dec()
	s.wake()
}

// nextChange gives a channel that is closed at the next change. Take it before looking: a change that
// comes in between is not missed.
func (s *store) nextChange() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

// snapshot gives all game servers as they are, sorted by name.
func (s *store) snapshot() []GameServer {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]GameServer, 0, len(s.servers))
	for gs := range maps.Values(s.servers) {
		all = append(all, gs.clone())
	}
	slices.SortFunc(all, func(a, b GameServer) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// list gives all game servers, sorted by name. The lock is held.
func (s *store) list() []*gameServer {
	return slices.SortedFunc(maps.Values(s.servers), func(a, b *gameServer) int { return cmp.Compare(a.Name, b.Name) })
}

// census counts the game servers for the fleet.
type census struct {
	all    int // every process
	buffer int // those that are, or will be, there to be allocated
	tally  tally
}

func (s *store) census() census {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := census{all: len(s.servers), tally: s.tally}
	for gs := range maps.Values(s.servers) {
		if gs.State != Allocated && !gs.State.ending() {
			c.buffer++
		}
	}
	return c
}

// beat takes a sign of life of a game server.
func (s *store) beat(gs *gameServer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	gs.life.beat(time.Now())
}

// checkHealth gives a game server up that has given no sign of life for too long.
func (s *store) checkHealth(gs *gameServer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := time.Now(); !gs.life.check(now) && !gs.State.ending() {
		before := gs.State
		gs.move(Unhealthy, now)
		s.settle(gs, before)
	}
}

// portsInUse gives the ports of all game servers: one that is about to listen does not listen yet.
func (s *store) portsInUse() map[int]bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	used := map[int]bool{}
	for gs := range maps.Values(s.servers) {
		for _, port := range gs.Ports {
			used[port] = true
		}
	}
	return used
}

// killAll kills every process, and takes no new game server from here on.
func (s *store) killAll() {
	s.mu.Lock()
	s.closed = true
	servers := slices.Collect(maps.Values(s.servers))
	s.mu.Unlock()
	for _, gs := range servers {
		gs.process.kill()
	}
}
