package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/guildhall-dev/guildhall"
)

func TestNoClaim(t *testing.T) {
	t.Parallel()
	b := setup(t)
	if _, err := b.Claim(b.ctx, dragons); !errors.Is(err, ErrNoClaim) {
		t.Errorf("Claim: %v, want ErrNoClaim", err)
	}
	if claims, err := b.Claims(b.ctx); err != nil || len(claims) != 0 {
		t.Errorf("Claims of an empty bucket = %v, %v", claims, err)
	}
}

func TestTakeIsReadBack(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, id := range []string{"dragons", "a", "ünïcode.*>:", "=41"} {
		group := guildhall.Group{Kind: "guild", ID: id}
		taken := b.take(group, "h", 0)
		got, err := b.Claim(b.ctx, group)
		if err != nil || got.Group != group || got.Host != "h" || got.Epoch != taken.Epoch || got.Epoch == 0 {
			t.Errorf("Claim(%s) = %+v, %v; want what Take gave: %+v", group, got, err, taken)
		}
	}
}

// TestOneTakerWins has many take one group, over none or over the same epoch: one may win, and the registry must
// say the same as the winner was told.
func TestOneTakerWins(t *testing.T) {
	t.Parallel()
	const takers = 50
	onBoth(t, func(t *testing.T, b *bench) {
		other := b.open() // as a second process has it, with a connection of its own
		other.claims = bucketOf(b, connect(t, b.url()))
		over := guildhall.Epoch(0)
		for round := range 5 {
			wins := race(takers, func(n int) (Claim, error) {
				r := []*Registry{b.Registry, other}[n%2]
				return r.Take(b.ctx, dragons, host(n), over)
			}, func(err error) {
				if !errors.Is(err, ErrClaimLost) {
					t.Errorf("round %d: a taker that lost was told %v, want ErrClaimLost", round, err)
				}
			})
			if len(wins) != 1 {
				t.Fatalf("round %d: %d takers over epoch %d won: %+v", round, len(wins), over, wins)
			}
			got, err := b.Claim(b.ctx, dragons)
			if err != nil || got.Host != wins[0].Host || got.Epoch != wins[0].Epoch {
				t.Errorf("round %d: the registry has %+v, %v; the winner was told %+v", round, got, err, wins[0])
			}
			if got.Epoch <= over {
				t.Errorf("round %d: epoch %d over %d", round, got.Epoch, over)
			}
			over = got.Epoch
		}
	})
}

// A claim that was released leaves a delete marker, over which the key-value client writes in two steps.
func TestOneTakerWinsOverDeleteMarker(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, b *bench) {
		b.release(b.take(dragons, "h", 0))
		for round := range 10 {
			wins := race(50, func(n int) (Claim, error) { return b.Take(b.ctx, dragons, host(n), 0) }, func(err error) {
				if !errors.Is(err, ErrClaimLost) {
					t.Errorf("round %d: %v, want ErrClaimLost", round, err)
				}
			})
			if len(wins) != 1 {
				t.Fatalf("round %d: %d takers won: %+v", round, len(wins), wins)
			}
			b.release(wins[0])
		}
	})
}

// TestOneOwnerAtATime has takers and releasers go on at will; each win must be over the claim before it.
func TestOneOwnerAtATime(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, b *bench) {
		wins := race(200, func(n int) (Claim, error) {
			claim, err := b.Claim(b.ctx, dragons)
			if err != nil && !errors.Is(err, ErrNoClaim) {
				return Claim{}, err
			}
			won, err := b.Take(b.ctx, dragons, host(n), claim.Epoch)
			if err == nil && n%3 == 0 {
				b.release(won)
			}
			return won, err
		}, func(err error) {
			if !errors.Is(err, ErrClaimLost) {
				t.Errorf("%v, want ErrClaimLost", err)
			}
		})
		seen := map[guildhall.Epoch]guildhall.HostName{}
		for _, won := range wins {
			if twice, found := seen[won.Epoch]; found {
				t.Errorf("epoch %d was given to %s and to %s", won.Epoch, twice, won.Host)
			}
			seen[won.Epoch] = won.Host
		}
	})
}

func TestTakeOverWrongEpochIsLost(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, b *bench) {
		first := b.take(dragons, "a", 0)
		second := b.take(dragons, "b", first.Epoch)
		for _, over := range []guildhall.Epoch{0, first.Epoch, second.Epoch + 1, 1 << 60} {
			if _, err := b.Take(b.ctx, dragons, "c", over); !errors.Is(err, ErrClaimLost) {
				t.Errorf("Take over epoch %d: %v, want ErrClaimLost", over, err)
			}
		}
		b.release(second)
		if _, err := b.Take(b.ctx, dragons, "c", second.Epoch); !errors.Is(err, ErrClaimLost) {
			t.Errorf("Take over a released epoch: %v, want ErrClaimLost", err)
		}
	})
}

func TestEpochsOnlyGrow(t *testing.T) {
	t.Parallel()
	b := setup(t)
	last := guildhall.Epoch(0)
	check := func(what string, claim Claim) Claim {
		if claim.Epoch <= last {
			t.Errorf("%s: epoch %d, after %d", what, claim.Epoch, last)
		}
		last = claim.Epoch
		return claim
	}
	for range 3 {
		claim := check("over none", b.take(dragons, "a", 0))
		claim = check("takeover", b.take(dragons, "b", claim.Epoch))
		b.release(claim)
		claim = check("over a marker", b.take(dragons, "c", 0))
		b.release(claim)
		b.forgetMarkers()
		claim = check("over a marker that is forgotten", b.take(dragons, "d", 0))
		b.release(claim)
	}
	b.forgetMarkers()
	b.restart()
	check("after all was forgotten and NATS restarted", b.take(dragons, "e", 0))
}

// forgetMarkers removes every delete marker, as NATS does after markerTTL.
func (b *bench) forgetMarkers() {
	b.t.Helper()
	stream, err := b.js.Stream(b.ctx, "KV_"+claimsBucket)
	if err != nil {
		b.t.Fatal(err)
	}
	if err := stream.Purge(b.ctx, jetstream.WithPurgeSubject("$KV."+claimsBucket+"."+dragons.Key())); err != nil {
		b.t.Fatal(err)
	}
	if info, err := stream.Info(b.ctx); err != nil || info.State.Msgs != 0 {
		b.t.Fatalf("the bucket still has %d messages, %v", info.State.Msgs, err)
	}
}

func TestReleaseLeavesAnotherClaimAlone(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, b *bench) {
		old := b.take(dragons, "a", 0)
		young := b.take(dragons, "b", old.Epoch)
		for _, stale := range []Claim{old, {Group: dragons}, {Group: dragons, Host: "b", Epoch: young.Epoch + 1}} {
			b.release(stale)
			if got, err := b.Claim(b.ctx, dragons); err != nil || got.Host != "b" || got.Epoch != young.Epoch {
				t.Fatalf("Release at epoch %d took the claim of epoch %d: %+v, %v", stale.Epoch, young.Epoch, got, err)
			}
		}
		b.release(young)
		if _, err := b.Claim(b.ctx, dragons); !errors.Is(err, ErrNoClaim) {
			t.Errorf("Claim after Release: %v, want ErrNoClaim", err)
		}
		b.release(young)
	})
}

func TestClaimsListsAll(t *testing.T) {
	t.Parallel()
	const groups = 600 // more than a watch buffers
	onBoth(t, func(t *testing.T, b *bench) {
		want := map[guildhall.Group]Claim{}
		for n := range groups {
			group := guildhall.Group{Kind: "party", ID: fmt.Sprintf("%03d", n)}
			claim := b.take(group, host(n%7), 0)
			switch n % 5 {
			case 0:
				b.release(claim)
				continue
			case 1:
				claim = b.take(group, "second", claim.Epoch)
			}
			want[group] = claim
		}
		got, err := b.Claims(b.ctx)
		if err != nil || len(got) != len(want) {
			t.Fatalf("Claims lists %d, %v; want %d", len(got), err, len(want))
		}
		for i, claim := range got {
			if w := want[claim.Group]; claim.Host != w.Host || claim.Epoch != w.Epoch {
				t.Errorf("Claims has %+v, want %+v", claim, w)
			}
			if i > 0 && got[i-1].Group.String() >= claim.Group.String() {
				t.Errorf("Claims is not sorted: %s before %s", got[i-1].Group, claim.Group)
			}
		}
	})
}

func TestClaimsOfNothingButMarkers(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.release(b.take(dragons, "h", 0))
	if claims, err := b.Claims(b.ctx); err != nil || len(claims) != 0 {
		t.Errorf("Claims = %v, %v; want none", claims, err)
	}
}

// A write whose reply was lost is known again by its nonce; the same host's write of another time is not.
func TestTakeKnowsItsOwnWrite(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, b *bench) {
		taken := b.take(dragons, "h", 0)
		mine := b.record()
		for _, cause := range []error{jetstream.ErrKeyExists, context.DeadlineExceeded} {
			got, err := b.afterTake(b.ctx, dragons, mine, 0, cause)
			if err != nil || got.Epoch != taken.Epoch || got.Host != "h" {
				t.Errorf("after %v: %+v, %v; want the claim of epoch %d", cause, got, err, taken.Epoch)
			}
		}
		another := claimRecord{Host: "h", Nonce: "another"}
		if _, err := b.afterTake(b.ctx, dragons, another, taken.Epoch, jetstream.ErrKeyExists); !errors.Is(err, ErrClaimLost) {
			t.Errorf("another write of the same host is taken for its own: %v", err)
		}
		if _, err := b.afterTake(b.ctx, dragons, another, taken.Epoch, context.DeadlineExceeded); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrClaimLost) {
			t.Errorf("an unknown outcome is told as %v", err)
		}
		if _, err := b.afterTake(b.ctx, dragons, another, 0, context.DeadlineExceeded); !errors.Is(err, ErrClaimLost) {
			t.Errorf("a write that can only be refused, for there is a later one, is told as %v", err)
		}
		b.take(dragons, "h", taken.Epoch)
		if _, err := b.afterTake(b.ctx, dragons, mine, 0, jetstream.ErrKeyExists); !errors.Is(err, ErrClaimLost) {
			t.Errorf("a write that was written over is taken for the claim: %v", err)
		}
	})
}

func TestTakeWithoutNATS(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx, cancel := withCancel(b)
	cancel()
	if _, err := b.Take(ctx, dragons, "h", 0); err == nil || errors.Is(err, ErrClaimLost) {
		t.Errorf("Take without an answer: %v, want an error that is not ErrClaimLost", err)
	}
	b.stop()
	if _, err := b.Claim(b.ctx, dragons); err == nil || errors.Is(err, ErrNoClaim) {
		t.Errorf("Claim without NATS: %v, want an error that does not say that there is none", err)
	}
	if _, err := b.Host(b.ctx, "h"); err == nil || errors.Is(err, ErrNoLease) {
		t.Errorf("Host without NATS: %v, want an error that does not say that it is dead", err)
	}
}

func TestClaimThatDoesNotDecode(t *testing.T) {
	t.Parallel()
	b := setup(t)
	if _, err := b.claims.Put(b.ctx, dragons.Key(), []byte("{")); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Claim(b.ctx, dragons); err == nil || errors.Is(err, ErrNoClaim) {
		t.Errorf("Claim of a broken record: %v, want an error that does not say that there is none", err)
	}
	wolves := b.take(guildhall.Group{Kind: "guild", ID: "wolves"}, "h", 0)
	var told bytes.Buffer
	b.logger = slog.New(slog.NewTextHandler(&told, nil))
	if claims, err := b.Claims(b.ctx); err != nil || len(claims) != 1 || claims[0].Group != wolves.Group {
		t.Errorf("Claims beside a broken record: %v, %v; want the other claim", claims, err)
	}
	if !strings.Contains(told.String(), dragons.Key()) {
		t.Errorf("Claims leaves a broken record out, and the log says %q", told.String())
	}
}

// record reads the record of the claim of dragons.
func (b *bench) record() claimRecord {
	b.t.Helper()
	entry, err := b.claims.Get(b.ctx, dragons.Key())
	if err != nil {
		b.t.Fatal(err)
	}
	var record claimRecord
	if err := json.Unmarshal(entry.Value(), &record); err != nil {
		b.t.Fatal(err)
	}
	return record
}

func bucketOf(b *bench, js jetstream.JetStream) jetstream.KeyValue {
	b.t.Helper()
	bucket, err := js.KeyValue(b.ctx, claimsBucket)
	if err != nil {
		b.t.Fatal(err)
	}
	return bucket
}

// race has many take at once and gives what was won; lost sees the errors of the others.
func race(takers int, take func(n int) (Claim, error), lost func(error)) []Claim {
	var (
		mu   sync.Mutex
		wins []Claim
		all  sync.WaitGroup
		gun  = make(chan struct{})
	)
	for n := range takers {
		all.Go(func() {
			<-gun
			claim, err := take(n)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				lost(err)
				return
			}
			wins = append(wins, claim)
		})
	}
	close(gun)
	all.Wait()
	return wins
}
