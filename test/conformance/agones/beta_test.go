package agones

import (
	"slices"
	"strings"
	"testing"

	"agones.dev/agones/pkg/sdk"
	"agones.dev/agones/pkg/sdk/beta"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// refused checks that an error has no code, which is how the sidecar refuses, and says why in words.
func refused(t *testing.T, err error, words string) {
	t.Helper()
	if status.Code(err) != codes.Unknown || !strings.Contains(err.Error(), words) {
		t.Errorf("error %v, want code Unknown and %q", err, words)
	}
}

func (s *sidecar) update(update *beta.CounterUpdateRequest) (*beta.Counter, error) {
	update.Name = counterName
	return s.beta.UpdateCounter(s.ctx, &beta.UpdateCounterRequest{CounterUpdateRequest: update})
}

func (s *sidecar) updateList(list *beta.List, paths ...string) error {
	list.Name = listName
	_, err := s.beta.UpdateList(s.ctx, &beta.UpdateListRequest{List: list, UpdateMask: &fieldmaskpb.FieldMask{Paths: paths}})
	return err
}

func number(n int64) *wrapperspb.Int64Value { return wrapperspb.Int64(n) }

func TestCounterIsCounted(t *testing.T) {
	s := setupSDK(t)
	s.counter()
	do := must[*beta.Counter](t)
	do(s.update(&beta.CounterUpdateRequest{Capacity: number(10)}))
	do(s.update(&beta.CounterUpdateRequest{Count: number(4)}))
	if got := do(s.update(&beta.CounterUpdateRequest{CountDiff: 3})); got.GetCount() != 7 || got.GetCapacity() != 10 || got.GetName() != counterName {
		t.Errorf("reply %v, want 7 of 10", got)
	}
	if got := do(s.update(&beta.CounterUpdateRequest{CountDiff: -7})); got.GetCount() != 0 {
		t.Errorf("reply %v, want 0", got)
	}
	if got := do(s.update(&beta.CounterUpdateRequest{Count: number(10)})); got.GetCount() != 10 {
		t.Errorf("reply %v, want 10", got)
	}
	if got := s.counter(); got.GetCount() != 10 || got.GetCapacity() != 10 {
		t.Errorf("read %v, want 10 of 10", got)
	}
	do(s.update(&beta.CounterUpdateRequest{Count: number(1)}))
}

func TestCounterKeepsItsBounds(t *testing.T) {
	s := setupSDK(t)
	s.counter()
	do := must[*beta.Counter](t)
	do(s.update(&beta.CounterUpdateRequest{Capacity: number(10)}))
	do(s.update(&beta.CounterUpdateRequest{Count: number(1)}))
	for name, update := range map[string]*beta.CounterUpdateRequest{
		"up":       {CountDiff: 10},
		"down":     {CountDiff: -2},
		"set":      {Count: number(11)},
		"negative": {Count: number(-1)},
		"capacity": {Capacity: number(-1)},
	} {
		_, err := s.update(update)
		t.Run(name, func(t *testing.T) { refused(t, err, "out of range") })
	}
	if got := s.counter(); got.GetCount() != 1 || got.GetCapacity() != 10 {
		t.Errorf("after what was refused: %v, want 1 of 10", got)
	}
}

func TestCounterIsCutToItsCapacity(t *testing.T) {
	s := setupSDK(t)
	s.not(localMode, "it leaves the count above the capacity")
	s.counter()
	do := must[*beta.Counter](t)
	do(s.update(&beta.CounterUpdateRequest{Capacity: number(10)}))
	do(s.update(&beta.CounterUpdateRequest{Count: number(5)}))
	if got := do(s.update(&beta.CounterUpdateRequest{Capacity: number(3)})); got.GetCount() != 3 {
		t.Errorf("reply %v, want 3 of 3", got)
	}
	if got := s.counter(); got.GetCount() != 3 || got.GetCapacity() != 3 {
		t.Errorf("read %v, want 3 of 3", got)
	}
	do(s.update(&beta.CounterUpdateRequest{Capacity: number(10)}))
}

// A host tells both at once, and its capacity may be more than the fleet began with: the capacity counts first.
func TestCountAndCapacityInOneCall(t *testing.T) {
	s := setupSDK(t)
	s.counter()
	do := must[*beta.Counter](t)
	do(s.update(&beta.CounterUpdateRequest{Capacity: number(10), Count: number(1)}))
	if got := do(s.update(&beta.CounterUpdateRequest{Capacity: number(50), Count: number(30)})); got.GetCount() != 30 || got.GetCapacity() != 50 {
		t.Errorf("reply %v, want 30 of 50", got)
	}
	if got := do(s.update(&beta.CounterUpdateRequest{Capacity: number(10), Count: number(1)})); got.GetCount() != 1 || got.GetCapacity() != 10 {
		t.Errorf("reply %v, want 1 of 10", got)
	}
	_, err := s.update(&beta.CounterUpdateRequest{Capacity: number(10), Count: number(11)})
	refused(t, err, "out of range")
	if got := s.counter(); got.GetCount() != 1 || got.GetCapacity() != 10 {
		t.Errorf("read %v, want 1 of 10", got)
	}
}

func TestUpdateOfNothingIsRefused(t *testing.T) {
	s := setupSDK(t)
	s.not(localMode, "it takes it")
	s.counter()
	_, err := s.update(&beta.CounterUpdateRequest{})
	refused(t, err, "invalid argument")
}

func TestCounterReachesTheWatch(t *testing.T) {
	s := setupSDK(t)
	s.not(localMode, "its watch tells nothing of counters and lists")
	s.counter()
	s.list()
	want := int64(2)
	if s.counter().GetCount() == want {
		want++
	}
	value := unique()
	must[*beta.Counter](t)(s.update(&beta.CounterUpdateRequest{Count: number(want)}))
	must[*beta.List](t)(s.beta.AddListValue(s.ctx, &beta.AddListValueRequest{Name: listName, Value: value}))
	s.until("counter and value", func(gs *sdk.GameServer) bool {
		return gs.GetStatus().GetCounters()[counterName].GetCount() == want &&
			slices.Contains(gs.GetStatus().GetLists()[listName].GetValues(), value)
	})
	must[*beta.List](t)(s.beta.RemoveListValue(s.ctx, &beta.RemoveListValueRequest{Name: listName, Value: value}))
}

func TestWhatIsMissingIsRefused(t *testing.T) {
	s := setupSDK(t)
	_, err := s.beta.GetCounter(s.ctx, &beta.GetCounterRequest{Name: "missing"})
	refused(t, err, "not found")
	_, err = s.beta.UpdateCounter(s.ctx, &beta.UpdateCounterRequest{CounterUpdateRequest: &beta.CounterUpdateRequest{Name: "missing", CountDiff: 1}})
	refused(t, err, "not found")
	_, err = s.beta.GetList(s.ctx, &beta.GetListRequest{Name: "missing"})
	refused(t, err, "not found")
	_, err = s.beta.AddListValue(s.ctx, &beta.AddListValueRequest{Name: "missing", Value: "x"})
	refused(t, err, "not found")
	_, err = s.beta.RemoveListValue(s.ctx, &beta.RemoveListValueRequest{Name: "missing", Value: "x"})
	refused(t, err, "not found")
}

func TestListTakesEachValueOnce(t *testing.T) {
	s := setupSDK(t)
	before := s.list()
	value := unique()
	do := must[*beta.List](t)
	list := do(s.beta.AddListValue(s.ctx, &beta.AddListValueRequest{Name: listName, Value: value}))
	if want := append(slices.Clone(before.GetValues()), value); !slices.Equal(list.GetValues(), want) || list.GetName() != listName {
		t.Errorf("reply %v, want %v", list, want)
	}
	_, err := s.beta.AddListValue(s.ctx, &beta.AddListValueRequest{Name: listName, Value: value})
	refused(t, err, "already exists")
	list = do(s.beta.RemoveListValue(s.ctx, &beta.RemoveListValueRequest{Name: listName, Value: value}))
	if s.kind != inCluster && !slices.Equal(list.GetValues(), before.GetValues()) {
		t.Errorf("reply %v, want %v", list, before) // a real one that has the value in a batch still replies with it
	}
	if got := s.list().GetValues(); !slices.Equal(got, before.GetValues()) {
		t.Errorf("read %v, want %v", got, before.GetValues())
	}
	_, err = s.beta.RemoveListValue(s.ctx, &beta.RemoveListValueRequest{Name: listName, Value: value})
	refused(t, err, "not found")
}

func TestListIsFullAtItsCapacity(t *testing.T) {
	s := setupSDK(t)
	before := s.settled()
	size := int64(len(before.GetValues()))
	if err := s.updateList(&beta.List{Capacity: size}, "capacity"); err != nil {
		t.Fatal(err)
	}
	_, err := s.beta.AddListValue(s.ctx, &beta.AddListValueRequest{Name: listName, Value: unique()})
	refused(t, err, "out of range")
	if err := s.updateList(&beta.List{Capacity: before.GetCapacity()}, "capacity"); err != nil {
		t.Fatal(err)
	}
	if got := s.list(); got.GetCapacity() != before.GetCapacity() || !slices.Equal(got.GetValues(), before.GetValues()) {
		t.Errorf("read %v, want %v", got, before)
	}
}

func TestListValuesAreReplaced(t *testing.T) {
	s := setupSDK(t)
	before := s.settled()
	added := unique()
	wanted := append(slices.Clone(before.GetValues()[:len(before.GetValues())/2]), added)
	if err := s.updateList(&beta.List{Values: wanted}, "values"); err != nil {
		t.Fatal(err)
	}
	got := s.list()
	if !slices.Equal(slices.Sorted(slices.Values(got.GetValues())), slices.Sorted(slices.Values(wanted))) || got.GetCapacity() != before.GetCapacity() {
		t.Errorf("read %v, want %v and the old capacity", got, wanted)
	}
	if err := s.updateList(&beta.List{Values: before.GetValues()}, "values"); err != nil {
		t.Fatal(err)
	}
}

func TestListIsCutToItsCapacity(t *testing.T) {
	s := setupSDK(t)
	before := s.settled()
	if len(before.GetValues()) < 2 {
		t.Skip("the list has no two values")
	}
	if err := s.updateList(&beta.List{Capacity: 1}, "capacity"); err != nil {
		t.Fatal(err)
	}
	if got := s.list().GetValues(); !slices.Equal(got, before.GetValues()[:1]) {
		t.Errorf("read %v, want the first of %v", got, before.GetValues())
	}
	if err := s.updateList(before, "capacity", "values"); err != nil {
		t.Fatal(err)
	}
}

func TestWrongListUpdatesAreRefused(t *testing.T) {
	s := setupSDK(t)
	s.list()
	refused(t, s.updateList(&beta.List{Capacity: 1001}, "capacity"), "out of range")
	refused(t, s.updateList(&beta.List{Capacity: -1}, "capacity"), "out of range")
	refused(t, s.updateList(&beta.List{Capacity: 1}, "size"), "invalid argument")
	_, err := s.beta.UpdateList(s.ctx, &beta.UpdateListRequest{List: &beta.List{Name: listName}})
	refused(t, err, "invalid argument")
}
