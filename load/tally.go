package load

import mathbits "math/bits"

// bits is a set of numbers.
type bits []uint64

func newBits(n int) bits { return make(bits, (n+63)/64) }

func (b bits) set(n int)      { b[n/64] |= 1 << (n % 64) }
func (b bits) clear(n int)    { b[n/64] &^= 1 << (n % 64) }
func (b bits) has(n int) bool { return b[n/64]&(1<<(n%64)) != 0 }

// count gives how many there are.
func (b bits) count() int64 {
	total := 0
	for _, word := range b {
		total += mathbits.OnesCount64(word)
	}
	return int64(total)
}

// and gives those that are in both.
func (b bits) and(other bits) bits {
	both := make(bits, len(b))
	for i := range b {
		both[i] = b[i] & other[i]
	}
	return both
}

// tally adds up what a room has seen of the measured messages, once its members have left. Of all rooms' messages, so many
// were due.
func (h *hall) tally(r *FanoutResult, due int) {
	published := h.published(due)
	r.Published += published.count()
	for _, m := range h.members {
		for _, k := range m.unsent {
			if int(k) >= h.warm {
				r.Unsent++
			}
		}
		for _, k := range m.refused {
			if int(k) >= h.warm {
				r.Refused++
			}
		}
		r.Acked, r.Resumes, r.Strays = r.Acked+m.acked, r.Resumes+m.resumes, r.Strays+m.strays
		r.Duplicated, r.OutOfOrder = r.Duplicated+m.duplicated, r.OutOfOrder+m.disorder
		delivered, told, missing := m.tally(published)
		r.Delivered, r.Truncated, r.Missing = r.Delivered+delivered, r.Truncated+told, r.Missing+missing
	}
}

// published gives the measured messages of the room that were said and not refused.
func (h *hall) published(due int) bits {
	all := newBits(h.most)
	for n := range h.most {
		if k := n*h.rooms + h.number; k >= h.warm && k < due {
			all.set(n)
		}
	}
	for _, m := range h.members {
		for _, k := range m.unsent {
			all.clear(int(k) / h.rooms)
		}
		for _, k := range m.refused {
			all.clear(int(k) / h.rooms)
		}
	}
	return all
}

// tally gives how many of the published messages a member has received, how many they were told are gone, and how many are
// missing.
func (m *member) tally(published bits) (delivered, told, missing int64) {
	want := published
	if m.hall.signal { // nobody receives their own
		want = published.and(published)
		for n := m.index; n < m.hall.most; n += len(m.hall.members) {
			want.clear(n)
		}
	}
	had := want.and(m.seen)
	delivered = had.count()
	for _, gone := range m.gone {
		for seq := gone.from + 1; seq <= gone.to && int(seq) < len(m.hall.order); seq++ {
			k := m.hall.order[seq].Load()
			if k == 0 {
				continue // nobody has seen it
			}
			if n := int(k-1) / m.hall.rooms; want.has(n) && !had.has(n) {
				had.set(n)
				told++
			}
		}
	}
	return delivered, told, want.count() - delivered - told
}
