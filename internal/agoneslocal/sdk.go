package agoneslocal

import (
	"context"
	"errors"
	"io"
	"strings"
	"time"

	"agones.dev/agones/pkg/sdk"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

var _ sdk.SDKServer = (*sidecar)(nil)

// Ready makes the game server allocatable, from whichever state; labels, counters and lists stay.
func (s *sidecar) Ready(context.Context, *sdk.Empty) (*sdk.Empty, error) {
	s.store.makeReady(s.gs, func() bool { return true })
	return &sdk.Empty{}, nil
}

// Allocate takes the game server for itself.
func (s *sidecar) Allocate(context.Context, *sdk.Empty) (*sdk.Empty, error) {
	s.store.move(s.gs, Allocated)
	return &sdk.Empty{}, nil
}

// Shutdown asks for the end of the game server; SIGTERM follows.
func (s *sidecar) Shutdown(context.Context, *sdk.Empty) (*sdk.Empty, error) {
	s.store.move(s.gs, Shutdown)
	return &sdk.Empty{}, nil
}

// Reserve keeps the game server from being allocated, for a time, or for good if that is 0.
func (s *sidecar) Reserve(_ context.Context, d *sdk.Duration) (*sdk.Empty, error) {
	err := s.store.update(s.gs, func() error {
		s.gs.move(Reserved, time.Now())
		if s.gs.State == Reserved && d.GetSeconds() > 0 {
			s.gs.reserve = s.readyAfter(time.Duration(d.GetSeconds()) * time.Second)
		}
		return nil
	})
	return &sdk.Empty{}, err
}

// readyAfter ends a reservation, unless another move has come before it. The store's lock is held.
func (s *sidecar) readyAfter(d time.Duration) *time.Timer {
	var timer *time.Timer
	timer = time.AfterFunc(d, func() {
		s.store.makeReady(s.gs, func() bool { return s.gs.reserve == timer })
	})
	return timer
}

// Health takes a sign of life for each message.
func (s *sidecar) Health(stream sdk.SDK_HealthServer) error {
	for {
		_, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return stream.SendAndClose(&sdk.Empty{})
		}
		if err != nil {
			return err
		}
		s.store.beat(s.gs)
	}
}

// GetGameServer gives the game server as it is.
func (s *sidecar) GetGameServer(context.Context, *sdk.Empty) (*sdk.GameServer, error) {
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	return s.gs.message(), nil
}

// WatchGameServer sends the game server as it is, and then after each change.
func (s *sidecar) WatchGameServer(_ *sdk.Empty, stream sdk.SDK_WatchGameServerServer) error {
	w := s.store.watch(s.gs)
	defer s.store.unwatch(s.gs, w)
	for {
		select {
		case <-w.ready:
		case <-stream.Context().Done():
			return status.FromContextError(stream.Context().Err()).Err()
		}
		for _, message := range w.take() {
			if err := stream.Send(message); err != nil {
				return err
			}
		}
	}
}

// SetLabel sets a label behind the SDK's prefix.
func (s *sidecar) SetLabel(_ context.Context, kv *sdk.KeyValue) (*sdk.Empty, error) {
	faults := append(checkKey(kv.GetKey()), checkLabelValue(kv.GetValue())...)
	if len(faults) > 0 {
		return nil, status.Errorf(codes.InvalidArgument, "label %q=%q: %s", kv.GetKey(), kv.GetValue(), strings.Join(faults, "; "))
	}
	return s.setMetadata(kv, func(key string) { s.gs.Labels[key] = kv.GetValue() })
}

// SetAnnotation sets an annotation behind the SDK's prefix.
func (s *sidecar) SetAnnotation(_ context.Context, kv *sdk.KeyValue) (*sdk.Empty, error) {
	if faults := checkKey(kv.GetKey()); len(faults) > 0 {
		return nil, status.Errorf(codes.InvalidArgument, "annotation %q: %s", kv.GetKey(), strings.Join(faults, "; "))
	}
	return s.setMetadata(kv, func(key string) { s.gs.Annotations[key] = kv.GetValue() })
}

// setMetadata sets the prefixed key. One that is valid without the prefix and not with it gets OK from
// Agones' sidecar, which looks at what it was sent, and is then refused by Kubernetes: the caller sees OK
// and no change.
func (s *sidecar) setMetadata(kv *sdk.KeyValue, set func(key string)) (*sdk.Empty, error) {
	key := sdkMetadataPrefix + kv.GetKey()
	if faults := checkKey(key); len(faults) > 0 {
		s.log.Warn("Kubernetes would refuse this key; nothing is set", "key", key, "fault", faults[0])
		return &sdk.Empty{}, nil
	}
	err := s.store.update(s.gs, func() error {
		set(key)
		return nil
	})
	return &sdk.Empty{}, err
}
