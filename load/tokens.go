package load

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"net/http"
	"time"

	"connectrpc.com/connect"

	"github.com/guildhall-dev/guildhall"
	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
	"github.com/guildhall-dev/guildhall/api/guildhall/v1/guildhallv1connect"
	"github.com/guildhall-dev/guildhall/internal/pass"
)

// Tokens gives a player's token. It is called from many goroutines.
type Tokens func(context.Context, guildhall.PlayerID, guildhall.Group) (string, error)

// ErrNoDevelopment says that the server mints no tokens: sign them with the key of its login.
var ErrNoDevelopment = errors.New("not a development server")

// SignTokens signs tokens with the private key in a file: the one whose public half the frontend has.
func SignTokens(keyFile string) (Tokens, error) {
	key, err := pass.LoadPrivateKey(keyFile)
	if err != nil {
		return nil, err
	}
	return func(_ context.Context, player guildhall.PlayerID, group guildhall.Group) (string, error) {
		return pass.SignToken(key, pass.Token{Player: player, Groups: []guildhall.Group{group}}, MaxSeconds*time.Second+time.Hour)
	}, nil
}

// mint asks a development server for tokens.
func mint(server string, calls []*http.Client) Tokens {
	services := make([]guildhallv1connect.DevelopmentServiceClient, len(calls))
	for i, call := range calls {
		services[i] = guildhallv1connect.NewDevelopmentServiceClient(call, server, connect.WithGRPC())
	}
	return func(ctx context.Context, player guildhall.PlayerID, group guildhall.Group) (string, error) {
		h := fnv.New32a()
		_, _ = h.Write([]byte(player)) // a hash takes everything
		minted, err := services[int(h.Sum32())%len(services)].MintToken(ctx, connect.NewRequest(&guildhallv1.MintTokenRequest{
			Player: string(player), Groups: []string{group.String()},
		}))
		if connect.CodeOf(err) == connect.CodeUnimplemented {
			return "", fmt.Errorf("%s: %w", server, ErrNoDevelopment)
		}
		if err != nil {
			return "", err
		}
		return minted.Msg.GetToken(), nil
	}
}
