package chaos

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// breach is the kind of a broken promise.
type breach string

// What can be broken. The first five are found in histories, by [check].
const (
	split     breach = "split"     // two rooms, or what can only come of two
	lost      breach = "lost"      // acked or shown, and gone
	duplicate breach = "duplicate" // said once, there twice
	disorder  breach = "order"     // numbers that do not follow one another
	invented  breach = "invented"  // in the log or shown, and said by nobody
	stuck     breach = "stuck"     // all is well again, and somebody gets no answer
	leaked    breach = "leak"      // everybody has left, and something is still there
	crashed   breach = "crash"     // a process ended and nobody had killed it
)

// breaches lists all kinds.
var breaches = []breach{split, lost, duplicate, disorder, invented, stuck, leaked, crashed}

// violation is one broken promise.
type violation struct {
	Breach breach
	Group  string `json:",omitempty"`
	Text   string
}

// check gives every promise that a group's history breaks. The package comment argues why that is all.
func check(h history) []violation {
	c := &checker{history: h, at: map[uint64]place{}, of: map[sayKey]uint64{}, sent: map[sayKey]event{}}
	for _, step := range []func(){c.checkSent, c.checkLog, c.checkInvented, c.checkVisits, c.checkTime} {
		step()
	}
	return c.found
}

// sayKey names what a player says.
type sayKey struct{ player, id string }

// place is a message and the epoch by which it came into the log.
type place struct {
	said
	epoch uint64
}

// checker checks one history.
type checker struct {
	history
	sent  map[sayKey]event  // what players said
	at    map[uint64]place  // the log, by number
	of    map[sayKey]uint64 // the log, by message
	first uint64            // the first number that the log still has
	last  uint64            // the last number of the log
	found []violation
}

func (c *checker) reportf(b breach, format string, v ...any) {
	c.found = append(c.found, violation{Breach: b, Group: c.Group, Text: fmt.Sprintf(format, v...)})
}

// checkSent collects what was said.
func (c *checker) checkSent() {
	for _, v := range c.Visits {
		for _, e := range v.Events {
			if e.Deed == sent {
				c.sent[sayKey{v.Player, e.ID}] = e
			}
		}
	}
}

// checkLog walks through the log: epochs never fall, numbers follow one another, nothing is there twice.
func (c *checker) checkLog() {
	var epoch uint64
	for i, e := range c.Log {
		if e.Epoch < epoch {
			c.reportf(split, "entry %d of the log is of epoch %d, behind one of epoch %d", e.Sequence, e.Epoch, epoch)
		}
		epoch = max(epoch, e.Epoch)
		begin := e.LastSeq - uint64(len(e.Messages))
		if i > 0 && begin != c.last {
			c.reportf(disorder, "entry %d of the log goes on behind number %d, the one before ends with %d", e.Sequence, begin, c.last)
		}
		if i == 0 {
			c.first = begin + 1
		}
		c.last = e.LastSeq
		for j, m := range e.Messages {
			c.checkEntered(e, m, begin+uint64(j)+1)
		}
	}
}

// checkEntered checks one message of the log, which stands where the number should be want.
func (c *checker) checkEntered(e entry, m said, want uint64) {
	if m.Seq != want {
		c.reportf(disorder, "entry %d of the log has number %d where %d should be", e.Sequence, m.Seq, want)
	}
	key := sayKey{m.From, m.ID}
	if before, twice := c.of[key]; twice {
		c.reportf(duplicate, "%s of %s is in the log as %d and as %d", m.ID, m.From, before, m.Seq)
	}
	if other, taken := c.at[m.Seq]; taken {
		c.reportf(split, "number %d of the log is %s of %s and %s of %s", m.Seq, other.ID, other.From, m.ID, m.From)
	}
	c.of[key], c.at[m.Seq] = m.Seq, place{said: m, epoch: e.Epoch}
}

// checkInvented finds what is in the log and was said by nobody, or otherwise.
func (c *checker) checkInvented() {
	for _, p := range c.at {
		said, known := c.sent[sayKey{p.From, p.ID}]
		switch {
		case !known:
			c.reportf(invented, "number %d of the log is %s of %s, who has never said it", p.Seq, p.ID, p.From)
		case said.Hash != p.Hash:
			c.reportf(invented, "number %d of the log is %s of %s with another body than was said", p.Seq, p.ID, p.From)
		}
	}
}

// checkVisits follows every client.
func (c *checker) checkVisits() {
	for _, v := range c.Visits {
		w := &walk{checker: c, visit: v, seen: map[sayKey]uint64{}, acked: map[string]uint64{}}
		for _, e := range v.Events {
			w.step(e)
		}
		w.finish()
	}
}

// walk follows one client through what it did and saw.
type walk struct {
	*checker
	visit  *visit
	epoch  uint64            // of the session
	next   uint64            // the number that comes next
	seated bool              // it ever was
	seen   map[sayKey]uint64 // by message
	acked  map[string]uint64 // by id
}

func (w *walk) step(e event) {
	switch e.Deed {
	case joined:
		w.seated, w.epoch, w.next = true, e.Epoch, e.Seq+1
		if w.visit.After != nil {
			w.next = *w.visit.After + 1
		}
		w.truncated(e)
	case resumed:
		w.epoch = e.Epoch
		if e.Seq+1 != w.next {
			w.reportf(disorder, "%s resumed behind %d and had seen up to %d", w.visit.Player, e.Seq, w.next-1)
		}
		w.truncated(e)
	case seen:
		w.saw(e)
	case acked:
		w.ack(e)
	case closed:
		if strings.Contains(e.Text, "a message is missing") { // the client found a gap and came back to have it filled
			w.reportf(disorder, "%s was shown a gap behind %d: %s", w.visit.Player, w.next-1, e.Text)
		}
	}
}

// truncated checks what a client was told is gone: only what the log has dropped may be.
func (w *walk) truncated(e event) {
	if e.Truncated == 0 {
		return
	}
	if e.Truncated >= w.checker.first {
		w.reportf(lost, "%s was told that all up to %d is gone, and the log begins with %d", w.visit.Player, e.Truncated, w.checker.first)
	}
	if e.Truncated+1 < w.next {
		w.reportf(lost, "%s had seen up to %d and was told that the log ends with %d", w.visit.Player, w.next-1, e.Truncated)
	}
	w.next = e.Truncated + 1
}

func (w *walk) saw(e event) {
	who := w.visit.Player
	if e.Seq != w.next {
		w.reportf(disorder, "%s saw number %d where %d should be", who, e.Seq, w.next)
	}
	w.next = e.Seq + 1
	key := sayKey{e.From, e.ID}
	if before, twice := w.seen[key]; twice {
		w.reportf(duplicate, "%s saw %s of %s as %d and as %d", who, e.ID, e.From, before, e.Seq)
	}
	w.seen[key] = e.Seq
	p, there := w.at[e.Seq]
	switch {
	case !there && e.Seq < w.checker.first: // the log has dropped it: it must be what the others saw
		w.at[e.Seq] = place{said: said{Seq: e.Seq, From: e.From, ID: e.ID, Hash: e.Hash}}
	case !there:
		w.reportf(lost, "%s saw number %d, %s of %s, and the log ends with %d", who, e.Seq, e.ID, e.From, w.checker.last)
	case p.From != e.From || p.ID != e.ID || p.Hash != e.Hash:
		w.reportf(split, "%s saw %s of %s as number %d, where the log has %s of %s", who, e.ID, e.From, e.Seq, p.ID, p.From)
	case p.epoch > w.epoch:
		w.reportf(split, "%s saw number %d of epoch %d in a session of epoch %d", who, e.Seq, p.epoch, w.epoch)
	}
}

func (w *walk) ack(e event) {
	who := w.visit.Player
	if before, twice := w.acked[e.ID]; twice && before != e.Seq {
		w.reportf(split, "%s was acked %s as %d and as %d", who, e.ID, before, e.Seq)
	}
	w.acked[e.ID] = e.Seq
	number, there := w.of[sayKey{who, e.ID}]
	switch {
	case !there && e.Seq < w.checker.first: // the log has dropped it
	case !there:
		w.reportf(lost, "%s was acked %s as %d, and it is not in the log, which ends with %d", who, e.ID, e.Seq, w.checker.last)
	case number != e.Seq:
		w.reportf(split, "%s was acked %s as %d, and the log has it as %d", who, e.ID, e.Seq, number)
	case w.at[number].epoch > w.epoch:
		w.reportf(split, "%s was acked number %d of epoch %d in a session of epoch %d", who, number, w.at[number].epoch, w.epoch)
	}
}

// finish checks that who stayed to the end has seen the end.
func (w *walk) finish() {
	if w.visit.Stayed && w.next <= w.checker.last {
		w.reportf(lost, "%s stayed to the end and saw up to %d of %d", w.visit.Player, w.next-1, w.checker.last)
	}
}

// checkTime checks that the order of the numbers is one in which it can have happened: what was said after another
// message was acked or shown has a greater number than that.
func (c *checker) checkTime() {
	known := map[uint64]time.Time{} // when somebody first knew of a number
	for _, v := range c.Visits {
		for _, e := range v.Events {
			if e.Deed != acked && e.Deed != seen {
				continue
			}
			if at, before := known[e.Seq]; !before || e.At.Before(at) {
				known[e.Seq] = e.At
			}
		}
	}
	numbers := make([]uint64, 0, len(c.at))
	for number := range c.at {
		numbers = append(numbers, number)
	}
	slices.Sort(numbers)
	var earliest time.Time // when somebody knew of a greater number
	var greater uint64
	for _, number := range slices.Backward(numbers) {
		m := c.at[number]
		said, was := c.sent[sayKey{m.From, m.ID}]
		if was && greater != 0 && said.At.After(earliest) {
			c.reportf(split, "%s said number %d after somebody knew number %d", m.From, number, greater)
		}
		if at, was := known[number]; was && (greater == 0 || at.Before(earliest)) {
			earliest, greater = at, number
		}
	}
}
