package embedded

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/guildhall-dev/guildhall/internal/agoneslocal"
	"github.com/guildhall-dev/guildhall/internal/process"
	"github.com/guildhall-dev/guildhall/roomserver"
)

const (
	// orphanTimeout is when the stand-in for Open Match deletes a ticket that nobody assigns. Frontends renew theirs
	// long before.
	orphanTimeout = 10 * time.Minute
	// hostStopGrace is how long a host may take to move its rooms.
	hostStopGrace = 30 * time.Second
	// The names of a host's ports.
	roomPort     = "room"
	internalPort = "internal"
	adminPort    = "admin"
)

func (s *Stack) openAgones(undo *process.Undo) (err error) {
	if s.config.hasAgones() {
		return nil
	}
	if _, err := s.config.HostCommand(); err != nil {
		return fmt.Errorf("the program of a host: %w", err)
	}
	host := s.hostConfig(agoneslocal.GameServer{})
	process.FillZero(&host)
	if err := host.Check(); err != nil {
		return err
	}
	s.agones, err = agoneslocal.New(agoneslocal.Config{
		Logger: s.config.Logger.With("service", "agones"), Metrics: s.config.Director.Metrics,
		Fleet: agoneslocal.Fleet{
			Name: s.config.Director.AgonesFleet, Namespace: s.config.Director.AgonesNamespace,
			Ready: s.config.Hosts, Ports: []string{roomPort, internalPort, adminPort}, StopGrace: hostStopGrace,
			Counters: map[string]agoneslocal.Counter{"rooms": {Capacity: int64(host.RoomsPerHost)}},
			Command:  s.hostCommand,
			Output:   func(string) io.Writer { return os.Stderr },
		},
	})
	if err != nil {
		return err
	}
	undo.Add(s.agones.Close)
	s.config.AgonesAllocator = s.agones.AllocatorAddr()
	return nil
}

// hostConfig gives the settings of one host: the environment's, but for its addresses.
func (s *Stack) hostConfig(server agoneslocal.GameServer) roomserver.Config {
	c := s.config.Host
	c.AdminListen = net.JoinHostPort(server.Address, strconv.Itoa(server.Ports[adminPort]))
	c.Listen = net.JoinHostPort(server.Address, strconv.Itoa(server.Ports[roomPort]))
	c.InternalListen = net.JoinHostPort(server.Address, strconv.Itoa(server.Ports[internalPort]))
	c.NATS, c.PassKeysFile, c.AgonesPort, c.Reflection = s.config.NATS, s.data.passKeys, roomPort, true
	return c
}

// hostCommand makes the process of one host.
func (s *Stack) hostCommand(server agoneslocal.GameServer) *exec.Cmd {
	c := s.hostConfig(server)
	command, err := s.config.HostCommand()
	if err != nil {
		// It was there when the stack was opened. A command without a program fails to start, and the fleet says so.
		command = exec.Command("")
	}
	for _, pair := range os.Environ() {
		if !strings.HasPrefix(pair, process.Prefix+"_") {
			command.Env = append(command.Env, pair)
		}
	}
	command.Env = append(command.Env, process.Environ(&c)...)
	if os.Getenv(threadsVariable) == "" {
		command.Env = append(command.Env, fmt.Sprintf("%s=%d", threadsVariable, s.hostThreads()))
	}
	return command
}

// threadsVariable is how many threads of a Go program run at once, if it is not as many as there are cores.
const threadsVariable = "GOMAXPROCS"

// hostThreads gives each host its part of the machine, as a limit does on Kubernetes. A host that believes it has all of it
// wakes a thread on another core for each message, which costs more than the message.
func (s *Stack) hostThreads() int { return max(1, runtime.NumCPU()/s.config.Hosts) }

// hasHost says whether there is a host for the first group: one that can be allocated, or has been as headroom.
func hasHost(servers []agoneslocal.GameServer) bool {
	for _, server := range servers {
		if server.State == agoneslocal.Ready || server.State == agoneslocal.Allocated {
			return true
		}
	}
	return false
}

// listenFor gives the address to listen on so that an advertised one is reached: the loopback interface if it is there,
// otherwise all, for the name or address that others use need not be one of this machine's.
func listenFor(advertised string) (string, error) {
	_, port, err := net.SplitHostPort(advertised)
	if err != nil {
		return "", fmt.Errorf("--matchfunction-advertise %q: want host:port: %w", advertised, err)
	}
	if isLoopback(advertised) {
		return advertised, nil
	}
	return ":" + port, nil
}
