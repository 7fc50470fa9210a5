package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"

	"github.com/guildhall-dev/guildhall/internal/capacity"
)

// planCommand reckons what an installation needs.
type planCommand struct {
	Players           int      `required:"" placeholder:"N" help:"Players who are connected at once."`
	Groups            int      `required:"" placeholder:"G" help:"Groups whose rooms are live at once."`
	MessagesPerSecond *float64 `placeholder:"M" help:"Messages that all players together say each second; without it, one a minute for each player."`
	MessageBytes      int      `placeholder:"BYTES" default:"120" help:"Size of a message (default ${default})."`
	Churn             *float64 `placeholder:"J" help:"Players who enter each second, and as many leave; without it, each stays for half an hour."`
	KindCapacity      int      `placeholder:"P" default:"1000" help:"Players that a room seats (default ${default})."`
	RoomsPerHost      int      `placeholder:"R" default:"50" help:"Rooms on one host (default ${default})."`
	History           int      `placeholder:"H" default:"1000" help:"Messages kept of each group (default ${default})."`
	NodeCores         int      `placeholder:"C" default:"16" help:"Cores of a node (default ${default})."`
	NodeMemory        int      `placeholder:"GIB" default:"64" help:"Memory of a node (default ${default})."`
	NodeHosts         int      `placeholder:"H" default:"100" help:"Hosts on a node at most; Kubernetes runs 110 pods on one (default ${default})."`
	BatchWait         span     `placeholder:"S" default:"0.5" help:"Agones' allocationBatchWaitTime (default ${default})."`
	Margin            float64  `placeholder:"F" default:"1.3" help:"By how much everything is larger than what is needed (default ${default})."`
	JSON              bool     `name:"json" help:"Print one JSON object."`
}

// Help is what --help says below the flags.
func (planCommand) Help() string {
	return `It is arithmetic, from what was measured on a small machine, and asks no server. docs/scaling.md tells which of it has been measured and which has not.

  guildhall plan --players 10000000 --groups 500000`
}

// Run prints the plan.
func (c *planCommand) Run() error {
	load := c.load()
	if err := load.Check(); err != nil {
		return err
	}
	plan := capacity.New(load)
	if c.JSON {
		return json.NewEncoder(os.Stdout).Encode(plan)
	}
	return writePlan(os.Stdout, plan)
}

func (c *planCommand) load() capacity.Load {
	load := capacity.Load{
		Players: c.Players, Groups: c.Groups, MessageBytes: c.MessageBytes,
		KindCapacity: c.KindCapacity, RoomsPerHost: c.RoomsPerHost, History: c.History, NodeCores: c.NodeCores, NodeMemory: c.NodeMemory,
		NodeHosts: c.NodeHosts, BatchWait: float64(c.BatchWait), Margin: c.Margin,
	}
	load.MessagesPerSecond = orElse(c.MessagesPerSecond, float64(c.Players)/time.Minute.Seconds())
	load.Churn = orElse(c.Churn, float64(c.Players)/(30*time.Minute).Seconds())
	return load
}

func orElse(given *float64, otherwise float64) float64 {
	if given != nil {
		return *given
	}
	return otherwise
}

// writePlan writes a plan for people.
func writePlan(to io.Writer, p capacity.Plan) error {
	table := tabwriter.NewWriter(to, 0, 4, 2, ' ', 0)
	line := func(columns ...any) {
		for i, column := range columns {
			if i > 0 {
				fmt.Fprint(table, "\t")
			}
			fmt.Fprint(table, column)
		}
		fmt.Fprintln(table)
	}
	n := capacity.Grouped
	count := func(n int) string { return capacity.Grouped(float64(n)) }
	service := func(s capacity.Service) []any { return []any{count(s.Replicas), n(s.Cores), n(s.MemoryMiB)} }
	row := func(name string, s capacity.Service, more string) {
		line(append(append([]any{name}, service(s)...), more)...)
	}

	fmt.Fprintf(to, "%s players in %s groups: %s messages and %s deliveries, %s players who enter and %s rooms that open, each second.\n\n",
		count(p.Load.Players), count(p.Load.Groups), n(p.Load.MessagesPerSecond), n(p.Deliveries), n(p.Load.Churn), n(p.Opens))
	line("part", "replicas", "cores", "MiB", "")
	row("frontend", p.Frontend, "")
	row("matchfunction", p.Matcher, "")
	row("director", p.Director.Service, fmt.Sprintf("GUILDHALL_SHARDS=%d", p.Director.Shards))
	row("host", p.Hosts.Service, fmt.Sprintf("on %s in %s, %d host ports on a node", counted(p.Hosts.Nodes, "node"), counted(p.Hosts.Clusters, "Kubernetes cluster"), p.Hosts.PortsPerNode))
	row("NATS node", p.NATS.Service, fmt.Sprintf("GUILDHALL_LOG_STREAMS=%d, %s GiB of disk each, %s MB/s between them, back %s s after a restart",
		p.NATS.Streams, n(p.NATS.DiskGiB), n(p.NATS.ReplicationMBps), n(p.NATS.RestartSeconds)))
	line("Open Match", "", n(p.OpenMatch.Cores), "", fmt.Sprintf("%s tickets a second; Redis of %s MiB", n(p.OpenMatch.Tickets), n(p.OpenMatch.RedisMiB)))
	line("Agones", "", "", "", fmt.Sprintf("%s allocations a second; all hosts from nothing in %s s", n(p.Allocator.Allocations), n(p.Allocator.FromNothing)))
	line()
	line("what limits, first things first", "use", "takes", "of", "")
	for _, l := range p.Limits {
		line(l.What, fmt.Sprintf("%.0f %%", 100*l.Use), n(l.Demand), n(l.Most)+" "+l.In, l.Then)
	}
	return table.Flush()
}

// counted gives a number of things.
func counted(n int, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return capacity.Grouped(float64(n)) + " " + thing
}
