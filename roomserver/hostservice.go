package roomserver

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/guildhall-dev/guildhall"
	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
	"github.com/guildhall-dev/guildhall/internal/tracing"
)

// hostService answers HostService.
type hostService struct {
	guildhallv1.UnimplementedHostServiceServer
	host *host
}

var _ guildhallv1.HostServiceServer = (*hostService)(nil)

// OpenRoom opens the room that a claim gives to this host.
func (h *hostService) OpenRoom(ctx context.Context, request *guildhallv1.OpenRoomRequest) (*guildhallv1.OpenRoomResponse, error) {
	group, err := guildhall.ParseGroup(request.GetGroup())
	if err == nil {
		err = h.host.kinds.Check(group)
	}
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	ctx, span := h.host.tracer.StartFrom(ctx, tracing.Incoming(ctx), "open room", tracing.Server, time.Time{})
	span.Kind(group.Kind)
	_, err = h.host.open(ctx, group, guildhall.Epoch(request.GetEpoch()))
	span.End(err)
	if err != nil {
		return nil, status.Error(openCode(err), err.Error())
	}
	rooms, _ := h.host.countRooms()
	return &guildhallv1.OpenRoomResponse{Rooms: uint32(rooms)}, nil
}

func openCode(err error) codes.Code {
	switch {
	case errors.Is(err, errHostFull):
		return codes.ResourceExhausted
	case errors.Is(err, errHostLeaving):
		return codes.Aborted
	case errors.Is(err, errNotClaimed):
		return codes.FailedPrecondition
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return status.FromContextError(err).Code()
	}
	return codes.Internal
}

// Keep begins the idle grace anew.
func (h *hostService) Keep(context.Context, *guildhallv1.KeepRequest) (*guildhallv1.KeepResponse, error) {
	if err := h.host.keep(); err != nil {
		return nil, status.Error(openCode(err), err.Error())
	}
	return &guildhallv1.KeepResponse{IdleGrace: durationpb.New(h.host.idleGrace)}, nil
}

// Disown gives back claims that have no room here.
func (h *hostService) Disown(ctx context.Context, request *guildhallv1.DisownRequest) (*guildhallv1.DisownResponse, error) {
	response := &guildhallv1.DisownResponse{}
	for _, claim := range request.GetClaims() {
		group, err := guildhall.ParseGroup(claim.GetGroup())
		if err != nil {
			return nil, status.Error(codes.InvalidArgument, err.Error())
		}
		if h.host.disownUnused(ctx, group, guildhall.Epoch(claim.GetEpoch())) {
			response.Disowned++
		}
	}
	return response, nil
}

// Evict ends every session of a player in one room.
func (h *hostService) Evict(ctx context.Context, request *guildhallv1.EvictRequest) (*guildhallv1.EvictResponse, error) {
	group, groupErr := guildhall.ParseGroup(request.GetGroup())
	player, playerErr := guildhall.ParsePlayerID(request.GetPlayer())
	if err := errors.Join(groupErr, playerErr); err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	notHere := status.Errorf(codes.NotFound, "the room of %s is not here", group)
	room := h.host.room(group)
	if room == nil {
		return nil, notHere
	}
	asked := &evict{player: player, reason: "you were removed from the room", evicted: make(chan int, 1)}
	if !room.post(ctx.Done(), asked) {
		return nil, notHere
	}
	select {
	case n := <-asked.evicted:
		return &guildhallv1.EvictResponse{Sessions: uint32(n)}, nil
	case <-room.over:
		return nil, notHere
	case <-ctx.Done():
		return nil, status.FromContextError(ctx.Err()).Err()
	}
}

// Drain moves every room away.
func (h *hostService) Drain(ctx context.Context, _ *guildhallv1.DrainRequest) (*guildhallv1.DrainResponse, error) {
	if err := h.host.drain(ctx); err != nil {
		return nil, status.FromContextError(err).Err()
	}
	return &guildhallv1.DrainResponse{}, nil
}

// Stats tells what the host carries.
func (h *hostService) Stats(context.Context, *guildhallv1.StatsRequest) (*guildhallv1.StatsResponse, error) {
	response := &guildhallv1.StatsResponse{}
	for _, r := range h.host.openRooms() {
		response.Rooms = append(response.Rooms, &guildhallv1.RoomStats{
			Group: r.group.String(), Epoch: uint64(r.epoch), Members: uint32(r.members.Load()), LastSeq: r.lastSeq.Load(),
		})
	}
	slices.SortFunc(response.GetRooms(), func(a, b *guildhallv1.RoomStats) int { return cmp.Compare(a.GetGroup(), b.GetGroup()) })
	return response, nil
}
