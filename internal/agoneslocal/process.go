package agoneslocal

import (
	"errors"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// pipeGrace is how long the end of a process waits for its output, which a grandchild may hold open.
const pipeGrace = time.Second

var errKilled = errors.New("killed before it started")

// process is the process of one game server. One goroutine, in run, owns it.
type process struct {
	started chan struct{} // closed after the attempt to start
	exited  chan struct{} // closed when the process is gone, or did not start

	mu     sync.Mutex
	cmd    *exec.Cmd // set while the process runs
	killed bool
	id     int
	err    error // of the start
	result string
}

func newProcess() *process {
	return &process{started: make(chan struct{}), exited: make(chan struct{}), result: "not started"}
}

// run starts the process and waits for its end.
//
// The operating system's thread is locked from the one to the other: where the kernel kills a child whose
// parent dies, the parent is the thread that started it, and Go ends threads as it likes.
func (p *process) run(cmd *exec.Cmd) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(p.exited)

	isolate(cmd)
	cmd.WaitDelay = pipeGrace
	err := p.start(cmd)
	close(p.started)
	if err != nil {
		return
	}
	p.finish(cmd, cmd.Wait())
}

// start holds the lock while it forks: a kill comes before it or finds the process.
func (p *process) start(cmd *exec.Cmd) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err = errKilled; !p.killed {
		p.err = cmd.Start()
	}
	if p.err == nil {
		p.cmd, p.id, p.result = cmd, cmd.Process.Pid, "running"
	}
	return p.err
}

func (p *process) finish(cmd *exec.Cmd, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cmd = nil
	switch {
	case cmd.ProcessState != nil:
		p.result = cmd.ProcessState.String()
	default:
		p.result = err.Error()
	}
}

// pid gives the process, or why there is none. Call it after started.
func (p *process) pid() (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.id, p.err
}

// status gives how the process ended, in words.
func (p *process) status() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.result
}

// signal reaches the process alone, as a container's first process.
func (p *process) signal(signal syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd != nil {
		p.cmd.Process.Signal(signal) //nolint:errcheck // it is gone, then
	}
}

// kill reaches the whole group of the process, as the end of a container does. A process that has not
// started never will.
func (p *process) kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.killed = true
	if p.cmd != nil {
		syscall.Kill(-p.id, syscall.SIGKILL) //nolint:errcheck // it is gone, then
	}
}
