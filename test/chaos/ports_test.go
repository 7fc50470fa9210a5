package chaos

import (
	"fmt"
	"net"
	"strconv"
	"sync"
)

// Ports of processes that come back at the same address are taken from a range below the one that systems give to
// outgoing connections, and below the one of game servers: nobody takes them while the process is away.
const (
	firstPort = 10000
	lastPort  = 19999
)

// ports gives out ports. Each is given once.
type ports struct {
	mu   sync.Mutex
	next int // guarded by mu
}

func newPorts(seed uint64) *ports {
	return &ports{next: firstPort + int(seed%(lastPort-firstPort))}
}

// address gives a free port of the loopback interface, as host:port.
func (p *ports) address() (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for range lastPort - firstPort {
		address := loopback(p.next)
		if p.next++; p.next > lastPort {
			p.next = firstPort
		}
		listener, err := net.Listen("tcp", address)
		if err != nil {
			continue
		}
		return address, listener.Close()
	}
	return "", fmt.Errorf("no port from %d to %d is free", firstPort, lastPort)
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// portOf gives the port of an address of ours.
func portOf(address string) int {
	_, text, _ := net.SplitHostPort(address)
	port, _ := strconv.Atoi(text)
	return port
}
