package load

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"syscall"
	"time"

	"connectrpc.com/connect"

	"github.com/guildhall-dev/guildhall"
	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
)

// killer kills hosts that have rooms of a run.
type killer struct {
	churn  *churn
	meter  *meter // its own
	killed int
}

// check says whether there is a host that can be killed from here.
func (k *killer) check(ctx context.Context) error {
	if err := k.meter.find(ctx); err != nil && len(k.meter.here) == 0 {
		return fmt.Errorf("--kill-every: %w (%w)", errNoHostHere, err)
	}
	return nil
}

// kill kills a host every so often until ctx ends.
func (k *killer) kill(ctx context.Context) {
	if k.churn.KillEvery == 0 {
		return
	}
	for rest(ctx, seconds(k.churn.KillEvery)) {
		k.killOne(ctx)
	}
}

// killOne kills one of the hosts that have rooms, if there is one.
func (k *killer) killOne(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	listed, err := k.meter.operator.ListHosts(ctx, connect.NewRequest(&guildhallv1.ListHostsRequest{}))
	if err != nil {
		return // the next time
	}
	rooms, err := k.rooms(ctx)
	if err != nil {
		return
	}
	hosts := listed.Msg.GetHosts()
	for _, i := range rand.Perm(len(hosts)) {
		h := hosts[i]
		hit := rooms[guildhall.HostName(h.GetName())]
		// Not as it was known before: a process that has its number by now would be killed.
		if _, port, err := net.SplitHostPort(h.GetAddress()); len(hit) == 0 || err != nil || !listensAt(h.GetPid(), port) {
			continue
		}
		for mine, epoch := range hit {
			mine.lost(epoch)
		}
		if err := syscall.Kill(int(h.GetPid()), syscall.SIGKILL); err == nil {
			k.killed++
		}
		return
	}
}

// rooms gives the groups of this run that each host has, and the epochs of their rooms.
func (k *killer) rooms(ctx context.Context) (map[guildhall.HostName]map[*circle]guildhall.Epoch, error) {
	listed, err := k.meter.operator.ListRooms(ctx, connect.NewRequest(&guildhallv1.ListRoomsRequest{}))
	if err != nil {
		return nil, err
	}
	ours := map[string]*circle{}
	for _, c := range k.churn.circles {
		ours[c.group.String()] = c
	}
	rooms := map[guildhall.HostName]map[*circle]guildhall.Epoch{}
	for _, room := range listed.Msg.GetRooms() {
		mine := ours[room.GetGroup()]
		if mine == nil {
			continue
		}
		name := guildhall.HostName(room.GetHost())
		if rooms[name] == nil {
			rooms[name] = map[*circle]guildhall.Epoch{}
		}
		rooms[name][mine] = guildhall.Epoch(room.GetEpoch())
	}
	return rooms, nil
}

func listensAt(pid int64, port string) bool {
	number, err := strconv.Atoi(port)
	return err == nil && pid > 1 && listens(int(pid), number)
}
