package openmatchlocal

import (
	"math"
	"slices"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/anypb"
	"open-match.dev/open-match/pkg/pb"
)

func encodeScore(score float64) []byte {
	b := protowire.AppendTag(nil, 1, protowire.Fixed64Type)
	return protowire.AppendFixed64(b, math.Float64bits(score))
}

func withInput(m *pb.Match, typeURL string, value []byte) *pb.Match {
	m.Extensions = map[string]*anypb.Any{evaluationInput: {TypeUrl: typeURL, Value: value}}
	return m
}

func scoredProposal(id string, score float64, tickets ...*pb.Ticket) *pb.Match {
	return withInput(proposal(id, tickets...), "type.googleapis.com/"+evaluationCriteria, encodeScore(score))
}

func TestScore(t *testing.T) {
	t.Parallel()
	const criteria = "type.googleapis.com/" + evaluationCriteria
	later := protowire.AppendVarint(protowire.AppendTag(nil, 7, protowire.VarintType), 42)
	for _, test := range []struct {
		name  string
		match *pb.Match
		want  float64
		bad   bool
	}{
		{"none given", proposal("m"), math.Inf(-1), false},
		{"given", withInput(proposal("m"), criteria, encodeScore(2.5)), 2.5, false},
		{"0 is not written", withInput(proposal("m"), criteria, nil), 0, false},
		{"the last one counts", withInput(proposal("m"), criteria, slices.Concat(encodeScore(1), encodeScore(2))), 2, false},
		{"fields of a later version", withInput(proposal("m"), criteria, slices.Concat(later, encodeScore(3))), 3, false},
		{"another host", withInput(proposal("m"), "example.org/"+evaluationCriteria, encodeScore(4)), 4, false},
		{"another message", withInput(proposal("m"), "type.googleapis.com/openmatch.Ticket", nil), 0, true},
		{"cut short", withInput(proposal("m"), criteria, encodeScore(1)[:5]), 0, true},
		{"no protobuf", withInput(proposal("m"), criteria, []byte{0xff}), 0, true},
		{"a bad unknown field", withInput(proposal("m"), criteria, later[:1]), 0, true},
	} {
		got, err := score(test.match)
		if (err != nil) != test.bad || !test.bad && got != test.want {
			t.Errorf("%s: %v %v, want %v, an error %v", test.name, got, err, test.want, test.bad)
		}
	}
}

func FuzzDecodeCriteria(f *testing.F) {
	f.Add([]byte(nil))
	f.Add(encodeScore(1))
	f.Add(encodeScore(math.NaN())[:3])
	f.Fuzz(func(t *testing.T, b []byte) {
		before := slices.Clone(b)
		value, err := decodeCriteria(b)
		if err != nil && value != 0 {
			t.Errorf("a score %v with error %v", value, err)
		}
		if !slices.Equal(b, before) {
			t.Error("the input was written to")
		}
		again, againErr := decodeCriteria(slices.Concat(b, encodeScore(7)))
		if err == nil && (againErr != nil || again != 7) {
			t.Errorf("with a score behind it: %v %v, want 7", again, againErr)
		}
	})
}

func TestByScore(t *testing.T) {
	t.Parallel()
	ordered := byScore([]*pb.Match{
		proposal("none first"),
		scoredProposal("low", -1),
		scoredProposal("high first", 9),
		withInput(proposal("unreadable"), "x/y", nil),
		scoredProposal("nan", math.NaN()),
		scoredProposal("high second", 9),
		proposal("none second"),
	})
	var got []string
	for _, m := range ordered {
		got = append(got, m.GetMatchId())
	}
	want := []string{"high first", "high second", "low", "none first", "none second", "nan"}
	if !slices.Equal(got, want) {
		t.Errorf("order %v, want %v", got, want)
	}
}

func TestAcceptDropsWhatOverlaps(t *testing.T) {
	t.Parallel()
	s := newTestStore(t, Config{})
	a, b, c := file(s), file(s), file(s)
	v := s.accept([]*pb.Match{proposal("1", a, b), proposal("2", b, c), proposal("3", c)}, s.now())
	var got []string
	for _, m := range v.accepted {
		got = append(got, m.GetMatchId())
	}
	if !slices.Equal(got, []string{"1", "3"}) || v.dropped != 1 {
		t.Errorf("accepted %v, dropped %d, want 1 and 3, 1", got, v.dropped)
	}
	wantCensus(t, s, census{pending: 3})
}

// A dropped proposal takes none of its tickets.
func TestAcceptTakesAllOrNothing(t *testing.T) {
	t.Parallel()
	s := newTestStore(t, Config{})
	a, b := file(s), file(s)
	accepts(t, s, proposal("1", a))
	if v := s.accept([]*pb.Match{proposal("2", b, a)}, s.now()); len(v.accepted) > 0 {
		t.Errorf("accepted %v", v.accepted)
	}
	wantPools(t, s, b)
}

func TestAcceptOfOddProposals(t *testing.T) {
	t.Parallel()
	s := newTestStore(t, Config{})
	a := file(s)
	accepts(t, s, proposal("no tickets"), proposal("one ticket twice", a, a))
	wantCensus(t, s, census{pending: 1})
	s.release([]ticketID{idOf(a)})
	wantCensus(t, s, census{available: 1})
}

// A view is outrun when what it has lost went while it was looked at, not when it was wrong before.
func TestAcceptTellsWhatWasOutrun(t *testing.T) {
	t.Parallel()
	take := func(s *store, ticket *pb.Ticket) { s.accept([]*pb.Match{proposal("other", ticket)}, s.now()) }
	for _, test := range []struct {
		name string
		take func(*store, *pb.Ticket)
	}{
		{"taken by another match", take},
		{"assigned", func(s *store, ticket *pb.Ticket) { s.assign([]ticketID{idOf(ticket)}, &pb.Assignment{}) }},
		{"deleted", func(s *store, ticket *pb.Ticket) { s.deleteTicket(idOf(ticket)) }},
	} {
		s := newTestStore(t, Config{})
		ticket := file(s)
		before := s.now()
		test.take(s, ticket)
		if v := s.accept([]*pb.Match{proposal("late", ticket)}, before); v.dropped != 1 || !v.outrun {
			t.Errorf("%s since: %+v, want one dropped and outrun", test.name, v)
		}
		if v := s.accept([]*pb.Match{proposal("blind", ticket)}, s.now()); v.dropped != 1 || v.outrun {
			t.Errorf("%s before: %+v, want one dropped and not outrun", test.name, v)
		}
	}
}

func TestAcceptDropsATicketThatNeverWas(t *testing.T) {
	t.Parallel()
	s := newTestStore(t, Config{})
	v := s.accept([]*pb.Match{proposal("m", &pb.Ticket{Id: "never"})}, s.now())
	if v.dropped != 1 || v.outrun {
		t.Errorf("%+v, want one dropped and not outrun", v)
	}
}
