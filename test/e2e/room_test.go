package e2e

import (
	"fmt"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/guildhall-dev/guildhall"
	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
	"github.com/guildhall-dev/guildhall/client"
	"github.com/guildhall-dev/guildhall/director"
	"github.com/guildhall-dev/guildhall/embedded"
)

func TestTwoPlayersShareARoomAndAnOrder(t *testing.T) {
	b := setup(t)
	dragons := b.group("guild")
	p1 := b.join("p1", dragons)
	p2 := b.join("p2", dragons)
	if here := until[client.Member](p1); here.Player != "p2" || !here.Here {
		t.Errorf("p1 was told %+v, want that p2 is here", here)
	}
	for i := range 5 {
		for _, p := range []*player{p1, p2} {
			if _, err := p.say(fmt.Sprint("message ", i)).Wait(b.ctx); err != nil {
				t.Fatalf("%s was not acked: %v", p.name, err)
			}
		}
	}
	p1.untilSeen(10)
	p2.untilSeen(10)
	if !slices.Equal(p1.bodies(), p2.bodies()) {
		t.Errorf("two orders:\n%v\n%v", p1.bodies(), p2.bodies())
	}
	for i, m := range p1.seen {
		if m.Seq != guildhall.Seq(i+1) {
			t.Errorf("message %d has the number %d", i+1, m.Seq)
		}
	}
	// A host that is busy may tell the operator late.
	b.eventually("the operator sees 2 members", func() bool { return b.room(dragons).GetMembers() == 2 })
	b.eventually("the operator sees the host with a room", func() bool {
		host := b.host(b.room(dragons).GetHost())
		return host.GetState() == "allocated" && host.GetRooms() >= 1
	})
}

func TestAnotherGroupGetsAnotherRoomOnTheSameHost(t *testing.T) {
	b := setup(t)
	guild, party := b.group("guild"), b.group("party")
	b.join("p1", guild)
	b.join("p3", party)
	if r, s := b.room(guild), b.room(party); isEmbedded && r.GetHost() != s.GetHost() {
		t.Errorf("%v and %v are on two hosts, and one has room for both", r, s)
	}
}

// One room: fifty players of a new group come at once, and all find the same room.
func TestFiftyFirstPlayersGetOneRoom(t *testing.T) {
	b := setup(t)
	raid := b.group("guild")
	token := make([]string, 50)
	for i := range token {
		token[i] = b.token(fmt.Sprint("p", i), raid)
	}
	assignments := make([]*guildhallv1.Assignment, len(token))
	var entering sync.WaitGroup
	for i := range token {
		entering.Go(func() {
			var err error
			config := client.Config{Server: b.server, Token: token[i], HTTPClient: players}
			if assignments[i], err = client.Enter(b.ctx, config, raid); err != nil {
				t.Errorf("p%d: %v", i, err)
			}
		})
	}
	entering.Wait()
	for i, a := range assignments {
		if a.GetHost() != assignments[0].GetHost() || a.GetEpoch() != assignments[0].GetEpoch() {
			t.Errorf("p%d was sent to %s at epoch %d, p0 to %s at epoch %d: two rooms", i,
				a.GetHost(), a.GetEpoch(), assignments[0].GetHost(), assignments[0].GetEpoch())
		}
	}
}

// Nothing acknowledged is lost, nothing is said twice: a host is killed under a conversation.
func TestKilledHostComesBackElsewhere(t *testing.T) {
	if !isEmbedded {
		t.Skip("the hosts of the installation at " + server + " are not processes of this machine")
	}
	setup(t)
	own := startOwn(t, embedded.Config{Hosts: 2}) // a host of its own, for others would lose theirs
	b := setupAt(t, own.URL())
	group := b.group("guild")
	p1, p2 := b.join("p1", group), b.join("p2", group)
	said := []string{}
	sayAll := func(from, to int) {
		for i := from; i < to; i++ {
			said = append(said, fmt.Sprintf("message %d", i))
			if _, err := p1.say(said[i]).Wait(b.ctx); err != nil {
				t.Fatalf("message %d was not acked: %v", i, err)
			}
		}
	}
	sayAll(0, 10)
	before := b.room(group)
	if err := syscall.Kill(int(b.host(before.GetHost()).GetPid()), syscall.SIGKILL); err != nil {
		t.Fatalf("killing the host: %v", err)
	}
	go drainInto(p1) // p1 only talks from here on
	sayAll(10, 20)
	p2.untilSeen(20)
	for i, m := range p2.seen {
		if m.Seq != guildhall.Seq(i+1) || string(m.Body) != said[i] {
			t.Errorf("p2 saw %d %q as message %d, want %q", m.Seq, m.Body, i+1, said[i])
		}
	}
	after := b.room(group)
	if after.GetHost() == before.GetHost() || after.GetEpoch() <= before.GetEpoch() {
		t.Errorf("the room was at %v and is at %v: want another host and a later epoch", before, after)
	}
	if !slices.ContainsFunc(p2.others, func(e client.Event) bool { _, resumed := e.(client.Resumed); return resumed }) {
		t.Errorf("p2 was not told that it resumed: %v", p2.others)
	}
}

// drainInto reads a player's events without looking.
func drainInto(p *player) {
	for range p.room.Events() {
	}
}

// Nothing leaks: the last one out turns off the light, and the fleet replaces the host.
func TestIdleRoomAndHostGoAway(t *testing.T) {
	if !isEmbedded {
		t.Skip("the graces of the installation at " + server + " are not known")
	}
	setup(t)
	config := embedded.Config{Hosts: 1}
	config.Director.Headroom = director.NoHeadroom // which would keep the host
	config.Host.HostIdleGrace = 200 * time.Millisecond
	config.Host.Kinds = guildhall.Kinds{"guild": {Capacity: 10, IdleGrace: 100 * time.Millisecond, History: 10}}
	own := startOwn(t, config)
	b := setupAt(t, own.URL())
	group := b.group("guild")
	p := b.join("p1", group)
	used := b.room(group).GetHost()
	if err := p.room.Leave(b.ctx); err != nil {
		t.Fatal(err)
	}
	b.eventually("the room is gone", func() bool { return b.room(group) == nil })
	b.eventually("the host is gone", func() bool { return b.host(used) == nil })
	b.eventually("another host is ready", func() bool {
		hosts, err := b.operator().ListHosts(b.ctx, connect.NewRequest(&guildhallv1.ListHostsRequest{}))
		if err != nil {
			t.Fatal(err)
		}
		return len(hosts.Msg.GetHosts()) == 1 && hosts.Msg.GetHosts()[0].GetState() == "ready"
	})
	if again := b.join("p1", group); again.room == nil || b.room(group).GetHost() == used {
		t.Error("the group did not find a new room on a new host")
	}
}

// Headroom: a host is allocated before anybody comes, it stays while nobody does, and the first group finds it.
func TestTheFirstGroupFindsAHost(t *testing.T) {
	if !isEmbedded {
		t.Skip("what has happened before on the installation at " + server + " is not known")
	}
	setup(t)
	config := embedded.Config{Hosts: 1}
	config.Host.HostIdleGrace = time.Second
	own := startOwn(t, config)
	b := setupAt(t, own.URL())
	first, since := "", time.Now()
	b.eventually("a host stays over several graces", func() bool {
		if name := b.hostIn("allocated").GetName(); name != first { // a machine that was too busy to keep one has another
			first, since = name, time.Now()
		}
		return first != "" && time.Since(since) > 3*config.Host.HostIdleGrace
	})
	group := b.group("guild")
	b.join("p1", group)
	if room := b.room(group); room.GetHost() != first {
		t.Errorf("the first group was placed on %s, and %s was kept for it", room.GetHost(), first)
	}
}

// A player who comes back after the room was closed finds what was said.
func TestHistoryOutlivesTheRoom(t *testing.T) {
	b := setup(t)
	group := b.group("guild")
	p := b.join("p1", group)
	for i := range 3 {
		if _, err := p.say(fmt.Sprint("message ", i)).Wait(b.ctx); err != nil {
			t.Fatal(err)
		}
	}
	one := guildhall.Seq(1)
	late := b.enter("p2", group, &one)
	late.untilSeen(2)
	if got := late.bodies(); !slices.Equal(got, []string{"2 p1: message 1", "3 p1: message 2"}) {
		t.Errorf("behind message 1, p2 saw %v", got)
	}
}
