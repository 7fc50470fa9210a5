package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"testing"
)

// entered is a running `guildhall enter --json`.
type entered struct {
	*exec.Cmd
	t     *testing.T
	input io.WriteCloser
	lines *bufio.Scanner
}

func newEntered(t *testing.T, url, player, group string, options ...func(*entered)) *entered {
	t.Helper()
	e := &entered{Cmd: command(t, "enter", "--json", "--server", url, "--player", player, "--group", group), t: t}
	for _, option := range options {
		option(e)
	}
	var err error
	if e.input, err = e.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := e.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	e.lines = bufio.NewScanner(out)
	if e.Stderr == nil {
		e.Stderr = t.Output()
	}
	if err := e.Start(); err != nil {
		t.Fatal(err)
	}
	return e
}

func (e *entered) say(line string) {
	e.t.Helper()
	if _, err := fmt.Fprintln(e.input, line); err != nil {
		e.t.Fatal(err)
	}
}

// await reads on to the next event of a name.
func (e *entered) await(name string) map[string]any {
	e.t.Helper()
	for e.lines.Scan() {
		var event map[string]any
		if err := json.Unmarshal(e.lines.Bytes(), &event); err != nil {
			e.t.Fatalf("enter --json printed %q: %v", e.lines.Text(), err)
		}
		if event["event"] == name {
			return event
		}
		e.t.Log(event)
	}
	e.t.Fatalf("enter ended before %q", name)
	return nil
}

// leave ends the input, reads the last event and gives the exit code.
func (e *entered) leave() int {
	e.t.Helper()
	if err := e.input.Close(); err != nil {
		e.t.Fatal(err)
	}
	if closed := e.await("closed"); closed["code"] != "left" || closed["reconnect"] != false {
		e.t.Errorf("the last event is %v", closed)
	}
	err := e.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		e.t.Fatal(err)
	}
	return e.ProcessState.ExitCode()
}

// The end of input loses nothing: what was piped in is acked before enter exits.
func TestPipedLinesAreAllSaid(t *testing.T) {
	t.Parallel()
	u := up(t, "--hosts", "1")
	e := newEntered(t, u.url, "p1", "party:42")
	const lines = 200
	for i := range lines {
		e.say(fmt.Sprint("line ", i))
	}
	if err := e.input.Close(); err != nil {
		t.Fatal(err)
	}
	for i := range lines {
		if m := e.await("message"); m["seq"] != float64(i+1) || m["body"] != fmt.Sprint("line ", i) {
			t.Fatalf("message %d is %v", i+1, m)
		}
	}
	e.await("closed")
	if err := e.Wait(); err != nil {
		t.Error(err)
	}
	u.interrupt()
	if code := u.end(); code != 0 {
		t.Errorf("up ended with exit code %d", code)
	}
}
