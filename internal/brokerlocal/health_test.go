package brokerlocal

import "testing"

func TestHealth(t *testing.T) {
	t.Parallel()
	if err := setup(t, Config{Folder: t.TempDir()}).Health(); err != nil {
		t.Errorf("a server that runs alone: %v", err)
	}
	ports, err := FreePorts(2)
	if err != nil {
		t.Fatal(err)
	}
	alone := setup(t, Config{Folder: t.TempDir(), Cluster: &Cluster{Node: "nats-0", Port: ports[0], Peers: ports}})
	if err := alone.Health(); err == nil {
		t.Error("a node whose cluster is not there is well")
	}
}
