package chaos

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"github.com/guildhall-dev/guildhall/internal/process"
)

// self makes a command of this very binary in a role. It has the settings of the test's environment only as far as they
// are not Guildhall's.
func self(role string, environ ...string) (*exec.Cmd, error) {
	path, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("the test binary: %w", err)
	}
	command := exec.Command(path)
	for _, pair := range os.Environ() {
		if !strings.HasPrefix(pair, process.Prefix+"_") {
			command.Env = append(command.Env, pair)
		}
	}
	command.Env = append(command.Env, roleVariable+"="+role)
	command.Env = append(command.Env, environ...)
	return command, nil
}

// child is one run of one process.
type child struct {
	command *exec.Cmd
	exited  chan struct{} // closed when it is gone
}

// startChild starts a process whose output is appended to a file.
//
// The thread is locked from the start to the end: the kernel kills a child when the thread that started it ends, and Go
// ends threads as it likes.
func startChild(command *exec.Cmd, logFile string) (*child, error) {
	output, err := openLog(logFile)
	if err != nil {
		return nil, err
	}
	command.Stdout, command.Stderr = output, output
	isolate(command)
	c := &child{command: command, exited: make(chan struct{})}
	started := make(chan error, 1)
	go func() { // ends with the process, for which whoever starts one waits
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(c.exited)
		defer output.Close()
		err := command.Start()
		started <- err
		if err == nil {
			_ = command.Wait() // how it ended is in its state
		}
	}()
	return c, <-started
}

// signal sends a signal to the process, and to no other: one that is gone gets none.
func (c *child) signal(signal syscall.Signal) { _ = c.command.Process.Signal(signal) }

// status gives how it ended, in words.
func (c *child) status() string { return c.command.ProcessState.String() }

func openLog(file string) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return nil, err
	}
	return os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
}
