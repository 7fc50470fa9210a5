package agoneslocal

import (
	"context"

	"agones.dev/agones/pkg/sdk/beta"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// betaSidecar is the part of the SDK server that is about counters and lists.
type betaSidecar struct {
	beta.UnimplementedSDKServer
	store *store
	gs    *gameServer
}

var _ beta.SDKServer = (*betaSidecar)(nil)

// refuse makes the error of a refused change. Agones' documentation promises a code for each; its sidecar
// returns plain errors, which arrive as Unknown, and so do these. The first words tell them apart.
func refuse(format string, args ...any) error {
	return status.Errorf(codes.Unknown, format, args...)
}

func (b *betaSidecar) counter(name string) (Counter, error) {
	counter, ok := b.gs.Counters[name]
	if !ok {
		return Counter{}, refuse("not found: this game server has no counter %q", name)
	}
	return counter, nil
}

func (b *betaSidecar) list(name string) (List, error) {
	list, ok := b.gs.Lists[name]
	if !ok {
		return List{}, refuse("not found: this game server has no list %q", name)
	}
	return list, nil
}

// GetCounter gives a counter.
func (b *betaSidecar) GetCounter(_ context.Context, in *beta.GetCounterRequest) (*beta.Counter, error) {
	b.store.mu.Lock()
	defer b.store.mu.Unlock()
	counter, err := b.counter(in.GetName())
	if err != nil {
		return nil, err
	}
	return counterMessage(in.GetName(), counter), nil
}

// UpdateCounter sets the capacity, sets the count, and moves the count: in this order, each if it is asked
// for, and all of it or nothing.
func (b *betaSidecar) UpdateCounter(_ context.Context, in *beta.UpdateCounterRequest) (*beta.Counter, error) {
	request := in.GetCounterUpdateRequest()
	if request.GetCapacity() == nil && request.GetCount() == nil && request.GetCountDiff() == 0 {
		return nil, refuse("invalid argument: the update of counter %q changes nothing", request.GetName())
	}
	var after Counter
	err := b.store.update(b.gs, func() error {
		counter, err := b.counter(request.GetName())
		if err != nil {
			return err
		}
		if after, err = updateCounter(counter, request); err != nil {
			return err
		}
		b.gs.Counters[request.GetName()] = after
		return nil
	})
	if err != nil {
		return nil, err
	}
	return counterMessage(request.GetName(), after), nil
}

// updateCounter refuses a count outside of the capacity, and cuts one that the new capacity leaves outside.
func updateCounter(counter Counter, request *beta.CounterUpdateRequest) (Counter, error) {
	if capacity := request.GetCapacity(); capacity != nil {
		if capacity.GetValue() < 0 {
			return counter, refuse("out of range: capacity %d of counter %q", capacity.GetValue(), request.GetName())
		}
		counter.Capacity = capacity.GetValue()
	}
	if count := request.GetCount(); count != nil {
		counter.Count = count.GetValue()
		if !counter.valid() {
			return counter, refuse("out of range: count %d of counter %q, want 0 to %d", counter.Count, request.GetName(), counter.Capacity)
		}
	}
	if diff := request.GetCountDiff(); diff != 0 {
		counter.Count += diff // overflow comes out negative, and is refused
		if !counter.valid() {
			return counter, refuse("out of range: count %d of counter %q, want 0 to %d", counter.Count, request.GetName(), counter.Capacity)
		}
	}
	return counter.resize(counter.Capacity), nil
}

// GetList gives a list.
func (b *betaSidecar) GetList(_ context.Context, in *beta.GetListRequest) (*beta.List, error) {
	b.store.mu.Lock()
	defer b.store.mu.Unlock()
	list, err := b.list(in.GetName())
	if err != nil {
		return nil, err
	}
	return listMessage(in.GetName(), list), nil
}

// UpdateList sets what the mask names. Its reply is empty, as Agones' is.
func (b *betaSidecar) UpdateList(_ context.Context, in *beta.UpdateListRequest) (*beta.List, error) {
	if in.GetList() == nil || in.GetUpdateMask() == nil {
		return nil, refuse("invalid argument: the list and the update mask must be set")
	}
	if !in.GetUpdateMask().IsValid(in.GetList()) {
		return nil, refuse("invalid argument: the update mask has %v, which a list has not", in.GetUpdateMask().GetPaths())
	}
	if capacity := in.GetList().GetCapacity(); capacity < 0 || capacity > maxListCapacity {
		return nil, refuse("out of range: capacity %d of a list, want 0 to %d", capacity, maxListCapacity)
	}
	_, err := b.changeList(in.GetList().GetName(), func(list List) (List, error) {
		for _, path := range in.GetUpdateMask().GetPaths() {
			switch path {
			case "capacity":
				list.Capacity = in.GetList().GetCapacity()
			case "values":
				list.Values = List{Values: list.Values, Capacity: maxListCapacity}.replace(in.GetList().GetValues()).Values
			}
		}
		return list.resize(list.Capacity), nil
	})
	if err != nil {
		return nil, err
	}
	return &beta.List{}, nil
}

// AddListValue appends a value.
func (b *betaSidecar) AddListValue(_ context.Context, in *beta.AddListValueRequest) (*beta.List, error) {
	return b.changeList(in.GetName(), func(list List) (List, error) {
		switch {
		case list.free() <= 0:
			return list, refuse("out of range: list %q is full, its capacity is %d", in.GetName(), list.Capacity)
		case list.has(in.GetValue()):
			return list, refuse("already exists: list %q has the value %q", in.GetName(), in.GetValue())
		}
		return list.add(in.GetValue()), nil
	})
}

// RemoveListValue removes a value.
func (b *betaSidecar) RemoveListValue(_ context.Context, in *beta.RemoveListValueRequest) (*beta.List, error) {
	return b.changeList(in.GetName(), func(list List) (List, error) {
		if !list.has(in.GetValue()) {
			return list, refuse("not found: list %q has no value %q", in.GetName(), in.GetValue())
		}
		return list.remove(in.GetValue()), nil
	})
}

func (b *betaSidecar) changeList(name string, change func(List) (List, error)) (*beta.List, error) {
	var after List
	err := b.store.update(b.gs, func() error {
		list, err := b.list(name)
		if err != nil {
			return err
		}
		if after, err = change(list); err != nil {
			return err
		}
		b.gs.Lists[name] = after
		return nil
	})
	if err != nil {
		return nil, err
	}
	return listMessage(name, after), nil
}

func counterMessage(name string, counter Counter) *beta.Counter {
	return &beta.Counter{Name: name, Count: counter.Count, Capacity: counter.Capacity}
}

func listMessage(name string, list List) *beta.List {
	return &beta.List{Name: name, Capacity: list.Capacity, Values: list.Values}
}
