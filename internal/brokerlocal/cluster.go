package brokerlocal

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Nodes is a cluster of NATS servers in this process.
type Nodes struct {
	// Static after construction.
	configs []Config
	// Servers are the nodes; one that was stopped is nil.
	Servers []*Server
}

// lookEvery is how often a cluster that starts is asked whether it has a leader.
const lookEvery = 10 * time.Millisecond

// StartNodes starts a cluster of so many nodes, with a folder each below the given one, and waits until it has a leader.
func StartNodes(folder string, nodes int) (*Nodes, error) {
	ports, err := FreePorts(2 * nodes)
	if err != nil {
		return nil, err
	}
	n := &Nodes{Servers: make([]*Server, nodes)}
	for i := range nodes {
		name := fmt.Sprintf("nats-%d", i)
		n.configs = append(n.configs, Config{
			Port: ports[nodes+i], Folder: filepath.Join(folder, name),
			Cluster: &Cluster{Node: name, Port: ports[i], Peers: ports[:nodes]},
		})
	}
	for i := range nodes {
		if err := n.StartNode(i); err != nil {
			n.Stop()
			return nil, err
		}
	}
	return n, n.awaitLeader()
}

// StartNode starts a node, or starts one again that was stopped: at the same address, with what it had.
func (n *Nodes) StartNode(i int) (err error) {
	n.Servers[i], err = Start(n.configs[i])
	return err
}

// StopNode stops a node.
func (n *Nodes) StopNode(i int) {
	if n.Servers[i] != nil {
		n.Servers[i].Stop()
		n.Servers[i] = nil
	}
}

// Stop stops all nodes.
func (n *Nodes) Stop() {
	for i := range n.Servers {
		n.StopNode(i)
	}
}

// URL gives the addresses of all nodes, running or not.
func (n *Nodes) URL() string {
	var urls []string
	for _, config := range n.configs {
		urls = append(urls, fmt.Sprintf("nats://127.0.0.1:%d", config.Port))
	}
	return strings.Join(urls, ",")
}

// awaitLeader waits until JetStream has a leader that knows of every node, and every node knows of it.
func (n *Nodes) awaitLeader() error {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	late := time.After(startWithin)
	for !n.isComplete() {
		select {
		case <-ticker.C:
		case <-late:
			n.Stop()
			return errors.New("NATS: the cluster has no leader")
		}
	}
	return nil
}

func (n *Nodes) isComplete() bool {
	known := 0
	for _, node := range n.Servers {
		if !node.nats.JetStreamIsCurrent() {
			return false
		}
		known = max(known, len(node.nats.JetStreamClusterPeers())) // only the leader knows; it gives streams to no others
	}
	return known == len(n.Servers)
}

// Ports of servers that come back at the same address are taken from a range below the one that systems give to outgoing
// connections, and below the one of game servers: nobody takes them while the server is away.
const (
	firstPort = 10000
	lastPort  = 19999
)

// FreePorts finds so many ports of the loopback interface that nobody listens on.
func FreePorts(n int) ([]int, error) {
	var ports []int
	var last error
	for range lastPort - firstPort {
		if len(ports) == n {
			return ports, nil
		}
		port := firstPort + rand.IntN(lastPort-firstPort+1)
		listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			last = err
			continue
		}
		defer listener.Close() // only at the end, so that all are different
		ports = append(ports, port)
	}
	return nil, fmt.Errorf("NATS: no %d ports from %d to %d are free: %w", n, firstPort, lastPort, last)
}
