package load

import (
	"context"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/guildhall-dev/guildhall"
	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
	"github.com/guildhall-dev/guildhall/client"
)

// hall is one room of a fan-out.
type hall struct {
	// Static after construction.
	number  int // of its rooms
	rooms   int
	warm    int // messages of all rooms before the measured ones
	most    int // messages of this room
	size    int
	signal  bool
	run     uint32
	base    time.Time
	group   guildhall.Group
	members []*member

	// order has, by number of the log, which message is there: k+1, or 0 if nobody has seen it. It is shared by all members,
	// and written by whoever is the first to see a number.
	order []atomic.Uint32
}

func newHall(f *fanout, number int) *hall {
	h := &hall{
		number: number, rooms: f.Rooms, warm: f.warm, most: (f.messages + f.Rooms - 1) / f.Rooms, size: f.Size, signal: f.Signal,
		run: tag(f.id), base: f.base, group: f.group(number),
	}
	if !h.signal {
		h.order = make([]atomic.Uint32, h.most+1)
	}
	return h
}

// agrees says whether a number of the log has the message that everybody else has seen there.
func (h *hall) agrees(seq guildhall.Seq, k uint32) bool {
	if seq >= guildhall.Seq(len(h.order)) {
		return false // nobody else speaks here, and there are not so many
	}
	at := &h.order[seq]
	there := at.Load()
	if there == 0 && at.CompareAndSwap(0, k+1) {
		return true
	}
	return at.Load() == k+1
}

// member is a player who listens, and speaks when it is their turn.
type member struct {
	player
	hall  *hall
	index int // in the room

	// Owned by the room's goroutine, and read when it has ended.
	last       guildhall.Seq
	seen       bits     // by message of the room
	latest     []uint32 // by member: the last signal of theirs that was seen; made with the first
	times      batch
	gone       []span
	duplicated int64
	disorder   int64
	strays     int64
	resumes    int64
	acked      int64
	refused    []uint32
	unsent     []uint32 // owned by the pace

	arrived  atomic.Int64 // messages seen for the first time
	unheard  atomic.Int64 // messages of this member that nobody will see
	goneEver atomic.Int64 // messages that this member will not see
}

// span is numbers that a member was told are gone: behind from, up to to.
type span struct{ from, to guildhall.Seq }

func newMember(h *hall, number int, into *recorders) *member {
	m := &member{hall: h, index: len(h.members), seen: newBits(h.most)}
	m.number, m.group, m.hear = number, h.group, m.happened
	m.times = batch{to: into, index: number}
	return m
}

// say says message k; false if it could not even be handed over.
func (m *member) say(ctx context.Context, k int, due time.Duration) bool {
	body := stamp{run: m.hall.run, number: uint32(k), due: due}.body(m.hall.size)
	if m.hall.signal {
		return m.room.Signal(ctx, &guildhallv1.Signal{Topic: "load", Body: body}) == nil
	}
	_, err := m.room.SayAs(ctx, &guildhallv1.Say{Id: strconv.Itoa(k), Body: body})
	return err == nil
}

// happened is called for every event, in order. It allocates nothing.
func (m *member) happened(e client.Event) {
	switch e := e.(type) {
	case client.Message:
		m.message(e.Seq, e.Body)
	case client.Signal:
		m.signal(e.Body)
	case client.Acked:
		if k, err := strconv.Atoi(e.ID); err == nil && k >= m.hall.warm {
			m.acked++
		}
	case client.Refused:
		m.wasRefused(e.ID)
	case client.Joined:
		m.last = e.LastSeq
	case client.Resumed:
		m.resumes++
		if e.TruncatedTo > m.last {
			m.gone = append(m.gone, span{m.last, e.TruncatedTo})
			m.goneEver.Add(int64(e.TruncatedTo - m.last))
			m.last = e.TruncatedTo
		}
	case client.Closed:
		if strings.Contains(e.Reason, "a message is missing") { // the client found a gap, and comes back to have it filled
			m.disorder++
		}
	}
}

func (m *member) wasRefused(id string) {
	if k, err := strconv.Atoi(id); err == nil {
		m.refused = append(m.refused, uint32(k))
		m.unheard.Add(1)
	}
}

func (m *member) message(seq guildhall.Seq, body []byte) {
	s, ok := readStamp(body, m.hall.run)
	switch {
	case seq <= m.last:
		m.duplicated++
		return
	case seq != m.last+1:
		m.disorder++
	}
	m.last = seq
	if !ok || !m.isOfThisRoom(s.number) {
		m.strays++
		return
	}
	if !m.hall.agrees(seq, s.number) {
		m.disorder++
	}
	m.receive(s)
}

// signal takes a signal. Those of one sender come in their order, with some left out.
func (m *member) signal(body []byte) {
	s, ok := readStamp(body, m.hall.run)
	if !ok || !m.isOfThisRoom(s.number) {
		m.strays++
		return
	}
	if m.latest == nil {
		m.latest = make([]uint32, len(m.hall.members))
	}
	sender := int(s.number) / m.hall.rooms % len(m.hall.members)
	if s.number+1 < m.latest[sender] {
		m.disorder++
	}
	m.latest[sender] = max(m.latest[sender], s.number+1)
	m.receive(s)
}

func (m *member) isOfThisRoom(k uint32) bool {
	return int(k)%m.hall.rooms == m.hall.number && int(k)/m.hall.rooms < m.hall.most
}

// receive takes a message once, and how long it was on its way.
func (m *member) receive(s stamp) {
	n := int(s.number) / m.hall.rooms
	if m.seen.has(n) {
		m.duplicated++
		return
	}
	m.seen.set(n)
	m.arrived.Store(m.arrived.Load() + 1) // nobody else writes it
	if int(s.number) >= m.hall.warm {
		m.times.add(time.Since(m.hall.base) - s.due)
	}
}
