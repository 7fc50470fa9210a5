package openmatchlocal

import (
	"cmp"
	"errors"
	"math"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
	"open-match.dev/open-match/pkg/pb"
)

const (
	evaluationInput    = "evaluation_input"
	evaluationCriteria = "openmatch.DefaultEvaluationCriteria"
)

var errNotCriteria = errors.New("evaluation_input is no " + evaluationCriteria)

// score reads how good a match function thinks its proposal is. A proposal that does not say is worse than
// all that do. The criteria are read by hand, because they are the only part of the evaluator's contract that
// is needed here.
func score(m *pb.Match) (float64, error) {
	input, ok := m.GetExtensions()[evaluationInput]
	if !ok {
		return math.Inf(-1), nil
	}
	if _, name, _ := strings.Cut(input.GetTypeUrl(), "/"); name != evaluationCriteria {
		return 0, errNotCriteria
	}
	return decodeCriteria(input.GetValue())
}

// decodeCriteria reads field 1, a double, and skips the rest.
func decodeCriteria(b []byte) (float64, error) {
	var value float64
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return 0, errNotCriteria
		}
		b = b[n:]
		if number == 1 && kind == protowire.Fixed64Type {
			bits, n := protowire.ConsumeFixed64(b)
			if n < 0 {
				return 0, errNotCriteria
			}
			value, b = math.Float64frombits(bits), b[n:]
			continue
		}
		if n = protowire.ConsumeFieldValue(number, kind, b); n < 0 {
			return 0, errNotCriteria
		}
		b = b[n:]
	}
	return value, nil
}

// byScore orders proposals as the default evaluator takes them: the highest score first, then as they came.
// Those whose score cannot be read are left out.
func byScore(proposals []*pb.Match) []*pb.Match {
	type scored struct {
		match *pb.Match
		score float64
	}
	ranked := make([]scored, 0, len(proposals))
	for _, m := range proposals {
		if value, err := score(m); err == nil {
			ranked = append(ranked, scored{m, value})
		}
	}
	slices.SortStableFunc(ranked, func(a, b scored) int { return cmp.Compare(b.score, a.score) })
	ordered := make([]*pb.Match, len(ranked))
	for i, r := range ranked {
		ordered[i] = r.match
	}
	return ordered
}

// verdict is what became of the proposals of one run.
type verdict struct {
	accepted []*pb.Match
	dropped  int
	// A proposal was dropped for what happened while the match function ran. A new run can do better at once.
	outrun bool
}

// accept takes the tickets of each proposal, in the order given, unless another has them already; they are
// pending from now on. since is the store's clock when the match function was started.
func (s *store) accept(proposals []*pb.Match, since uint64) verdict {
	s.mu.Lock()
	defer s.mu.Unlock()
	var v verdict
	for _, m := range proposals {
		entries, lost := s.freeTickets(m)
		if !s.canFill(m.GetBackfill()) {
			lost = max(lost, s.lastChange)
		}
		if lost > 0 {
			v.dropped++
			v.outrun = v.outrun || lost > since
			continue
		}
		s.takeFor(m, entries)
		v.accepted = append(v.accepted, m)
	}
	s.metrics.matches.WithLabelValues("accepted").Add(float64(len(v.accepted)))
	s.metrics.matches.WithLabelValues("dropped").Add(float64(v.dropped))
	return v
}

// freeTickets gives the tickets of m. When one of them is not available, lost is the latest that the clock can
// have shown when it went; 0 when all are there. It wants mu held.
func (s *store) freeTickets(m *pb.Match) (entries []*ticketEntry, lost uint64) {
	for _, t := range m.GetTickets() {
		e, ok := s.tickets[ticketID(t.GetId())]
		switch {
		case !ok:
			lost = max(lost, s.lastChange)
		case e.available == nil:
			lost = max(lost, e.takenAt)
		default:
			entries = append(entries, e)
		}
	}
	return entries, lost
}

// takeFor makes the tickets of an accepted match pending. It wants mu held.
func (s *store) takeFor(m *pb.Match, entries []*ticketEntry) {
	ids := make([]ticketID, 0, len(entries))
	for _, e := range entries {
		id := ticketID(e.ticket.GetId())
		s.take(e) // a ticket that stands in one match twice is taken twice, to the same effect
		e.pending = s.pending.add(id)
		ids = append(ids, id)
	}
	s.fill(m.GetBackfill(), ids)
}

// now gives the store's clock.
func (s *store) now() uint64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.clock
}
