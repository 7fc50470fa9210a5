package load

import "github.com/guildhall-dev/guildhall"

// sight is a message at its number: seen there, or acked there.
type sight struct {
	seq guildhall.Seq
	k   uint32
}

// told marks, in place of a message, that the player was told that all up to a number is not kept any more.
const told = ^uint32(0)

// visit is what one client of a player has seen of a group, from its join to its end.
type visit struct {
	start  guildhall.Seq // what it sees begins behind this number
	seated bool          // it ever was; only then start means something
	stayed bool          // it was there in the end, and had the time to see everything
	seen   []sight       // in the order in which it was shown
	acked  []sight
	broken int64 // times that it was shown a gap, or came back behind another number than the last it had seen
}

// verdict is what a check finds wrong.
type verdict struct {
	// Lost counts, for each visit, the messages that were acked, or that others have seen, and that it should have.
	lost int64
	// Duplicated counts messages at a second number, and messages shown again.
	duplicated int64
	// Disorder counts messages that were not shown at the next number.
	disorder int64
	// Conflicts counts numbers at which two messages were seen or acked: there were two rooms.
	conflicts int64
}

// checker checks one group.
type checker struct {
	verdict
	at    map[guildhall.Seq]uint32 // the message of each number that anybody has seen or was acked
	where map[uint32]guildhall.Seq // the number of each message
	last  guildhall.Seq
}

// check checks what all clients of a group have seen. There is one sequence: at each number everybody has seen the same
// message, which is the one that was acked with this number; each message has one number; each client has seen the numbers
// one after the other, and all of them from where it began to where it ended, or to the last one if it stayed. What it was
// told is not kept any more, it need not have seen.
func check(visits []*visit) verdict {
	c := &checker{at: map[guildhall.Seq]uint32{}, where: map[uint32]guildhall.Seq{}}
	for _, v := range visits {
		for _, s := range v.seen {
			if s.k != told {
				c.place(s)
			}
		}
		for _, s := range v.acked {
			c.place(s)
		}
	}
	for _, v := range visits {
		c.disorder += v.broken
		if v.seated {
			c.walk(v)
		}
	}
	return c.verdict
}

// place takes a message at its number.
func (c *checker) place(s sight) {
	if there, known := c.at[s.seq]; known {
		if there != s.k {
			c.conflicts++
		}
		return
	}
	if _, known := c.where[s.k]; known { // at another number
		c.duplicated++
	}
	c.at[s.seq], c.where[s.k] = s.k, s.seq
	c.last = max(c.last, s.seq)
}

// walk follows one client.
func (c *checker) walk(v *visit) {
	had := newBits(int(c.last) + 1)
	last := v.start
	for _, s := range v.seen {
		if s.k == told {
			for n := last + 1; n <= min(s.seq, c.last); n++ {
				had.set(int(n))
			}
			last = max(last, s.seq)
			continue
		}
		switch {
		case had.has(int(s.seq)) || s.seq <= v.start:
			c.duplicated++
		case s.seq != last+1:
			c.disorder++
		}
		had.set(int(s.seq))
		last = max(last, s.seq)
	}
	if v.stayed {
		last = c.last
	}
	for n := v.start + 1; n <= min(last, c.last); n++ {
		if _, known := c.at[n]; known && !had.has(int(n)) {
			c.lost++
		}
	}
}
