//go:build unix

// Package usage tells what this process uses of its machine, for the load tool and benchmarks.
package usage

import (
	"runtime"
	"syscall"
	"time"
)

// CPU gives what this process has used of processors: on a shared machine it says more than the clock. It is 0 if that cannot be
// read.
func CPU() time.Duration {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		return 0
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// Heap gives the bytes of the heap that are in use, after a collection.
func Heap() int64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}
