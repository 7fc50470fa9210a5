package agoneslocal

import (
	"fmt"
	"strings"
	"testing"

	allocation "agones.dev/agones/pkg/allocation/go"
)

func TestActions(t *testing.T) {
	t.Parallel()
	counter := func(action string, amount, capacity int64) *allocation.CounterAction {
		a := &allocation.CounterAction{}
		if action != "" {
			a.Action, a.Amount = text(action), number(amount)
		}
		if capacity >= 0 {
			a.Capacity = number(capacity)
		}
		return a
	}
	for _, c := range []struct {
		action *allocation.CounterAction
		want   Counter
	}{
		{counter("Increment", 2, -1), Counter{7, 10}},
		{counter("Increment", 20, -1), Counter{10, 10}},
		{counter("Decrement", 2, -1), Counter{3, 10}},
		{counter("Decrement", 20, -1), Counter{0, 10}},
		{counter("", 0, 3), Counter{3, 3}},
		{counter("Increment", 9, 12), Counter{12, 12}},
		{counter("Double", 1, -1), Counter{5, 10}},
	} {
		if got := applyCounter(Counter{5, 10}, c.action); got != c.want {
			t.Errorf("%v: %v, want %v", c.action, got, c.want)
		}
	}
	for _, c := range []struct {
		action   *allocation.ListAction
		want     string
		capacity int64
	}{
		{&allocation.ListAction{AddValues: []string{"a", "c", "d"}}, "a b c", 3},
		{&allocation.ListAction{DeleteValues: []string{"a", "z"}}, "b", 3},
		{&allocation.ListAction{AddValues: []string{"c", "d"}, DeleteValues: []string{"a"}}, "b c", 3},
		{&allocation.ListAction{Capacity: number(1)}, "a", 1},
		{&allocation.ListAction{Capacity: number(5), AddValues: []string{"c", "d"}}, "a b c d", 5},
		{&allocation.ListAction{Capacity: number(1001)}, "a b", 3},
	} {
		got := applyList(List{Values: []string{"a", "b"}, Capacity: 3}, c.action)
		if strings.Join(got.Values, " ") != c.want || got.Capacity != c.capacity {
			t.Errorf("%v: %v, want %q of %d", c.action, got, c.want, c.capacity)
		}
	}
}

func TestActionsOnWhatIsMissingAreNone(t *testing.T) {
	t.Parallel()
	store, a := shelf(t, 1, 0)
	in := wanted()
	in.Counters = map[string]*allocation.CounterAction{"x": {Capacity: number(3)}}
	in.Lists = map[string]*allocation.ListAction{"x": {AddValues: []string{"y"}}}
	if given := ask(t, a, in); given[0] != "gs-000" {
		t.Errorf("given %v", given)
	}
	gs := store.snapshot()[0]
	if _, ok := gs.Counters["x"]; ok || len(gs.Lists) != 1 {
		t.Errorf("%+v", gs)
	}
}

func TestDeprecatedMetadata(t *testing.T) {
	t.Parallel()
	_, a := shelf(t, 2, 0)
	old := &allocation.MetaPatch{Labels: map[string]string{"from": "old"}}
	first, err := a.Allocate(t.Context(), deprecatedMetadata(old))
	if err != nil || first.GetMetadata().GetLabels()["from"] != "old" {
		t.Errorf("%v: %v", first, err)
	}
	both := deprecatedMetadata(old)
	both.Metadata = &allocation.MetaPatch{}
	second, err := a.Allocate(t.Context(), both)
	if err != nil || second.GetMetadata().GetLabels()["from"] != "" {
		t.Errorf("%v: %v", second, err)
	}
}

func BenchmarkAllocate(b *testing.B) {
	m, _ := newMetrics(nil)
	store := newStore(m)
	for i := range 100 {
		store.add(candidate(fmt.Sprintf("gs-%03d", i), Allocated, nil))
	}
	in := &request{Namespace: "default", GameServerSelectors: []*selector{{GameServerState: allocation.GameServerSelector_ALLOCATED}}}
	for b.Loop() {
		store.allocate([]*request{in})
	}
}
