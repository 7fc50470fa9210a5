package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"github.com/guildhall-dev/guildhall/client"
	"github.com/guildhall-dev/guildhall/load"
)

// loadCommand measures a server.
type loadCommand struct {
	Storm  stormCommand  `cmd:"" help:"Players of many groups come all at once: how fast they are seated, and that no group has two rooms."`
	Fanout fanoutCommand `cmd:"" help:"Members talk at a steady rate: what is delivered, how late, and at what cost."`
	Churn  churnCommand  `cmd:"" help:"Players come, talk, leave and are cut off, and hosts are killed: whether everybody sees everything, once, in order."`
	Idle   idleCommand   `cmd:"" help:"Players who say nothing: what a connection costs in memory."`
}

// Help is what --help says below the flags.
func (loadCommand) Help() string {
	return `Each prints a table, or one JSON object with --json, and exits with an error if a promise was broken. Ctrl-C ends early and prints what was measured until then.

CPU and memory are read from the server's hosts if they run on this machine; they are null otherwise.`
}

// loadFlags are what all of them take.
type loadFlags struct {
	serverFlag
	GRPC     string `name:"grpc" placeholder:"HOST:PORT" help:"Enter at the frontend's gRPC port, at two thirds of the cost; over TLS if the server's URL is https."`
	TokenKey string `placeholder:"FILE" help:"Sign player tokens with this private key (PEM, Ed25519); without it, a development server mints them."`
	Capacity int    `placeholder:"N" help:"Players that a room of a guild seats, if the server's kinds are not the default ones."`
	JSON     bool   `name:"json" help:"Print one JSON object."`
	HTML     string `name:"html" placeholder:"FILE" help:"Write a page with plots, too."`
}

// transportFlag says how hosts are spoken to.
type transportFlag struct {
	WS bool `name:"ws" help:"Speak WebSocket to hosts, in place of gRPC."`
}

func (f transportFlag) transport() client.Transport {
	if f.WS {
		return client.WebSocket
	}
	return client.GRPC
}

// span is a number of seconds, which may also be written with a unit.
type span float64

// UnmarshalText takes 30, 1.5 or 90s.
func (s *span) UnmarshalText(text []byte) error {
	if number, err := strconv.ParseFloat(string(text), 64); err == nil {
		*s = span(number)
		return nil
	}
	d, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("%q is no time: want seconds, such as 30, or a duration, such as 2m", text)
	}
	*s = span(d.Seconds())
	return nil
}

type stormCommand struct {
	loadFlags
	transportFlag
	Groups  int  `required:"" placeholder:"G" help:"Groups."`
	Players int  `required:"" placeholder:"P" help:"Players, in all."`
	Assign  bool `help:"End each player's way at the assignment, without taking the seat."`
}

// Run lets everybody come at once.
func (c *stormCommand) Run(ctx context.Context) error {
	return measure(c.loadFlags, c.transportFlag, func(config load.Config) (load.Result, error) {
		return orNone(load.Storm(ctx, load.StormConfig{Config: config, Groups: c.Groups, Players: c.Players, Assign: c.Assign}))
	})
}

type fanoutCommand struct {
	loadFlags
	transportFlag
	Rooms   int     `required:"" placeholder:"R" help:"Rooms."`
	Members int     `required:"" placeholder:"M" help:"Members of each room."`
	Rate    float64 `required:"" placeholder:"N" help:"Messages a second, over all rooms. Members take turns."`
	Seconds span    `required:"" placeholder:"S" help:"For how long it is measured."`
	Warmup  span    `default:"2" placeholder:"S" help:"For how long they talk before (default ${default})."`
	Size    int     `default:"120" placeholder:"BYTES" help:"Size of a message (default ${default})."`
	Signal  bool    `help:"Send signals, which are not kept and may be dropped, in place of messages."`
}

// Run lets members talk.
func (c *fanoutCommand) Run(ctx context.Context) error {
	return measure(c.loadFlags, c.transportFlag, func(config load.Config) (load.Result, error) {
		return orNone(load.Fanout(ctx, load.FanoutConfig{
			Config: config, Rooms: c.Rooms, Members: c.Members, Rate: c.Rate, Seconds: float64(c.Seconds), Warmup: float64(c.Warmup),
			Size: c.Size, Signal: c.Signal,
		}))
	})
}

type churnCommand struct {
	loadFlags
	transportFlag
	Seconds   span    `required:"" placeholder:"S" help:"For how long."`
	KillEvery span    `placeholder:"S" help:"Kill a host that has rooms of this run every so often, with kill -9. It must run on this machine."`
	Groups    int     `default:"10" placeholder:"G" help:"Groups (default ${default})."`
	Players   int     `default:"100" placeholder:"P" help:"Players, in all (default ${default})."`
	Rate      float64 `default:"100" placeholder:"N" help:"Messages a second that all of them say together (default ${default})."`
}

// Run lets players come and go.
func (c *churnCommand) Run(ctx context.Context) error {
	return measure(c.loadFlags, c.transportFlag, func(config load.Config) (load.Result, error) {
		return orNone(load.Churn(ctx, load.ChurnConfig{
			Config: config, Seconds: float64(c.Seconds), KillEvery: float64(c.KillEvery), Groups: c.Groups, Players: c.Players, Rate: c.Rate,
		}))
	})
}

type idleCommand struct {
	loadFlags
	transportFlag
	Connections int  `required:"" placeholder:"N" help:"Connections."`
	Groups      int  `placeholder:"G" help:"Groups that they are spread over; without it, as many as fill their rooms to the half."`
	Settle      span `default:"20" placeholder:"S" help:"For how long at most memory is watched until it is steady (default ${default})."`
}

// Run lets players be quiet.
func (c *idleCommand) Run(ctx context.Context) error {
	return measure(c.loadFlags, c.transportFlag, func(config load.Config) (load.Result, error) {
		return orNone(load.Idle(ctx, load.IdleConfig{Config: config, Connections: c.Connections, Groups: c.Groups, Settle: float64(c.Settle)}))
	})
}

// orNone gives no result, rather than a nil one of a type, beside an error.
func orNone[R load.Result](result R, err error) (load.Result, error) {
	if err != nil {
		return nil, err
	}
	return result, nil
}

// measure does one run and prints what came of it.
func measure(flags loadFlags, transport transportFlag, do func(load.Config) (load.Result, error)) error {
	config := load.Config{Server: string(flags.Server), GRPC: flags.GRPC, Transport: transport.transport(), Capacity: flags.Capacity}
	if flags.TokenKey != "" {
		tokens, err := load.SignTokens(flags.TokenKey)
		if err != nil {
			return fmt.Errorf("--token-key: %w", err)
		}
		config.Tokens = tokens
	}
	page, err := flags.openPage()
	if err != nil {
		return err
	}
	bar := newBar()
	config.Progress = bar.show
	result, err := do(config)
	bar.clear()
	if err != nil {
		return errors.Join(flags.explain(err), page.abandon())
	}
	if err := errors.Join(flags.print(result), page.write(result)); err != nil {
		return err
	}
	if breaches := result.Breaches(); len(breaches) > 0 {
		return fmt.Errorf("a promise was broken: %s", strings.Join(breaches, "; "))
	}
	return nil
}

func (f *loadFlags) explain(err error) error {
	if errors.Is(err, load.ErrNoDevelopment) {
		return fmt.Errorf("%s is not a development server: sign player tokens with --token-key", f.Server)
	}
	return f.Server.explain(err, "is not a Guildhall server")
}

func (f *loadFlags) print(result load.Result) error {
	if f.JSON {
		return json.NewEncoder(os.Stdout).Encode(result)
	}
	return result.Report().WriteTable(os.Stdout)
}

// page is the file for HTML; nil if there is none. It is opened before the run: who cannot write wants to know at once.
type page struct{ file *os.File }

func (f *loadFlags) openPage() (*page, error) {
	if f.HTML == "" {
		return nil, nil
	}
	file, err := os.Create(f.HTML)
	if err != nil {
		return nil, fmt.Errorf("--html: %w", err)
	}
	return &page{file}, nil
}

func (p *page) write(result load.Result) error {
	if p == nil {
		return nil
	}
	return errors.Join(result.Report().WriteHTML(p.file, time.Now()), p.file.Close())
}

// abandon leaves no empty page behind.
func (p *page) abandon() error {
	if p == nil {
		return nil
	}
	return errors.Join(p.file.Close(), os.Remove(p.file.Name()))
}

// bar shows progress on a terminal, and nothing where standard error is none.
type bar struct {
	stage string
	shown *progressbar.ProgressBar
	quiet bool
}

func newBar() *bar { return &bar{quiet: !term.IsTerminal(int(os.Stderr.Fd()))} }

func (b *bar) show(stage string, done, total int) {
	if b.quiet {
		return
	}
	if b.shown == nil || stage != b.stage {
		b.clear()
		b.stage = stage
		b.shown = progressbar.NewOptions(total, progressbar.OptionSetWriter(os.Stderr), progressbar.OptionSetDescription(stage),
			progressbar.OptionSetWidth(30), progressbar.OptionClearOnFinish(), progressbar.OptionSetPredictTime(false))
	}
	_ = b.shown.Set(done) // a bar that cannot be drawn is no reason to end
}

func (b *bar) clear() {
	if b.shown != nil {
		_ = b.shown.Clear()
		b.shown = nil
	}
}
