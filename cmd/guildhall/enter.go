package main

import (
	"context"
	"errors"
	"log/slog"
	"os"

	"connectrpc.com/connect"

	"github.com/guildhall-dev/guildhall"
	"github.com/guildhall-dev/guildhall/client"
	"github.com/guildhall-dev/guildhall/internal/process"
)

type enterCommand struct {
	serverFlag
	Player string `required:"" help:"The player."`
	Group  string `required:"" placeholder:"KIND:ID" help:"The group, for example guild:dragons."`
	tokenFlags
	After *int64 `xor:"past" placeholder:"N" help:"Show the retained messages after this number first; 0 for all."`
	Last  uint32 `xor:"past" placeholder:"N" help:"Show the last N messages first."`
	WS    bool   `name:"ws" help:"Speak WebSocket to the room's host, in place of gRPC."`
	JSON  bool   `name:"json" help:"Print one JSON object a line."`
}

// Help tells what a line may be.
func (*enterCommand) Help() string {
	return `A line of standard input is a message to everybody, unless it begins with a slash:

  /to PLAYER text     a message that only this player sees
  /history [N]        print the last N messages (default 20)
  //text              say "/text"

The end of input waits until all is said, and leaves.`
}

// Run enters and chats until standard input, the room or ctx ends.
func (c *enterCommand) Run(ctx context.Context) error {
	group, err := guildhall.ParseGroup(c.Group)
	if err != nil {
		return err
	}
	token, err := c.read()
	if err != nil {
		return err
	}
	if token == "" {
		if token, err = mintToken(ctx, c.Server, c.Player, group); err != nil {
			return err
		}
	}
	config := client.Config{Server: string(c.Server), Token: token, Last: int(c.Last)}
	if c.WS {
		config.Transport = client.WebSocket
	}
	if !c.JSON {
		handler, err := process.LogHandler(os.Stderr, "pretty", slog.LevelInfo)
		if err != nil {
			return err
		}
		config.Logger = slog.New(handler)
	}
	if c.After != nil {
		after := guildhall.Seq(max(0, *c.After))
		config.After = &after
	}
	room, err := client.Join(context.WithoutCancel(ctx), config, group)
	if err != nil {
		return err
	}
	out := newPrinter(c.JSON)
	printed := make(chan struct{})
	go func() {
		defer close(printed)
		for event := range room.Events() {
			out.print(event)
		}
	}()
	go chat(ctx, room, os.Stdin, out) // ends with its input, or with the process
	<-printed
	var refused *connect.Error
	if err := room.Err(); errors.As(err, &refused) {
		return errors.New(refused.Message())
	} else if err != nil && ctx.Err() == nil {
		return err
	}
	return nil
}
