package agoneslocal

import (
	"math"
	"slices"
	"strings"
	"testing"
)

func TestCounterStopsAtItsBounds(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		from   Counter
		amount int64
		want   int64
	}{
		{Counter{5, 10}, 3, 8},
		{Counter{5, 10}, 30, 10},
		{Counter{5, 10}, -3, 2},
		{Counter{5, 10}, -30, 0},
		{Counter{5, 10}, math.MaxInt64, 10},
		{Counter{5, 10}, math.MinInt64, 0},
		{Counter{math.MaxInt64, math.MaxInt64}, 1, math.MaxInt64},
	} {
		if got := c.from.add(c.amount); got.Count != c.want || got.Capacity != c.from.Capacity {
			t.Errorf("%v by %d: %v, want %d", c.from, c.amount, got, c.want)
		}
	}
	if got := (Counter{5, 10}).resize(3); got != (Counter{3, 3}) {
		t.Errorf("resized: %v", got)
	}
}

func TestListKeepsOrderAndDropsDuplicates(t *testing.T) {
	t.Parallel()
	list := List{Values: []string{"b", "a"}, Capacity: 4}
	for _, c := range []struct {
		got  List
		want string
	}{
		{list.add("c"), "b a c"},
		{list.add("a", "c", "c", "b"), "b a c"},
		{list.add("c", "d", "e"), "b a c d"},
		{list.remove("b", "z"), "a"},
		{list.replace([]string{"c", "a"}), "a c"},
		{list.replace(nil), ""},
		{list.resize(1), "b"},
		{list.resize(0), ""},
		{list, "b a"},
	} {
		if got := strings.Join(c.got.Values, " "); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
	if !list.has("a") || list.has("c") || list.free() != 2 {
		t.Errorf("%v: has or free is wrong", list)
	}
}

func FuzzCounter(f *testing.F) {
	f.Add(int64(1), int64(2), int64(3), int64(4))
	f.Add(int64(0), int64(math.MaxInt64), int64(math.MinInt64), int64(0))
	f.Fuzz(func(t *testing.T, count, capacity, amount, resized int64) {
		counter := Counter{Count: count, Capacity: capacity}
		if !counter.valid() || resized < 0 {
			t.Skip()
		}
		if after := counter.add(amount).resize(resized); !after.valid() || after.Capacity != resized {
			t.Errorf("%v by %d, resized to %d: %v", counter, amount, resized, after)
		}
	})
}

func FuzzList(f *testing.F) {
	f.Add("a b c", "c d", "a", uint16(3))
	f.Fuzz(func(t *testing.T, first, added, removed string, capacity uint16) {
		limit := int64(capacity % (maxListCapacity + 1))
		list := List{Capacity: limit}.add(strings.Fields(first)...)
		before := slices.Clone(list.Values)
		after := list.add(strings.Fields(added)...).remove(strings.Fields(removed)...)
		if !slices.Equal(list.Values, before) {
			t.Errorf("a list was changed in place, from %q to %q", before, list.Values)
		}
		seen := map[string]bool{}
		for _, value := range after.Values {
			if seen[value] {
				t.Errorf("%q is in it twice", value)
			}
			seen[value] = true
		}
		if int64(len(after.Values)) > limit {
			t.Errorf("%d values, capacity %d", len(after.Values), limit)
		}
		for value := range strings.FieldsSeq(removed) {
			if after.has(value) {
				t.Errorf("%q was not removed", value)
			}
		}
	})
}
