package openmatchlocal

import (
	"container/list"
	"sync"
	"time"
)

// deadlines expires each of its ids once, a fixed time after it was added. As the time is the same for all,
// they stand in the order of their deadlines by nature, and one timer serves them all.
//
// Every method wants mu held; expire is called with it held.
type deadlines[ID ~string] struct {
	// Static after construction.
	mu     sync.Locker
	after  time.Duration // 0: nothing ever expires
	expire func(ID)

	// Guarded by mu.
	items   list.List // of deadline[ID]
	timer   *time.Timer
	stopped bool
}

type deadline[ID ~string] struct {
	id ID
	at time.Time
}

func newDeadlines[ID ~string](mu sync.Locker, after time.Duration, expire func(ID)) *deadlines[ID] {
	return &deadlines[ID]{mu: mu, after: after, expire: expire}
}

// add starts the time of id. What it returns is for remove; nil when nothing ever expires.
func (d *deadlines[ID]) add(id ID) *list.Element {
	if d.after == 0 || d.stopped {
		return nil
	}
	element := d.items.PushBack(deadline[ID]{id: id, at: time.Now().Add(d.after)})
	if d.items.Len() == 1 {
		d.arm(d.after)
	}
	return element
}

// remove takes back an add; nil, and an element that has expired, are no harm. The timer is left alone: at
// worst it fires for nothing and sets itself again.
func (d *deadlines[ID]) remove(element *list.Element) {
	if element != nil {
		d.items.Remove(element)
	}
}

func (d *deadlines[ID]) len() int { return d.items.Len() }

func (d *deadlines[ID]) arm(wait time.Duration) {
	if d.timer == nil {
		d.timer = time.AfterFunc(wait, d.fire)
		return
	}
	d.timer.Reset(wait)
}

func (d *deadlines[ID]) fire() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stopped {
		return
	}
	for item, ok := d.first(); ok; item, ok = d.first() {
		if wait := time.Until(item.at); wait > 0 {
			d.arm(wait)
			return
		}
		d.items.Remove(d.items.Front())
		d.expire(item.id)
	}
}

// first gives what expires next, and false when there is nothing.
func (d *deadlines[ID]) first() (deadline[ID], bool) {
	front := d.items.Front()
	if front == nil {
		return deadline[ID]{}, false
	}
	return front.Value.(deadline[ID]), true //nolint:forcetypeassert // add puts nothing else in
}

// stop forgets everything; nothing expires any more.
func (d *deadlines[ID]) stop() {
	d.stopped = true
	d.items.Init()
	if d.timer != nil {
		d.timer.Stop()
	}
}
