//go:build unix && (!linux || race)

package socket

// The runtime is told, where there is no call of which it need not be; and for the race detector, which takes it that what
// was written before a write happened before what is read behind the read of it.

import "syscall"

func writeOnce(fd uintptr, b []byte) (int, error) { return syscall.Write(int(fd), b) }

func readOnce(fd uintptr, b []byte) (int, error) { return syscall.Read(int(fd), b) }
