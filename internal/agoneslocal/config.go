package agoneslocal

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os/exec"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Config is what a stand-in is made of. Only Fleet.Command has no default.
type Config struct {
	// AllocatorListen is where the AllocationService listens; empty means a free port of 127.0.0.1.
	AllocatorListen string
	// AllocatorTLS has the AllocationService speak TLS, with certificates of clients if it asks for them; nil means
	// plaintext.
	AllocatorTLS *tls.Config
	// KubernetesListen is where allocations are served in the form of the Kubernetes API; empty means nowhere.
	KubernetesListen string
	// KubernetesTLS has it speak HTTPS, as the Kubernetes API does; nil means plaintext.
	KubernetesTLS *tls.Config
	// KubernetesToken gives the bearer token that must be shown there at the time; nil lets everybody in.
	KubernetesToken func() string
	// BatchWait is how long the allocator collects requests before it answers them together, as Agones'
	// allocationBatchWaitTime does (500 ms there by default); 0 answers each at once.
	BatchWait time.Duration
	// Fleet is the fleet to keep.
	Fleet Fleet
	// Logger is where the stand-in logs; nil means nowhere.
	Logger *slog.Logger
	// Metrics is where the stand-in registers; nil means nowhere.
	Metrics prometheus.Registerer
}

// Fleet says which game servers to keep.
type Fleet struct {
	// Name is the fleet's name, "guildhall-rooms" if empty. Game servers are called <Name>-xxxxx-xxxxx.
	Name string
	// Namespace is the Kubernetes namespace that requests must name, "default" if empty.
	Namespace string
	// Ready is how many game servers that are not Allocated to keep, like the buffer of a FleetAutoscaler.
	Ready int
	// Max is the most processes at once, those included that are being stopped; 0 is no bound.
	Max int
	// Labels and Annotations are on every game server from its beginning.
	Labels, Annotations map[string]string
	// Ports names the ports of a game server; it gets a free TCP port of 127.0.0.1 for each.
	Ports []string
	// Counters and Lists are what every game server begins with.
	Counters map[string]Counter
	Lists    map[string]List
	// Health says when a game server that gives no sign of life is given up.
	Health Health
	// Command makes the process of a game server and does not start it. AGONES_SDK_GRPC_PORT is appended to
	// its environment; its process group and, on Linux, its parent-death signal are set. It and Output are
	// called from several goroutines at once.
	Command func(GameServer) *exec.Cmd
	// Output gives the writer for what a game server writes to stdout and stderr, whatever Command says. If it
	// is nil, Command decides.
	Output func(name string) io.Writer
	// StopGrace is how long a game server may take from SIGTERM on before SIGKILL, 30 s if 0.
	StopGrace time.Duration
	// CrashBackoff spaces the starts when game servers end before they have been Ready or Allocated.
	CrashBackoff CrashBackoff
}

// Health is what Agones calls the health section of a GameServer. Zero durations and a zero threshold have
// Agones' defaults.
type Health struct {
	// Disabled gives up nobody.
	Disabled bool
	// Period is how often signs of life are due, 5 s if 0.
	Period time.Duration
	// InitialDelay is how long after the start of the process the first check is, 5 s if 0.
	InitialDelay time.Duration
	// FailureThreshold is how many failed checks in a row are too many, 3 if 0.
	FailureThreshold int
}

// CrashBackoff is a delay that doubles.
type CrashBackoff struct {
	// First is the delay after the first crash, 1 s if 0; Most is what it doubles up to, 30 s if 0.
	First, Most time.Duration
}

func (c *Config) complete() error {
	c.AllocatorListen = cmp.Or(c.AllocatorListen, "127.0.0.1:0")
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.BatchWait < 0 {
		return fmt.Errorf("BatchWait is %v, want 0 or more", c.BatchWait)
	}
	return c.Fleet.complete()
}

func (f *Fleet) complete() error {
	f.Name = cmp.Or(f.Name, "guildhall-rooms")
	f.Namespace = cmp.Or(f.Namespace, "default")
	f.StopGrace = cmp.Or(f.StopGrace, 30*time.Second)
	f.CrashBackoff.First = cmp.Or(f.CrashBackoff.First, time.Second)
	f.CrashBackoff.Most = cmp.Or(f.CrashBackoff.Most, 30*time.Second)
	f.Health.Period = cmp.Or(f.Health.Period, 5*time.Second)
	f.Health.InitialDelay = cmp.Or(f.Health.InitialDelay, 5*time.Second)
	f.Health.FailureThreshold = cmp.Or(f.Health.FailureThreshold, 3)
	return f.validate()
}

func (f *Fleet) validate() error {
	switch {
	case f.Command == nil:
		return errors.New("Fleet.Command is not set")
	case f.Ready < 0 || f.Max < 0:
		return fmt.Errorf("Fleet.Ready is %d and Fleet.Max is %d, want 0 or more", f.Ready, f.Max)
	case f.StopGrace < 0 || f.Health.Period < 0 || f.Health.InitialDelay < 0 || f.Health.FailureThreshold < 0:
		return errors.New("Fleet.StopGrace or Fleet.Health has a negative value")
	case f.CrashBackoff.First < 0 || f.CrashBackoff.Most < f.CrashBackoff.First:
		return fmt.Errorf("Fleet.CrashBackoff is %v to %v, want a range", f.CrashBackoff.First, f.CrashBackoff.Most)
	}
	return f.validateContents()
}

func (f *Fleet) validateContents() error {
	for i, name := range f.Ports {
		if name == "" || slices.Contains(f.Ports[:i], name) {
			return fmt.Errorf("Fleet.Ports has %q twice or without a name", name)
		}
	}
	if faults := checkMetadata(f.Labels, f.Annotations); len(faults) > 0 {
		return fmt.Errorf("metadata of the Fleet: %s", faults[0])
	}
	for name, counter := range f.Counters {
		if counter.Count < 0 || counter.Count > counter.Capacity {
			return fmt.Errorf("counter %q is %d of %d", name, counter.Count, counter.Capacity)
		}
	}
	for name, list := range f.Lists {
		if list.Capacity > maxListCapacity || int64(len(list.Values)) > list.Capacity {
			return fmt.Errorf("list %q has %d values of %d, at most %d", name, len(list.Values), list.Capacity, maxListCapacity)
		}
	}
	return nil
}
