package load

import (
	"testing"
	"time"

	"github.com/guildhall-dev/guildhall"
)

// sights gives messages at the numbers from first on.
func sights(first guildhall.Seq, ks ...uint32) []sight {
	var all []sight
	for i, k := range ks {
		all = append(all, sight{first + guildhall.Seq(i), k})
	}
	return all
}

// A check that cannot fail is worth nothing: each promise is broken by hand.
func TestCheckFindsBadHistories(t *testing.T) {
	t.Parallel()
	good := func() []*visit {
		return []*visit{
			{seated: true, stayed: true, seen: sights(1, 11, 12, 13, 14), acked: []sight{{1, 11}, {4, 14}}},
			{seated: true, stayed: true, start: 1, seen: sights(2, 12, 13, 14), acked: []sight{{2, 12}, {3, 13}}},
			{seated: true, seen: sights(1, 11, 12)}, // left early
			{acked: []sight{{2, 12}}},               // acked again, and never seated
			{seated: true, stayed: true, seen: []sight{{2, told}, {3, 13}, {4, 14}}},
		}
	}
	for name, c := range map[string]struct {
		change func([]*visit)
		want   verdict
	}{
		"good":                     {func([]*visit) {}, verdict{}},
		"acked and gone":           {func(v []*visit) { v[0].acked = append(v[0].acked, sight{5, 15}) }, verdict{lost: 3}},
		"missing in the middle":    {func(v []*visit) { v[1].seen = []sight{{2, 12}, {4, 14}} }, verdict{lost: 1, disorder: 1}},
		"missing at the end":       {func(v []*visit) { v[1].seen = v[1].seen[:1] }, verdict{lost: 2}},
		"missing at the beginning": {func(v []*visit) { v[2].seen = v[2].seen[1:] }, verdict{lost: 1, disorder: 1}},
		"shown twice":              {func(v []*visit) { v[0].seen = append(v[0].seen, sight{4, 14}) }, verdict{duplicated: 1}},
		"shown from before":        {func(v []*visit) { v[1].seen = append(sights(1, 11), v[1].seen...) }, verdict{duplicated: 1}},
		"said twice":               {func(v []*visit) { v[0].seen = append(v[0].seen, sight{5, 11}) }, verdict{duplicated: 1, lost: 2}},
		"reordered":                {func(v []*visit) { s := v[0].seen; s[1], s[2] = s[2], s[1] }, verdict{disorder: 2}},
		"another at this number":   {func(v []*visit) { v[1].seen[1].k = 99 }, verdict{conflicts: 1}},
		"acked at another number":  {func(v []*visit) { v[0].acked[1].seq = 3 }, verdict{conflicts: 1}},
		"shown a gap":              {func(v []*visit) { v[0].broken = 1 }, verdict{disorder: 1}},
		"told and shown all the same": {func(v []*visit) {
			v[4].seen = append([]sight{{1, 11}}, v[4].seen...)
		}, verdict{}},
	} {
		visits := good()
		c.change(visits)
		if got := check(visits); got != c.want {
			t.Errorf("%s: it found %+v, want %+v", name, got, c.want)
		}
	}
}

func TestSplits(t *testing.T) {
	t.Parallel()
	start := time.Now()
	at := func(s float64) time.Time { return start.Add(seconds(s)) }
	a, b := guildhall.Group{Kind: "guild", ID: "a"}, guildhall.Group{Kind: "guild", ID: "b"}
	one, two := place{"h1", 1}, place{"h2", 2}
	for name, c := range map[string]struct {
		stays []stay
		want  int
	}{
		"nobody":                     {nil, 0},
		"one room each":              {[]stay{{a, one, at(0), time.Time{}}, {a, one, at(1), time.Time{}}, {b, two, at(0), time.Time{}}}, 0},
		"two rooms":                  {[]stay{{a, one, at(0), time.Time{}}, {a, two, at(1), time.Time{}}}, 1},
		"one after the other":        {[]stay{{a, one, at(0), at(3)}, {a, two, at(3), time.Time{}}}, 0},
		"the goodbye is under way":   {[]stay{{a, one, at(0), at(3)}, {a, two, at(2.5), time.Time{}}}, 0},
		"two rooms for a while":      {[]stay{{a, one, at(0), at(5)}, {a, two, at(3), time.Time{}}}, 1},
		"the same host, two epochs":  {[]stay{{a, one, at(0), time.Time{}}, {a, place{"h1", 2}, at(3), time.Time{}}}, 1},
		"left when it was over":      {[]stay{{a, one, at(0), at(30)}, {a, two, at(9.5), at(30)}}, 0},
		"two players, one behind it": {[]stay{{a, one, at(0), at(1)}, {a, one, at(4), at(6)}, {a, two, at(2), at(6)}}, 1},
	} {
		if got := len(splits(c.stays, at(10))); got != c.want {
			t.Errorf("%s: %d groups are split, want %d", name, got, c.want)
		}
	}
}
