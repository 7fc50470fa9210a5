package agoneslocal

import (
	"slices"
	"strings"
	"testing"
	"time"

	allocation "agones.dev/agones/pkg/allocation/go"
)

type (
	request  = allocation.AllocationRequest
	selector = allocation.GameServerSelector
)

// deprecated makes a request as old clients send it.
func deprecated(required *selector, preferred ...*selector) *request {
	return &request{RequiredGameServerSelector: required, PreferredGameServerSelectors: preferred} //nolint:staticcheck // it is what is tested
}

// deprecatedMetadata makes a request that sets metadata as old clients do.
func deprecatedMetadata(patch *allocation.MetaPatch) *request {
	return &request{Namespace: "default", MetaPatch: patch} //nolint:staticcheck // it is what is tested
}

// candidate makes a game server for a selector to look at.
func candidate(name string, state State, change func(*GameServer)) *gameServer {
	fleet := Fleet{Name: "f", Namespace: "default"}
	gs := newGameServer(&fleet, "set", nil, time.Now())
	gs.Name, gs.State = name, state
	gs.Counters, gs.Lists = map[string]Counter{}, map[string]List{}
	if change != nil {
		change(&gs.GameServer)
	}
	return gs
}

func TestMatches(t *testing.T) {
	t.Parallel()
	gs := candidate("a", Ready, func(g *GameServer) {
		g.Labels["map"] = "hall"
		g.Labels["none"] = ""
		g.Counters["rooms"] = Counter{Count: 4, Capacity: 10}
		g.Lists["groups"] = List{Values: []string{"dragons"}, Capacity: 3}
	})
	counter := func(c *allocation.CounterSelector) *selector {
		return &selector{Counters: map[string]*allocation.CounterSelector{"rooms": c}}
	}
	list := func(l *allocation.ListSelector) *selector {
		return &selector{Lists: map[string]*allocation.ListSelector{"groups": l}}
	}
	labels := func(key, value string) *selector { return &selector{MatchLabels: map[string]string{key: value}} }
	for name, c := range map[string]struct {
		selector *selector
		want     bool
	}{
		"nil":                   {nil, true},
		"empty":                 {&selector{}, true},
		"the other state":       {&selector{GameServerState: allocation.GameServerSelector_ALLOCATED}, false},
		"unknown state is any":  {&selector{GameServerState: 7}, true},
		"fleet":                 {labels("agones.dev/fleet", "f"), true},
		"label":                 {labels("map", "hall"), true},
		"label of other value":  {labels("map", "field"), false},
		"label of no value":     {labels("none", ""), true},
		"label that is missing": {labels("missing", ""), false},
		"players do not narrow": {&selector{Players: &allocation.PlayerSelector{MinAvailable: 5, MaxAvailable: 9}}, true},

		"any counter":         {counter(&allocation.CounterSelector{}), true},
		"counter, min":        {counter(&allocation.CounterSelector{MinCount: 4}), true},
		"counter, min more":   {counter(&allocation.CounterSelector{MinCount: 5}), false},
		"counter, max":        {counter(&allocation.CounterSelector{MaxCount: 4}), true},
		"counter, max less":   {counter(&allocation.CounterSelector{MaxCount: 3}), false},
		"counter, free":       {counter(&allocation.CounterSelector{MinAvailable: 6, MaxAvailable: 6}), true},
		"counter, free more":  {counter(&allocation.CounterSelector{MinAvailable: 7}), false},
		"counter, free less":  {counter(&allocation.CounterSelector{MaxAvailable: 5}), false},
		"counter is missing":  {&selector{Counters: map[string]*allocation.CounterSelector{"x": {}}}, false},
		"any list":            {list(&allocation.ListSelector{}), true},
		"list, value":         {list(&allocation.ListSelector{ContainsValue: "dragons"}), true},
		"list, other value":   {list(&allocation.ListSelector{ContainsValue: "trolls"}), false},
		"list, free":          {list(&allocation.ListSelector{MinAvailable: 2, MaxAvailable: 2}), true},
		"list, free more":     {list(&allocation.ListSelector{MinAvailable: 3}), false},
		"list, free less":     {list(&allocation.ListSelector{MaxAvailable: 1}), false},
		"list is missing":     {&selector{Lists: map[string]*allocation.ListSelector{"x": {}}}, false},
		"counter is no list":  {&selector{Lists: map[string]*allocation.ListSelector{"rooms": {}}}, false},
		"all must be matched": {&selector{MatchLabels: map[string]string{"map": "hall", "x": "y"}}, false},
	} {
		if got := matches(c.selector, &gs.GameServer); got != c.want {
			t.Errorf("%s: %t, want %t", name, got, c.want)
		}
	}
	for _, state := range []State{Starting, Scheduled, RequestReady, Reserved, Allocated, Shutdown, Unhealthy} {
		if matches(&selector{}, &candidate("b", state, nil).GameServer) {
			t.Errorf("a %s game server is taken for Ready", state)
		}
	}
}

func TestSelectorsAreTriedInOrder(t *testing.T) {
	t.Parallel()
	allocated := &selector{GameServerState: allocation.GameServerSelector_ALLOCATED}
	nowhere := &selector{MatchLabels: map[string]string{"no": "where"}}
	ready := &selector{}
	newAndOld := deprecated(nowhere)
	newAndOld.GameServerSelectors = []*selector{ready}
	for name, c := range map[string]struct {
		in   *request
		want string
	}{
		"none is any Ready":              {&request{}, "a-ready"},
		"first":                          {&request{GameServerSelectors: []*selector{allocated, ready}}, "b-allocated"},
		"first that matches":             {&request{GameServerSelectors: []*selector{nowhere, ready, allocated}}, "a-ready"},
		"no match":                       {&request{GameServerSelectors: []*selector{nowhere}}, ""},
		"required":                       {deprecated(allocated), "b-allocated"},
		"preferred, then any Ready":      {deprecated(nil, nowhere), "a-ready"},
		"preferred before required":      {deprecated(ready, allocated), "b-allocated"},
		"new field alone":                {newAndOld, "a-ready"},
		"another namespace":              {&request{Namespace: "elsewhere"}, ""},
		"Packed does not mix the states": {&request{GameServerSelectors: []*selector{ready}, Scheduling: allocation.AllocationRequest_Packed}, "a-ready"},
	} {
		if c.in.GetNamespace() == "" {
			c.in.Namespace = "default"
		}
		got := ""
		if gs := choose([]*gameServer{candidate("a-ready", Ready, nil), candidate("b-allocated", Allocated, nil)}, c.in); gs != nil {
			got = gs.Name
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
	if gs := choose([]*gameServer{candidate("a", Ready, nil)}, &request{}); gs != nil {
		t.Error("a request without a namespace got a game server")
	}
}

func names(candidates []*gameServer) string {
	var all []string
	for _, gs := range candidates {
		all = append(all, gs.Name)
	}
	return strings.Join(all, " ")
}

func TestOrderOfCandidates(t *testing.T) {
	t.Parallel()
	free := func(rooms, groups int64) func(*GameServer) {
		return func(g *GameServer) {
			g.Counters["rooms"] = Counter{Count: 10 - rooms, Capacity: 10}
			g.Lists["groups"] = List{Capacity: groups}
		}
	}
	all := func() []*gameServer {
		return []*gameServer{
			candidate("none", Ready, nil),
			candidate("a", Ready, free(3, 1)),
			candidate("b", Ready, free(1, 1)),
			candidate("c", Ready, free(3, 0)),
			candidate("d", Allocated, free(9, 9)),
		}
	}
	rooms := &allocation.Priority{Type: allocation.Priority_Counter, Key: "rooms"}
	groups := &allocation.Priority{Type: allocation.Priority_List, Key: "groups"}
	descending := &allocation.Priority{Type: allocation.Priority_Counter, Key: "rooms", Order: allocation.Priority_Descending}
	type priorities = []*allocation.Priority
	for _, c := range []struct {
		scheduling allocation.AllocationRequest_SchedulingStrategy
		priorities priorities
		want       string
	}{
		{allocation.AllocationRequest_Packed, nil, "d a b c none"},
		{allocation.AllocationRequest_Packed, priorities{rooms}, "d b a c none"},
		{allocation.AllocationRequest_Packed, priorities{descending}, "d a c b none"},
		{allocation.AllocationRequest_Packed, priorities{rooms, groups}, "d b c a none"},
		{allocation.AllocationRequest_Packed, priorities{groups, descending}, "d c a b none"},
		{allocation.AllocationRequest_Distributed, priorities{rooms}, "b a c d none"},
		{allocation.AllocationRequest_Distributed, priorities{descending}, "d a c b none"},
	} {
		candidates := all()
		sortCandidates(candidates, c.scheduling, c.priorities)
		if got := names(candidates); got != c.want {
			t.Errorf("%v by %v: %q, want %q", c.scheduling, c.priorities, got, c.want)
		}
	}
}

func TestDistributedGoesByChance(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for range 1000 {
		candidates := []*gameServer{candidate("a", Ready, nil), candidate("b", Ready, nil)}
		sortCandidates(candidates, allocation.AllocationRequest_Distributed, nil)
		seen[names(candidates)] = true
	}
	if len(seen) != 2 {
		t.Errorf("orders %v", seen)
	}
}

func TestCheckRequest(t *testing.T) {
	t.Parallel()
	counter := func(c *allocation.CounterSelector) *request {
		return &request{GameServerSelectors: []*selector{{Counters: map[string]*allocation.CounterSelector{"rooms": c}}}}
	}
	list := func(l *allocation.ListSelector) *request {
		return &request{GameServerSelectors: []*selector{{Lists: map[string]*allocation.ListSelector{"groups": l}}}}
	}
	act := func(a *allocation.CounterAction) *request {
		return &request{Counters: map[string]*allocation.CounterAction{"rooms": a}}
	}
	bad := &selector{MatchLabels: map[string]string{"a b": "c"}}
	newAndOld := deprecated(bad)
	newAndOld.GameServerSelectors = []*selector{{}}
	for name, c := range map[string]struct {
		in   *request
		want string // a part of the fault, or nothing
	}{
		"empty":                  {&request{}, ""},
		"label key":              {&request{GameServerSelectors: []*selector{{}, bad}}, `"a b"`},
		"label value":            {&request{GameServerSelectors: []*selector{{MatchLabels: map[string]string{"a": "b c"}}}}, `"b c"`},
		"required":               {deprecated(bad), `"a b"`},
		"preferred":              {deprecated(nil, bad), `"a b"`},
		"deprecated, beside new": {newAndOld, `"a b"`},
		"min count":              {counter(&allocation.CounterSelector{MinCount: -1}), "count of counter"},
		"max count":              {counter(&allocation.CounterSelector{MaxCount: -1}), "count of counter"},
		"counts backwards":       {counter(&allocation.CounterSelector{MinCount: 2, MaxCount: 1}), "2 to 1"},
		"counts open":            {counter(&allocation.CounterSelector{MinCount: 2}), ""},
		"free backwards":         {counter(&allocation.CounterSelector{MinAvailable: 2, MaxAvailable: 1}), "free part of counter"},
		"free list":              {list(&allocation.ListSelector{MinAvailable: -2}), "free part of list"},
		"priority without key":   {&request{Priorities: []*allocation.Priority{{}}}, "priority 0"},
		"action alone":           {act(&allocation.CounterAction{Action: text("Increment")}), "needs an amount"},
		"amount alone":           {act(&allocation.CounterAction{Amount: number(1)}), "needs an amount"},
		"negative amount":        {act(&allocation.CounterAction{Action: text("Increment"), Amount: number(-1)}), "negative"},
		"negative capacity":      {act(&allocation.CounterAction{Capacity: number(-1)}), "negative"},
		"action of other name":   {act(&allocation.CounterAction{Action: text("Double"), Amount: number(1)}), ""},
		"list capacity":          {&request{Lists: map[string]*allocation.ListAction{"groups": {Capacity: number(-1)}}}, "negative"},
		"metadata":               {&request{Metadata: &allocation.MetaPatch{Labels: map[string]string{"a": "b c"}}}, `label "a"`},
		"deprecated metadata":    {deprecatedMetadata(&allocation.MetaPatch{Annotations: map[string]string{"a b": ""}}), `annotation "a b"`},
	} {
		got := strings.Join(checkRequest(c.in), "; ")
		if (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

func TestCheckMetadata(t *testing.T) {
	t.Parallel()
	for key, good := range map[string]bool{
		"a": true, "A.b_c-9": true, "agones.dev/fleet": true, "a/b": true, strings.Repeat("k", 63): true,
		"": false, "-a": false, "a-": false, "a b": false, "ä": false, strings.Repeat("k", 64): false,
		"/a": false, "a/": false, "a/b/c": false, "Upper.dev/a": false, "a..b/c": false, strings.Repeat("d", 254) + "/a": false,
	} {
		if got := len(checkKey(key)) == 0; got != good {
			t.Errorf("key %q: good %t, want %t", key, got, good)
		}
	}
	for value, good := range map[string]bool{"": true, "a": true, "9.9": true, "-": false, "a b": false, strings.Repeat("v", 64): false} {
		if got := len(checkLabelValue(value)) == 0; got != good {
			t.Errorf("value %q: good %t, want %t", value, got, good)
		}
	}
	if faults := checkMetadata(nil, map[string]string{"Upper.dev/a": "any text"}); len(faults) != 0 {
		t.Errorf("the prefix of an annotation may have any case: %v", faults)
	}
	if faults := checkMetadata(nil, map[string]string{"a": strings.Repeat("x", 256<<10)}); len(faults) != 1 {
		t.Errorf("a big annotation: %v", faults)
	}
}

func FuzzCheckKey(f *testing.F) {
	f.Add("agones.dev/fleet")
	f.Add("a/b/c")
	f.Fuzz(func(t *testing.T, key string) {
		if len(checkKey(key)) == 0 && (strings.Count(key, "/") > 1 || strings.ContainsFunc(key, func(r rune) bool { return r > 'z' || r <= ' ' })) {
			t.Errorf("%q passes", key)
		}
	})
}

func TestNamesDiffer(t *testing.T) {
	t.Parallel()
	var all []string
	for range 1000 {
		all = append(all, newGameServer(&Fleet{}, "set", nil, time.Now()).Name)
	}
	slices.Sort(all)
	if n := len(slices.Compact(all)); n != 1000 {
		t.Errorf("%d names among 1000", n)
	}
}
