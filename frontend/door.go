package frontend

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"connectrpc.com/connect"

	"github.com/guildhall-dev/guildhall"
	"github.com/guildhall-dev/guildhall/internal/pass"
	"github.com/guildhall-dev/guildhall/internal/registry"
)

// door checks who calls and whether the group is theirs.
type door struct {
	keys   func() pass.PublicKeys // as they are now
	kinds  guildhall.Kinds
	banned func(guildhall.Group, guildhall.PlayerID) (registry.Ban, bool)
	turns  *turns
	logger *slog.Logger
}

// visitor is a player before the door of a group that is theirs.
type visitor struct {
	player guildhall.PlayerID
	group  guildhall.Group
}

// check lets a caller in to a group, or says in the call's own terms why not.
func (d *door) check(from caller, groupText string) (visitor, error) {
	token, err := d.token(from)
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
	who := visitor{player: token.Player, group: group}
	return who, d.checkBan(who)
}

// checkBan says when and why a player may not be in the group's room. The view knows of a ban moments after it was made.
func (d *door) checkBan(who visitor) error {
	ban, banned := d.banned(who.group, who.player)
	if !banned {
		return nil
	}
	until := "for good"
	if !ban.Until.IsZero() {
		until = "until " + ban.Until.UTC().Format(time.RFC3339)
	}
	return connect.NewError(connect.CodePermissionDenied, fmt.Errorf("player %s is banned from %s %s: %s", who.player, who.group, until, cmp.Or(ban.Reason, "no reason was given")))
}

// token checks the player token of a call.
func (d *door) token(from caller) (pass.Token, error) {
	scheme, signed, _ := strings.Cut(from.authorization, " ")
	if signed == "" || !strings.EqualFold(scheme, "Bearer") {
		return pass.Token{}, connect.NewError(connect.CodeUnauthenticated,
			errors.New("no player token: send the header Authorization: Bearer TOKEN"))
	}
	var token pass.Token
	var err error
	d.turns.do(func() { token, err = pass.ReadToken(d.keys(), strings.TrimSpace(signed)) })
	if err != nil {
		d.logger.Info("a player token was refused", "error", err)
		return pass.Token{}, connect.NewError(connect.CodeUnauthenticated, errors.New("the player token is not valid or has expired"))
	}
	return token, nil
}
