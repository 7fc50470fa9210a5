package director

import (
	"context"
	"net/http"
	"sync"
	"time"

	"connectrpc.com/connect"
	"connectrpc.com/grpchealth"
	"google.golang.org/protobuf/types/known/timestamppb"

	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
	"github.com/guildhall-dev/guildhall/api/guildhall/v1/guildhallv1connect"
	"github.com/guildhall-dev/guildhall/internal/registry"
)

// statsTimeout bounds how long one host may take to tell what it carries.
const statsTimeout = time.Second

// operator answers OperatorService.
type operator struct {
	registry *registry.Registry
	hosts    *hosts
}

var _ guildhallv1connect.OperatorServiceHandler = (*operator)(nil)

func (d *Director) operatorHandler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle(guildhallv1connect.NewOperatorServiceHandler(&operator{registry: d.registry, hosts: d.placer.hosts}))
	mux.Handle(grpchealth.NewHandler(grpchealth.NewStaticChecker(guildhallv1connect.OperatorServiceName)))
	return mux
}

// ListRooms lists claims, with the members that their hosts count.
func (o *operator) ListRooms(ctx context.Context, _ *connect.Request[guildhallv1.ListRoomsRequest]) (*connect.Response[guildhallv1.ListRoomsResponse], error) {
	claims, err := o.registry.Claims(ctx)
	if err != nil {
		return nil, connect.NewError(connect.CodeUnavailable, err)
	}
	members := o.members(ctx)
	response := &guildhallv1.ListRoomsResponse{}
	for _, claim := range claims {
		room := &guildhallv1.Room{
			Group: claim.Group.String(), Host: string(claim.Host), Epoch: uint64(claim.Epoch),
			Since: timestamppb.New(claim.Since),
		}
		if count, known := members[roomKey{room.GetGroup(), room.GetEpoch()}]; known {
			room.Members = &count
		}
		response.Rooms = append(response.Rooms, room)
	}
	return connect.NewResponse(response), nil
}

// roomKey names one room: a group's at one epoch.
type roomKey struct {
	group string
	epoch uint64
}

// members asks every host, all at once, who is in its rooms.
func (o *operator) members(ctx context.Context) map[roomKey]uint32 {
	ctx, cancel := context.WithTimeout(ctx, statsTimeout)
	defer cancel()
	var mu sync.Mutex
	members := map[roomKey]uint32{}
	var asked sync.WaitGroup
	for _, lease := range o.registry.Hosts() {
		asked.Go(func() {
			client, err := o.hosts.client(lease.InternalAddress)
			if err != nil {
				return // shown as unknown
			}
			stats, err := client.Stats(ctx, &guildhallv1.StatsRequest{})
			if err != nil {
				return // shown as unknown
			}
			mu.Lock()
			defer mu.Unlock()
			for _, room := range stats.GetRooms() {
				members[roomKey{room.GetGroup(), room.GetEpoch()}] = room.GetMembers()
			}
		})
	}
	asked.Wait()
	return members
}

// ListHosts lists leases.
func (o *operator) ListHosts(context.Context, *connect.Request[guildhallv1.ListHostsRequest]) (*connect.Response[guildhallv1.ListHostsResponse], error) {
	response := &guildhallv1.ListHostsResponse{}
	for _, lease := range o.registry.Hosts() {
		response.Hosts = append(response.Hosts, &guildhallv1.Host{
			Name: string(lease.Host), State: string(lease.State), Version: lease.Version,
			Rooms: uint32(lease.Rooms), RoomsCapacity: uint32(lease.RoomsCapacity), Players: uint32(lease.Players),
			Address: lease.Address, Pid: int64(lease.PID),
		})
	}
	return connect.NewResponse(response), nil
}
