package load

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/guildhall-dev/guildhall/embedded"
	processes "github.com/guildhall-dev/guildhall/internal/process"
	"github.com/guildhall-dev/guildhall/roomserver"
)

const (
	// asHost makes this test binary a host.
	asHost = "GUILDHALL_TEST_AS_HOST"
	// patience bounds every test: what takes longer has failed. It is not a time limit for the product.
	patience = 3 * time.Minute
)

func TestMain(m *testing.M) {
	if os.Getenv(asHost) != "" {
		processes.Main("roomserver", roomserver.New)
	}
	code := m.Run()
	if err := stopServer(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// server is one stack for all tests: groups of different runs do not meet.
var server struct {
	once  sync.Once
	stack *embedded.Stack
	stop  func() error
	err   error
}

func testHost() (*exec.Cmd, error) {
	path, err := os.Executable()
	if err != nil {
		return nil, err
	}
	command := exec.Command(path)
	command.Env = []string{asHost + "=1"}
	return command, nil
}

// startStack starts a stack and waits until a player can enter. The caller stops it, also one that is never ready.
func startStack() (stack *embedded.Stack, stop func() error, err error) {
	stack, err = embedded.New(embedded.Config{HostCommand: testHost, Hosts: 2})
	if err != nil {
		return nil, func() error { return nil }, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- stack.Run(ctx) }()
	stop = func() error {
		cancel()
		return <-done
	}
	select {
	case <-stack.Ready():
		return stack, stop, nil
	case <-time.After(patience):
		return stack, stop, errors.New("the stack is never ready")
	}
}

func startServer() { server.stack, server.stop, server.err = startStack() }

func stopServer() error {
	if server.stop == nil {
		return nil
	}
	return server.stop()
}

// setup gives a configuration for the server.
func setup(t *testing.T) (context.Context, Config) {
	t.Helper()
	t.Parallel()
	server.once.Do(startServer)
	if server.err != nil {
		t.Fatal(server.err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx, Config{Server: server.stack.URL()}
}

// checkShown checks that a result has its fields as JSON, that its page is well-formed and that its table says it all. It
// gives the JSON object.
func checkShown(t *testing.T, result Result, fields ...string) map[string]any {
	t.Helper()
	encoded, err := json.Marshal(result)
	if err != nil {
		t.Fatal(err)
	}
	var object map[string]any
	if err := json.Unmarshal(encoded, &object); err != nil {
		t.Fatal(err)
	}
	for _, field := range append(fields, "server_cpu_seconds", "stack_cpu_seconds", "server_rss_bytes", "client_cpu_seconds") {
		if _, there := object[field]; !there {
			t.Errorf("there is no %q in %s", field, encoded)
		}
	}
	report := result.Report()
	var page, table bytes.Buffer
	if err := report.WriteHTML(&page, time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := report.WriteTable(&table); err != nil {
		t.Fatal(err)
	}
	checkWellFormed(t, page.String())
	for _, row := range report.Rows {
		if !strings.Contains(table.String(), row.Value) {
			t.Errorf("the table does not tell %q:\n%s", row.Name, table.String())
		}
	}
	return object
}

func checkWellFormed(t *testing.T, page string) {
	t.Helper()
	for decoder := xml.NewDecoder(strings.NewReader(page)); ; {
		_, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("the page is not well-formed: %v\n%s", err, page)
		}
	}
	for _, no := range []string{"<script", "http://", "https://", "NaN", "ZgotmplZ"} {
		if strings.Contains(page, no) {
			t.Errorf("the page has %q in it", no)
		}
	}
}

// checkTimes checks that an object of times has its fields.
func checkTimes(t *testing.T, object any) {
	t.Helper()
	times, ok := object.(map[string]any)
	if !ok {
		t.Fatalf("%v are no times", object)
	}
	for _, field := range []string{"p50", "p95", "p99", "max"} {
		if number, ok := times[field].(float64); !ok || number <= 0 {
			t.Errorf("%s of %v", field, times)
		}
	}
}

func checkKept(t *testing.T, result Result) {
	t.Helper()
	if found := result.Breaches(); len(found) > 0 {
		t.Errorf("promises were broken: %s", strings.Join(found, "; "))
	}
}
