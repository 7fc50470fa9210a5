package roomserver

import (
	"context"
	"time"

	"agones.dev/agones/pkg/sdk"
	"agones.dev/agones/pkg/sdk/beta"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// roomsCounter is the Agones counter that autoscalers and dashboards see.
const roomsCounter = "rooms"

// count keeps the Agones counter true, also when the sidecar has forgotten what it was told, or somebody else has changed
// it. While the sidecar is away it tries again. A cluster without the feature CountsAndLists and a fleet without such a
// counter are complained of once; rooms do not need it.
func (l *lifecycle) count(ctx context.Context, host *host) error {
	told, complaint := -1, ""
	for {
		rooms, changed := host.countRooms()
		var again <-chan time.Time
		if rooms != told {
			err := l.updateCounter(ctx, rooms, host.capacity)
			told = rooms
			if err != nil && ctx.Err() == nil && err.Error() != complaint {
				complaint = err.Error()
				l.logger.Warn("Agones is not told how many rooms this host has; for autoscalers and dashboards, CountsAndLists must be on, "+
					"and the fleet must have the counter", "counter", roomsCounter, "error", err)
			}
			if isAway(err) {
				told, again = -1, time.After(sdkPause)
			}
		}
		select {
		case <-changed:
		case <-again:
		case counter := <-l.shown:
			if !l.isTrue(counter, host) {
				told = -1
			}
		case <-ctx.Done():
			return nil
		}
	}
}

func (l *lifecycle) isTrue(counter *sdk.GameServer_Status_CounterStatus, host *host) bool {
	rooms, _ := host.countRooms()
	return counter.GetCount() == int64(rooms) && counter.GetCapacity() == int64(host.capacity)
}

func (l *lifecycle) updateCounter(ctx context.Context, rooms, capacity int) error {
	ctx, cancel := context.WithTimeout(ctx, sdkTimeout)
	defer cancel()
	_, err := l.counters.UpdateCounter(ctx, &beta.UpdateCounterRequest{CounterUpdateRequest: &beta.CounterUpdateRequest{
		Name: roomsCounter, Count: wrapperspb.Int64(int64(rooms)), Capacity: wrapperspb.Int64(int64(capacity)),
	}})
	return err
}
