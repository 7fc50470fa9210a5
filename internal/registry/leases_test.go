package registry

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/guildhall-dev/guildhall"
)

func TestLeaseIsReadAsGranted(t *testing.T) {
	t.Parallel()
	b := setup(t)
	want := Lease{
		Host: "h", State: HostDraining, Version: "v1", Rooms: 3, RoomsCapacity: 50, Players: 17,
		Address: "127.0.0.1:7000", InternalAddress: "127.0.0.1:7001", PID: 42,
	}
	b.grant(want)
	if got, err := b.Host(b.ctx, "h"); err != nil || got != want {
		t.Errorf("Host = %+v, %v; want %+v", got, err, want)
	}
	if got, err := b.AwaitHost(b.ctx, "h", func(Lease) bool { return true }); err != nil || got != want {
		t.Errorf("AwaitHost = %+v, %v; want %+v", got, err, want)
	}
}

func TestNoLease(t *testing.T) {
	t.Parallel()
	b := setup(t)
	if _, err := b.Host(b.ctx, "nobody"); !errors.Is(err, ErrNoLease) {
		t.Errorf("a host that never was: %v, want ErrNoLease", err)
	}
	if _, found := b.HostInView("nobody"); found {
		t.Error("the view has a host that never was")
	}
}

func TestLeaseExpires(t *testing.T) {
	t.Parallel()
	onBothLease(t, MinLeaseTTL, func(t *testing.T, b *bench) {
		grant := b.show(alive("h"))
		b.awaitView("the host to expire", func() bool { _, found := b.HostInView("h"); return !found })
		if _, err := b.Host(b.ctx, "h"); !errors.Is(err, ErrNoLease) {
			t.Errorf("Host after expiry: %v, want ErrNoLease", err)
		}
		if err := grant.Renew(b.ctx, alive("h")); !errors.Is(err, ErrLeaseLost) {
			t.Errorf("Renew after expiry: %v, want ErrLeaseLost", err)
		}
		if _, err := b.Host(b.ctx, "h"); !errors.Is(err, ErrNoLease) {
			t.Errorf("the refused renewal revived the host: %v", err)
		}
		b.grant(alive("h"))
	})
}

func TestSecondGrantOfHeldNameIsLost(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, b *bench) {
		first := b.grant(alive("h"))
		other := alive("h")
		other.PID, other.Rooms = 2, 9
		if _, err := b.Grant(b.ctx, other); !errors.Is(err, ErrLeaseLost) {
			t.Fatalf("a second process got the same name: %v, want ErrLeaseLost", err)
		}
		if got, err := b.Host(b.ctx, "h"); err != nil || got != alive("h") {
			t.Errorf("the refused grant changed the lease: %+v, %v", got, err)
		}
		if err := first.Renew(b.ctx, alive("h")); err != nil {
			t.Errorf("the holder cannot renew: %v", err)
		}
	})
}

func TestRenewOfAnotherProcessesLeaseIsLost(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, b *bench) {
		old := b.grant(alive("h"))
		if err := old.Return(b.ctx); err != nil {
			t.Fatal(err)
		}
		young := alive("h")
		young.PID = 2
		b.grant(young)
		if err := old.Renew(b.ctx, alive("h")); !errors.Is(err, ErrLeaseLost) {
			t.Errorf("Renew of a lease that is another process's: %v, want ErrLeaseLost", err)
		}
		if err := old.Return(b.ctx); err != nil {
			t.Errorf("Return of a lease that is another process's: %v", err)
		}
		if got, err := b.Host(b.ctx, "h"); err != nil || got != young {
			t.Errorf("the old process disturbed the new one's lease: %+v, %v", got, err)
		}
	})
}

func TestReturnedLeaseIsGoneAtOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	grant := b.grant(alive("h"))
	if err := grant.Return(b.ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Host(b.ctx, "h"); !errors.Is(err, ErrNoLease) {
		t.Errorf("Host after Return: %v, want ErrNoLease", err)
	}
	if err := grant.Return(b.ctx); err != nil {
		t.Errorf("Return is not repeatable: %v", err)
	}
	b.grant(alive("h"))
}

// A renewal whose reply was lost is in the registry at a revision that the grant does not know. The next renewal
// must write again: the host reckons its time from when it sent that one, the registry from what it last stored.
func TestRenewAfterLostReplyRenews(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, b *bench) {
		grant := b.grant(alive("h"))
		before := grant.revision
		if err := grant.Renew(b.ctx, alive("h")); err != nil {
			t.Fatal(err)
		}
		lost := grant.revision
		grant.revision = before // as if the reply had not come

		draining := alive("h")
		draining.State = HostDraining
		if err := grant.Renew(b.ctx, draining); err != nil {
			t.Fatalf("a lost reply cost the lease: %v", err)
		}
		entry, err := b.leases.Get(b.ctx, "h")
		if err != nil {
			t.Fatal(err)
		}
		if entry.Revision() == lost || entry.Revision() != grant.revision {
			t.Errorf("Renew said nil and left the lease at revision %d of the lost renewal (grant: %d)", entry.Revision(), grant.revision)
		}
		if got, err := b.Host(b.ctx, "h"); err != nil || got != draining {
			t.Errorf("what the renewal said is not in the registry: %+v, %v", got, err)
		}
	})
}

func TestViewFollowsRenewals(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, b *bench) {
		other := b.open()
		grant := b.grant(alive("h"))
		for rooms := range 20 {
			lease := alive("h")
			lease.Rooms = rooms
			if err := grant.Renew(b.ctx, lease); err != nil {
				t.Fatal(err)
			}
			for _, view := range []*Registry{b.Registry, other} {
				if _, err := view.AwaitHost(b.ctx, "h", func(l Lease) bool { return l.Rooms == rooms }); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}

func TestAwaitHostEndsWithItsContext(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx, cancel := withCancel(b)
	cancel()
	if _, err := b.AwaitHost(ctx, "nobody", func(Lease) bool { return true }); !errors.Is(err, ctx.Err()) {
		t.Errorf("AwaitHost: %v, want %v", err, ctx.Err())
	}
}

func TestHostsAreSorted(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, n := range []int{3, 1, 2} {
		b.grant(alive(host(n)))
	}
	b.awaitView("three hosts", func() bool { return len(b.Hosts()) == 3 })
	for i, lease := range b.Hosts() {
		if lease.Host != host(i+1) {
			t.Errorf("Hosts[%d] = %s, want %s", i, lease.Host, host(i+1))
		}
	}
}

func TestLeaseThatDoesNotDecode(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.grant(alive("h"))
	b.awaitView("the host", func() bool { _, found := b.HostInView("h"); return found })
	if _, err := b.leases.Put(b.ctx, "h", []byte("{")); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Host(b.ctx, "h"); err == nil || errors.Is(err, ErrNoLease) {
		t.Errorf("Host of a broken record: %v, want an error that does not say that the host is dead", err)
	}
	b.awaitView("the broken record to leave the view", func() bool { _, found := b.HostInView("h"); return !found })
}

func TestServeUntilIsBeforeExpiry(t *testing.T) {
	t.Parallel()
	for _, ttl := range []time.Duration{MinLeaseTTL, DefaultLeaseTTL, time.Minute} {
		r := &Registry{leaseTTL: ttl}
		sent := time.Now()
		if until := r.ServeUntil(sent); !until.After(sent.Add(ttl/2)) || !until.Before(sent.Add(ttl)) {
			t.Errorf("TTL %s: a host serves for %s", ttl, until.Sub(sent))
		}
	}
}

func TestOpenRefusesShortLease(t *testing.T) {
	t.Parallel()
	b := setup(t)
	if _, err := Open(b.ctx, b.js, Config{LeaseTTL: MinLeaseTTL - time.Millisecond}); err == nil {
		t.Error("Open took a lease that JetStream cannot count")
	}
	b.dropLeases()
	r, err := Open(b.ctx, connect(t, b.server.URL()), Config{})
	if err != nil || r.LeaseTTL() != DefaultLeaseTTL {
		t.Errorf("Open with the zero Config: %v, %v", r, err)
	}
}

// Whoever starts last does not change the settings of the registry under the others.
func TestOpenRefusesOtherSettings(t *testing.T) {
	t.Parallel()
	b := setup(t)
	if r, err := Open(b.ctx, b.js, Config{LeaseTTL: time.Minute}); err == nil || !strings.Contains(err.Error(), "GUILDHALL_LEASE_TTL") {
		t.Errorf("Open with another TTL: %v, %v", r, err)
	}
	status, err := b.leases.Status(b.ctx)
	if err != nil || status.TTL() != b.LeaseTTL() {
		t.Errorf("leases live for %s now, want %s; %v", status.TTL(), b.LeaseTTL(), err)
	}
	if _, err := Open(b.ctx, b.js, Config{LeaseTTL: b.LeaseTTL()}); err != nil {
		t.Errorf("Open with the same settings: %v", err)
	}
}

// dropLeases makes way for a registry with another TTL.
func (b *bench) dropLeases() {
	b.t.Helper()
	if err := b.js.DeleteKeyValue(b.ctx, leasesBucket); err != nil {
		b.t.Fatal(err)
	}
}

func TestConflictsOfAllKindsOfStreams(t *testing.T) {
	t.Parallel()
	for _, code := range []jetstream.ErrorCode{
		jetstream.JSErrCodeStreamWrongLastSequence,
		jetstream.JSErrCodeStreamWrongLastSequenceConstant, // what a replicated stream says
	} {
		if err := (&jetstream.APIError{ErrorCode: code}); !isConflict(err) {
			t.Errorf("error %d of a write that lost is not taken for a conflict", code)
		}
	}
	if isConflict(errors.New("timeout")) || isConflict(nil) {
		t.Error("something else is taken for a conflict")
	}
}

// Hosts are in order whatever comes and goes, also while they are put in order.
func TestHostsStayInOrder(t *testing.T) {
	t.Parallel()
	v := newView(nil, time.Minute, func(leases map[guildhall.HostName]Lease, told jetstream.KeyValueEntry) {
		name := guildhall.HostName(told.Key())
		if _, there := leases[name]; there {
			delete(leases, name)
		} else {
			leases[name] = Lease{Host: name}
		}
	})
	v.replace(map[guildhall.HostName]Lease{"b": {Host: "b"}, "a": {Host: "a"}})
	var changing sync.WaitGroup
	changing.Go(func() {
		for n := range 2000 {
			v.update(namedEntry{name: fmt.Sprint("h", n%7)})
		}
	})
	for range 2000 {
		hosts := v.inOrder(cmp.Compare[guildhall.HostName])
		if len(hosts) < 2 || !slices.IsSortedFunc(hosts, func(a, b Lease) int { return cmp.Compare(a.Host, b.Host) }) {
			t.Fatalf("the hosts are %v", hosts)
		}
	}
	changing.Wait()
	if got, _ := v.all(); len(v.inOrder(cmp.Compare[guildhall.HostName])) != len(got) {
		t.Errorf("in order there are %d, and %d in all", len(v.inOrder(cmp.Compare[guildhall.HostName])), len(got))
	}
}

// namedEntry is an entry of which only the name counts.
type namedEntry struct {
	jetstream.KeyValueEntry
	name string
}

func (e namedEntry) Key() string { return e.name }
