package capacity

import (
	"errors"
	"fmt"
	"math"

	"github.com/guildhall-dev/guildhall"
)

// Load is what an installation has to carry at its busiest, and what it is carried on.
type Load struct {
	// Players are connected at once, in Groups rooms that are live at once.
	Players int `json:"players"`
	Groups  int `json:"groups"`
	// MessagesPerSecond is what all players together say, MessageBytes the size of a message.
	MessagesPerSecond float64 `json:"messages_per_second"`
	MessageBytes      int     `json:"message_bytes"`
	// Churn is how many players enter each second. As many leave.
	Churn float64 `json:"churn"`
	// KindCapacity is how many players a room seats, RoomsPerHost how many rooms a host carries, History how many messages of a
	// group are kept.
	KindCapacity int `json:"kind_capacity"`
	RoomsPerHost int `json:"rooms_per_host"`
	History      int `json:"history"`
	// NodeCores and NodeMemory (GiB) are a node's, NodeHosts how many hosts fit on one by the number of pods.
	NodeCores  int `json:"node_cores"`
	NodeMemory int `json:"node_memory_gib"`
	NodeHosts  int `json:"node_hosts"`
	// BatchWait is Agones' allocationBatchWaitTime, in seconds.
	BatchWait float64 `json:"batch_wait_seconds"`
	// Margin is by how much everything is larger than what is needed; 1 is not at all.
	Margin float64 `json:"margin"`
}

const (
	// mostPlayers keeps the numbers within what can be told apart.
	mostPlayers = 1_000_000_000
	// mostMessage is the largest body that a host takes.
	mostMessage = 65536
)

// Check says all that is wrong with a load, by the names of the flags.
func (l Load) Check() error {
	errs := []error{
		within("players", float64(l.Players), 1, mostPlayers), within("groups", float64(l.Groups), 1, mostPlayers),
		within("messages-per-second", l.MessagesPerSecond, 0, mostPlayers), within("message-bytes", float64(l.MessageBytes), 1, mostMessage),
		within("churn", l.Churn, 0, mostPlayers), within("kind-capacity", float64(l.KindCapacity), 1, mostPlayers),
		within("rooms-per-host", float64(l.RoomsPerHost), 1, 100_000), within("history", float64(l.History), 1, guildhall.MaxHistory),
		within("node-cores", float64(l.NodeCores), 1, 1024), within("node-memory", float64(l.NodeMemory), 1, 65536),
		within("node-hosts", float64(l.NodeHosts), 1, hostPorts.value), within("batch-wait", l.BatchWait, 0, 60),
		within("margin", l.Margin, 1, 10),
	}
	if l.Players > 0 && l.Groups > l.Players {
		errs = append(errs, fmt.Errorf("--groups=%d is more than --players=%d: a live group has a player at least", l.Groups, l.Players))
	}
	if l.Groups > 0 && l.KindCapacity > 0 && l.members() > float64(l.KindCapacity) {
		errs = append(errs, fmt.Errorf("--players=%d in --groups=%d are %s in a room, and --kind-capacity=%d seats fewer: more groups, or a larger capacity",
			l.Players, l.Groups, decimal(l.members()), l.KindCapacity))
	}
	return errors.Join(errs...)
}

func within(flag string, value, least, most float64) error {
	if math.IsNaN(value) || value < least || value > most {
		return fmt.Errorf("--%s=%s: want %s to %s", flag, decimal(value), decimal(least), decimal(most))
	}
	return nil
}

// members is how many players a room has.
func (l Load) members() float64 { return float64(l.Players) / float64(l.Groups) }

// opens is how many groups' rooms open each second, and end: a room lives as long as its players do on average.
func (l Load) opens() float64 { return l.Churn / l.members() }
