package broker

import (
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/guildhall-dev/guildhall/internal/brokerlocal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func setup(t *testing.T) *brokerlocal.Server {
	t.Helper()
	server, err := brokerlocal.Start(brokerlocal.Config{Folder: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	return server
}

func TestConnect(t *testing.T) {
	t.Parallel()
	server := setup(t)
	conn, js, err := Connect(Config{NATS: "nats://127.0.0.1:1," + server.URL(), NATSTimeout: time.Minute}, "test", nil, quiet())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if conn.Opts.Name != "guildhall test" {
		t.Errorf("the connection is called %q", conn.Opts.Name)
	}
	if _, err := js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "test"}); err != nil {
		t.Error(err)
	}
}

func TestConnectToNobody(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	// One that does not parse is not repeated: it may have a password somewhere.
	for url, says := range map[string]string{
		"nats://" + address: address, "nats://nobody.invalid:4222": "nobody.invalid", "nats://%zz": "does not parse", "://": "does not parse",
	} {
		conn, js, err := Connect(Config{NATS: url}, "test", nil, quiet())
		if err == nil || !strings.Contains(err.Error(), "GUILDHALL_NATS") || !strings.Contains(err.Error(), says) {
			t.Errorf("Connect to %s: %v, want an error that names the variable and says %q", url, err, says)
		}
		if conn != nil || js != nil {
			t.Errorf("Connect to %s gave a connection with its error", url)
		}
	}
}
