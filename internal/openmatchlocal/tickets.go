package openmatchlocal

import (
	"github.com/rs/xid"
	"google.golang.org/protobuf/types/known/timestamppb"
	"open-match.dev/open-match/pkg/pb"
)

// createTicket keeps t, which belongs to the store from now on, under a new id. Whatever id it had is lost.
func (s *store) createTicket(t *pb.Ticket) *pb.Ticket {
	t.Id = xid.New().String()
	t.CreateTime = timestamppb.Now()
	id := ticketID(t.GetId())

	s.mu.Lock()
	defer s.mu.Unlock()
	e := &ticketEntry{ticket: t}
	s.tickets[id] = e
	e.orphan = s.orphans.add(id)
	s.makeAvailable(e)
	s.metrics.created.Inc()
	return t
}

// ticket fails with NotFound.
func (s *store) ticket(id ticketID) (*pb.Ticket, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	e, ok := s.tickets[id]
	if !ok {
		return nil, ticketNotFound(id)
	}
	return e.ticket, nil
}

// watchTicket gives the ticket as it is, and a channel that is closed when it is assigned (again) or deleted.
// It fails with NotFound.
func (s *store) watchTicket(id ticketID) (*pb.Ticket, <-chan struct{}, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.tickets[id]
	if !ok {
		return nil, nil, ticketNotFound(id)
	}
	if e.changed == nil {
		e.changed = make(chan struct{})
	}
	return e.ticket, e.changed, nil
}

// deleteTicket forgets a ticket, whatever its state; an unknown id is no harm.
func (s *store) deleteTicket(id ticketID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ticketExpired(id)
}

// ticketExpired wants mu held.
func (s *store) ticketExpired(id ticketID) {
	e, ok := s.tickets[id]
	if !ok {
		return
	}
	s.take(e)
	s.lastChange = s.clock
	s.orphans.remove(e.orphan)
	s.assigned.remove(e.assigned)
	delete(s.tickets, id)
	e.announce()
}

// queryTickets gives the available tickets that pass, in the order in which they became available.
func (s *store) queryTickets(f poolFilter) []*pb.Ticket {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var found []*pb.Ticket
	for element := s.available.Front(); element != nil; element = element.Next() {
		t := element.Value.(*ticketEntry).ticket //nolint:forcetypeassert // makeAvailable puts nothing else in
		if f.passes(t) {
			found = append(found, t)
		}
	}
	return found
}

// assign sets the assignment of all tickets of a group and takes them out of the pools for good. It returns
// the tickets as they are now, and the ids that are not there.
func (s *store) assign(ids []ticketID, a *pb.Assignment) (tickets []*pb.Ticket, missing []ticketID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.assignLocked(ids, a)
}

func (s *store) assignLocked(ids []ticketID, a *pb.Assignment) (tickets []*pb.Ticket, missing []ticketID) {
	for _, id := range ids {
		e, ok := s.tickets[id]
		if !ok {
			missing = append(missing, id)
			continue
		}
		s.take(e)
		s.orphans.remove(e.orphan)
		s.assigned.remove(e.assigned)
		e.orphan, e.assigned = nil, s.assigned.add(id)
		e.ticket = withAssignment(e.ticket, a)
		e.announce()
		tickets = append(tickets, e.ticket)
	}
	s.metrics.assigned.Add(float64(len(tickets)))
	return tickets, missing
}

// release puts pending tickets back into their pools; other ids are no harm.
func (s *store) release(ids []ticketID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.releaseLocked(ids)
}

func (s *store) releaseLocked(ids []ticketID) {
	for _, id := range ids {
		if e, ok := s.tickets[id]; ok && e.pending != nil {
			s.makeAvailable(e)
		}
	}
}

// releaseAll puts every pending ticket back into its pools.
func (s *store) releaseAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for item, ok := s.pending.first(); ok; item, ok = s.pending.first() {
		s.makeAvailable(s.tickets[item.id])
	}
}

// pendingExpired wants mu held.
func (s *store) pendingExpired(id ticketID) {
	if e, ok := s.tickets[id]; ok {
		s.makeAvailable(e)
	}
}

// makeAvailable puts a new or pending ticket into the pools and wakes who waits for it. It wants mu held.
func (s *store) makeAvailable(e *ticketEntry) {
	s.pending.remove(e.pending)
	e.pending = nil
	e.available = s.available.PushBack(e)
	s.wakeFor(e.ticket)
}

// take takes a ticket out of the pools and of the pending ones. It wants mu held.
func (s *store) take(e *ticketEntry) {
	s.clock++
	e.takenAt = s.clock
	if e.available != nil {
		s.available.Remove(e.available)
	}
	s.pending.remove(e.pending)
	e.available, e.pending = nil, nil
}

func (e *ticketEntry) announce() {
	if e.changed != nil {
		close(e.changed)
		e.changed = nil
	}
}

// withAssignment copies the ticket's own fields only; the maps and messages in them are shared, for nobody
// writes to them.
func withAssignment(t *pb.Ticket, a *pb.Assignment) *pb.Ticket {
	assigned := &pb.Ticket{
		Id:              t.GetId(),
		Assignment:      a,
		SearchFields:    t.GetSearchFields(),
		Extensions:      t.GetExtensions(),
		PersistentField: t.GetPersistentField(),
		CreateTime:      t.GetCreateTime(),
	}
	assigned.ProtoReflect().SetUnknown(t.ProtoReflect().GetUnknown())
	return assigned
}
