package chaos

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/guildhall-dev/guildhall/internal/agoneslocal"
	"github.com/guildhall-dev/guildhall/internal/process"
	"github.com/guildhall-dev/guildhall/roomserver"
)

// The names of a host's ports. Players dial the first, where a cable leads to the second.
const (
	roomPort     = "room"
	seatPort     = "seat"
	internalPort = "internal"
)

// host is one game server and the cables around it.
type host struct {
	name    string
	command *exec.Cmd
	players *cable   // from players
	inside  *cable   // from directors
	nats    []*cable // to each node
}

func (h *host) cables() []*cable {
	return append([]*cable{h.players, h.inside}, h.nats...)
}

// fleet is Agones with its hosts, which are children of the test.
type fleet struct {
	// Static after construction.
	town   *town
	agones *agoneslocal.Server
	stop   context.CancelFunc
	ended  chan error

	mu    sync.Mutex
	hosts map[string]*host // guarded by mu; those that were ever started
	gone  map[string]bool  // guarded by mu; whose cables are away
}

func newFleet(t *town) (*fleet, error) {
	f := &fleet{town: t, hosts: map[string]*host{}, gone: map[string]bool{}, ended: make(chan error, 1)}
	logs, err := openLog(filepath.Join(t.folder, "logs", "agones.log"))
	if err != nil {
		return nil, err
	}
	f.agones, err = agoneslocal.New(agoneslocal.Config{
		Logger: slog.New(slog.NewJSONHandler(logs, nil)),
		Fleet: agoneslocal.Fleet{
			// A spare one for each fault that takes one, and a bound for a machine that starts them slowly.
			Ready: t.ReadyHosts, Max: t.MaxHosts, Ports: []string{roomPort, seatPort, internalPort},
			StopGrace: stopGrace, Command: f.command, Output: f.output,
			Counters:     map[string]agoneslocal.Counter{"rooms": {Capacity: int64(t.RoomsPerHost)}},
			CrashBackoff: agoneslocal.CrashBackoff{First: moment, Most: 5 * time.Second},
		},
	})
	return f, err
}

func (f *fleet) start() {
	ctx, cancel := context.WithCancel(context.Background())
	f.stop = cancel
	go func() { f.ended <- f.agones.Run(ctx) }()
}

// halt stops all hosts and waits for that.
func (f *fleet) halt() error {
	if f.stop == nil {
		return f.agones.Close()
	}
	f.stop()
	err := <-f.ended
	f.tidy()
	return err
}

// command makes the process of a host, behind its cables. Without these it fails to start, and the fleet tries another.
func (f *fleet) command(server agoneslocal.GameServer) *exec.Cmd {
	h, err := f.lay(server)
	if err != nil {
		return exec.Command("")
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hosts[h.name] = h
	return h.command
}

func (f *fleet) lay(server agoneslocal.GameServer) (*host, error) {
	at := func(name string) string { return net.JoinHostPort(server.Address, strconv.Itoa(server.Ports[name])) }
	h := &host{name: server.Name}
	var err error
	if h.players, err = newCable(at(roomPort), at(seatPort)); err != nil {
		return nil, err
	}
	if h.inside, err = newCable("127.0.0.1:0", at(internalPort)); err != nil {
		return nil, err
	}
	var url string
	if h.nats, url, err = f.town.brokers.lay(); err != nil {
		return nil, err
	}
	c := roomserver.Config{
		Common: f.town.common("127.0.0.1:0"), Config: f.town.broker(url),
		Listen: at(seatPort), InternalListen: at(internalPort), InternalAdvertise: h.inside.addr(),
		Kinds: f.town.kinds(), RoomsPerHost: f.town.RoomsPerHost, HostIdleGrace: f.town.HostIdle, LeaseTTL: f.town.LeaseTTL,
		PassKeysFile: f.town.keys.passPublic, AgonesPort: roomPort,
	}
	h.command, err = self(roleHost, process.Environ(&c)...)
	return h, err
}

// output gives each host a log of its own.
func (f *fleet) output(name string) io.Writer {
	file, err := openLog(filepath.Join(f.town.folder, "logs", "host-"+name+".log"))
	if err != nil {
		return io.Discard
	}
	return file
}

// among lists the hosts in one of the states that can be reached.
func (f *fleet) among(states ...agoneslocal.State) []*host {
	f.tidy()
	var found []*host
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, server := range f.agones.GameServers() {
		for _, state := range states {
			if h := f.hosts[server.Name]; h != nil && server.State == state && server.PID != 0 {
				found = append(found, h)
			}
		}
	}
	return found
}

// tidy takes the cables of those away that are gone.
func (f *fleet) tidy() {
	f.mu.Lock()
	defer f.mu.Unlock()
	here := map[string]bool{}
	for _, server := range f.agones.GameServers() {
		here[server.Name] = true
	}
	for name, h := range f.hosts {
		if here[name] || f.gone[name] {
			continue
		}
		f.gone[name] = true
		for _, c := range h.cables() {
			c.close()
		}
	}
}

// count gives how many hosts are in a state.
func (f *fleet) count(state agoneslocal.State) int {
	n := 0
	for _, server := range f.agones.GameServers() {
		if server.State == state {
			n++
		}
	}
	return n
}

// awaitGone waits until a host is gone, for which somebody has seen to.
func (f *fleet) awaitGone(ctx context.Context, h *host) error {
	err := f.agones.Wait(ctx, func(servers []agoneslocal.GameServer) bool {
		for _, server := range servers {
			if server.Name == h.name {
				return false
			}
		}
		return true
	})
	if err != nil {
		return fmt.Errorf("host %s does not go: %w", h.name, err)
	}
	return nil
}

// awaitReady waits until so many hosts are Ready.
func (f *fleet) awaitReady(ctx context.Context, n int) error {
	err := f.agones.Wait(ctx, func([]agoneslocal.GameServer) bool { return f.count(agoneslocal.Ready) >= n })
	if err != nil {
		return fmt.Errorf("there are not %d hosts that are Ready: %w", n, err)
	}
	return nil
}

func (h *host) signal(signal syscall.Signal) { _ = h.command.Process.Signal(signal) }
