package main

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/guildhall-dev/guildhall/internal/brokerlocal"
)

func TestBadInputGetsAClearError(t *testing.T) {
	t.Parallel()
	u := up(t, "--data", t.TempDir())
	address := strings.TrimPrefix(u.url, "http://")
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	token, err := command(t, "token", "--player", "p1", "--group", "guild:dragons").Output()
	if err != nil {
		t.Fatal(err)
	}
	mine := strings.TrimSpace(string(token))
	enter := func(args ...string) []string {
		return append([]string{"enter", "--server", u.url, "--player", "p1"}, args...)
	}
	for _, c := range []struct {
		name string
		env  string
		args []string
		says string
	}{
		{"unknown kind", "", enter("--group", "clan:1"), `unknown kind "clan"`},
		{"empty id", "", enter("--group", "guild:"), "the id is empty"},
		{"10 kB of id", "", enter("--group", "guild:"+strings.Repeat("x", 10_000)), "at most 128"},
		{"no kind", "", enter("--group", "dragons"), "want kind:id"},
		{"somebody else's token", "", enter("--group", "guild:wolves", "--token", mine), "does not name group guild:wolves"},
		{"no token", "", enter("--group", "guild:wolves", "--token", "x.y.z"), "not valid"},
		{"empty player", "", []string{"token", "--player", "", "--group", "guild:a"}, "the name is empty"},
		{"a used port", "", []string{"up", "--listen", address}, "address already in use"},
		{"a data folder that is a file", "", []string{"up", "--listen", "127.0.0.1:0", "--data", file}, "data folder"},
		{"a data folder in use", "", []string{"up", "--listen", "127.0.0.1:0", "--data", u.Args[len(u.Args)-1]}, "in use by another process"},
		{"half an Open Match", "", []string{"up", "--listen", "127.0.0.1:0", "--openmatch-query", "127.0.0.1:1"}, "needs all three addresses"},
		{"a real allocator alone", "", []string{"up", "--listen", "127.0.0.1:0", "--agones-allocator", "127.0.0.1:1"}, "--nats"},
		{"no hosts", "", []string{"up", "--listen", "127.0.0.1:0", "--hosts", "0"}, "at least 1"},
		{"a negative duration", "GUILDHALL_LOOK_AGAIN=-1s", []string{"up", "--listen", "127.0.0.1:0"}, "GUILDHALL_LOOK_AGAIN"},
		{"a server without scheme", "", []string{"rooms", "--server", address}, "http://"},
		{"an unknown variable", "GUILDHALL_LISTNE=1", []string{"up", "--listen", "127.0.0.1:0"}, "GUILDHALL_LISTNE is not a variable"},
		{"an unknown variable, as a player", "GUILDHALL_LISTNE=1", enter("--group", "guild:a"), "GUILDHALL_LISTNE is not a variable"},
		{"a variable that does not parse", "GUILDHALL_SHARDS=many", []string{"up", "--listen", "127.0.0.1:0"}, `GUILDHALL_SHARDS="many"`},
		{"a variable out of range", "GUILDHALL_ROOMS_PER_HOST=-1", []string{"up", "--listen", "127.0.0.1:0"}, "GUILDHALL_ROOMS_PER_HOST"},
		{"kinds that do not parse", "GUILDHALL_KINDS=guild size=5", []string{"up", "--listen", "127.0.0.1:0"}, "capacity=N"},
		{"nobody there", "", []string{"rooms", "--server", "http://" + freeAddress(t)}, "guildhall up"},
		{"no such command", "", []string{"drian"}, "drian"},
	} {
		t.Run(c.name, func(t *testing.T) {
			bad := command(t, c.args...)
			if c.env != "" {
				bad.Env = append(bad.Env, c.env)
			}
			out, err := bad.CombinedOutput()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.ExitCode() == 0 || exit.ExitCode() == -1 {
				t.Errorf("ended with %v, want an exit code", err)
			}
			if !strings.Contains(string(out), c.says) {
				t.Errorf("printed %q, want %q in it", out, c.says)
			}
		})
	}
	u.interrupt()
	if code := u.end(); code != 0 {
		t.Errorf("up ended with exit code %d\n%s", code, u.stderr)
	}
}

// freeAddress gives an address where nobody listens.
func freeAddress(t *testing.T) string {
	t.Helper()
	ports, err := brokerlocal.FreePorts(1)
	if err != nil {
		t.Fatal(err)
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(ports[0]))
}
