package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"
	"text/tabwriter"

	"github.com/guildhall-dev/guildhall/embedded"
	"github.com/guildhall-dev/guildhall/internal/process"
)

type upCommand struct {
	Listen     string `default:"127.0.0.1:7777" placeholder:"HOST:PORT" help:"Where players call (default ${default})."`
	GRPCListen string `name:"grpc-listen" placeholder:"HOST:PORT" help:"Where they call by gRPC alone, at two thirds of the cost (default: the next port)."`
	Data       string `placeholder:"DIR" help:"Folder for all that lasts; without it, a temporary one."`
	Hosts      int    `default:"2" help:"Ready hosts to keep (default ${default})."`

	NATS                   string `name:"nats" placeholder:"URL" help:"A real NATS in place of the one in this process. Others on this machine see the command line: what is secret goes into a file (GUILDHALL_NATS_CREDS, GUILDHALL_NATS_TOKEN_FILE) or into the variable GUILDHALL_NATS."`
	OpenmatchFrontend      string `placeholder:"HOST:PORT" help:"A real Open Match in place of the stand-in: its frontend."`
	OpenmatchBackend       string `placeholder:"HOST:PORT" help:"Its backend."`
	OpenmatchQuery         string `placeholder:"HOST:PORT" help:"Its query service."`
	MatchfunctionAdvertise string `placeholder:"HOST:PORT" help:"What Open Match is told to call."`
	AgonesAllocator        string `placeholder:"HOST:PORT" help:"A real Agones allocator in place of the stand-in; the fleet's game servers run roomserver, and none are started here."`

	stack atomic.Pointer[embedded.Stack]
}

// lastAct is for the second Ctrl-C: no process may be left behind.
func (c *upCommand) lastAct() {
	if stack := c.stack.Load(); stack != nil {
		stack.KillHosts()
	}
}

// Help is what --help says below the flags.
func (c *upCommand) Help() string {
	var table strings.Builder
	if err := embedded.Usage(&table); err != nil {
		return err.Error()
	}
	var text strings.Builder
	text.WriteString("The settings of the services apply too, as variables. Addresses, development mode and reflection are " +
		"up's own to decide; so are the keys of passes, unless they are given.\n\n")
	for line := range strings.Lines(table.String()) {
		text.WriteString("    " + line) // indented: the help does not wrap it
	}
	return text.String()
}

// Run runs everything until ctx ends.
func (c *upCommand) Run(ctx context.Context, variables []string) error {
	if c.Hosts < 1 {
		return fmt.Errorf("--hosts %d: want at least 1", c.Hosts)
	}
	config := embedded.Config{
		Listen: c.Listen, GRPCListen: c.GRPCListen, Data: c.Data, Hosts: c.Hosts, NATS: c.NATS,
		OpenmatchFrontend: c.OpenmatchFrontend, OpenmatchBackend: c.OpenmatchBackend, OpenmatchQuery: c.OpenmatchQuery,
		MatchfunctionAdvertise: c.MatchfunctionAdvertise, AgonesAllocator: c.AgonesAllocator,
	}
	if err := config.Load(variables); err != nil {
		return err
	}
	if err := config.Open(); err != nil {
		return err
	}
	defer config.Close()
	common := config.Frontend.Common
	handler, err := process.LogHandler(os.Stderr, common.LogFormat, common.LogLevel)
	if err != nil {
		return err
	}
	config.Logger = slog.New(handler)
	stack, err := embedded.New(config)
	if err != nil {
		return err
	}
	c.stack.Store(stack)
	if err := printParts(stack.Parts()); err != nil {
		return err
	}
	return process.RunAll(ctx, stack, process.Func(func(ctx context.Context) error {
		select {
		case <-stack.Ready():
			fmt.Printf("ready %s\n", stack.URL())
			<-ctx.Done()
		case <-ctx.Done():
		}
		fmt.Println("stopping; Ctrl-C again exits at once")
		return nil
	}))
}

func printParts(parts []embedded.Part) error {
	table := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
	for _, part := range parts {
		admin := ""
		if part.Admin != "" {
			admin = "metrics http://" + part.Admin + "/metrics"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\n", part.Name, part.Address, admin)
	}
	return table.Flush()
}
