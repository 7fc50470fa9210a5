package process

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// child is this binary in a role.
type child struct {
	t       *testing.T
	command *exec.Cmd
	lines   *bufio.Scanner // of its standard output
	stderr  *bytes.Buffer
}

func setup(t *testing.T, role string, arguments ...string) *child {
	t.Helper()
	c := &child{t: t, command: exec.CommandContext(withPatience(t), os.Args[0], arguments...), stderr: &bytes.Buffer{}}
	c.command.Env = append(os.Environ(), roleVariable+"="+role, "GOCOVERDIR="+t.TempDir())
	c.command.Stderr = c.stderr
	stdout, err := c.command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.lines = bufio.NewScanner(stdout)
	return c
}

func (c *child) start() {
	c.t.Helper()
	if err := c.command.Start(); err != nil {
		c.t.Fatal(err)
	}
}

// expect sees that a line of output comes next.
func (c *child) expect(want string) {
	c.t.Helper()
	if !c.lines.Scan() || c.lines.Text() != want {
		c.t.Fatalf("the process said %q, want %q; standard error: %s", c.lines.Text(), want, c.stderr)
	}
}

func (c *child) signal(s os.Signal) {
	c.t.Helper()
	if err := c.command.Process.Signal(s); err != nil {
		c.t.Fatal(err)
	}
}

// expectExit waits for the end of the process and gives what it said before.
func (c *child) expectExit(code int) (said string) {
	c.t.Helper()
	var lines []string
	for c.lines.Scan() {
		lines = append(lines, c.lines.Text())
	}
	err := c.command.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) || c.command.ProcessState.ExitCode() != code {
		c.t.Errorf("the process ended with %v, want code %d; standard error: %s", err, code, c.stderr)
	}
	return strings.Join(lines, "\n")
}

func TestFirstSignalEndsTheContextSecondTheProcess(t *testing.T) {
	t.Parallel()
	for _, signals := range [][2]syscall.Signal{
		{syscall.SIGTERM, syscall.SIGTERM}, {syscall.SIGINT, syscall.SIGTERM}, {syscall.SIGINT, syscall.SIGINT},
	} {
		t.Run(signals[0].String()+", "+signals[1].String(), func(t *testing.T) {
			t.Parallel()
			c := setup(t, "stubborn")
			c.start()
			c.expect("started")
			c.signal(signals[0])
			c.expect("got " + signals[0].String())
			c.signal(signals[1])
			c.expect("last act")
			c.expect("very last act")
			c.expectExit(130)
		})
	}
}

func TestMainStopsAtSignal(t *testing.T) {
	t.Parallel()
	c := setup(t, "main")
	c.command.Env = append(c.command.Env, "GUILDHALL_LOG_FORMAT=json")
	c.start()
	c.expect("started")
	c.signal(syscall.SIGTERM)
	c.expectExit(0)
	if !strings.Contains(c.stderr.String(), `"service":"main"`) {
		t.Errorf("the log does not name the service: %s", c.stderr)
	}
}

func TestMainSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ pair, says string }{
		{"GUILDHALL_FAIL=true", "main: asked to fail"},
		{"GUILDHALL_FAIL=perhaps", "GUILDHALL_FAIL"},
		{"GUILDHALL_LOG_FORMAT=xml", "GUILDHALL_LOG_FORMAT"},
		{"GUILDHALL_NOBODY=1", "GUILDHALL_NOBODY"},
	} {
		c := setup(t, "main")
		c.command.Env = append(c.command.Env, test.pair)
		c.start()
		c.expectExit(1)
		if !strings.Contains(c.stderr.String(), test.says) {
			t.Errorf("%s: %q, want %q", test.pair, c.stderr, test.says)
		}
	}
}

func TestMainHelp(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		argument string
		code     int
		says     string
	}{
		{"--help", 0, "GUILDHALL_STOP_GRACE"},
		{"help", 0, "GUILDHALL_FAIL"},
		{"version", 0, Version()},
		{"--port=7", 1, ""},
	} {
		c := setup(t, "main", test.argument)
		c.start()
		if said := c.expectExit(test.code); !strings.Contains(said, test.says) {
			t.Errorf("%s: %q, want %q", test.argument, said, test.says)
		}
		if test.code != 0 && !strings.Contains(c.stderr.String(), test.argument) {
			t.Errorf("%s: %q, want an error that names the argument", test.argument, c.stderr)
		}
	}
}

func TestSignalsEndWithTheirParentAndTheirStop(t *testing.T) {
	t.Parallel()
	parent, cancel := context.WithCancel(context.Background())
	ctx, stop := Signals(parent)
	cancel()
	receive(t, ctx.Done(), "the parent's end")
	stop()
	stop() // repeatable

	ctx, stop = Signals(context.Background())
	if ctx.Err() != nil {
		t.Errorf("the context has ended by itself: %v", context.Cause(ctx))
	}
	stop()
	receive(t, ctx.Done(), "the end by stop")
}
