package director

import (
	"context"
	"errors"
	"fmt"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/guildhall-dev/guildhall"
	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
	"github.com/guildhall-dev/guildhall/internal/registry"
)

// Ban writes a ban; hosts and frontends see it in the registry.
func (o *operator) Ban(ctx context.Context, request *connect.Request[guildhallv1.BanRequest]) (*connect.Response[guildhallv1.BanResponse], error) {
	group, player, err := whom(request.Msg)
	if err != nil {
		return nil, err
	}
	ban := registry.Ban{Reason: request.Msg.GetReason()}
	if duration := request.Msg.GetDuration(); duration != nil {
		if err := duration.CheckValid(); err != nil || duration.AsDuration() <= 0 {
			return nil, connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("duration %v: want more than 0, or none for good", duration))
		}
		ban.Until = time.Now().Add(duration.AsDuration())
	}
	if err := o.registry.Ban(ctx, group, player, ban); err != nil {
		return nil, connect.NewError(connect.CodeUnavailable, err)
	}
	return connect.NewResponse(&guildhallv1.BanResponse{}), nil
}

// Unban lifts a ban.
func (o *operator) Unban(ctx context.Context, request *connect.Request[guildhallv1.UnbanRequest]) (*connect.Response[guildhallv1.UnbanResponse], error) {
	group, player, err := whom(request.Msg)
	if err != nil {
		return nil, err
	}
	if err := o.registry.Unban(ctx, group, player); err != nil {
		return nil, connect.NewError(connect.CodeUnavailable, err)
	}
	return connect.NewResponse(&guildhallv1.UnbanResponse{}), nil
}

// ListBans lists the bans that hold.
func (o *operator) ListBans(ctx context.Context, _ *connect.Request[guildhallv1.ListBansRequest]) (*connect.Response[guildhallv1.ListBansResponse], error) {
	bans, err := o.registry.Bans(ctx)
	if err != nil {
		return nil, connect.NewError(connect.CodeUnavailable, err)
	}
	response := &guildhallv1.ListBansResponse{}
	for _, ban := range bans {
		shown := &guildhallv1.Ban{
			Group: ban.Group.String(), Player: string(ban.Player), Since: timestamppb.New(ban.Since), Reason: ban.Reason,
		}
		if !ban.Until.IsZero() {
			shown.Until = timestamppb.New(ban.Until)
		}
		response.Bans = append(response.Bans, shown)
	}
	return connect.NewResponse(response), nil
}

// whom reads who is meant.
func whom(request interface {
	GetGroup() string
	GetPlayer() string
}) (guildhall.Group, guildhall.PlayerID, error) {
	group, groupErr := guildhall.ParseGroup(request.GetGroup())
	player, playerErr := guildhall.ParsePlayerID(request.GetPlayer())
	if err := errors.Join(groupErr, playerErr); err != nil {
		return guildhall.Group{}, "", connect.NewError(connect.CodeInvalidArgument, err)
	}
	return group, player, nil
}
