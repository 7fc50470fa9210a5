package load

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Where Linux tells of its processes. Elsewhere it is not there, and nothing is told.
const procFolder = "/proc"

// clockTick is the unit of /proc/PID/stat on every Linux that Go runs on.
const clockTick = 10 * time.Millisecond

// process is what /proc tells of a process.
type process struct {
	cpu     time.Duration // user and system
	rss     int64         // bytes
	parent  int
	started uint64 // ticks since the machine was; tells two processes of one pid apart
}

func readProcess(pid int) (process, error) {
	stat, err := os.ReadFile(filepath.Join(procFolder, strconv.Itoa(pid), "stat"))
	if err != nil {
		return process{}, err
	}
	return parseStat(stat)
}

// parseStat reads /proc/PID/stat: fields behind the name, which stands in brackets and may have any in it.
func parseStat(stat []byte) (process, error) {
	const state, parent, user, system, started, rss = 0, 1, 11, 12, 19, 21 // the fields of proc(5), from 3 on
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) <= rss {
		return process{}, fmt.Errorf("a process's stat of %d fields", len(fields))
	}
	if fields[state] == "Z" {
		return process{}, fmt.Errorf("the process has ended: %w", os.ErrProcessDone)
	}
	var numbers [rss + 1]int64
	for _, i := range []int{parent, user, system, started, rss} {
		n, err := strconv.ParseInt(fields[i], 10, 64)
		if err != nil {
			return process{}, fmt.Errorf("field %d of a process's stat: %w", i+3, err)
		}
		numbers[i] = n
	}
	return process{
		cpu: time.Duration(numbers[user]+numbers[system]) * clockTick, rss: numbers[rss] * int64(os.Getpagesize()),
		parent: int(numbers[parent]), started: uint64(numbers[started]),
	}, nil
}

// listens says whether a process of this machine listens at a port. It is how a host's pid is known to be one of this
// machine: on another one it would be somebody else.
func listens(pid, port int) bool {
	folder := filepath.Join(procFolder, strconv.Itoa(pid))
	sockets := map[string]bool{}
	for _, table := range []string{"tcp", "tcp6"} {
		// A file that is not there lists none.
		text, _ := os.ReadFile(filepath.Join(folder, "net", table))
		for _, inode := range listeners(string(text), port) {
			sockets["socket:["+inode+"]"] = true
		}
	}
	if len(sockets) == 0 {
		return false
	}
	files, err := os.ReadDir(filepath.Join(folder, "fd"))
	if err != nil {
		return false
	}
	for _, file := range files {
		if target, err := os.Readlink(filepath.Join(folder, "fd", file.Name())); err == nil && sockets[target] {
			return true
		}
	}
	return false
}

// listeners gives the inodes of the sockets that listen at a port, from /proc/PID/net/tcp.
func listeners(table string, port int) []string {
	const local, state, inode, listening = 1, 3, 9, "0A"
	var inodes []string
	suffix := fmt.Sprintf(":%04X", port)
	for line := range strings.Lines(table) {
		fields := strings.Fields(line)
		if len(fields) > inode && fields[state] == listening && strings.HasSuffix(fields[local], suffix) {
			inodes = append(inodes, fields[inode])
		}
	}
	return inodes
}
