package main

import (
	"context"
	"fmt"
	"os"
	"strings"

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

// tokenFlags say as whom to enter.
type tokenFlags struct {
	Token     string `placeholder:"JWT" xor:"token" help:"The player token; without it, a development server mints one. Others on this machine see the command line: in the variable GUILDHALL_TOKEN, or in a file, they do not."`
	TokenFile string `placeholder:"FILE" xor:"token" help:"File with the player token."`
}

// read gives the player token; nothing if there is none.
func (f *tokenFlags) read() (string, error) {
	if f.TokenFile == "" {
		return f.Token, nil
	}
	text, err := os.ReadFile(f.TokenFile)
	if err != nil {
		return "", fmt.Errorf("--token-file: %w", err)
	}
	token := strings.TrimSpace(string(text))
	if token == "" {
		return "", fmt.Errorf("--token-file %s is empty: want a player token", f.TokenFile)
	}
	return token, nil
}

// mintToken asks a development server for a token.
func mintToken(ctx context.Context, server serverURL, player string, group guildhall.Group) (string, error) {
	development := guildhallv1connect.NewDevelopmentServiceClient(client.NewHTTPClient(), string(server), connect.WithGRPC())
	minted, err := development.MintToken(ctx, connect.NewRequest(&guildhallv1.MintTokenRequest{
		Player: player, Groups: []string{group.String()},
	}))
	if err != nil {
		return "", server.explain(err, "is not a development server: give a player token with --token-file, --token or the variable GUILDHALL_TOKEN")
	}
	return minted.Msg.GetToken(), nil
}
