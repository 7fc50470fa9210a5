package roomserver

import (
	"crypto/ed25519"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/guildhall-dev/guildhall"
	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
	"github.com/guildhall-dev/guildhall/internal/pass"
	"github.com/guildhall-dev/guildhall/internal/registry"
)

func TestAValidPassGetsASeat(t *testing.T) { onEachWire(t, testAValidPassGetsASeat) }

func testAValidPassGetsASeat(t *testing.T, b *bundle) {
	h := b.host("h1")
	claim := h.openRoom(dragons)
	m := h.join("p1", claim, nil)
	w := m.welcome
	if w.GetGroup() != "guild:dragons" || w.GetPlayer() != "p1" || w.GetEpoch() != uint64(claim.Epoch) || w.GetLastSeq() != 0 {
		t.Errorf("p1 was welcomed with %v", w)
	}
	if len(w.GetMembers()) != 1 || w.GetMembers()[0] != "p1" {
		t.Errorf("p1 is here alone, and was told of %v", w.GetMembers())
	}
	if w.GetLimits().GetBodyBytes() != uint32(b.bodyBytes) || w.HistoryTruncated != nil {
		t.Errorf("p1 was told the limits %v and that history is truncated at %v", w.GetLimits(), w.HistoryTruncated)
	}
	m.leave()
	m.endsWith(guildhallv1.CloseCode_CLOSE_CODE_LEFT, false)
}

// A pass opens a room whose director was told that it was opened, or never came to ask.
func TestAPassOpensARoomThatTheRegistryGivesToThisHost(t *testing.T) {
	b := setup(t)
	h := b.host("h1")
	h.join("p1", b.claim(dragons, "h1"), nil)
	if n, _ := h.countRooms(); n != 1 {
		t.Errorf("the host has %d rooms, want the one of the pass", n)
	}
}

// forge signs claims as a pass, whatever they say.
func forge(t *testing.T, method jwt.SigningMethod, key any, claims jwt.MapClaims) string {
	t.Helper()
	signed, err := jwt.NewWithClaims(method, claims).SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

// genuine gives the claims of a good pass, with changes; a nil value takes one away.
func genuine(claim registry.Claim, changes map[string]any) jwt.MapClaims {
	now := time.Now()
	claims := jwt.MapClaims{
		"sub": "p1", "aud": "guildhall-room", "iat": now.Unix(), "exp": now.Add(time.Minute).Unix(),
		"grp": claim.Group.String(), "hst": string(claim.Host), "epo": uint64(claim.Epoch),
	}
	maps.Copy(claims, changes)
	maps.DeleteFunc(claims, func(_ string, v any) bool { return v == nil })
	return claims
}

// The forgeries below fail for what is wrong with them only if this one does not.
func TestTheForgerCanMakeAGoodPass(t *testing.T) {
	b := setup(t)
	h := b.host("h1")
	claim := h.openRoom(dragons)
	m := h.show(forge(t, jwt.SigningMethodEdDSA, b.key, genuine(claim, nil)), nil)
	if m.welcome.GetPlayer() != "p1" {
		t.Fatalf("the forger's good pass was answered with %v", m.closed)
	}
}

func TestNobodyWithoutAPass(t *testing.T) { onEachWire(t, testNobodyWithoutAPass) }

func testNobodyWithoutAPass(t *testing.T, b *bundle) {
	h := b.host("h1")
	claim := h.openRoom(dragons)
	stranger, err := pass.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	token, err := pass.SignToken(b.key, pass.Token{Player: "p1", Groups: []guildhall.Group{dragons}}, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	byUs := func(changes map[string]any) string {
		return forge(t, jwt.SigningMethodEdDSA, b.key, genuine(claim, changes))
	}
	good := byUs(nil)
	elsewhere := claim
	elsewhere.Host = "h2"
	for name, signed := range map[string]string{
		"none":                  "",
		"garbage":               "let me in",
		"two dots":              "..",
		"a player token":        token,
		"a stranger's":          forge(t, jwt.SigningMethodEdDSA, stranger, genuine(claim, nil)),
		"unsigned":              forge(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, genuine(claim, nil)),
		"our public key as MAC": forge(t, jwt.SigningMethodHS256, []byte(b.key.Public().(ed25519.PublicKey)), genuine(claim, nil)),
		"without its signature": good[:strings.LastIndex(good, ".")+1],
		"expired":               byUs(map[string]any{"exp": time.Now().Add(-time.Minute).Unix()}),
		"never to expire":       byUs(map[string]any{"exp": nil}),
		"for nobody":            byUs(map[string]any{"sub": ""}),
		"for a name with space": byUs(map[string]any{"sub": "p 1"}),
		"for no group":          byUs(map[string]any{"grp": "dragons"}),
		"for no audience":       byUs(map[string]any{"aud": nil}),
		"for another host":      b.pass("p1", elsewhere),
	} {
		m := h.show(signed, nil)
		if m.welcome != nil {
			t.Errorf("a pass (%s) got a seat", name)
			continue
		}
		if got := m.ends(); got.GetCode() != guildhallv1.CloseCode_CLOSE_CODE_PASS_REFUSED || !got.GetReconnect() {
			t.Errorf("a pass (%s) was closed with %v, want PASS_REFUSED and to come back", name, got)
		}
	}
	b.nobodySits(h, dragons)
}

// A pass that was good once, or is good elsewhere, sends its player to Enter again.
func TestAPassOfAnotherTimeOrRoomIsSentAway(t *testing.T) {
	onEachWire(t, testAPassOfAnotherTimeOrRoomIsSentAway)
}

func testAPassOfAnotherTimeOrRoomIsSentAway(t *testing.T, b *bundle) {
	h := b.host("h1")
	claim := h.openRoom(dragons)
	other := guildhall.Group{Kind: "guild", ID: "knights"}
	past, future, misplaced, foreign := claim, claim, claim, b.claim(other, "h2")
	past.Epoch--
	future.Epoch += 1000
	misplaced.Group = other
	foreign.Host = "h1" // the pass lies: the registry gives this one to h2
	for name, lie := range map[string]registry.Claim{
		"an earlier epoch": past, "a later epoch": future, "another group's room": misplaced, "another host's room": foreign,
		"a group that nobody has": {Group: guildhall.Group{Kind: "guild", ID: "none"}, Host: "h1", Epoch: 7},
	} {
		m := h.show(b.pass("p1", lie), nil)
		if m.welcome != nil {
			t.Errorf("a pass for %s got a seat", name)
			continue
		}
		if got := m.ends(); got.GetCode() != guildhallv1.CloseCode_CLOSE_CODE_MOVED || !got.GetReconnect() {
			t.Errorf("a pass for %s was closed with %v, want MOVED and to come back", name, got)
		}
	}
	b.nobodySits(h, dragons)
	if n, _ := h.countRooms(); n != 1 {
		t.Errorf("the host has %d rooms, want 1: a refused pass has left one behind", n)
	}
}

// nobodySits checks that refused passes have left no trace in a room.
func (b *bundle) nobodySits(h *running, group guildhall.Group) {
	b.t.Helper()
	b.inside(h.room(group), func(r *room) {
		if len(r.seats) != 0 || len(r.present) != 0 {
			b.t.Errorf("the room has %d sessions of %d players, want none", len(r.seats), len(r.present))
		}
	})
	if n := h.players.Load(); n != 0 {
		b.t.Errorf("the host counts %d players, want none", n)
	}
}

// While a key is replaced, passes of both are good.
func TestEitherKeyAdmits(t *testing.T) {
	b := setup(t)
	h := b.host("h1")
	next, err := pass.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	both := append(h.door.keys(), next.Public().(ed25519.PublicKey))
	h.door.keys = func() pass.PublicKeys { return both } // nobody has called yet
	claim := h.openRoom(dragons)
	for i, key := range []ed25519.PrivateKey{b.key, next} {
		m := h.show(forge(t, jwt.SigningMethodEdDSA, key, genuine(claim, map[string]any{"sub": fmt.Sprint("p", i)})), nil)
		if m.welcome == nil {
			t.Errorf("a pass of key %d was answered with %v", i, m.closed)
		}
	}
}

// Internal text never reaches players.
func TestARefusalTellsNothingOfTheInside(t *testing.T) {
	b := setup(t)
	h := b.host("h1")
	h.openRoom(dragons)
	for _, signed := range []string{"x", b.pass("p1", registry.Claim{Group: dragons, Host: "h1", Epoch: 1 << 40})} {
		closed := h.show(signed, nil).ends()
		for _, word := range []string{"jwt", "nats", "registry", "epoch", "token is"} {
			if strings.Contains(strings.ToLower(closed.GetReason()), word) {
				t.Errorf("the reason %q speaks of %q", closed.GetReason(), word)
			}
		}
	}
}
