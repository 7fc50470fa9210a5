package brokerlocal

import (
	"context"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/guildhall-dev/guildhall/internal/logtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for an event on a busy machine.
const patience = time.Minute

func withPatience(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// setup starts a server that is stopped with the test.
func setup(t *testing.T, config Config) *Server {
	t.Helper()
	server, err := Start(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	return server
}

// bucket opens a bucket in files.
func bucket(t *testing.T, server *Server) jetstream.KeyValue {
	t.Helper()
	conn, err := nats.Connect(server.URL(), nats.Timeout(patience))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	bucket, err := js.CreateOrUpdateKeyValue(withPatience(t), jetstream.KeyValueConfig{Bucket: "test"})
	if err != nil {
		t.Fatal(err)
	}
	return bucket
}

func port(t *testing.T, server *Server) int {
	t.Helper()
	address, err := url.Parse(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	if address.Hostname() != "127.0.0.1" {
		t.Errorf("the server listens on %s: others reach it", address.Host)
	}
	n, err := strconv.Atoi(address.Port())
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestWhatIsWrittenSurvivesARestart(t *testing.T) {
	t.Parallel()
	folder := Folder(filepath.Join(t.TempDir(), "data", "not there yet"))
	ports, err := FreePorts(1)
	if err != nil {
		t.Fatal(err)
	}
	first := setup(t, Config{Folder: folder, Port: ports[0]})
	revision, err := bucket(t, first).PutString(withPatience(t), "key", "value")
	if err != nil {
		t.Fatal(err)
	}
	first.Stop()
	second := setup(t, Config{Folder: folder, Port: port(t, first)})
	if second.URL() != first.URL() {
		t.Errorf("restarted at %s, was at %s", second.URL(), first.URL())
	}
	got, err := bucket(t, second).Get(withPatience(t), "key")
	if err != nil || string(got.Value()) != "value" || got.Revision() != revision {
		t.Errorf("Get after a restart: %v, %v; want revision %d", got, err, revision)
	}
}

func TestServersDoNotMeet(t *testing.T) {
	t.Parallel()
	one, two := setup(t, Config{Folder: t.TempDir()}), setup(t, Config{Folder: t.TempDir()})
	if _, err := bucket(t, one).PutString(withPatience(t), "key", "value"); err != nil {
		t.Fatal(err)
	}
	if got, err := bucket(t, two).Get(withPatience(t), "key"); err == nil {
		t.Errorf("one server has what was written to another: %v", got)
	}
}

func TestRunStopsWithItsContext(t *testing.T) {
	t.Parallel()
	server := setup(t, Config{Folder: t.TempDir()})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()
	cancel()
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("Run: %v", err)
		}
	case <-withPatience(t).Done():
		t.Fatal("Run does not end")
	}
	if conn, err := nats.Connect(server.URL()); err == nil {
		conn.Close()
		t.Error("the server still takes connections")
	}
	server.Stop() // repeatable
}

func TestUnusableFolder(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, folder := range []string{file, filepath.Join(file, "below"), "/proc/guildhall"} {
		_, err := Start(Config{Folder: folder})
		if err == nil || !strings.Contains(err.Error(), "data folder "+folder) {
			t.Errorf("Start in %s: %v, want an error that names the folder", folder, err)
		}
	}
	readOnly := filepath.Join(t.TempDir(), "read only")
	if err := os.Mkdir(readOnly, 0o500); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		return // root writes where it likes
	}
	if _, err := Start(Config{Folder: readOnly}); err == nil || !strings.Contains(err.Error(), "cannot write there") {
		t.Errorf("Start in a folder that cannot be written: %v", err)
	}
}

func TestProbeLeavesNothing(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	if err := checkFolder(folder); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(folder); err != nil || len(left) != 0 {
		t.Errorf("the probe left %v, %v", left, err)
	}
}

func TestTakenPort(t *testing.T) {
	t.Parallel()
	first := setup(t, Config{Folder: t.TempDir()})
	_, err := Start(Config{Folder: t.TempDir(), Port: port(t, first)})
	if err == nil || !strings.Contains(err.Error(), strconv.Itoa(port(t, first))) || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("Start on a taken port: %v, want an error that names it and says so", err)
	}
}

func TestLogGoesToTheLogger(t *testing.T) {
	t.Parallel()
	var log logtest.Buffer
	server := setup(t, Config{Folder: t.TempDir(), Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	server.Stop()
	if !strings.Contains(log.String(), "Server is ready") || strings.Contains(log.String(), "level=ERROR") {
		t.Errorf("the server's log:\n%s", log.String())
	}
}
