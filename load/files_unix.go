//go:build unix

package load

import (
	"fmt"
	"syscall"
)

// checkFiles says whether this process may have a connection for each player. Go has raised the soft limit to the hard
// one by now.
func checkFiles(connections int) error {
	const others = 100
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("how many files may be open: %w", err)
	}
	if uint64(connections+others) > limit.Cur {
		return fmt.Errorf("%d connections: this process may have %d files open; raise it (ulimit -n)", connections, limit.Cur)
	}
	return nil
}
