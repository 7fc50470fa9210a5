package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// loaded runs `guildhall load …` to its end and gives the JSON object that it printed.
func loaded(t *testing.T, args ...string) map[string]any {
	t.Helper()
	c := command(t, append([]string{"load"}, args...)...)
	var stdout, stderr bytes.Buffer
	c.Stdout, c.Stderr = &stdout, &stderr
	if err := c.Run(); err != nil {
		t.Fatalf("load %v: %v\n%s%s", args, err, stdout.String(), stderr.String())
	}
	return parsed(t, &stdout, &stderr)
}

// parsed reads the one JSON object on standard output, beside which there is nothing.
func parsed(t *testing.T, stdout, stderr *bytes.Buffer) map[string]any {
	t.Helper()
	var object map[string]any
	if err := json.Unmarshal(stdout.Bytes(), &object); err != nil || bytes.Count(stdout.Bytes(), []byte("\n")) != 1 {
		t.Fatalf("it printed %q: %v", stdout.String(), err)
	}
	if stderr.Len() > 0 {
		t.Errorf("on standard error there is %q", stderr.String())
	}
	return object
}

func TestLoad(t *testing.T) {
	t.Parallel()
	u := up(t)
	page := filepath.Join(t.TempDir(), "page.html")
	fanout := loaded(t, "fanout", "--server", u.url, "--json", "--rooms", "1", "--members", "4", "--rate", "20", "--seconds", "1", "--warmup", "0", "--html", page)
	if fanout["published"] != 20.0 || fanout["delivered"] != 80.0 || fanout["missing"] != 0.0 {
		t.Errorf("fanout gave %v", fanout)
	}
	if _, read := fanout["stack_cpu_seconds"].(float64); !read {
		t.Errorf("of the process that started the hosts nothing was read: %v", fanout["stack_cpu_seconds"])
	}
	if text, err := os.ReadFile(page); err != nil || !bytes.Contains(text, []byte("<svg")) {
		t.Errorf("the page: %v\n%s", err, text)
	}
	storm := loaded(t, "storm", "--server", u.url, "--json", "--groups", "2", "--players", "6")
	if storm["seated"] != 6.0 || storm["split_groups"] != 0.0 {
		t.Errorf("storm gave %v", storm)
	}
	// The gRPC port is in the list of parts, which up has printed by now.
	_, line, _ := strings.Cut(u.stdout.String(), "frontend, gRPC alone")
	entered := loaded(t, "storm", "--server", u.url, "--json", "--groups", "2", "--players", "6", "--assign", "--grpc", strings.Fields(line)[0])
	if entered["seated"] != 6.0 {
		t.Errorf("storm by gRPC alone gave %v", entered)
	}
	idle := loaded(t, "idle", "--server", u.url, "--json", "--connections", "4", "--groups", "1", "--settle", "2s")
	if _, read := idle["rss_bytes_per_connection"].(float64); !read || idle["connections"] != 4.0 {
		t.Errorf("idle gave %v", idle)
	}
	churn := loaded(t, "churn", "--server", u.url, "--json", "--seconds", "2", "--groups", "1", "--players", "3", "--rate", "9")
	if churn["sent"] != churn["acked"] || churn["lost"] != 0.0 {
		t.Errorf("churn gave %v", churn)
	}
	table, err := command(t, "load", "fanout", "--server", u.url, "--rooms", "1", "--members", "2", "--rate", "20", "--seconds", "1", "--warmup", "0").CombinedOutput()
	if err != nil || !strings.Contains(string(table), "every promise held") {
		t.Errorf("the table is %s, %v", table, err)
	}
	interruptLoad(t, u.url)
	u.interrupt()
	if code := u.end(); code != 0 {
		t.Errorf("up ended with exit code %d\n%s", code, u.stderr)
	}
}

// interruptLoad sends Ctrl-C to a run: it prints what was measured until then.
func interruptLoad(t *testing.T, url string) {
	t.Helper()
	c := command(t, "load", "fanout", "--server", url, "--json", "--rooms", "1", "--members", "2", "--rate", "20", "--seconds", "3600", "--warmup", "0")
	var stdout, stderr bytes.Buffer
	c.Stdout, c.Stderr = &stdout, &stderr
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	group := roomOfTwo(t, url)
	for group == "" { // nobody tells when it talks, but who is in the room hears it
		<-ticker.C
		group = roomOfTwo(t, url)
	}
	listener := newEntered(t, url, "listener", group)
	listener.await("message")
	if err := c.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := c.Wait(); err != nil {
		t.Fatalf("Ctrl-C ended it with %v\n%s", err, stderr.String())
	}
	if code := listener.leave(); code != 0 {
		t.Errorf("the listener left with exit code %d", code)
	}
	got := parsed(t, &stdout, &stderr)
	if got["interrupted"] != true || got["published"] == 0.0 || got["missing"] != 0.0 {
		t.Errorf("after Ctrl-C it gave %v", got)
	}
}

// roomOfTwo gives the group of a room that has two members, if there is one.
func roomOfTwo(t *testing.T, url string) string {
	t.Helper()
	out, err := command(t, "rooms", "--json", "--server", url).Output()
	if err != nil {
		t.Fatal(err)
	}
	for rooms := json.NewDecoder(bytes.NewReader(out)); rooms.More(); {
		var room struct {
			Group   string
			Members int
		}
		if err := rooms.Decode(&room); err != nil {
			t.Fatalf("rooms --json printed %s: %v", out, err)
		}
		if room.Members == 2 {
			return room.Group
		}
	}
	return ""
}

func TestLoadRefuses(t *testing.T) {
	t.Parallel()
	nobody := "http://" + freeAddress(t)
	for says, args := range map[string][]string{
		"seats 1000":                {"fanout", "--rooms", "1", "--members", "1001", "--rate", "1", "--seconds", "1"},
		"--rate 0":                  {"fanout", "--rooms", "1", "--members", "1", "--rate", "0", "--seconds", "1"},
		"is no time":                {"churn", "--seconds", "long"},
		"missing flags":             {"storm", "--groups", "1"},
		"--token-key":               {"storm", "--groups", "1", "--players", "1", "--token-key", "/nowhere"},
		"--grpc":                    {"storm", "--groups", "1", "--players", "1", "--grpc", "nonsense"},
		"--html":                    {"storm", "--groups", "1", "--players", "1", "--html", "/nowhere/page.html"},
		"guildhall up":              {"storm", "--groups", "1", "--players", "1", "--server", nobody},
		"--connections":             {"idle", "--connections", "0"},
		"unexpected argument dance": {"dance"},
	} {
		out, err := command(t, append([]string{"load"}, args...)...).CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.Contains(string(out), says) {
			t.Errorf("load %v: %v, %s; want %q", args, err, out, says)
		}
	}
}

// A page that was never written is not left behind.
func TestLoadLeavesNoEmptyPage(t *testing.T) {
	t.Parallel()
	page := filepath.Join(t.TempDir(), "page.html")
	if err := command(t, "load", "storm", "--groups", "1", "--players", "1", "--server", "http://"+freeAddress(t), "--html", page).Run(); err == nil {
		t.Error("nobody was there, and it measured")
	}
	if _, err := os.Stat(page); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the page: %v", err)
	}
}
