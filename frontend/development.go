package frontend

import (
	"context"

	"connectrpc.com/connect"

	"github.com/guildhall-dev/guildhall"
	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
	"github.com/guildhall-dev/guildhall/api/guildhall/v1/guildhallv1connect"
	"github.com/guildhall-dev/guildhall/internal/pass"
)

// development answers DevelopmentService.
type development struct{ kinds guildhall.Kinds }

var _ guildhallv1connect.DevelopmentServiceHandler = (*development)(nil)

// MintToken signs a player token for whoever asks.
func (d *development) MintToken(_ context.Context, request *connect.Request[guildhallv1.MintTokenRequest]) (*connect.Response[guildhallv1.MintTokenResponse], error) {
	player, err := guildhall.ParsePlayerID(request.Msg.GetPlayer())
	if err != nil {
		return nil, connect.NewError(connect.CodeInvalidArgument, err)
	}
	token := pass.Token{Player: player}
	for _, text := range request.Msg.GetGroups() {
		group, err := guildhall.ParseGroup(text)
		if err == nil {
			err = d.kinds.Check(group)
		}
		if err != nil {
			return nil, connect.NewError(connect.CodeInvalidArgument, err)
		}
		token.Groups = append(token.Groups, group)
	}
	signed, err := pass.DevelopmentToken(token)
	if err != nil {
		return nil, connect.NewError(connect.CodeInternal, err)
	}
	return connect.NewResponse(&guildhallv1.MintTokenResponse{Token: signed}), nil
}
