package frontend

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"

	"connectrpc.com/connect"

	"github.com/guildhall-dev/guildhall"
	"github.com/guildhall-dev/guildhall/internal/pass"
)

// door checks who calls and whether the group is theirs.
type door struct {
	keys   pass.PublicKeys
	kinds  guildhall.Kinds
	logger *slog.Logger
}

// visitor is a player before the door of a group that is theirs.
type visitor struct {
	player guildhall.PlayerID
	group  guildhall.Group
}

// check lets a caller in to a group, or says in the call's own terms why not.
func (d *door) check(header http.Header, groupText string) (visitor, error) {
	token, err := d.token(header)
	if err != nil {
		return visitor{}, err
	}
	group, err := guildhall.ParseGroup(groupText)
	if err == nil {
		err = d.kinds.Check(group)
	}
	if err != nil {
		return visitor{}, connect.NewError(connect.CodeInvalidArgument, err)
	}
	if !token.Names(group) {
		return visitor{}, connect.NewError(connect.CodePermissionDenied,
			fmt.Errorf("the token of player %s does not name group %s", token.Player, group))
	}
	return visitor{player: token.Player, group: group}, nil
}

// token checks the player token of a call.
func (d *door) token(header http.Header) (pass.Token, error) {
	scheme, signed, _ := strings.Cut(header.Get("Authorization"), " ")
	if signed == "" || !strings.EqualFold(scheme, "Bearer") {
		return pass.Token{}, connect.NewError(connect.CodeUnauthenticated,
			errors.New("no player token: send the header Authorization: Bearer TOKEN"))
	}
	token, err := pass.ReadToken(d.keys, strings.TrimSpace(signed))
	if err != nil {
		d.logger.Info("a player token was refused", "error", err)
		return pass.Token{}, connect.NewError(connect.CodeUnauthenticated, errors.New("the player token is not valid or has expired"))
	}
	return token, nil
}
