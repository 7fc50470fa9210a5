//go:build unix && !linux

package chaos

import (
	"os/exec"
	"syscall"
)

// isolate puts a child in a process group of its own. These systems have no signal for the death of a parent: a test
// that is killed leaves its processes behind.
func isolate(command *exec.Cmd) {
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
}
