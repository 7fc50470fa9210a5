//go:build unix && !linux

package agoneslocal

import (
	"os/exec"
	"syscall"
)

// isolate puts the child in a process group of its own: a terminal's Ctrl-C reaches only the parent, which
// stops its children in order. These systems have no signal for the death of a parent: a game server whose
// SDK server is gone must end by itself.
func isolate(cmd *exec.Cmd) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
}
