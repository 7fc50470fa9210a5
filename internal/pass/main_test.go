package pass

import (
	"crypto/ed25519"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/guildhall-dev/guildhall"
)

var (
	dragons = guildhall.Group{Kind: "guild", ID: "dragons"}
	good    = Pass{Player: "p1", Group: dragons, Host: "host-1", Epoch: 7}
)

// bench is a key with all that is made of it.
type bench struct {
	t      *testing.T
	key    ed25519.PrivateKey
	keys   PublicKeys
	minter *Minter
}

func setup(t testing.TB) *bench {
	t.Helper()
	key, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{key: key, keys: PublicKeys{key.Public().(ed25519.PublicKey)}, minter: NewMinter(key)}
	b.t, _ = t.(*testing.T)
	return b
}

// mint signs a pass.
func (b *bench) mint(p Pass) string {
	b.t.Helper()
	signed, _, err := b.minter.Mint(p)
	if err != nil {
		b.t.Fatal(err)
	}
	return signed
}

// forge signs any claims by any method.
func (b *bench) forge(method jwt.SigningMethod, key any, claims map[string]any) string {
	b.t.Helper()
	signed, err := jwt.NewWithClaims(method, jwt.MapClaims(claims)).SignedString(key)
	if err != nil {
		b.t.Fatal(err)
	}
	return signed
}

// claims are those of a good pass, with changes; nil takes a claim away.
func claims(changes map[string]any) map[string]any {
	all := map[string]any{
		"sub": "p1", "aud": passAudience, "exp": time.Now().Add(TTL).Unix(), "grp": "guild:dragons", "hst": "host-1", "epo": 7,
	}
	for name, value := range changes {
		all[name] = value
		if value == nil {
			delete(all, name)
		}
	}
	return all
}

// checkInvalid sees that a pass is refused for a reason.
func (b *bench) checkInvalid(keys PublicKeys, signed, reason string) {
	b.t.Helper()
	got, err := ReadPass(keys, signed)
	if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), reason) {
		b.t.Errorf("ReadPass = %+v, %v; want ErrInvalid that says %q", got, err, reason)
	}
	if got != (Pass{}) {
		b.t.Errorf("ReadPass gave %+v with its error", got)
	}
}
