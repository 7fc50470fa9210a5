package main

import (
	"context"
	"fmt"

	"connectrpc.com/connect"

	"github.com/guildhall-dev/guildhall"
	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
	"github.com/guildhall-dev/guildhall/api/guildhall/v1/guildhallv1connect"
	"github.com/guildhall-dev/guildhall/client"
	"github.com/guildhall-dev/guildhall/internal/pass"
)

type tokenCommand struct {
	Player string   `required:"" help:"The player."`
	Group  []string `required:"" placeholder:"KIND:ID" help:"The player's groups, separated by commas."`
}

// Run prints a token.
func (c *tokenCommand) Run() error {
	player, err := guildhall.ParsePlayerID(c.Player)
	if err != nil {
		return err
	}
	token := pass.Token{Player: player}
	for _, text := range c.Group {
		group, err := guildhall.ParseGroup(text)
		if err != nil {
			return err
		}
		token.Groups = append(token.Groups, group)
	}
	signed, err := pass.DevelopmentToken(token)
	if err != nil {
		return err
	}
	fmt.Println(signed)
	return nil
}

// mintToken asks a development server for a token.
func mintToken(ctx context.Context, server serverURL, player string, group guildhall.Group) (string, error) {
	development := guildhallv1connect.NewDevelopmentServiceClient(client.NewHTTPClient(), string(server), connect.WithGRPC())
	minted, err := development.MintToken(ctx, connect.NewRequest(&guildhallv1.MintTokenRequest{
		Player: player, Groups: []string{group.String()},
	}))
	if err != nil {
		return "", server.explain(err, "is not a development server: give a player token with --token")
	}
	return minted.Msg.GetToken(), nil
}
