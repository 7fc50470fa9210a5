package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"connectrpc.com/connect"

	"github.com/guildhall-dev/guildhall"
	"github.com/guildhall-dev/guildhall/client"
	"github.com/guildhall-dev/guildhall/internal/process"
)

type enterCommand struct {
	serverFlag
	Player string `required:"" help:"The player."`
	Group  string `required:"" placeholder:"KIND:ID" help:"The group, for example guild:dragons."`
	Token  string `placeholder:"JWT" help:"The player token; without it, a development server mints one."`
	After  *int64 `placeholder:"N" help:"Show the retained messages after this number first; 0 for all."`
	JSON   bool   `name:"json" help:"Print one JSON object a line."`
}

const (
	// maxLine bounds a line of standard input; the room takes less and says so.
	maxLine = 1 << 20
	// leaveWithin bounds how long Ctrl-C waits for acks.
	leaveWithin = 3 * time.Second
)

// Run enters and chats until standard input, the room or ctx ends.
func (c *enterCommand) Run(ctx context.Context) error {
	group, err := guildhall.ParseGroup(c.Group)
	if err != nil {
		return err
	}
	if c.Token == "" {
		if c.Token, err = mintToken(ctx, c.Server, c.Player, group); err != nil {
			return err
		}
	}
	config := client.Config{Server: string(c.Server), Token: c.Token}
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
	printed := make(chan struct{})
	go func() {
		defer close(printed)
		out := newPrinter(c.JSON)
		for event := range room.Events() {
			out.print(event)
		}
	}()
	go chat(ctx, room, os.Stdin) // ends with its input, or with the process
	<-printed
	var refused *connect.Error
	if err := room.Err(); errors.As(err, &refused) {
		return errors.New(refused.Message())
	} else if err != nil && ctx.Err() == nil {
		return err
	}
	return nil
}

// chat says what it reads, and leaves when there is no more or ctx ends.
func chat(ctx context.Context, room *client.Room, input io.Reader) {
	stop := context.AfterFunc(ctx, func() {
		leaveCtx, cancel := context.WithTimeout(context.Background(), leaveWithin)
		defer cancel()
		_ = room.Leave(leaveCtx) // Room.Err tells
	})
	defer stop()
	lines := bufio.NewScanner(input)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		if len(lines.Bytes()) == 0 {
			continue
		}
		body := append([]byte(nil), lines.Bytes()...)
		if _, err := room.Say(ctx, body); err != nil {
			return
		}
	}
	if err := lines.Err(); err != nil {
		fmt.Fprintf(os.Stderr, "guildhall: reading standard input: %v\n", err)
	}
	_ = room.Leave(context.WithoutCancel(ctx)) // Room.Err tells
}
