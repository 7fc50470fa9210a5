package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/guildhall-dev/guildhall/internal/process"
	"github.com/guildhall-dev/guildhall/roomserver"
)

const (
	// binaries is where make e2e-kubernetes builds the servers.
	binaries = "../../bin/kubernetes"
	// childVariable makes this test binary a game server: "host" is one of Guildhall, "idle" one for which the test speaks.
	childVariable = "KUBERNETES_TEST_CHILD"
	// patience bounds every wait: what takes longer has failed. It is not a time limit for the product.
	patience = 2 * time.Minute
)

func TestMain(m *testing.M) {
	switch os.Getenv(childVariable) {
	case "host":
		os.Unsetenv(childVariable)
		process.Main("roomserver", roomserver.New)
	case "idle":
		stop := make(chan os.Signal, 1)
		signal.Notify(stop, syscall.SIGTERM)
		<-stop
		os.Exit(0)
	}
	os.Exit(runTests(m))
}

func runTests(m *testing.M) int {
	if err := checkBinaries(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	if err := stopCluster(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	http.DefaultClient.CloseIdleConnections()
	if err := goleak.Find(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

func checkBinaries() error {
	for _, name := range []string{"etcd", "kube-apiserver"} {
		if _, err := os.Stat(filepath.Join(binaries, name)); err != nil {
			return fmt.Errorf("these tests need etcd and kube-apiserver; run make e2e-kubernetes, which builds them: %w", err)
		}
	}
	return nil
}

// bounded gives a context for one test.
func bounded(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// eventually asks again until the answer is yes, for what can only be asked and tells nobody when it changes.
func eventually(ctx context.Context, yes func() error) error {
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := yes()
		if err == nil {
			return nil
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		}
	}
}
