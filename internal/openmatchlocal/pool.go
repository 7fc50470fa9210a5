package openmatchlocal

import (
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"
	"open-match.dev/open-match/pkg/pb"
)

// poolFilter is a pool that has been checked. The zero poolFilter passes everything.
type poolFilter struct {
	pool          *pb.Pool
	createdBefore time.Time // zero: no limit
	createdAfter  time.Time // zero: no limit
}

// searchable is a ticket or a backfill.
type searchable interface {
	GetSearchFields() *pb.SearchFields
	GetCreateTime() *timestamppb.Timestamp
}

// newPoolFilter fails with InvalidArgument when one of the pool's timestamps is none.
func newPoolFilter(pool *pb.Pool) (poolFilter, error) {
	f := poolFilter{pool: pool}
	for _, limit := range []struct {
		name  string
		value *timestamppb.Timestamp
		into  *time.Time
	}{
		{"created_before", pool.GetCreatedBefore(), &f.createdBefore},
		{"created_after", pool.GetCreatedAfter(), &f.createdAfter},
	} {
		if limit.value == nil {
			continue
		}
		if err := limit.value.CheckValid(); err != nil {
			return f, status.Errorf(codes.InvalidArgument, ".invalid %s value", limit.name)
		}
		*limit.into = limit.value.AsTime()
	}
	return f, nil
}

// passes reports whether e passes every filter of the pool.
func (f poolFilter) passes(e searchable) bool {
	fields := e.GetSearchFields()
	return f.passesStrings(fields.GetStringArgs()) &&
		f.passesTags(fields.GetTags()) &&
		f.passesDoubles(fields.GetDoubleArgs()) &&
		f.passesTime(e.GetCreateTime())
}

func (f poolFilter) passesStrings(args map[string]string) bool {
	for _, want := range f.pool.GetStringEqualsFilters() {
		value, ok := args[want.GetStringArg()]
		if !ok || value != want.GetValue() {
			return false
		}
	}
	return true
}

func (f poolFilter) passesTags(tags []string) bool {
	for _, want := range f.pool.GetTagPresentFilters() {
		if !slices.Contains(tags, want.GetTag()) {
			return false
		}
	}
	return true
}

func (f poolFilter) passesDoubles(args map[string]float64) bool {
	for _, want := range f.pool.GetDoubleRangeFilters() {
		value, ok := args[want.GetDoubleArg()]
		if !ok || !inRange(value, want) {
			return false
		}
	}
	return true
}

// inRange is written with positive comparisons only, so that a NaN on either side never passes.
func inRange(value float64, f *pb.DoubleRangeFilter) bool {
	switch f.GetExclude() {
	case pb.DoubleRangeFilter_NONE:
		return value >= f.GetMin() && value <= f.GetMax()
	case pb.DoubleRangeFilter_MIN:
		return value > f.GetMin() && value <= f.GetMax()
	case pb.DoubleRangeFilter_MAX:
		return value >= f.GetMin() && value < f.GetMax()
	case pb.DoubleRangeFilter_BOTH:
		return value > f.GetMin() && value < f.GetMax()
	default:
		// An exclude that does not exist filters nothing in Open Match.
		return true
	}
}

func (f poolFilter) passesTime(created *timestamppb.Timestamp) bool {
	if f.createdBefore.IsZero() && f.createdAfter.IsZero() {
		return true
	}
	at := created.AsTime()
	if !f.createdAfter.IsZero() && !at.After(f.createdAfter) {
		return false
	}
	return f.createdBefore.IsZero() || at.Before(f.createdBefore)
}
