package openmatchlocal

import (
	"math"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"
	"open-match.dev/open-match/pkg/pb"
)

const (
	excludeNone = pb.DoubleRangeFilter_NONE
	excludeMin  = pb.DoubleRangeFilter_MIN
	excludeMax  = pb.DoubleRangeFilter_MAX
	excludeBoth = pb.DoubleRangeFilter_BOTH
)

func mustFilter(t testing.TB, pool *pb.Pool) poolFilter {
	t.Helper()
	f, err := newPoolFilter(pool)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestInRange(t *testing.T) {
	t.Parallel()
	inf, nan := math.Inf(1), math.NaN()
	for _, test := range []struct {
		value, low, high float64
		exclude          pb.DoubleRangeFilter_Exclude
		want             bool
	}{
		{5, 5, 5, excludeNone, true},
		{5, 5, 5, excludeMin, false},
		{5, 5, 5, excludeMax, false},
		{5, 5, 5, excludeBoth, false},
		{5, 4, 6, excludeBoth, true},
		{4, 4, 6, excludeMax, true},
		{6, 4, 6, excludeMin, true},
		{5, 6, 4, excludeNone, false},
		{inf, 0, inf, excludeNone, true},
		{inf, 0, inf, excludeMax, false},
		{-inf, -inf, 0, excludeNone, true},
		{nan, -inf, inf, excludeNone, false},
		{5, nan, inf, excludeNone, false},
		{5, -inf, nan, excludeBoth, false},
		{5, 8, 9, 99, true},
	} {
		f := &pb.DoubleRangeFilter{Min: test.low, Max: test.high, Exclude: test.exclude}
		if got := inRange(test.value, f); got != test.want {
			t.Errorf("%v in %v..%v without %v: %v, want %v",
				test.value, test.low, test.high, test.exclude, got, test.want)
		}
	}
}

func TestPoolFilterWantsAll(t *testing.T) {
	t.Parallel()
	f := mustFilter(t, &pb.Pool{
		StringEqualsFilters: []*pb.StringEqualsFilter{{StringArg: "mode", Value: "raid"}},
		TagPresentFilters:   []*pb.TagPresentFilter{{Tag: "a"}, {Tag: "b"}},
		DoubleRangeFilters:  []*pb.DoubleRangeFilter{{DoubleArg: "level", Min: 1, Max: 9}},
	})
	whole := func() *pb.SearchFields {
		return &pb.SearchFields{
			StringArgs: map[string]string{"mode": "raid"},
			Tags:       []string{"b", "c", "a"},
			DoubleArgs: map[string]float64{"level": 9},
		}
	}
	for _, test := range []struct {
		name  string
		spoil func(*pb.SearchFields)
		want  bool
	}{
		{"all there", func(*pb.SearchFields) {}, true},
		{"another mode", func(s *pb.SearchFields) { s.StringArgs["mode"] = "duel" }, false},
		{"no mode", func(s *pb.SearchFields) { s.StringArgs = nil }, false},
		{"a tag is missing", func(s *pb.SearchFields) { s.Tags = s.GetTags()[:1] }, false},
		{"the level is too high", func(s *pb.SearchFields) { s.DoubleArgs["level"] = 9.5 }, false},
		{"no level", func(s *pb.SearchFields) { delete(s.GetDoubleArgs(), "level") }, false},
	} {
		fields := whole()
		test.spoil(fields)
		if got := f.passes(&pb.Ticket{SearchFields: fields}); got != test.want {
			t.Errorf("%s: passes %v, want %v", test.name, got, test.want)
		}
	}
}

func TestPoolFilterOnAnEmptyTicket(t *testing.T) {
	t.Parallel()
	if !mustFilter(t, nil).passes(&pb.Ticket{}) {
		t.Error("no pool stops a ticket, want it to pass")
	}
	empty := &pb.Pool{StringEqualsFilters: []*pb.StringEqualsFilter{{StringArg: "mode"}}}
	if mustFilter(t, empty).passes(&pb.Ticket{}) {
		t.Error("a missing string passes for an empty one")
	}
}

func TestPoolFilterOnTime(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 25, 12, 0, 0, 500, time.UTC)
	stamp := func(d time.Duration) *timestamppb.Timestamp { return timestamppb.New(at.Add(d)) }
	for _, test := range []struct {
		name string
		pool *pb.Pool
		want bool
	}{
		{"before itself", &pb.Pool{CreatedBefore: stamp(0)}, false},
		{"before the next nanosecond", &pb.Pool{CreatedBefore: stamp(1)}, true},
		{"after itself", &pb.Pool{CreatedAfter: stamp(0)}, false},
		{"after the last nanosecond", &pb.Pool{CreatedAfter: stamp(-1)}, true},
		{"between", &pb.Pool{CreatedAfter: stamp(-1), CreatedBefore: stamp(1)}, true},
		{"between, but too late", &pb.Pool{CreatedAfter: stamp(-2), CreatedBefore: stamp(-1)}, false},
		{"before 1970", &pb.Pool{CreatedBefore: &timestamppb.Timestamp{}}, false},
	} {
		if got := mustFilter(t, test.pool).passes(&pb.Ticket{CreateTime: stamp(0)}); got != test.want {
			t.Errorf("%s: passes %v, want %v", test.name, got, test.want)
		}
	}
}

func TestPoolFilterRefusesNoTime(t *testing.T) {
	t.Parallel()
	never := &timestamppb.Timestamp{Seconds: math.MaxInt64}
	for _, pool := range []*pb.Pool{{CreatedBefore: never}, {CreatedAfter: never}} {
		if _, err := newPoolFilter(pool); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%v: %v, want InvalidArgument", pool, err)
		}
	}
}

// FuzzPoolFilter compares the filter with the sentences of the contract, taken one by one.
func FuzzPoolFilter(f *testing.F) {
	f.Add(5.0, 5.0, 6.0, int32(0), "raid", "raid", "a", "a", int64(1), int64(0), int64(2))
	f.Add(5.0, 5.0, 6.0, int32(1), "raid", "duel", "a", "b", int64(1), int64(1), int64(1))
	f.Add(math.NaN(), math.Inf(-1), math.Inf(1), int32(3), "", "", "", "", int64(-1), int64(-2), int64(0))
	f.Fuzz(func(t *testing.T, value, low, high float64, exclude int32, text, wantText, tag, wantTag string,
		created, after, before int64,
	) {
		pool := &pb.Pool{
			DoubleRangeFilters: []*pb.DoubleRangeFilter{{
				DoubleArg: "d", Min: low, Max: high, Exclude: pb.DoubleRangeFilter_Exclude(exclude & 3),
			}},
			StringEqualsFilters: []*pb.StringEqualsFilter{{StringArg: "s", Value: wantText}},
			TagPresentFilters:   []*pb.TagPresentFilter{{Tag: wantTag}},
			CreatedAfter:        timestamppb.New(time.Unix(0, after)),
			CreatedBefore:       timestamppb.New(time.Unix(0, before)),
		}
		ticket := &pb.Ticket{
			SearchFields: &pb.SearchFields{
				DoubleArgs: map[string]float64{"d": value},
				StringArgs: map[string]string{"s": text},
				Tags:       []string{tag},
			},
			CreateTime: timestamppb.New(time.Unix(0, created)),
		}
		lowIn := low < value || low == value && exclude&1 == 0
		highIn := value < high || value == high && exclude&2 == 0
		want := lowIn && highIn && text == wantText && tag == wantTag && after < created && created < before
		if got := mustFilter(t, pool).passes(ticket); got != want {
			t.Errorf("pool %v passes %v: %v, want %v", pool, ticket, got, want)
		}
	})
}
