package simulation

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	allocation "agones.dev/agones/pkg/allocation/go"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/guildhall-dev/guildhall"
	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
	placing "github.com/guildhall-dev/guildhall/director"
	"github.com/guildhall-dev/guildhall/internal/pass"
	"github.com/guildhall-dev/guildhall/internal/registry"
)

// director is a director's process: the real Placer over the real registry.
type director struct {
	*process
	number int
	placer *placing.Placer
	calls  int
}

// startDirector starts a director, or starts it again.
func (w *world) startDirector(number int) {
	if w.over || number < len(w.directors) && !w.directors[number].dead {
		return // killed twice, it is started once
	}
	d := &director{process: w.newProcess(fmt.Sprintf("director-%d", number)), number: number}
	if number < len(w.directors) {
		w.directors[number] = d
	} else {
		w.directors = append(w.directors, d)
	}
	w.after(w.between(1, 10*time.Millisecond), func() { go d.main() })
}

// main is the life of a director. One that cannot begin is started again, as Kubernetes does.
func (d *director) main() {
	w := d.world
	r, err := registry.Open(d.ctx, newClient(d.process), registry.Config{LeaseTTL: leaseTTL, Leases: true})
	if err != nil {
		w.issue(d.process, "could not start", func() {
			if !d.dead {
				d.crash()
				w.after(w.between(50*time.Millisecond, 300*time.Millisecond), func() { w.startDirector(d.number) })
			}
		})
		return
	}
	placer := placing.NewPlacer(placing.PlacerConfig{
		Registry: r, Allocator: allocation.NewAllocationServiceClient(&agonesConn{d.process}),
		Namespace: "default", Fleet: "rooms", Dial: d.dial, Chance: d.chance(),
		Headroom: placing.Headroom(w.plan.Headroom),
	})
	view := make(chan error, 1)
	go func() { view <- r.Run(d.ctx) }()
	select {
	case <-r.Synced():
		w.issue(d.process, "ready", func() { d.placer = placer })
	case <-d.ctx.Done():
	}
	if !w.variant.noHousekeeping {
		w.judge.must(placer.Run(d.ctx))
	}
	w.judge.must(<-view)
}

// chance gives a die of the director's own.
func (d *director) chance() func(most time.Duration) time.Duration {
	die := rand.New(rand.NewPCG(d.world.plan.Seed, 10+uint64(d.number)))
	var mu sync.Mutex
	return func(most time.Duration) time.Duration {
		mu.Lock()
		defer mu.Unlock()
		return time.Duration(die.Int64N(int64(most)))
	}
}

// placeTimeout is how long a director tries to place a group.
const placeTimeout = 15 * time.Second

// enter answers a player as director and frontend together would: with a pass. The world's goroutine calls it.
func (d *director) enter(player guildhall.PlayerID, group guildhall.Group, answer func(any, error)) {
	if d.placer == nil {
		answer(nil, errors.New("not ready"))
		return
	}
	d.calls++
	what := fmt.Sprintf("enter %s %s %d", player, group, d.calls)
	go func() {
		ctx, cancel := context.WithTimeout(d.ctx, placeTimeout)
		defer cancel()
		placement, err := d.placer.Place(ctx, group)
		var entered *entered
		if err == nil {
			entered, err = admit(player, group, placement)
		}
		d.world.issue(d.process, what, func() { answer(entered, err) })
	}()
}

// entered is a way into a room.
type entered struct {
	host  string
	epoch uint64
	pass  string
}

func admit(player guildhall.PlayerID, group guildhall.Group, placement *guildhallv1.Placement) (*entered, error) {
	signed, _, err := pass.NewMinter(passKey).Mint(pass.Pass{
		Player: player, Group: group, Host: guildhall.HostName(placement.GetHost()), Epoch: guildhall.Epoch(placement.GetEpoch()),
	})
	return &entered{host: placement.GetHost(), epoch: placement.GetEpoch(), pass: signed}, err
}

// dial connects to a host's internal address, which is its name.
func (d *director) dial(address string) (placing.HostConn, error) {
	return &hostConn{process: d.process, name: address}, nil
}

// hostConn is a director's connection to a host.
type hostConn struct {
	process *process
	name    string
}

func (c *hostConn) Invoke(ctx context.Context, method string, request, reply any, _ ...grpc.CallOption) error {
	w := c.process.world
	in := request.(proto.Message)
	to := func() *process { return w.find(c.name).process }
	value, err := c.process.call(ctx, fmt.Sprintf("%s %s %v", c.name, method, in), to, func(answer func(any, error)) {
		w.serveInternal(c.name, method, proto.Clone(in), answer)
	})
	if err != nil {
		return asStatus(err)
	}
	proto.Merge(reply.(proto.Message), value.(proto.Message))
	return nil
}

func (c *hostConn) NewStream(context.Context, *grpc.StreamDesc, string, ...grpc.CallOption) (grpc.ClientStream, error) {
	return nil, status.Error(codes.Unimplemented, "hosts have no internal streams")
}

func (c *hostConn) Close() error { return nil }
