package load

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"sync"
	"time"

	"connectrpc.com/connect"

	"github.com/guildhall-dev/guildhall"
	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
	"github.com/guildhall-dev/guildhall/api/guildhall/v1/guildhallv1connect"
	"github.com/guildhall-dev/guildhall/internal/usage"
)

// host is a host of the server whose process runs on this machine.
type host struct {
	name guildhall.HostName
	pid  int
}

// meter reads what the server's processes use. It is used by one goroutine at a time.
type meter struct {
	operator guildhallv1connect.OperatorServiceClient
	port     int // of the server

	known map[string]bool // hosts, by name, pid and address: whether their process is here
	here  []host          // of the last time that the server was asked
	why   string          // why nothing can be read; "" if it can
	stack int             // the process that is the parent of all hosts and has the server's port; 0 if there is none
	begun map[uint64]*used
}

// used is what one process has used.
type used struct {
	first, last time.Duration
	rss         int64
	isStack     bool
	gone        bool
}

// Usage is what processes used while it was measured. What could not be read is nil.
type Usage struct {
	// ServerCPUSeconds is of all hosts.
	ServerCPUSeconds *float64 `json:"server_cpu_seconds"`
	// StackCPUSeconds is of all hosts and of the process that started them, which is the rest of the server.
	StackCPUSeconds *float64 `json:"stack_cpu_seconds"`
	// ServerRSSBytes is of all hosts at the end.
	ServerRSSBytes *int64 `json:"server_rss_bytes"`
	// ClientCPUSeconds is of this process.
	ClientCPUSeconds float64 `json:"client_cpu_seconds"`
	// WhyNot says why the server's processes could not be read.
	WhyNot string `json:"server_not_read,omitempty"`
}

func newMeter(server string, calls *http.Client) *meter {
	m := &meter{operator: guildhallv1connect.NewOperatorServiceClient(calls, server, connect.WithGRPC()), known: map[string]bool{}}
	if parsed, err := url.Parse(server); err == nil {
		m.port, _ = strconv.Atoi(parsed.Port()) // none: no process has it
	}
	return m
}

// find asks which hosts there are, and whose process is here.
func (m *meter) find(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	listed, err := m.operator.ListHosts(ctx, connect.NewRequest(&guildhallv1.ListHostsRequest{}))
	if err != nil {
		return fmt.Errorf("asking for the hosts: %w", err)
	}
	m.here = m.here[:0]
	for _, h := range listed.Msg.GetHosts() {
		if m.isHere(h) {
			m.here = append(m.here, host{guildhall.HostName(h.GetName()), int(h.GetPid())})
		}
	}
	if len(m.here) < len(listed.Msg.GetHosts()) || len(m.here) == 0 {
		return fmt.Errorf("of %d hosts, %d run on this machine where they can be read", len(listed.Msg.GetHosts()), len(m.here))
	}
	return nil
}

func (m *meter) isHere(h *guildhallv1.Host) bool {
	key := fmt.Sprint(h.GetName(), h.GetPid(), h.GetAddress())
	if here, known := m.known[key]; known {
		return here
	}
	_, port, err := net.SplitHostPort(h.GetAddress())
	m.known[key] = err == nil && listensAt(h.GetPid(), port)
	return m.known[key]
}

// prepare finds out what can be read. It may take as long as the server takes to answer.
func (m *meter) prepare(ctx context.Context) {
	m.why, m.stack = "", 0
	if err := m.find(ctx); err != nil {
		m.why = err.Error()
		return
	}
	m.stack = m.parent()
}

// begin begins a measurement.
func (m *meter) begin() {
	m.begun = map[uint64]*used{}
	if m.why == "" {
		m.read(true)
	}
}

// parent gives the process that started all hosts and has the server's port, but for this one: it is no server.
func (m *meter) parent() int {
	parent := 0
	for _, h := range m.here {
		p, err := readProcess(h.pid)
		if err != nil || parent != 0 && p.parent != parent {
			return 0
		}
		parent = p.parent
	}
	if parent == os.Getpid() || !listens(parent, m.port) {
		return 0
	}
	return parent
}

// read takes what each process has used until now. One that has come since the beginning has used it all since then.
func (m *meter) read(beginning bool) {
	for _, u := range m.begun {
		u.gone = true
	}
	for _, h := range m.here {
		m.readOne(h.pid, beginning, false)
	}
	if m.stack != 0 {
		m.readOne(m.stack, beginning, true)
	}
}

func (m *meter) readOne(pid int, beginning, isStack bool) {
	p, err := readProcess(pid)
	if err != nil {
		return
	}
	key := uint64(pid) ^ p.started<<24
	u := m.begun[key]
	if u == nil {
		u = &used{isStack: isStack}
		m.begun[key] = u
		if beginning {
			u.first = p.cpu
		}
	}
	u.last, u.rss, u.gone = p.cpu, p.rss, false
}

// sum gives what the processes have used so far: hosts, and the process that started them.
func (m *meter) sum() (hosts, stack time.Duration, rss int64) {
	for _, u := range m.begun {
		switch {
		case u.isStack:
			stack += u.last - u.first
		case u.gone:
			hosts += u.last - u.first
		default:
			hosts += u.last - u.first
			rss += u.rss
		}
	}
	return hosts, stack, rss
}

// usage gives what was used between begin and the last reading.
func (m *meter) usage(client time.Duration) Usage {
	u := Usage{ClientCPUSeconds: client.Seconds(), WhyNot: m.why}
	if m.why != "" {
		return u
	}
	hosts, stack, rss := m.sum()
	seconds := hosts.Seconds()
	u.ServerCPUSeconds, u.ServerRSSBytes = &seconds, &rss
	if m.stack != 0 {
		all := (hosts + stack).Seconds()
		u.StackCPUSeconds = &all
	}
	return u
}

// errNoHostHere says that no host can be killed from here.
var errNoHostHere = errors.New("the server's hosts do not run on this machine: none can be killed from here")

// Sample is what happened in one second of a run.
type Sample struct {
	// Second is its end.
	Second float64 `json:"second"`
	// Deliveries are messages received in it, per second.
	Deliveries float64 `json:"deliveries"`
	// Cores that were busy: of the hosts (nil if they cannot be read) and of this process.
	ServerCores *float64 `json:"server_cores"`
	ClientCores float64  `json:"client_cores"`
}

// window is what was measured from one instant to another.
type window struct {
	seconds   float64
	delivered int64
	usage     Usage
	samples   []Sample
}

// watch measures what is used and what is delivered, second by second, once prepare has been called. The function that it
// gives ends it at once.
func (m *meter) watch(ctx context.Context, every time.Duration, delivered func() int64) (finish func() window) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	m.begin()
	w := &watching{meter: m, every: every, start: time.Now(), client: usage.CPU(), delivered: delivered, deliveries: delivered()}
	w.lastClient, w.last = w.client, w.start
	before := w.deliveries
	var running sync.WaitGroup
	running.Go(func() {
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				w.sample()
				// For the next time, and not before this one: a busy server may take a while to answer, and what was used
				// must be of the same second as what was delivered. If it does not answer, there are the hosts that there were.
				_ = m.find(ctx)
			case <-ctx.Done():
				return
			}
		}
	})
	return func() window {
		cancel()
		running.Wait()
		w.sample()
		return window{w.last.Sub(w.start).Seconds(), w.deliveries - before, m.usage(w.lastClient - w.client), w.samples}
	}
}

// watching is one measurement.
type watching struct {
	*meter
	every     time.Duration
	start     time.Time
	client    time.Duration
	delivered func() int64

	// Owned by sample.
	last       time.Time
	deliveries int64
	hosts      time.Duration
	lastClient time.Duration
	samples    []Sample
}

func (w *watching) sample() {
	now, deliveries, client := time.Now(), w.delivered(), usage.CPU()
	seconds := now.Sub(w.last).Seconds()
	s := Sample{
		Second: now.Sub(w.start).Seconds(), Deliveries: float64(deliveries-w.deliveries) / seconds,
		ClientCores: (client - w.lastClient).Seconds() / seconds,
	}
	if w.why == "" {
		w.read(false)
		hosts, _, _ := w.sum()
		cores := (hosts - w.hosts).Seconds() / seconds
		s.ServerCores, w.hosts = &cores, hosts
	}
	if seconds > w.every.Seconds()/2 || len(w.samples) == 0 { // the last bit is too short to tell anything by itself
		w.samples = append(w.samples, s)
	}
	w.last, w.deliveries, w.lastClient = now, deliveries, client
}
