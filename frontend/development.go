package frontend

import (
	"connectrpc.com/connect"

	"github.com/guildhall-dev/guildhall"
	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
	"github.com/guildhall-dev/guildhall/internal/pass"
)

// development answers DevelopmentService, whatever carries it.
type development struct{ kinds guildhall.Kinds }

// mintToken signs a player token for whoever asks.
func (d *development) mintToken(request *guildhallv1.MintTokenRequest) (*guildhallv1.MintTokenResponse, error) {
	player, err := guildhall.ParsePlayerID(request.GetPlayer())
	if err != nil {
		return nil, connect.NewError(connect.CodeInvalidArgument, err)
	}
	token := pass.Token{Player: player}
	for _, text := range request.GetGroups() {
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
	return &guildhallv1.MintTokenResponse{Token: signed}, nil
}
