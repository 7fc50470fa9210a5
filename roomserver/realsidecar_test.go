package roomserver

import (
	"os"
	"testing"

	"agones.dev/agones/pkg/sdk"
	"agones.dev/agones/pkg/sdk/beta"

	"github.com/guildhall-dev/guildhall"
	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
	"github.com/guildhall-dev/guildhall/internal/registry"
)

// The whole life beside a real sidecar: GUILDHALL_TEST_AGONES_SDK is one in its local mode, with nothing else beside it.
func TestBesideARealSidecar(t *testing.T) {
	address := os.Getenv("GUILDHALL_TEST_AGONES_SDK")
	if address == "" {
		t.Skip("GUILDHALL_TEST_AGONES_SDK does not name a sidecar")
	}
	b := setup(t)
	conn := dial(t, address)
	agones, counters := sdk.NewSDKClient(conn), beta.NewSDKClient(conn)
	gs := func() *sdk.GameServer {
		t.Helper()
		server, err := agones.GetGameServer(b.ctx, &sdk.Empty{})
		if err != nil {
			t.Fatal(err)
		}
		return server
	}
	if _, err := agones.SetLabel(b.ctx, &sdk.KeyValue{Key: "overflow", Value: "false"}); err != nil {
		t.Fatal(err)
	}
	config := b.config(address)
	config.AgonesPort = gs().GetStatus().GetPorts()[0].GetName()
	config.AgonesOverflow = "agones.dev/sdk-overflow=true" // the only kind of label that one can set there
	server := b.newServer(config)
	b.run(server)
	b.closed("the service is ready", server.admin.Started())
	b.eventually("Agones has it Ready", func() bool { return gs().GetStatus().GetState() == "Ready" })

	name := guildhall.HostName(gs().GetObjectMeta().GetName())
	state := func(want registry.HostState) {
		t.Helper()
		b.eventually("the host is "+string(want), func() bool {
			lease, err := b.registry.Host(b.ctx, name)
			return err == nil && lease.State == want
		})
	}
	if _, err := agones.Allocate(b.ctx, &sdk.Empty{}); err != nil {
		t.Fatal(err)
	}
	state(registry.HostAllocated)
	lease, err := b.registry.Host(b.ctx, name)
	if err != nil {
		t.Fatal(err)
	}
	request := &guildhallv1.OpenRoomRequest{Group: dragons.String(), Epoch: uint64(b.claim(dragons, name).Epoch)}
	if _, err := guildhallv1.NewHostServiceClient(dial(t, lease.InternalAddress)).OpenRoom(b.ctx, request); err != nil {
		t.Fatal(err)
	}
	count := func() (*beta.Counter, error) {
		return counters.GetCounter(b.ctx, &beta.GetCounterRequest{Name: roomsCounter})
	}
	if _, err := count(); err != nil {
		t.Logf("this sidecar does not count, and the host does its work: %v", err)
	} else {
		b.eventually("Agones counts one room", func() bool {
			counter, err := count()
			return err == nil && counter.GetCount() == 1 && counter.GetCapacity() == 50
		})
	}
	if _, err := agones.SetLabel(b.ctx, &sdk.KeyValue{Key: "overflow", Value: "true"}); err != nil {
		t.Fatal(err)
	}
	state(registry.HostClosing)
	b.eventually("Agones has its end", func() bool { return gs().GetStatus().GetState() == "Shutdown" })
}
