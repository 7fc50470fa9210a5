package agoneslocal

import (
	"maps"
	"time"

	allocation "agones.dev/agones/pkg/allocation/go"
)

// refreshAfter is how many requests of one batch are answered before game servers that the batch has given
// out may be looked at again.
const refreshAfter = 100

// allocate answers a batch of requests, in their order; nil is the answer to one for which there is none.
// Within the batch a game server is given once, whatever the selector: while the allocation of a game
// server is under way, Agones hides it from all other requests. This is why "the server that has my group,
// else a Ready one" gives one group two servers there, and here.
func (s *store) allocate(batch []*allocation.AllocationRequest) []*allocation.AllocationResponse {
	s.mu.Lock()
	defer s.mu.Unlock()
	answers := make([]*allocation.AllocationResponse, len(batch))
	var candidates []*gameServer
	for i, in := range batch {
		if i%refreshAfter == 0 {
			candidates = s.list()
		}
		gs := choose(candidates, in)
		if gs == nil {
			continue
		}
		candidates = without(candidates, gs)
		before := gs.State
		gs.allocate(in, time.Now())
		s.settle(gs, before)
		answers[i] = gs.response()
	}
	return answers
}

func without(candidates []*gameServer, taken *gameServer) []*gameServer {
	kept := candidates[:0]
	for _, gs := range candidates {
		if gs != taken {
			kept = append(kept, gs)
		}
	}
	return kept
}

// allocate gives the game server away. The store's lock is held.
func (g *gameServer) allocate(in *allocation.AllocationRequest, now time.Time) {
	metadata := metadataOf(in)
	maps.Copy(g.Labels, metadata.GetLabels())
	maps.Copy(g.Annotations, metadata.GetAnnotations())
	g.move(Allocated, now)
	for name, action := range in.GetCounters() {
		if counter, ok := g.Counters[name]; ok {
			g.Counters[name] = applyCounter(counter, action)
		}
	}
	for name, action := range in.GetLists() {
		if list, ok := g.Lists[name]; ok {
			g.Lists[name] = applyList(list, action)
		}
	}
}

// applyCounter does what it can: what goes beyond the bounds stops there, an action of another name is none.
func applyCounter(counter Counter, action *allocation.CounterAction) Counter {
	if capacity := action.GetCapacity(); capacity != nil {
		counter = counter.resize(capacity.GetValue())
	}
	amount := action.GetAmount().GetValue()
	switch action.GetAction().GetValue() {
	case "Increment":
		return counter.add(amount)
	case "Decrement":
		return counter.add(-amount)
	}
	return counter
}

// applyList does what it can: duplicates, and values beyond the capacity, are dropped without a word. Values
// are added before others are deleted.
func applyList(list List, action *allocation.ListAction) List {
	if capacity := action.GetCapacity(); capacity != nil && capacity.GetValue() <= maxListCapacity {
		list = list.resize(capacity.GetValue())
	}
	if values := action.GetAddValues(); len(values) > 0 {
		list = list.add(values...)
	}
	if values := action.GetDeleteValues(); len(values) > 0 {
		list = list.remove(values...)
	}
	return list
}
