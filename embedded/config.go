package embedded

import (
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"strconv"

	"github.com/guildhall-dev/guildhall/director"
	"github.com/guildhall-dev/guildhall/frontend"
	"github.com/guildhall-dev/guildhall/internal/process"
	"github.com/guildhall-dev/guildhall/matchfunction"
	"github.com/guildhall-dev/guildhall/roomserver"
)

// Config says what runs in this process and what is real. Its zero value runs everything here.
type Config struct {
	// Listen is where players call, host:port; "" means a free port of 127.0.0.1.
	Listen string
	// GRPCListen is where they call by gRPC alone; "" means the port behind that of Listen, or a free one if Listen's is.
	GRPCListen string
	// Data is the folder for all that lasts; "" means a temporary one that goes with the process.
	Data string
	// Hosts is how many Ready hosts the local fleet keeps; 0 means 2.
	Hosts int

	// NATS is the URL of a real NATS; "" means one in this process.
	NATS string
	// The addresses of a real Open Match; all three or none. "" means the stand-in.
	OpenmatchFrontend, OpenmatchBackend, OpenmatchQuery string
	// MatchfunctionAdvertise is what Open Match is told to call; "" means where the match function listens. With
	// a real Open Match elsewhere the match function listens at this port, on all interfaces unless this is loopback.
	MatchfunctionAdvertise string
	// AgonesAllocator is the address of a real allocator; "" means the stand-in with hosts as child processes, unless
	// Director.AgonesDoor is that of Kubernetes.
	AgonesAllocator string

	// What each service has beside the addresses that are found out here: from the environment, or zero.
	Frontend      frontend.Config
	Director      director.Config
	Matchfunction matchfunction.Config
	Host          roomserver.Config

	// HostCommand makes the process of a host, to which its environment is added; nil means this very program
	// with the argument "roomserver".
	HostCommand func() (*exec.Cmd, error)
	// Logger for what is not a service's; nil means nowhere.
	Logger *slog.Logger
}

// Load reads the services' settings from the environment. The names of variables that are read elsewhere are no
// error.
func (c *Config) Load(elsewhere []string) error {
	return process.Load(elsewhere, c.Services()...)
}

// Open makes the services' loggers, metrics and tracers as their settings ask for. The caller must Close in the end.
func (c *Config) Open() error {
	for name, common := range c.commons() {
		if err := common.Open(name); err != nil {
			return err
		}
	}
	return nil
}

// Close sends what the services have left to send, when they have ended.
func (c *Config) Close() {
	for _, common := range c.commons() {
		common.Close()
	}
}

func (c *Config) commons() map[string]*process.Common {
	return map[string]*process.Common{
		"frontend": &c.Frontend.Common, "director": &c.Director.Common,
		"matchfunction": &c.Matchfunction.Common, "roomserver": &c.Host.Common,
	}
}

// Services gives the settings of each service.
func (c *Config) Services() []any {
	return []any{&c.Frontend, &c.Director, &c.Matchfunction, &c.Host}
}

// Usage writes the table of variables that [Config.Load] reads.
func Usage(w io.Writer) error {
	var c Config
	return process.Usage(w, c.Services()...)
}

func (c *Config) fill() {
	if c.Listen == "" {
		c.Listen = anyPort
	}
	if c.GRPCListen == "" {
		c.GRPCListen = nextPort(c.Listen)
	}
	if c.Hosts == 0 {
		c.Hosts = 2
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.HostCommand == nil {
		c.HostCommand = thisProgram
	}
	for _, common := range c.commons() {
		common.FillIn()
	}
}

// hasAgones says whether there is a real Agones.
func (c *Config) hasAgones() bool {
	return c.AgonesAllocator != "" || c.Director.AgonesDoor == director.DoorKubernetes
}

// anyPort is a free port on the loopback interface.
const anyPort = "127.0.0.1:0"

// nextPort gives the address with the next port; with a free port if its own is to be one, or if it is no address, which whoever
// listens there finds out.
func nextPort(address string) string {
	host, text, err := net.SplitHostPort(address)
	port, notNumber := strconv.Atoi(text)
	if err != nil || notNumber != nil || port == 0 {
		return net.JoinHostPort(host, "0")
	}
	return net.JoinHostPort(host, strconv.Itoa(port+1))
}

func thisProgram() (*exec.Cmd, error) {
	path, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return exec.Command(path, "roomserver"), nil
}

// isLoopback says whether an address can be reached from this machine only.
func isLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
