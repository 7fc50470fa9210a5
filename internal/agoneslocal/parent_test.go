package agoneslocal

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func toStdout(string) io.Writer { return os.Stdout }

func announce(server *Server) {
	server.Wait(context.Background(), func(all []GameServer) bool {
		ready := in(Ready, all)
		for _, gs := range ready {
			fmt.Println(gs.PID)
		}
		return len(ready) > 0
	})
}

// A parent that is killed cannot stop its children; the kernel must. The game server here does not
// notice that its SDK server is gone, and holds the pipe from which the test reads: its end is the end of both.
func TestGameServersDieWithTheirParent(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("only Linux has a signal for the death of a parent")
	}
	cmd := exec.CommandContext(withPatience(t), os.Args[0])
	cmd.Env = append(os.Environ(), roleVariable+"="+parent)
	output, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer output.Close()
	cmd.Stdout = write
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	write.Close()

	lines := bufio.NewReader(output)
	line, err := lines.ReadString('\n')
	if err != nil {
		t.Fatalf("the parent said nothing: %v", err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil || !alive(pid) {
		t.Fatalf("the parent said %q; that is no process", line)
	}
	t.Cleanup(func() {
		if t.Failed() {
			syscall.Kill(pid, syscall.SIGKILL)
		}
	})
	cmd.Process.Kill()
	cmd.Wait()
	output.SetReadDeadline(time.Now().Add(patience / 4))
	if _, err := io.Copy(io.Discard, lines); err != nil {
		t.Fatalf("the game server outlives its parent: %v", err)
	}
}
