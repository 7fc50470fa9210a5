package agoneslocal

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"agones.dev/agones/pkg/sdk/beta"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// refused tells whether err is what Agones' sidecar refuses with: no code, and first words that tell why.
func refused(err error, words string) bool {
	return status.Code(err) == codes.Unknown && strings.HasPrefix(status.Convert(err).Message(), words)
}

func number(n int64) *wrapperspb.Int64Value { return wrapperspb.Int64(n) }

func TestUpdateCounter(t *testing.T) {
	t.Parallel()
	type update = beta.CounterUpdateRequest
	for name, c := range map[string]struct {
		update  *update
		want    Counter
		refused string
	}{
		"up":                      {&update{CountDiff: 3}, Counter{8, 10}, ""},
		"up to the top":           {&update{CountDiff: 5}, Counter{10, 10}, ""},
		"over the top":            {&update{CountDiff: 6}, Counter{5, 10}, "out of range"},
		"down to nothing":         {&update{CountDiff: -5}, Counter{0, 10}, ""},
		"below nothing":           {&update{CountDiff: -6}, Counter{5, 10}, "out of range"},
		"set":                     {&update{Count: number(0)}, Counter{0, 10}, ""},
		"set over the top":        {&update{Count: number(11)}, Counter{5, 10}, "out of range"},
		"set below nothing":       {&update{Count: number(-1)}, Counter{5, 10}, "out of range"},
		"set, then up":            {&update{Count: number(1), CountDiff: 2}, Counter{3, 10}, ""},
		"set too high, then down": {&update{Count: number(11), CountDiff: -2}, Counter{5, 10}, "out of range"},
		"capacity up":             {&update{Capacity: number(20)}, Counter{5, 20}, ""},
		"capacity below count":    {&update{Capacity: number(3)}, Counter{3, 3}, ""},
		"capacity below nothing":  {&update{Capacity: number(-1)}, Counter{5, 10}, "out of range"},
		"capacity, then count":    {&update{Capacity: number(12), Count: number(12)}, Counter{12, 12}, ""},
		"nothing":                 {&update{}, Counter{5, 10}, "invalid argument"},
		"too much":                {&update{CountDiff: 1<<63 - 1}, Counter{5, 10}, "out of range"},
	} {
		store, _, b := desk(t, Fleet{Counters: map[string]Counter{"rooms": {5, 10}}})
		c.update.Name = "rooms"
		reply, err := b.UpdateCounter(t.Context(), &beta.UpdateCounterRequest{CounterUpdateRequest: c.update})
		if c.refused != "" && !refused(err, c.refused) {
			t.Errorf("%s: error %v, want %q", name, err, c.refused)
		}
		if c.refused == "" && (err != nil || reply.GetCount() != c.want.Count || reply.GetCapacity() != c.want.Capacity || reply.GetName() != "rooms") {
			t.Errorf("%s: reply %v and error %v, want %v", name, reply, err, c.want)
		}
		if got := store.snapshot()[0].Counters["rooms"]; got != c.want {
			t.Errorf("%s: stored %v, want %v", name, got, c.want)
		}
	}
}

func TestUnknownCountersAndLists(t *testing.T) {
	t.Parallel()
	_, _, b := desk(t, Fleet{})
	mask, _ := fieldmaskpb.New(&beta.List{}, "capacity")
	calls := map[string]func() error{
		"GetCounter": func() error {
			_, err := b.GetCounter(t.Context(), &beta.GetCounterRequest{Name: "x"})
			return err
		},
		"UpdateCounter": func() error {
			_, err := b.UpdateCounter(t.Context(), &beta.UpdateCounterRequest{CounterUpdateRequest: &beta.CounterUpdateRequest{Name: "x", CountDiff: 1}})
			return err
		},
		"GetList": func() error { _, err := b.GetList(t.Context(), &beta.GetListRequest{Name: "x"}); return err },
		"UpdateList": func() error {
			_, err := b.UpdateList(t.Context(), &beta.UpdateListRequest{List: &beta.List{Name: "x"}, UpdateMask: mask})
			return err
		},
		"AddListValue": func() error { _, err := b.AddListValue(t.Context(), &beta.AddListValueRequest{Name: "x"}); return err },
		"RemoveListValue": func() error {
			_, err := b.RemoveListValue(t.Context(), &beta.RemoveListValueRequest{Name: "x"})
			return err
		},
	}
	for name, call := range calls {
		if err := call(); !refused(err, "not found") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestListValues(t *testing.T) {
	t.Parallel()
	store, _, b := desk(t, Fleet{Lists: map[string]List{"groups": {Values: []string{"a"}, Capacity: 2}}})
	before := store.snapshot()[0]
	add := func(value string) (*beta.List, error) {
		return b.AddListValue(t.Context(), &beta.AddListValueRequest{Name: "groups", Value: value})
	}
	remove := func(value string) (*beta.List, error) {
		return b.RemoveListValue(t.Context(), &beta.RemoveListValueRequest{Name: "groups", Value: value})
	}
	if _, err := add("a"); !refused(err, "already exists") {
		t.Errorf("a again: %v", err)
	}
	if list, err := add("b"); err != nil || !slices.Equal(list.GetValues(), []string{"a", "b"}) {
		t.Errorf("%v, %v", list, err)
	}
	if _, err := add("b"); !refused(err, "out of range") {
		t.Errorf("a full list says first that it is full: %v", err)
	}
	if list, err := remove("a"); err != nil || !slices.Equal(list.GetValues(), []string{"b"}) || list.GetCapacity() != 2 {
		t.Errorf("%v, %v", list, err)
	}
	if _, err := remove("a"); !refused(err, "not found") {
		t.Errorf("a again: %v", err)
	}
	if list, err := b.GetList(t.Context(), &beta.GetListRequest{Name: "groups"}); err != nil || !slices.Equal(list.GetValues(), []string{"b"}) {
		t.Errorf("%v, %v", list, err)
	}
	if !slices.Equal(before.Lists["groups"].Values, []string{"a"}) {
		t.Errorf("an old snapshot changed: %v", before.Lists)
	}
}

func TestUpdateList(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		list    *beta.List
		paths   []string
		want    List
		refused string
	}{
		"capacity":         {&beta.List{Capacity: 9, Values: []string{"x"}}, []string{"capacity"}, List{[]string{"a", "b", "c"}, 9}, ""},
		"capacity cuts":    {&beta.List{Capacity: 2}, []string{"capacity"}, List{[]string{"a", "b"}, 2}, ""},
		"values keep":      {&beta.List{Values: []string{"d", "c", "a"}}, []string{"values"}, List{[]string{"a", "c", "d"}, 4}, ""},
		"values cut":       {&beta.List{Values: []string{"a", "b", "c", "d", "e"}}, []string{"values"}, List{[]string{"a", "b", "c", "d"}, 4}, ""},
		"values end":       {&beta.List{}, []string{"values"}, List{[]string{}, 4}, ""},
		"both":             {&beta.List{Values: []string{"a", "e", "f", "g", "h"}, Capacity: 5}, []string{"values", "capacity"}, List{[]string{"a", "e", "f", "g", "h"}, 5}, ""},
		"nothing":          {&beta.List{Capacity: 1}, nil, List{[]string{"a", "b", "c"}, 4}, ""},
		"too much":         {&beta.List{Capacity: 1001}, []string{"capacity"}, List{[]string{"a", "b", "c"}, 4}, "out of range"},
		"negative":         {&beta.List{Capacity: -1}, []string{"capacity"}, List{[]string{"a", "b", "c"}, 4}, "out of range"},
		"unknown path":     {&beta.List{}, []string{"size"}, List{[]string{"a", "b", "c"}, 4}, "invalid argument"},
		"no list is given": {nil, []string{"capacity"}, List{[]string{"a", "b", "c"}, 4}, "invalid argument"},
	} {
		store, _, b := desk(t, Fleet{Lists: map[string]List{"groups": {[]string{"a", "b", "c"}, 4}}})
		if c.list != nil {
			c.list.Name = "groups"
		}
		_, err := b.UpdateList(t.Context(), &beta.UpdateListRequest{List: c.list, UpdateMask: &fieldmaskpb.FieldMask{Paths: c.paths}})
		if c.refused == "" && err != nil || c.refused != "" && !refused(err, c.refused) {
			t.Errorf("%s: error %v, want %q", name, err, c.refused)
		}
		got := store.snapshot()[0].Lists["groups"]
		if got.Capacity != c.want.Capacity || !slices.Equal(got.Values, c.want.Values) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

func TestChangesAreWatched(t *testing.T) {
	t.Parallel()
	store, s, b := desk(t, Fleet{
		Counters: map[string]Counter{"rooms": {Capacity: 2}},
		Lists:    map[string]List{"groups": {Capacity: 2}},
	})
	w := store.watch(s.gs)
	b.UpdateCounter(t.Context(), &beta.UpdateCounterRequest{CounterUpdateRequest: &beta.CounterUpdateRequest{Name: "rooms", CountDiff: 1}})
	b.UpdateCounter(t.Context(), &beta.UpdateCounterRequest{CounterUpdateRequest: &beta.CounterUpdateRequest{Name: "rooms", CountDiff: 9}})
	b.AddListValue(t.Context(), &beta.AddListValueRequest{Name: "groups", Value: "dragons"})
	messages := w.take()
	if len(messages) != 3 { // the first, and two changes; what was refused is none
		t.Fatalf("%d messages", len(messages))
	}
	last := messages[2].GetStatus()
	if last.GetCounters()["rooms"].GetCount() != 1 || !slices.Equal(last.GetLists()["groups"].GetValues(), []string{"dragons"}) {
		t.Errorf("last message %v", last)
	}
	store.unwatch(s.gs, w)
	s.Ready(t.Context(), empty)
	if rest := w.take(); len(rest) != 0 {
		t.Errorf("%d messages after the end", len(rest))
	}
}

func TestFleetsCountersAreNotShared(t *testing.T) {
	t.Parallel()
	initial := map[string]Counter{"rooms": {Capacity: 2}}
	_, _, b := desk(t, Fleet{Counters: initial})
	b.UpdateCounter(t.Context(), &beta.UpdateCounterRequest{CounterUpdateRequest: &beta.CounterUpdateRequest{Name: "rooms", CountDiff: 1}})
	if !maps.Equal(initial, map[string]Counter{"rooms": {Capacity: 2}}) {
		t.Errorf("the fleet's counters became %v", initial)
	}
}
