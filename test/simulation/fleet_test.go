package simulation

import (
	"context"
	"errors"
	"fmt"
	"time"

	allocation "agones.dev/agones/pkg/allocation/go"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// fleet is Agones: it keeps Ready hosts, allocates them, and ends those that ask for it. Nothing ends an Allocated one but
// its own word or death.
type fleet struct {
	world   *world
	started int
}

// noticeAfter is about how long Agones takes to see that a game server is gone, and to start another.
const noticeAfter = 300 * time.Millisecond

// keep starts what is missing.
func (f *fleet) keep() {
	ready := 0
	for _, h := range f.world.hosts {
		if !h.dead && !h.allocated && !h.leaving {
			ready++
		}
	}
	for ; ready < f.world.plan.Hosts && !f.world.over; ready++ {
		f.started++
		f.world.startHost(fmt.Sprintf("host-%02d", f.started))
	}
}

// processes lists the hosts that live, in the order of their start.
func (f *fleet) processes() []*host {
	var alive []*host
	for _, h := range f.world.hosts {
		if !h.dead {
			alive = append(alive, h)
		}
	}
	return alive
}

// exited notes that a host is gone.
func (f *fleet) exited(h *host) {
	f.world.after(f.world.between(noticeAfter/2, noticeAfter), f.keep)
}

// allocate gives a Ready host away, and has it told.
func (f *fleet) allocate() (*allocation.AllocationResponse, error) {
	w := f.world
	if w.is(stubbornAgones) && w.rng.IntN(2) == 0 {
		if w.rng.IntN(2) == 0 {
			return nil, status.Error(codes.Aborted, "contended")
		}
		return nil, status.Error(codes.ResourceExhausted, "there is no available GameServer to allocate")
	}
	for _, h := range w.hosts {
		if h.dead || !h.ready || h.allocated || h.leaving {
			continue
		}
		h.allocated = true
		w.notef("allocated: %s", h.name)
		w.after(w.between(5*time.Millisecond, 500*time.Millisecond), func() {
			if !h.dead {
				h.host.Allocated()
			}
		})
		f.keep()
		return &allocation.AllocationResponse{GameServerName: h.name}, nil
	}
	return nil, status.Error(codes.ResourceExhausted, "there is no available GameServer to allocate")
}

// agonesConn is a director's connection to the allocator.
type agonesConn struct{ process *process }

func (c *agonesConn) Invoke(ctx context.Context, method string, _, reply any, _ ...grpc.CallOption) error {
	w := c.process.world
	value, err := c.process.call(ctx, method, func() *process { return w.agones }, func(answer func(any, error)) {
		response, err := w.fleet.allocate()
		if !w.is(lostAllocation) {
			answer(response, err)
		}
	})
	if err != nil {
		return asStatus(err)
	}
	out, in := reply.(*allocation.AllocationResponse), value.(*allocation.AllocationResponse)
	out.GameServerName = in.GetGameServerName()
	return nil
}

func (c *agonesConn) NewStream(context.Context, *grpc.StreamDesc, string, ...grpc.CallOption) (grpc.ClientStream, error) {
	return nil, errors.New("the allocator has no streams")
}

// asStatus makes an error what gRPC makes of it.
func asStatus(err error) error {
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return status.FromContextError(err).Err()
	case errors.Is(err, errGone):
		return status.Error(codes.Unavailable, err.Error())
	}
	return err
}
