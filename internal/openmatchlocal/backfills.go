package openmatchlocal

import (
	"container/list"
	"slices"

	"github.com/rs/xid"
	"google.golang.org/protobuf/types/known/timestamppb"
	"open-match.dev/open-match/pkg/pb"
)

type backfillEntry struct {
	backfill *pb.Backfill // never written to; replaced by an update
	tickets  []ticketID   // pending for it; AcknowledgeBackfill assigns them
	unacked  *list.Element
}

// createBackfill keeps b, which belongs to the store from now on, under a new id.
func (s *store) createBackfill(b *pb.Backfill) *pb.Backfill {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.createBackfillLocked(b, nil)
}

func (s *store) createBackfillLocked(b *pb.Backfill, tickets []ticketID) *pb.Backfill {
	b.Id = xid.New().String()
	b.CreateTime = timestamppb.Now()
	b.Generation = 1
	id := backfillID(b.GetId())
	s.backfills[id] = &backfillEntry{backfill: b, tickets: tickets, unacked: s.unacked.add(id)}
	s.wakeFor(b)
	return b
}

// backfill fails with NotFound.
func (s *store) backfill(id backfillID) (*pb.Backfill, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	e, ok := s.backfills[id]
	if !ok {
		return nil, backfillNotFound(id)
	}
	return e.backfill, nil
}

// updateBackfill replaces what a game server may replace, counts the generation up, and gives the tickets of
// the backfill back to their pools. It fails with NotFound.
func (s *store) updateBackfill(update *pb.Backfill) (*pb.Backfill, error) {
	id := backfillID(update.GetId())
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.backfills[id]
	if !ok {
		return nil, backfillNotFound(id)
	}
	next := nextGeneration(e.backfill, update)
	next.PersistentField = update.GetPersistentField()
	s.replaceBackfill(e, next)
	s.releaseLocked(e.tickets)
	e.tickets = nil
	return next, nil
}

// deleteBackfill gives its tickets back to their pools; an unknown id is no harm.
func (s *store) deleteBackfill(id backfillID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.backfillExpired(id)
}

// backfillExpired wants mu held.
func (s *store) backfillExpired(id backfillID) {
	e, ok := s.backfills[id]
	if !ok {
		return
	}
	s.outdate()
	s.unacked.remove(e.unacked)
	delete(s.backfills, id)
	s.releaseLocked(e.tickets)
}

// acknowledgeBackfill keeps a backfill alive and assigns the tickets that were matched with it. It fails with
// NotFound.
func (s *store) acknowledgeBackfill(id backfillID, a *pb.Assignment) (*pb.Backfill, []*pb.Ticket, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.backfills[id]
	if !ok {
		return nil, nil, backfillNotFound(id)
	}
	s.unacked.remove(e.unacked)
	e.unacked = s.unacked.add(id)
	tickets, _ := s.assignLocked(e.tickets, a)
	e.tickets = nil
	return e.backfill, tickets, nil
}

func (s *store) queryBackfills(f poolFilter) []*pb.Backfill {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var found []*pb.Backfill
	for _, e := range s.backfills {
		if f.passes(e.backfill) {
			found = append(found, e.backfill)
		}
	}
	return found
}

// canFill reports whether a match may create or fill b: a new one always, one that exists at the generation
// only that the match function saw. It wants mu held.
func (s *store) canFill(b *pb.Backfill) bool {
	if b == nil || b.GetId() == "" {
		return true
	}
	e, ok := s.backfills[backfillID(b.GetId())]
	return ok && e.backfill.GetGeneration() == b.GetGeneration()
}

// fill creates or updates the backfill of an accepted match, and ties the tickets of the match to it. It wants
// canFill, and mu held.
func (s *store) fill(b *pb.Backfill, tickets []ticketID) {
	switch {
	case b == nil:
	case b.GetId() == "":
		s.createBackfillLocked(b, tickets)
	default:
		e := s.backfills[backfillID(b.GetId())]
		s.replaceBackfill(e, nextGeneration(e.backfill, b))
		e.tickets = slices.Concat(e.tickets, tickets)
	}
}

func (s *store) replaceBackfill(e *backfillEntry, next *pb.Backfill) {
	s.outdate()
	e.backfill = next
	s.wakeFor(next)
}

// outdate dates every view of the backfills that a match function has. It wants mu held.
func (s *store) outdate() {
	s.clock++
	s.lastChange = s.clock
}

func nextGeneration(old, update *pb.Backfill) *pb.Backfill {
	return &pb.Backfill{
		Id:              old.GetId(),
		SearchFields:    update.GetSearchFields(),
		Extensions:      update.GetExtensions(),
		PersistentField: old.GetPersistentField(),
		CreateTime:      old.GetCreateTime(),
		Generation:      old.GetGeneration() + 1,
	}
}
