package capacity

import (
	"fmt"
	"strings"
)

// unit is what one thing costs, or how much of it there can be.
type unit struct {
	what  string
	value float64
	in    string
	// basis says how it is known.
	basis basis
	// from is where it is written down and how to measure it again.
	from string
}

type basis string

const (
	measured  basis = "measured"  // here, or on this kind of machine
	derived   basis = "derived"   // computed from what was measured
	defaulted basis = "a default" // of the software that it is about
	chosen    basis = "chosen"    // by us, with care, and measured by nobody
)

// What things cost. docs/scaling.md has the same table, which a test compares; times are of a processor of the machine that
// docs/benchmarks.md tells of.
var (
	// Hosts.
	hostMessage   = unit{"a host: a message", 159, "µs of CPU", derived, "benchmarks.md, Fan-out: the line through 100 × 10 members (37,600 deliveries/s) and 1 × 1,000 (92,000)"}
	hostDelivery  = unit{"a host: each delivery of it", 10.7, "µs of CPU", derived, "the same line"}
	hostSeat      = unit{"a host: a player who is seated", 430, "µs of CPU", measured, "benchmarks.md, Coming and going: the hosts' part of a storm of 10,000"}
	hostPlayer    = unit{"a host: a connected player", 16.6, "KiB", measured, "benchmarks.md, An idle connection: gRPC"}
	hostRoom      = unit{"a host: a room", 17, "KiB", measured, "designs/simulation.md, A crowd: the heap of a room and its writer, and a goroutine"}
	hostBase      = unit{"a host: the process", 30, "MiB", measured, "scaling.md, Measured for this page: a host that nobody has been given"}
	hostPorts     = unit{"a node: ports for hosts", 1000, "ports", defaulted, "Agones gives out 7000 to 8000"}
	clusterHosts  = unit{"a Kubernetes cluster: hosts", 5000, "hosts", chosen, "two objects in etcd for each, and some writes for each room"}
	frontendEnter = unit{"a frontend: a player who enters", 330, "µs of CPU", measured, "benchmarks.md, On a real Open Match: a storm at the port of all protocols, with NATS's and the director's part"}
	frontendWait  = unit{"a frontend: a player who waits", 25, "KiB", measured, "scaling.md, Measured for this page: a storm that waits"}

	// Placement.
	directorMatch = unit{"a director: a match", 600, "µs of CPU", chosen, "a placement by the stand-ins, with all that it asks"}
	directorHosts = unit{"a director: reading the leases, for each host", 0.45, "µs of CPU", measured, "scaling.md, Measured for this page: BenchmarkHosts"}
	leaseTold     = unit{"a director or frontend: a lease that is renewed", 8.7, "µs of CPU", derived, "as a claim that is listed, NATS's part in it: half"}
	claimListed   = unit{"a director: a claim, each 10 s", 8.7, "µs of CPU", measured, "scaling.md, Measured for this page: BenchmarkTakeAmong, list; NATS's part in it"}
	hostAsked     = unit{"a director: asking a host for its claims", 0.0625, "ms", chosen, "a round trip of 1 ms within a cluster, 16 at once"}
	tickets       = unit{"Open Match: tickets", 3600, "tickets/s", measured, "a burst of 10,000 with 1 in 50 watched: 3,600 to 3,700 a second; ours are not watched"}
	ticketCPU     = unit{"Open Match: a ticket", 300, "µs of CPU", measured, "the same bursts, all services and the director: 254 to 300"}
	ticketRedis   = unit{"Redis: a ticket", 540, "bytes", measured, "scaling.md, Measured for this page: Redis"}
	ticketKept    = unit{"Redis: how long an assigned ticket stays", 60, "s", chosen, "Open Match's assignedDeleteTimeout, as our values set it"}
	cycle         = unit{"Open Match: from a ticket to its assignment", 0.046, "s", measured, "benchmarks.md, From Enter to the assignment: with the configuration of the chart"}
	shardRate     = unit{"a shard: groups that open", 500, "groups/s", chosen, "250 matches in a fetch of half a second"}

	// NATS, three nodes.
	streamAppends = unit{"NATS: appends to one stream of three replicas", 27000, "appends/s", measured, "benchmarks.md, The log"}
	appendCPU     = unit{"NATS: an append, on all three nodes", 74, "µs of CPU", derived, "two processors for 27,000 a second, writers included"}
	claimWrite    = unit{"NATS: a claim or lease that is written", 110, "µs of CPU", measured, "scaling.md, Measured for this page: BenchmarkTakeAmong, three nodes"}
	claimRead     = unit{"NATS: a claim that is read", 54, "µs", measured, "benchmarks.md, Reading a claim: three nodes, leader, 64 at once"}
	entryBytes    = unit{"NATS: an entry of the log beside the messages in it", 150, "bytes", measured, "scaling.md, Measured for this page: BenchmarkGroups"}
	groupMemory   = unit{"NATS: a group that has a log", 350, "bytes of memory", measured, "scaling.md, Measured for this page: BenchmarkGroups"}
	restart       = unit{"NATS: a group that is read when a node starts", 17, "µs", measured, "scaling.md, Measured for this page: BenchmarkGroups"}
	claimBytes    = unit{"NATS: a claim", 180, "bytes of disk", measured, "scaling.md, Measured for this page: BenchmarkTakeAmong"}
)

// units is all of them, in the order of the table.
var units = []unit{
	hostMessage, hostDelivery, hostSeat, hostPlayer, hostRoom, hostBase, hostPorts, clusterHosts,
	frontendEnter, frontendWait,
	directorMatch, directorHosts, leaseTold, claimListed, hostAsked,
	tickets, ticketCPU, ticketRedis, ticketKept, cycle, shardRate,
	streamAppends, appendCPU, claimWrite, claimRead, entryBytes, groupMemory, restart, claimBytes,
}

// unitsTable is the table of docs/scaling.md.
func unitsTable() string {
	var text strings.Builder
	text.WriteString("| what | costs | known how | from |\n| --- | --- | --- | --- |\n")
	for _, u := range units {
		fmt.Fprintf(&text, "| %s | %s %s | %s | %s |\n", u.what, decimal(u.value), u.in, u.basis, u.from)
	}
	return text.String()
}
