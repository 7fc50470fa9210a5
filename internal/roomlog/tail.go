package roomlog

import (
	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
)

const (
	// TailMessages is how many of a group's last messages [Log.Open] gives at least, if so many are retained and they are
	// not large: it stops going further back at [TailBytes].
	TailMessages = 256
	// TailBytes is how many bytes of messages are enough for a tail, however few they are.
	TailBytes = 512 << 10
)

// mark is an entry of the tail.
type mark struct {
	sequence        uint64
	messages, bytes int32
}

func (e entry) mark() mark {
	return mark{sequence: e.sequence, messages: int32(len(e.Messages)), bytes: int32(e.size)}
}

// tail is which entries hold the last messages: the fewest that have [TailMessages] or [TailBytes], or all. Each has a message
// at least, so they are no more than TailMessages. It can be copied.
type tail struct {
	marks           [TailMessages]mark // a ring
	oldest, entries int
	messages, bytes int32
}

// add adds the next entry, and forgets the oldest as far as the others are enough.
func (t *tail) add(m mark) {
	if m.messages == 0 {
		return // a barrier
	}
	t.messages += m.messages
	t.bytes += m.bytes
	for t.entries > 0 && t.isEnoughWithout(t.marks[t.oldest]) {
		t.messages -= t.marks[t.oldest].messages
		t.bytes -= t.marks[t.oldest].bytes
		t.oldest = (t.oldest + 1) % TailMessages
		t.entries--
	}
	t.marks[(t.oldest+t.entries)%TailMessages] = m
	t.entries++
}

func (t *tail) isEnoughWithout(m mark) bool {
	return t.messages-m.messages >= TailMessages || t.bytes-m.bytes >= TailBytes
}

// begins gives the sequence of the tail's first entry; 0 if it has none.
func (t *tail) begins() uint64 {
	if t.entries == 0 {
		return 0
	}
	return t.marks[t.oldest].sequence
}

// tailReader keeps the tail of the entries that it takes.
type tailReader struct {
	tail tail
	said [][]*guildhallv1.Message // by its entries
}

func (r *tailReader) take(e entry) {
	if len(e.Messages) == 0 {
		return
	}
	r.tail.add(e.mark())
	r.said = append(r.said, e.Messages)
	excess := len(r.said) - r.tail.entries
	clear(r.said[:excess]) // or the array would hold them
	r.said = r.said[excess:]
}
