package chaos

import (
	"io"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"
)

// inherited is the descriptor of the pipe that a parent and its child hold open: its end is the end of both.
const inherited = 3

// runParent starts a child as a town does, says so, and waits to be killed.
func runParent() error {
	command, err := self(roleSleeper)
	if err != nil {
		return err
	}
	pipe := os.NewFile(inherited, "pipe")
	command.ExtraFiles = []*os.File{pipe}
	if _, err := startChild(command, os.Getenv(settingsVariable)); err != nil {
		return err
	}
	if _, err := pipe.WriteString("!"); err != nil {
		return err
	}
	<-time.After(time.Hour)
	return nil
}

// A test that is killed cannot stop what it has started: the kernel must.
func TestNothingOutlivesAKilledTest(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("only Linux has a signal for the death of a parent")
	}
	folder := t.TempDir()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	command, err := self(roleParent, settingsVariable+"="+filepath.Join(folder, "sleeper.log"))
	if err != nil {
		t.Fatal(err)
	}
	command.ExtraFiles = []*os.File{write}
	parent, err := startChild(command, filepath.Join(folder, "parent.log"))
	if err != nil {
		t.Fatal(err)
	}
	write.Close()
	if _, err := io.ReadFull(read, make([]byte, 1)); err != nil {
		t.Fatalf("the parent started nothing: %v", err)
	}
	parent.signal(syscall.SIGKILL)
	<-parent.exited
	_ = read.SetReadDeadline(time.Now().Add(patience))
	if _, err := io.Copy(io.Discard, read); err != nil {
		t.Errorf("the child outlives its parent: %v", err)
	}
}
