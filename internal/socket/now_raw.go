//go:build linux && !race

package socket

import (
	"runtime"
	"syscall"
	"unsafe"
)

func writeOnce(fd uintptr, b []byte) (int, error) { return now(syscall.SYS_WRITE, fd, b) }

func readOnce(fd uintptr, b []byte) (int, error) { return now(syscall.SYS_READ, fd, b) }

// now makes a system call of which the runtime is not told.
func now(call, fd uintptr, b []byte) (int, error) {
	data := unsafe.Pointer(unsafe.SliceData(b)) //nolint:gosec // as the syscall package does; b lives beyond the call
	n, _, errno := syscall.RawSyscall(call, fd, uintptr(data), uintptr(len(b)))
	runtime.KeepAlive(b)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
