package agoneslocal

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
)

// Ports of game servers are taken from a range below the one that systems give to outgoing connections
// (from 32768 on Linux, from 49152 elsewhere): between the probe and the moment at which the child
// listens, nobody else is handed the port.
const (
	firstPort = 20000
	lastPort  = 31999
	// maxProbes bounds the search.
	maxProbes = 2000
)

// freePorts gives each name a free port that is not in used, and adds it there.
func freePorts(names []string, used map[int]bool) (map[string]int, error) {
	ports := make(map[string]int, len(names))
	for _, name := range names {
		port, err := freePort(used)
		if err != nil {
			return nil, fmt.Errorf("port %q: %w", name, err)
		}
		used[port] = true
		ports[name] = port
	}
	return ports, nil
}

func freePort(used map[int]bool) (int, error) {
	var last error
	for range maxProbes {
		port := firstPort + rand.IntN(lastPort-firstPort+1)
		if used[port] {
			continue
		}
		listener, err := net.Listen("tcp", net.JoinHostPort(loopback, strconv.Itoa(port)))
		if err != nil {
			last = err
			continue
		}
		return port, listener.Close()
	}
	return 0, fmt.Errorf("none free from %d to %d: %w", firstPort, lastPort, last)
}
