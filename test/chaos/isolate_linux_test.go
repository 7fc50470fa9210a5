package chaos

import (
	"os/exec"
	"syscall"
)

// isolate puts a child in a process group of its own, and has the kernel kill it when the test dies, however it dies.
func isolate(command *exec.Cmd) {
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
