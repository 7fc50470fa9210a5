package agoneslocal

import (
	"os/exec"
	"syscall"
)

// isolate puts the child in a process group of its own: a terminal's Ctrl-C reaches only the parent, which
// stops its children in order. A parent that is killed takes them along, so that none is left without one.
func isolate(cmd *exec.Cmd) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
}
