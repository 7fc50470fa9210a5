package agoneslocal

import (
	"sync"

	"agones.dev/agones/pkg/sdk"
)

// maxWatchBacklog is how many messages wait for a game server that does not read. Beyond it the oldest go:
// each message is the whole game server, so what counts is the last.
const maxWatchBacklog = 256

// watcher holds what one WatchGameServer stream has yet to send.
type watcher struct {
	ready chan struct{} // has a token while messages wait

	mu      sync.Mutex
	waiting []*sdk.GameServer
}

func newWatcher() *watcher { return &watcher{ready: make(chan struct{}, 1)} }

// push never blocks.
func (w *watcher) push(message *sdk.GameServer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.waiting) == maxWatchBacklog {
		w.waiting = w.waiting[1:]
	}
	w.waiting = append(w.waiting, message)
	select {
	case w.ready <- struct{}{}:
	default:
	}
}

// take gives what waits, oldest first.
func (w *watcher) take() []*sdk.GameServer {
	w.mu.Lock()
	defer w.mu.Unlock()
	taken := w.waiting
	w.waiting = nil
	return taken
}

// watch starts a watcher with the current state of gs as its first message.
func (s *store) watch(gs *gameServer) *watcher {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := newWatcher()
	w.push(gs.message())
	gs.watchers[w] = struct{}{}
	return w
}

func (s *store) unwatch(gs *gameServer, w *watcher) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(gs.watchers, w)
}
