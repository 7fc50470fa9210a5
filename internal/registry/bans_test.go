package registry

import (
	"context"
	"encoding/json"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/guildhall-dev/guildhall"
)

func TestBanHolds(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, b *bench) {
		until := time.Now().Add(time.Hour).Round(0)
		b.ban(dragons, "p1", Ban{Until: until, Reason: "spam"})
		b.ban(dragons, "p2", Ban{})
		for player, want := range map[guildhall.PlayerID]Ban{"p1": {Until: until, Reason: "spam"}, "p2": {}} {
			got := b.banned(dragons, player)
			if !got.Until.Equal(want.Until) || got.Reason != want.Reason || time.Since(got.Since) > patience {
				t.Errorf("the ban of %s is %+v, want %+v", player, got, want)
			}
			b.awaitBan(dragons, player, true)
		}
		b.notBanned(dragons, "p3")
		b.notBanned(guildhall.Group{Kind: "party", ID: "dragons"}, "p1")
	})
}

// Every name that a player and a group may have is a key of its own, and is read back.
func TestBansOfAllNames(t *testing.T) {
	t.Parallel()
	b := setup(t)
	groups := []guildhall.Group{dragons, {Kind: "player", ID: "p1"}, {Kind: "guild", ID: "a.player.b"}, {Kind: "guild", ID: "*.>=2E"}}
	players := []guildhall.PlayerID{"p1", "P1", "a.b", "*", ">", "ünïcode", "=41", "player.p1", "$KV/\\"}
	for _, group := range groups {
		for _, player := range players {
			b.ban(group, player, Ban{Reason: group.String() + string(player)})
		}
	}
	for _, group := range groups {
		for _, player := range players {
			if got := b.banned(group, player); got.Reason != group.String()+string(player) {
				t.Errorf("the ban of %s from %s is that of %q", player, group, got.Reason)
			}
			b.awaitBan(group, player, true)
		}
	}
	bans, err := b.Bans(b.ctx)
	if err != nil || len(bans) != len(groups)*len(players) {
		t.Fatalf("%d bans, %v; want %d", len(bans), err, len(groups)*len(players))
	}
	for _, ban := range bans {
		if ban.Reason != ban.Group.String()+string(ban.Player) {
			t.Errorf("Bans has %q as the ban of %s from %s", ban.Reason, ban.Player, ban.Group)
		}
	}
	for _, none := range []guildhall.PlayerID{"", "a b", "\x00"} {
		if err := b.Ban(b.ctx, dragons, none, Ban{}); err == nil {
			t.Errorf("%q, who is no player, was banned", none)
		}
	}
}

func TestBanIsLifted(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, b *bench) {
		other := b.open()
		for range 3 {
			b.ban(dragons, "p1", Ban{})
			b.awaitBan(dragons, "p1", true)
			b.unban(dragons, "p1")
			b.notBanned(dragons, "p1")
			b.awaitBan(dragons, "p1", false)
		}
		b.unban(dragons, "nobody")
		if bans, err := b.Bans(b.ctx); err != nil || len(bans) != 0 {
			t.Errorf("Bans = %v, %v", bans, err)
		}
		b.Registry = other
		b.awaitBan(dragons, "p1", false)
	})
}

// A ban ends by its own word, also while NATS still has it.
func TestBanEndsByItself(t *testing.T) {
	t.Parallel()
	b := setup(t)
	if err := b.Ban(b.ctx, dragons, "p1", Ban{Until: time.Now()}); err == nil {
		t.Error("a ban was made that is over")
	}
	b.ban(dragons, "p1", Ban{Until: time.Now().Add(time.Hour)})
	b.awaitBan(dragons, "p1", true)
	b.putOver("p1")
	b.awaitBan(dragons, "p1", false)
	b.notBanned(dragons, "p1")
	if bans, err := b.Bans(b.ctx); err != nil || len(bans) != 0 {
		t.Errorf("Bans lists %v, %v; want none", bans, err)
	}
}

// putOver puts down a ban from dragons that is over.
func (b *bench) putOver(player guildhall.PlayerID) {
	b.t.Helper()
	over, err := json.Marshal(Ban{Until: time.Now()})
	if err != nil {
		b.t.Fatal(err)
	}
	if _, err := b.bans.Put(b.ctx, dragons.Key()+".player."+string(player), over); err != nil {
		b.t.Fatal(err)
	}
}

// The view does not keep what is over for ever.
func TestViewForgetsBansThatAreOver(t *testing.T) {
	t.Parallel()
	b := setup(t)
	apply, bans := b.applyBan(), map[banned]seenBan{}
	over, err := json.Marshal(Ban{Until: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	for n := range 10_000 {
		apply(bans, told{key: dragons.Key() + ".player." + string(host(n)), value: over})
	}
	if len(bans) > 2000 {
		t.Errorf("the view has %d bans that are over", len(bans))
	}
}

// told is an entry as a watch tells it.
type told struct {
	jetstream.KeyValueEntry
	key   string
	value []byte
}

func (e told) Key() string                     { return e.key }
func (e told) Value() []byte                   { return e.value }
func (e told) Revision() uint64                { return 1 }
func (e told) Operation() jetstream.KeyValueOp { return jetstream.KeyValuePut }

// NATS forgets a ban by itself, after it is over, and leaves no marker: a marker is written over whatever is there.
func TestNATSForgetsBan(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for ttl, want := range map[time.Duration]bool{30 * time.Second: true, 200 * 365 * 24 * time.Hour: true, 0: false} {
		ban := Ban{}
		if ttl > 0 {
			ban.Until = time.Now().Add(ttl)
		}
		b.ban(dragons, "p1", ban)
		stream, err := b.js.Stream(b.ctx, "KV_"+bansBucket)
		if err != nil {
			t.Fatal(err)
		}
		kept, err := stream.GetMsg(b.ctx, stream.CachedInfo().State.LastSeq)
		if err != nil {
			t.Fatal(err)
		}
		left, err := time.ParseDuration(kept.Header.Get(jetstream.MsgTTLHeader))
		if (err == nil) != want || want && left < min(ttl, banMost) {
			t.Errorf("NATS keeps a ban of %s for %q", ttl, kept.Header.Get(jetstream.MsgTTLHeader))
		}
		if marker := stream.CachedInfo().Config.SubjectDeleteMarkerTTL; marker != 0 {
			t.Errorf("NATS leaves markers for %s where a ban has expired", marker)
		}
	}
}

func TestBanMadeLonger(t *testing.T) {
	t.Parallel()
	b := setup(t)
	short, long := time.Now().Add(time.Minute), time.Now().Add(time.Hour)
	b.ban(dragons, "p1", Ban{Until: short})
	b.ban(dragons, "p1", Ban{Until: long})
	if got := b.banned(dragons, "p1"); !got.Until.Equal(long) {
		t.Errorf("the ban is until %s, want %s", got.Until, long)
	}
	b.awaitBan(dragons, "p1", true)
	for {
		_, changed := b.seenBans.all()
		if got, _ := b.BanInView(dragons, "p1"); got.Until.Equal(long) {
			return
		}
		b.await(changed, "the longer ban")
	}
}

// Who made a record that does not decode meant to keep somebody out.
func TestBanThatDoesNotDecodeHolds(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.ban(dragons, "p2", Ban{Reason: "spam"})
	for _, key := range []string{dragons.Key() + ".player.p1", "no.ban", "guild.dragons.player.=", "guild.=.player.p1"} {
		if _, err := b.bans.Put(b.ctx, key, []byte("{")); err != nil {
			t.Fatal(err)
		}
	}
	b.banned(dragons, "p1")
	b.awaitBan(dragons, "p1", true)
	if bans, err := b.Bans(b.ctx); err != nil || len(bans) != 2 || bans[1].Reason != "spam" {
		t.Errorf("Bans beside broken records: %v, %v", bans, err)
	}
	b.unban(dragons, "p1")
	b.awaitBan(dragons, "p1", false)
}

func TestWatchBans(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.ban(dragons, "before", Ban{Reason: "1"})
	b.putOver("over")
	ctx, cancel := withCancel(b)
	told := make(chan string, 10)
	var watching sync.WaitGroup
	watching.Go(func() {
		err := b.WatchBans(ctx, func(group guildhall.Group, player guildhall.PlayerID, ban Ban) {
			told <- group.String() + " " + string(player) + " " + ban.Reason
		})
		if err != nil {
			t.Errorf("WatchBans: %v", err)
		}
	})
	t.Cleanup(func() { cancel(); watching.Wait() })
	expect := func(want string) {
		t.Helper()
		select {
		case got := <-told:
			if got != want {
				t.Errorf("told of %q, want %q", got, want)
			}
		case <-b.ctx.Done():
			t.Fatalf("not told of %q", want)
		}
	}
	expect("guild:dragons before 1")
	b.ban(dragons, "after", Ban{Reason: "2"})
	expect("guild:dragons after 2")
	b.ban(dragons, "after", Ban{Reason: "3"})
	expect("guild:dragons after 3")
	b.unban(dragons, "after")
	b.awaitBan(dragons, "after", false)
	b.ban(dragons, "after", Ban{Reason: "4"})
	expect("guild:dragons after 4")
	b.restart()
	b.ban(dragons, "behind", Ban{Reason: "5"})
	expect("guild:dragons behind 5") // and none of the others again
}

func TestBanWithoutNATS(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx, cancel := context.WithCancel(b.ctx)
	cancel()
	if err := b.Ban(ctx, dragons, "p1", Ban{}); err == nil {
		t.Error("Ban without an answer says that it stands")
	}
	b.stop()
	if _, _, err := b.Banned(b.ctx, dragons, "p1"); err == nil {
		t.Error("Banned without NATS says that there is none")
	}
}

// Who asks the view of the bans and did not say that there should be one must not hear that nobody is banned.
func TestBanInViewWithoutView(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r, err := Open(b.ctx, b.js, Config{LeaseTTL: b.ttl})
	if err != nil {
		t.Fatal(err)
	}
	b.ban(dragons, "p1", Ban{})
	defer func() {
		if recover() == nil {
			t.Error("BanInView without a view answers")
		}
	}()
	r.BanInView(dragons, "p1")
}

// Nor must who asks the view of the leases without one hear that nobody lives.
func TestHostInViewWithoutView(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r, err := Open(b.ctx, b.js, Config{LeaseTTL: b.ttl, Bans: true})
	if err != nil {
		t.Fatal(err)
	}
	b.grant(alive("h"))
	defer func() {
		if recover() == nil {
			t.Error("HostInView without a view answers")
		}
	}()
	r.HostInView("h")
}

func (b *bench) ban(group guildhall.Group, player guildhall.PlayerID, ban Ban) {
	b.t.Helper()
	if err := b.Ban(b.ctx, group, player, ban); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) unban(group guildhall.Group, player guildhall.PlayerID) {
	b.t.Helper()
	if err := b.Unban(b.ctx, group, player); err != nil {
		b.t.Fatal(err)
	}
}

// banned reads a ban that must be there.
func (b *bench) banned(group guildhall.Group, player guildhall.PlayerID) Ban {
	b.t.Helper()
	ban, found, err := b.Banned(b.ctx, group, player)
	if err != nil || !found {
		b.t.Fatalf("Banned(%s, %s) = %t, %v; want the ban", group, player, found, err)
	}
	return ban
}

func (b *bench) notBanned(group guildhall.Group, player guildhall.PlayerID) {
	b.t.Helper()
	if ban, found, err := b.Banned(b.ctx, group, player); err != nil || found {
		b.t.Errorf("Banned(%s, %s) = %+v, %t, %v; want none", group, player, ban, found, err)
	}
}

// awaitBan waits until the view has a ban, or has none.
func (b *bench) awaitBan(group guildhall.Group, player guildhall.PlayerID, want bool) {
	b.t.Helper()
	for {
		_, changed := b.seenBans.all()
		if _, found := b.BanInView(group, player); found == want {
			return
		}
		b.await(changed, "the ban of "+string(player))
	}
}

// A group may be called "player", which also stands in the keys of bans.
func TestBanFromAGroupCalledPlayer(t *testing.T) {
	t.Parallel()
	b := setup(t)
	group := guildhall.Group{Kind: "guild", ID: "player"}
	b.ban(group, "bob", Ban{})
	b.awaitBan(group, "bob", true)
	if bans, err := b.Bans(b.ctx); err != nil || len(bans) != 1 || bans[0].Group != group || bans[0].Player != "bob" {
		t.Errorf("listed as %v, %v", bans, err)
	}
}

// A lifting that was sent long ago arrives behind a ban that was made since: it lifts nothing.
func TestALateLiftingLiftsNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.ban(dragons, "bob", Ban{Reason: "first"})
	key, err := banned{dragons, "bob"}.key()
	if err != nil {
		t.Fatal(err)
	}
	old, err := b.bans.Get(b.ctx, key)
	if err != nil {
		t.Fatal(err)
	}
	b.ban(dragons, "bob", Ban{Reason: "second thoughts"})
	if err := b.publishBan(b.ctx, key, old.Revision(), purgeHeader(), nil); !isConflict(err) {
		t.Errorf("a lifting of the first ban: %v, want a conflict", err)
	}
	if ban, found, err := b.Banned(b.ctx, dragons, "bob"); err != nil || !found || ban.Reason != "second thoughts" {
		t.Errorf("the ban is %+v, %t, %v", ban, found, err)
	}
}

// Many ban and lift at once: each call succeeds, and in the end there is a ban or none, as the last one wanted.
func TestBansAndLiftingsAtOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var all sync.WaitGroup
	for n := range 20 {
		all.Go(func() {
			var err error
			if n%2 == 0 {
				err = b.Ban(b.ctx, dragons, "bob", Ban{Until: time.Now().Add(time.Hour)})
			} else {
				err = b.Unban(b.ctx, dragons, "bob")
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	b.ban(dragons, "bob", Ban{Reason: "in the end"})
	if ban, found, err := b.Banned(b.ctx, dragons, "bob"); err != nil || !found || ban.Reason != "in the end" {
		t.Errorf("the ban is %+v, %t, %v", ban, found, err)
	}
}
