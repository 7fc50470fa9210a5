package kubernetes

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	allocation "agones.dev/agones/pkg/sdk"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/guildhall-dev/guildhall/internal/agoneslocal"
)

// What Guildhall relies on in allocations by the Kubernetes API holds behind an API server, with the rights of the chart's
// account: the suite is that of test/conformance/agones.
func TestConformanceThroughTheAPIServer(t *testing.T) {
	a := setup(t)
	a.install(t, installation(t, "kubernetes"))
	server := startFleet(t, []string{"default"}, func(agoneslocal.GameServer) *exec.Cmd { return asChild("idle") })
	speakFor(t, a, server)
	a.extension.serve(t, roomsNamespace, server)

	files := t.TempDir()
	for name, text := range map[string]string{"token": a.token(t, directorAccount, nil), "ca.crt": string(a.ca)} {
		if err := os.WriteFile(filepath.Join(files, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	command := exec.CommandContext(a.ctx, "go", "test", "-count=1", "-v", "-run", "Kubernetes", "./test/conformance/agones")
	command.Dir = "../.."
	command.Env = append(os.Environ(),
		"GUILDHALL_TEST_AGONES_KUBERNETES="+a.url,
		"GUILDHALL_TEST_AGONES_KUBERNETES_TOKEN="+filepath.Join(files, "token"),
		"GUILDHALL_TEST_AGONES_KUBERNETES_CA="+filepath.Join(files, "ca.crt"),
		"GUILDHALL_TEST_AGONES_NAMESPACE="+roomsNamespace, "GUILDHALL_TEST_AGONES_FLEET="+fleet)
	out, err := command.CombinedOutput()
	if err != nil || strings.Contains(string(out), "--- SKIP") || !strings.Contains(string(out), "--- PASS: TestKubernetesAllocation") {
		t.Errorf("%v\n%s", err, out)
	}
}

// speakFor has the first game server be Ready, in place of the process that does nothing.
func speakFor(t *testing.T, a *api, server *agoneslocal.Server) {
	t.Helper()
	var address string
	err := server.Wait(a.ctx, func(all []agoneslocal.GameServer) bool {
		for _, gs := range all {
			if gs.State == agoneslocal.Scheduled {
				address = gs.SDKAddress
			}
		}
		return address != ""
	})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := allocation.NewSDKClient(conn).Ready(a.ctx, &allocation.Empty{}); err != nil {
		t.Fatal(err)
	}
}
