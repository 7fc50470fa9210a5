package e2e

import (
	"fmt"
	"slices"
	"syscall"
	"testing"

	allocation "agones.dev/agones/pkg/allocation/go"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/guildhall-dev/guildhall"
	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
	"github.com/guildhall-dev/guildhall/embedded"
)

// Deploys don't hurt: a host is evicted, or its fleet has too many, while players talk. The room moves, everything that was
// acked is seen once and in order, the host goes, and the fleet replaces it.
func TestALeavingHostMovesItsRooms(t *testing.T) {
	if !isEmbedded {
		t.Skip("the hosts of the installation at " + server + " are not for a test to take away")
	}
	for name, leave := range map[string]func(b *bundle, own *embedded.Stack, host *guildhallv1.Host){
		"evicted": func(b *bundle, _ *embedded.Stack, host *guildhallv1.Host) {
			if err := syscall.Kill(int(host.GetPid()), syscall.SIGTERM); err != nil {
				b.t.Fatalf("stopping the host: %v", err)
			}
		},
		"one too many": func(b *bundle, own *embedded.Stack, host *guildhallv1.Host) { b.mark(own, host.GetName()) },
	} {
		t.Run(name, func(t *testing.T) {
			setup(t)
			own := startOwn(t, embedded.Config{Hosts: 2}) // hosts of its own, for others would lose theirs
			b := setupAt(t, own.URL())
			group := b.group("guild")
			p1, p2 := b.join("p1", group), b.join("p2", group)
			before := b.room(group)
			old := b.host(before.GetHost())
			go drainInto(p1) // p1 only talks
			const messages = 40
			for i := range messages {
				if i == messages/4 {
					leave(b, own, old)
				}
				if _, err := p1.say(fmt.Sprint("message ", i)).Wait(b.ctx); err != nil {
					t.Fatalf("message %d was not acked: %v", i, err)
				}
			}
			p2.untilSeen(messages)
			for i, m := range p2.seen {
				if m.Seq != guildhall.Seq(i+1) || string(m.Body) != fmt.Sprint("message ", i) {
					t.Errorf("p2 saw %d %q as message %d", m.Seq, m.Body, i+1)
				}
			}
			b.eventually("the old host is gone", func() bool { return b.host(old.GetName()) == nil })
			b.eventually("the room is elsewhere", func() bool {
				after := b.room(group)
				return after != nil && after.GetHost() != old.GetName() && after.GetEpoch() > before.GetEpoch()
			})
			b.eventually("the fleet has replaced the host", func() bool { return b.hostIn("ready") != nil })
		})
	}
}

// mark has Agones' stand-in label a game server that has a room, as a fleet does that has too many: by an allocation, for it
// has no rollouts.
func (b *bundle) mark(own *embedded.Stack, name string) {
	b.t.Helper()
	parts := own.Parts()
	at := slices.IndexFunc(parts, func(p embedded.Part) bool { return p.Name == "agones allocator" })
	conn, err := grpc.NewClient(parts[at].Address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		b.t.Fatal(err)
	}
	defer conn.Close()
	request := &allocation.AllocationRequest{
		Namespace: "default",
		GameServerSelectors: []*allocation.GameServerSelector{{
			GameServerState: allocation.GameServerSelector_ALLOCATED,
			Counters:        map[string]*allocation.CounterSelector{"rooms": {MinCount: 1}},
		}},
		Metadata: &allocation.MetaPatch{Labels: map[string]string{"guildhall.dev/overflow": "true"}},
	}
	b.eventually("the allocator sees that the host has a room", func() bool {
		got, err := allocation.NewAllocationServiceClient(conn).Allocate(b.ctx, request)
		if err != nil && status.Code(err) != codes.ResourceExhausted {
			b.t.Fatal(err)
		}
		if err == nil && got.GetGameServerName() != name {
			b.t.Fatalf("marked %s, want %s", got.GetGameServerName(), name)
		}
		return err == nil
	})
}
