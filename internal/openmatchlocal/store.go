package openmatchlocal

import (
	"container/list"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"open-match.dev/open-match/pkg/pb"
)

type (
	ticketID   string
	backfillID string
)

// store holds all tickets and backfills in memory. It is safe for concurrent use.
//
// A ticket is in one of three states:
//
//	available ──accept──▶ pending ──assign──▶ assigned ──AssignedDeleteTimeout──▶ gone
//	    ◀──release, PendingReleaseTimeout──┘
//
// and may be assigned or deleted from any of them. What lies in the store is never written to again: an
// assignment replaces the ticket, an update the backfill. So whatever a method returns can be read and sent
// without a lock.
type store struct {
	mu sync.RWMutex

	// Guarded by mu.
	tickets   map[ticketID]*ticketEntry
	available list.List // of *ticketEntry, in the order in which they became available
	backfills map[backfillID]*backfillEntry
	waiters   map[*waiter]struct{}

	pending  *deadlines[ticketID]
	assigned *deadlines[ticketID]
	orphans  *deadlines[ticketID]
	unacked  *deadlines[backfillID]

	// Counts from 1 what makes a match function's view of the store stale, so that the view can be dated.
	clock uint64
	// The clock when a ticket was last deleted, or a backfill changed or deleted.
	lastChange uint64

	// Static after construction.
	metrics *metrics
}

type ticketEntry struct {
	ticket *pb.Ticket // never written to; replaced by an assignment

	available, pending, assigned, orphan *list.Element // nil: not in that list
	takenAt                              uint64        // store.clock when it last left the pools

	// Closed at the next assignment and at deletion; nil while nobody watches.
	changed chan struct{}
}

func newStore(cfg Config, m *metrics) *store {
	s := &store{
		tickets:   make(map[ticketID]*ticketEntry),
		backfills: make(map[backfillID]*backfillEntry),
		waiters:   make(map[*waiter]struct{}),
		metrics:   m,
		clock:     1,
		// From the start, so that a proposal with a ticket that never was has lost it at some time.
		lastChange: 1,
	}
	s.pending = newDeadlines(&s.mu, cfg.PendingReleaseTimeout, s.pendingExpired)
	s.assigned = newDeadlines(&s.mu, cfg.AssignedDeleteTimeout, s.ticketExpired)
	s.orphans = newDeadlines(&s.mu, cfg.OrphanTimeout, s.ticketExpired)
	// Four fifths, so that a backfill whose game server is gone expires before the tickets that it holds.
	s.unacked = newDeadlines(&s.mu, cfg.PendingReleaseTimeout/5*4, s.backfillExpired)
	return s
}

// close stops all timers. The store can still be used, but nothing in it expires any more.
func (s *store) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pending.stop()
	s.assigned.stop()
	s.orphans.stop()
	s.unacked.stop()
}

// census is the number of tickets in each state, and of backfills.
type census struct {
	available, pending, assigned, backfills int
}

func (s *store) count() census {
	s.mu.RLock()
	defer s.mu.RUnlock()
	c := census{available: s.available.Len(), pending: s.pending.len(), backfills: len(s.backfills)}
	c.assigned = len(s.tickets) - c.available - c.pending
	return c
}

func ticketNotFound(id ticketID) error {
	return status.Errorf(codes.NotFound, "Ticket id: %s not found", id)
}

func backfillNotFound(id backfillID) error {
	return status.Errorf(codes.NotFound, "Backfill id: %s not found", id)
}
