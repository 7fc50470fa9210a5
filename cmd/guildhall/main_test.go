package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/guildhall-dev/guildhall/internal/logtest"
	"github.com/guildhall-dev/guildhall/internal/pass"
)

// asCommand makes this test binary the command; its children, which are hosts, inherit it.
const asCommand = "RUN_AS_GUILDHALL"

// patience bounds every process of a test: what takes longer has failed. It is not a time limit for the product.
const patience = 3 * time.Minute

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) != "" {
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// command makes a process of the command.
func command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	c := exec.CommandContext(ctx, path, args...)
	c.Env = append(os.Environ(), asCommand+"=1")
	return c
}

// ups is a running `guildhall up`.
type ups struct {
	*exec.Cmd
	t      *testing.T
	url    string
	stdout bytes.Buffer // what has been read of it
	stderr *logtest.Buffer
	lines  *bufio.Scanner
}

// up starts `guildhall up` on a free port and waits until it is ready.
func up(t *testing.T, args ...string) *ups {
	t.Helper()
	return upWith(t, nil, args...)
}

// upWith starts it with further variables.
func upWith(t *testing.T, environ []string, args ...string) *ups {
	t.Helper()
	u := &ups{Cmd: command(t, append([]string{"up", "--listen", "127.0.0.1:0"}, args...)...), t: t, stderr: &logtest.Buffer{}}
	u.Env = append(u.Env, environ...)
	u.Stderr = u.stderr
	out, err := u.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := u.Start(); err != nil {
		t.Fatal(err)
	}
	u.lines = bufio.NewScanner(io.TeeReader(out, &u.stdout))
	u.url = u.await("ready ")
	return u
}

// await reads on to the line that begins with a word, and gives the rest of it.
func (u *ups) await(word string) string {
	u.t.Helper()
	for u.lines.Scan() {
		if rest, found := strings.CutPrefix(u.lines.Text(), word); found {
			return rest
		}
	}
	u.t.Fatalf("up ended before it printed %q: %v\n%s", word, u.Wait(), u.stderr)
	return ""
}

// interrupt sends SIGINT and waits until it is heeded.
func (u *ups) interrupt() {
	u.t.Helper()
	if err := u.Process.Signal(os.Interrupt); err != nil {
		u.t.Fatal(err)
	}
	u.await("stopping")
}

// end waits for the process and gives its exit code.
func (u *ups) end() int {
	u.t.Helper()
	for u.lines.Scan() { // nothing more is said
	}
	err := u.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		u.t.Fatal(err)
	}
	return u.ProcessState.ExitCode()
}

// hostRow is a line of `guildhall hosts --json`.
type hostRow struct {
	Name, State, Version, Address string
	Rooms, Players, PID           int
}

func (u *ups) hosts() []hostRow {
	u.t.Helper()
	out, err := command(u.t, "hosts", "--json", "--server", u.url).Output()
	if err != nil {
		u.t.Fatalf("hosts: %v", err)
	}
	var hosts []hostRow
	decoder := json.NewDecoder(bytes.NewReader(out))
	for decoder.More() {
		var h hostRow
		if err := decoder.Decode(&h); err != nil {
			u.t.Fatalf("hosts --json printed %s: %v", out, err)
		}
		hosts = append(hosts, h)
	}
	return hosts
}

// alive says whether a process is there. A host's parent waits for it, so that none is left as a zombie.
func alive(pid int) bool { return syscall.Kill(pid, 0) == nil }

// eventually asks again until the answer is yes, of what can only be asked and not watched.
func eventually(t *testing.T, what string, yes func() bool) {
	t.Helper()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	deadline := time.After(patience)
	for !yes() {
		select {
		case <-ticker.C:
		case <-deadline:
			t.Fatalf("it never came about that %s", what)
		}
	}
}

// awaitGone waits until a process that was killed is gone: its new parent may take a moment to notice.
func awaitGone(t *testing.T, pid int) {
	t.Helper()
	eventually(t, fmt.Sprintf("host process %d is not left behind", pid), func() bool { return !alive(pid) || isZombie(pid) })
}

// isZombie says whether a process has ended and its parent has not asked for it: in a container nobody may.
func isZombie(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && bytes.Contains(stat, []byte(") Z "))
}

func TestUpEnterListAndStop(t *testing.T) {
	t.Parallel()
	u := up(t)
	p1 := newEntered(t, u.url, "p1", "guild:dragons")
	p1.await("joined")
	p2 := newEntered(t, u.url, "p2", "guild:dragons")
	p2.await("joined")
	p1.say("hello")
	message := p2.await("message")
	if message["seq"] != 1.0 || message["from"] != "p1" || message["body"] != "hello" {
		t.Errorf("p2 saw %v", message)
	}
	if acked := p1.await("acked"); acked["seq"] != 1.0 || acked["id"] != message["id"] {
		t.Errorf("p1 was told %v", acked)
	}
	// A host that is busy may tell both late.
	eventually(t, "rooms --json prints the room", func() bool {
		out, err := command(t, "rooms", "--json", "--server", u.url).Output()
		if err != nil {
			t.Fatal(err)
		}
		return strings.Contains(string(out), `"group":"guild:dragons"`) && strings.Contains(string(out), `"members":2`)
	})
	var hosts []hostRow
	eventually(t, "a host carries the room", func() bool {
		hosts = u.hosts()
		return slices.ContainsFunc(hosts, func(h hostRow) bool { return h.State == "allocated" && h.Rooms == 1 && alive(h.PID) })
	})
	for _, p := range []*entered{p1, p2} {
		if code := p.leave(); code != 0 {
			t.Errorf("a player left with exit code %d", code)
		}
	}
	u.interrupt()
	if code := u.end(); code != 0 {
		t.Errorf("up ended with exit code %d\n%s", code, u.stderr)
	}
	for _, h := range hosts {
		if alive(h.PID) {
			t.Errorf("host %s is left behind as process %d", h.Name, h.PID)
		}
	}
}

func TestSecondInterruptExitsAtOnce(t *testing.T) {
	t.Parallel()
	u := up(t, "--hosts", "1")
	host := u.hosts()[0]
	if err := syscall.Kill(host.PID, syscall.SIGSTOP); err != nil { // so that the stop in order takes its whole grace
		t.Fatal(err)
	}
	u.interrupt()
	if err := u.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if code := u.end(); code != 130 {
		t.Errorf("up ended with exit code %d, want 130", code)
	}
	awaitGone(t, host.PID)
}

func TestToken(t *testing.T) {
	t.Parallel()
	out, err := command(t, "token", "--player", "p1", "--group", "guild:dragons,party:42").Output()
	if err != nil {
		t.Fatal(err)
	}
	token, err := pass.ReadToken(pass.DevelopmentKeys(), strings.TrimSpace(string(out)))
	if err != nil || token.Player != "p1" || len(token.Groups) != 2 || token.Groups[1].String() != "party:42" {
		t.Errorf("the token is %+v, %v", token, err)
	}
}

func TestVersion(t *testing.T) {
	t.Parallel()
	out, err := command(t, "version").Output()
	if err != nil || len(bytes.TrimSpace(out)) == 0 {
		t.Errorf("version printed %q, %v", out, err)
	}
}

func TestEveryFlagHasAVariable(t *testing.T) {
	t.Parallel()
	out, err := command(t, "up", "--help").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{
		"GUILDHALL_LISTEN", "GUILDHALL_DATA", "GUILDHALL_HOSTS", "GUILDHALL_NATS", "GUILDHALL_OPENMATCH_FRONTEND",
		"GUILDHALL_OPENMATCH_BACKEND", "GUILDHALL_OPENMATCH_QUERY", "GUILDHALL_MATCHFUNCTION_ADVERTISE", "GUILDHALL_AGONES_ALLOCATOR",
	} {
		if !strings.Contains(string(out), "$"+name) {
			t.Errorf("up --help does not name %s", name)
		}
	}
}
