package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/rs/xid"

	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
	"github.com/guildhall-dev/guildhall/client"
)

const (
	// maxLine bounds a line of standard input; the room takes less and says so.
	maxLine = 1 << 20
	// leaveWithin bounds how long Ctrl-C waits for acks.
	leaveWithin = 3 * time.Second
	// pageLength is how many messages /history prints if it is not told.
	pageLength = 20
	// pageWithin bounds how long it waits: a host of an earlier version does not answer.
	pageWithin = 10 * time.Second
)

// chatter does what the lines of its input say.
type chatter struct {
	ctx  context.Context //nolint:containedctx // that of the command, which all of it is for
	room *client.Room
	out  *printer
	last *client.Ack // of what was said last; nil if nothing was
}

// chat says what it reads, and leaves when there is no more or ctx ends.
func chat(ctx context.Context, room *client.Room, input io.Reader, out *printer) {
	stop := context.AfterFunc(ctx, func() {
		leaveCtx, cancel := context.WithTimeout(context.Background(), leaveWithin)
		defer cancel()
		_ = room.Leave(leaveCtx) // Room.Err tells
	})
	defer stop()
	c := &chatter{ctx: ctx, room: room, out: out}
	lines := bufio.NewScanner(input)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		if c.line(lines.Text()) != nil {
			return // the room has ended
		}
	}
	if err := lines.Err(); err != nil {
		fmt.Fprintf(os.Stderr, "guildhall: reading standard input: %v\n", err)
	}
	_ = room.Leave(context.WithoutCancel(ctx)) // Room.Err tells
}

// line does what a line says. What it cannot do it tells; its error is the end of the room.
func (c *chatter) line(line string) error {
	parsed, err := parseLine(line)
	if err != nil {
		return c.tell(err)
	}
	switch {
	case parsed.page > 0:
		return c.history(parsed.page)
	case parsed.text == "":
		return nil
	}
	ack, err := c.room.SayAs(c.ctx, &guildhallv1.Say{Id: xid.New().String(), Body: []byte(parsed.text), To: parsed.to})
	if err != nil {
		return c.tell(err)
	}
	c.last = ack
	return nil
}

// tell tells an error, unless it is the end.
func (c *chatter) tell(err error) error {
	if errors.Is(err, client.ErrLeft) || c.ctx.Err() != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "guildhall: %v\n", err)
	return nil
}

// history prints a page of the past, in which is what was said before.
func (c *chatter) history(length int) error {
	ctx, cancel := context.WithTimeout(c.ctx, pageWithin)
	defer cancel()
	if c.last != nil {
		_, _ = c.last.Wait(ctx) // what was refused is not in it; what else there is comes again below
	}
	page, err := c.room.History(ctx, 0, length)
	if err != nil {
		return c.tell(fmt.Errorf("no history: %w", err))
	}
	c.out.printPage(page)
	return nil
}

// lineOf is what a line says: a text, to some or to everybody, or that a page of so many messages is wanted.
type lineOf struct {
	text string
	to   []string
	page int
}

// parseLine reads a line. A command that is none is an error rather than a message: one who mistypes `/to` does not want
// everybody to read on.
func parseLine(line string) (lineOf, error) {
	if rest, escaped := strings.CutPrefix(line, "//"); escaped {
		return lineOf{text: "/" + rest}, nil
	}
	if !strings.HasPrefix(line, "/") {
		return lineOf{text: line}, nil
	}
	command, rest, _ := strings.Cut(line, " ")
	rest = strings.TrimSpace(rest)
	switch command {
	case "/to":
		player, text, _ := strings.Cut(rest, " ")
		if text = strings.TrimSpace(text); player == "" || text == "" {
			return lineOf{}, errors.New("want /to PLAYER text")
		}
		return lineOf{text: text, to: []string{player}}, nil
	case "/history":
		if rest == "" {
			return lineOf{page: pageLength}, nil
		}
		n, err := strconv.ParseUint(rest, 10, 16)
		if err != nil || n == 0 {
			return lineOf{}, errors.New("want /history or /history N, with N from 1 to 200")
		}
		return lineOf{page: int(n)}, nil
	}
	return lineOf{}, fmt.Errorf("there is no %.20s: there are /to PLAYER text, /history [N], and //text to say /text", command)
}
