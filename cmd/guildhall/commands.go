package main

import (
	"context"
	"fmt"

	"github.com/alecthomas/kong"

	"github.com/guildhall-dev/guildhall/embedded"
	"github.com/guildhall-dev/guildhall/internal/process"
	"github.com/guildhall-dev/guildhall/roomserver"
)

// commands is the command line. Each flag can be given as a variable too; kong names it by the flag.
type commands struct {
	Up         upCommand         `cmd:"" help:"Run everything on this machine."`
	Enter      enterCommand      `cmd:"" help:"Enter a group's room and chat: a line of standard input is a message."`
	Token      tokenCommand      `cmd:"" help:"Sign a player token with the development key."`
	Rooms      roomsCommand      `cmd:"" help:"List the live rooms."`
	Hosts      hostsCommand      `cmd:"" help:"List the hosts."`
	Load       loadCommand       `cmd:"" help:"Put players into rooms by the thousand, measure, and check what they see."`
	Plan       planCommand       `cmd:"" help:"Reckon what an installation needs for so many players and groups, and what limits it first."`
	Version    versionCommand    `cmd:"" help:"Print the version."`
	Roomserver roomserverCommand `cmd:"" hidden:"" help:"Run one host, as up does for each."`
}

const description = `A live room for every guild and party.

  guildhall up                                      everything on this machine
  guildhall enter --player p1 --group guild:dragons a player in a room, from another terminal`

func run(args []string) error {
	var cli commands
	parser, err := kong.New(&cli, kong.Name("guildhall"), kong.Description(description),
		kong.DefaultEnvars(process.Prefix), kong.ConfigureHelp(kong.HelpOptions{Compact: true}))
	if err != nil {
		return fmt.Errorf("the command line is broken: %w", err)
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	parsed, err := parser.Parse(args)
	if err != nil {
		return fmt.Errorf("%w; --help tells what there is", err)
	}
	variables := flagVariables(parser)
	if parsed.Command() != "roomserver" { // which checks for itself
		var config embedded.Config
		if err := process.CheckUnknown(variables, config.Services()...); err != nil {
			return err
		}
	}
	ctx, stop := process.Signals(context.Background(), cli.Up.lastAct)
	defer stop()
	parsed.BindTo(ctx, (*context.Context)(nil))
	return parsed.Run(variables)
}

// flagVariables lists the variables of all commands' flags.
func flagVariables(parser *kong.Kong) []string {
	var names []string
	var collect func(*kong.Node)
	collect = func(command *kong.Node) {
		for _, flag := range command.Flags {
			names = append(names, flag.Envs...)
		}
		for _, below := range command.Children {
			collect(below)
		}
	}
	collect(parser.Model.Node)
	return names
}

type versionCommand struct{}

// Run prints the version.
func (versionCommand) Run() error {
	fmt.Println(process.Version())
	return nil
}

type roomserverCommand struct{}

// Run runs a host, which is configured by its environment alone.
func (roomserverCommand) Run() error {
	return process.Run("roomserver", nil, roomserver.New)
}
