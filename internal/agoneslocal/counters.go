package agoneslocal

import (
	"math"
	"slices"
)

// maxListCapacity is the most that Agones lets a list hold.
const maxListCapacity = 1000

// Counter counts something of a game server, for example its rooms.
type Counter struct {
	Count, Capacity int64
}

// List holds values of a game server, in the order in which they came and each once. Values are never
// changed in place.
type List struct {
	Values   []string
	Capacity int64
}

// free is how much more the counter takes.
func (c Counter) free() int64 { return c.Capacity - c.Count }

func (c Counter) valid() bool { return c.Count >= 0 && c.Count <= c.Capacity }

// add moves the count, and stops it at zero and at the capacity.
func (c Counter) add(amount int64) Counter {
	switch {
	case amount > 0 && c.Count > math.MaxInt64-amount:
		c.Count = c.Capacity
	default:
		c.Count = max(0, min(c.Count+amount, c.Capacity))
	}
	return c
}

// resize sets the capacity and cuts the count to it.
func (c Counter) resize(capacity int64) Counter {
	c.Capacity = capacity
	c.Count = min(c.Count, capacity)
	return c
}

func (l List) free() int64 { return l.Capacity - int64(len(l.Values)) }

func (l List) has(value string) bool { return slices.Contains(l.Values, value) }

// add appends those values that are new, and drops what goes beyond the capacity.
func (l List) add(values ...string) List {
	merged := slices.Clone(l.Values)
	for _, value := range values {
		if !slices.Contains(merged, value) {
			merged = append(merged, value)
		}
	}
	l.Values = merged
	return l.resize(l.Capacity)
}

func (l List) remove(values ...string) List {
	l.Values = slices.DeleteFunc(slices.Clone(l.Values), func(value string) bool {
		return slices.Contains(values, value)
	})
	return l
}

// replace keeps, in their order, the values that are wanted, and appends the wanted ones that are new.
func (l List) replace(wanted []string) List {
	kept := slices.DeleteFunc(slices.Clone(l.Values), func(value string) bool {
		return !slices.Contains(wanted, value)
	})
	return List{Values: kept, Capacity: l.Capacity}.add(wanted...)
}

// resize sets the capacity and cuts the values to it.
func (l List) resize(capacity int64) List {
	l.Capacity = capacity
	if int64(len(l.Values)) > capacity {
		l.Values = slices.Clone(l.Values[:capacity])
	}
	return l
}
