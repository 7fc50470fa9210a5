package agoneslocal

import (
	"cmp"
	"math/rand/v2"
	"slices"

	allocation "agones.dev/agones/pkg/allocation/go"
)

// choose gives the game server that a request gets, or nil. Every selector is tried on all candidates
// before the next one is.
func choose(candidates []*gameServer, in *allocation.AllocationRequest) *gameServer {
	sortCandidates(candidates, in.GetScheduling(), in.GetPriorities())
	for _, selector := range selectorsOf(in) {
		for _, gs := range candidates {
			if gs.Namespace == in.GetNamespace() && matches(selector, &gs.GameServer) {
				return gs
			}
		}
	}
	return nil
}

// matches tells whether a game server is what a selector asks for. The players selector narrows nothing:
// it belongs to player tracking, which is off in Agones unless asked for, and has no SDK here.
func matches(selector *allocation.GameServerSelector, gs *GameServer) bool {
	want := Ready
	if selector.GetGameServerState() == allocation.GameServerSelector_ALLOCATED {
		want = Allocated
	}
	if gs.State != want {
		return false
	}
	for key, value := range selector.GetMatchLabels() {
		if has, ok := gs.Labels[key]; !ok || has != value {
			return false
		}
	}
	return matchCounters(selector, gs) && matchLists(selector, gs)
}

func matchCounters(selector *allocation.GameServerSelector, gs *GameServer) bool {
	for name, want := range selector.GetCounters() {
		counter, ok := gs.Counters[name]
		if !ok || !within(counter.Count, want.GetMinCount(), want.GetMaxCount()) ||
			!within(counter.free(), want.GetMinAvailable(), want.GetMaxAvailable()) {
			return false
		}
	}
	return true
}

func matchLists(selector *allocation.GameServerSelector, gs *GameServer) bool {
	for name, want := range selector.GetLists() {
		list, ok := gs.Lists[name]
		if !ok || !within(list.free(), want.GetMinAvailable(), want.GetMaxAvailable()) {
			return false
		}
		if value := want.GetContainsValue(); value != "" && !list.has(value) {
			return false
		}
	}
	return true
}

// within tells whether a value lies in a range whose end 0 means none.
func within(value, least, most int64) bool {
	return value >= least && (most == 0 || value <= most)
}

// sortCandidates puts first what is to be tried first. Packed prefers what is Allocated already; Distributed
// goes by the priorities alone, and by chance without any. All game servers are on one node, so that
// Agones' order among nodes says nothing here.
func sortCandidates(candidates []*gameServer, scheduling allocation.AllocationRequest_SchedulingStrategy, priorities []*allocation.Priority) {
	distributed := scheduling == allocation.AllocationRequest_Distributed
	if distributed && len(priorities) == 0 {
		rand.Shuffle(len(candidates), func(i, j int) { candidates[i], candidates[j] = candidates[j], candidates[i] })
		return
	}
	slices.SortFunc(candidates, func(a, b *gameServer) int {
		if a, b := a.State == Allocated, b.State == Allocated; !distributed && a != b {
			return first(a)
		}
		for _, priority := range priorities {
			if order := comparePriority(priority, &a.GameServer, &b.GameServer); order != 0 {
				return order
			}
		}
		return cmp.Compare(a.Name, b.Name)
	})
}

// comparePriority compares by what is free, the least first if ascending. Who has the counter or list comes
// before who has not, in either order.
func comparePriority(priority *allocation.Priority, a, b *GameServer) int {
	freeA, hasA := freeOf(priority, a)
	freeB, hasB := freeOf(priority, b)
	switch {
	case !hasA && !hasB:
		return 0
	case hasA != hasB:
		return first(hasA)
	case priority.GetOrder() == allocation.Priority_Descending:
		return cmp.Compare(freeB, freeA)
	default:
		return cmp.Compare(freeA, freeB)
	}
}

func freeOf(priority *allocation.Priority, gs *GameServer) (int64, bool) {
	if priority.GetType() == allocation.Priority_List {
		list, ok := gs.Lists[priority.GetKey()]
		return list.free(), ok
	}
	counter, ok := gs.Counters[priority.GetKey()]
	return counter.free(), ok
}

// first gives the order of two of whom only one is something: the one, if it is a.
func first(a bool) int {
	if a {
		return -1
	}
	return 1
}
