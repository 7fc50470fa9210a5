package chaos

import (
	"context"
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// service is a process that is kept running: when it ends it is started again after a moment, as Kubernetes would.
type service struct {
	// Static after construction.
	name    string
	admin   string // host:port of its /readyz
	logFile string
	command func() (*exec.Cmd, error)
	stop    context.CancelFunc
	ended   chan struct{} // closed when it is down for good

	mu       sync.Mutex
	current  *child        // guarded by mu; nil while it is down
	downFor  time.Duration // guarded by mu; how long it stays down after the next end
	expected bool          // guarded by mu; the next end is our doing
	crashes  []string      // guarded by mu; ends that were not
}

// moment is how long a service is down unless a fault says otherwise.
const moment = time.Second

// stopGrace is how long a service may take to stop.
const stopGrace = 30 * time.Second

func newService(folder, name, admin string, command func() (*exec.Cmd, error)) *service {
	return &service{
		name: name, admin: admin, command: command, downFor: moment,
		logFile: filepath.Join(folder, "logs", name+".log"), ended: make(chan struct{}),
	}
}

// start starts the process and keeps it running until halt.
func (s *service) start() error {
	ctx, cancel := context.WithCancel(context.Background())
	s.stop = cancel
	first, err := s.launch()
	if err != nil {
		cancel()
		close(s.ended)
		return err
	}
	go s.keep(ctx, first) // halt waits for it
	return nil
}

func (s *service) launch() (*child, error) {
	command, err := s.command()
	if err != nil {
		return nil, err
	}
	started, err := startChild(command, s.logFile)
	if err != nil {
		return nil, fmt.Errorf("starting %s: %w", s.name, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.current = started
	return started, nil
}

func (s *service) keep(ctx context.Context, current *child) {
	defer close(s.ended)
	for {
		select {
		case <-current.exited:
		case <-ctx.Done():
			s.end(current)
			return
		}
		select {
		case <-time.After(s.down(current)):
		case <-ctx.Done():
			return
		}
		next, err := s.launch()
		if err != nil {
			s.note(err.Error())
			continue // the old one has exited: it is tried again after a moment
		}
		current = next
	}
}

// down notes that the process has ended, and gives how long it stays so.
func (s *service) down(ended *child) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.expected && s.current != nil {
		s.crashes = append(s.crashes, ended.status())
	}
	wait := s.downFor
	s.current, s.downFor, s.expected = nil, moment, false
	return wait
}

func (s *service) note(crash string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.crashes = append(s.crashes, crash)
}

// kill ends the process without a word; it comes back after the given time.
func (s *service) kill(downFor time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current != nil {
		s.downFor, s.expected = downFor, true
		s.current.signal(syscall.SIGKILL)
	}
}

// pause stops the process in its tracks, resume lets it go on as if nothing had happened.
func (s *service) pause()  { s.signal(syscall.SIGSTOP) }
func (s *service) resume() { s.signal(syscall.SIGCONT) }

func (s *service) signal(signal syscall.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current != nil {
		s.current.signal(signal)
	}
}

// halt ends the service for good and waits for that.
func (s *service) halt() {
	if s.stop != nil {
		s.stop()
		<-s.ended
	}
}

// tooSlow begins the note of a process that was killed because it did not stop.
const tooSlow = "did not stop within "

// end stops the process, by force after the grace.
func (s *service) end(current *child) {
	current.signal(syscall.SIGCONT)
	current.signal(syscall.SIGTERM)
	select {
	case <-current.exited:
	case <-time.After(stopGrace):
		s.note(tooSlow + stopGrace.String())
		current.signal(syscall.SIGKILL)
		<-current.exited
	}
}

// crashed lists the ends that were nobody's doing.
func (s *service) crashed() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.crashes...)
}

// probe asks admin ports; one that is paused does not answer.
var probe = &http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

// ready says whether the service takes work.
func (s *service) ready(ctx context.Context) bool {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.admin+"/readyz", nil)
	if err != nil {
		return false
	}
	response, err := probe.Do(request)
	if err != nil {
		return false
	}
	_ = response.Body.Close()
	return response.StatusCode == http.StatusOK
}

// awaitReady waits until the service takes work.
func (s *service) awaitReady(ctx context.Context) error {
	if !eventually(ctx, func() bool { return s.ready(ctx) }) {
		return fmt.Errorf("%s is not ready: %w; its log is %s", s.name, ctx.Err(), s.logFile)
	}
	return nil
}

// lookEvery is how often what cannot be watched is asked again.
const lookEvery = 50 * time.Millisecond

// eventually asks again until the answer is yes; it is false if ctx ends first.
func eventually(ctx context.Context, yes func() bool) bool {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for !yes() {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return false
		}
	}
	return true
}
