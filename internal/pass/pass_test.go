package pass

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/guildhall-dev/guildhall"
)

func TestPassRoundTrip(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, want := range []Pass{
		good,
		{Player: "日本", Group: guildhall.Group{Kind: "party", ID: "a:b.*>=ü"}, Host: "h", Epoch: 1<<64 - 1},
	} {
		if got, err := ReadPass(b.keys, b.mint(want)); err != nil || got != want {
			t.Errorf("ReadPass = %+v, %v; want %+v", got, err, want)
		}
	}
}

func TestPassExpires(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t)
		signed, expires, err := b.minter.Mint(good)
		if err != nil || !expires.Equal(time.Now().Add(TTL)) {
			t.Fatalf("Mint: expires %s, %v", expires, err)
		}
		<-time.After(TTL - time.Second) // in the bubble: no time passes outside
		if _, err := ReadPass(b.keys, signed); err != nil {
			t.Errorf("a second before the end: %v", err)
		}
		<-time.After(time.Second + clockSkew)
		b.checkInvalid(b.keys, signed, "token is expired")
	})
}

func TestPassOfAnotherKey(t *testing.T) {
	t.Parallel()
	b, other := setup(t), setup(t)
	b.checkInvalid(other.keys, b.mint(good), "signature is invalid")
	b.checkInvalid(nil, b.mint(good), "")
}

func TestRotation(t *testing.T) {
	t.Parallel()
	old, young, other := setup(t), setup(t), setup(t)
	both := append(append(PublicKeys{}, old.keys...), young.keys...)
	for _, b := range []*bench{old, young} {
		if got, err := ReadPass(both, b.mint(good)); err != nil || got != good {
			t.Errorf("ReadPass by two keys = %+v, %v", got, err)
		}
	}
	other.checkInvalid(both, other.mint(good), "signature")
	old.checkInvalid(young.keys, old.mint(good), "signature")
}

func TestForgedPasses(t *testing.T) {
	t.Parallel()
	b := setup(t)
	public := []byte(b.keys[0])
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for name, signed := range map[string]string{
		"alg none":                             b.forge(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, claims(nil)),
		"HS256 with the public key":            b.forge(jwt.SigningMethodHS256, public, claims(nil)),
		"HS512 with the public key":            b.forge(jwt.SigningMethodHS512, public, claims(nil)),
		"RS256":                                b.forge(jwt.SigningMethodRS256, rsaKey, claims(nil)),
		"empty":                                "",
		"no JWT":                               "guild:dragons",
		"two parts":                            "a.b",
		"signature cut off":                    strings.TrimRight(b.mint(good), "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"),
		"payload of one, signature of another": splice(b.mint(good), b.mint(Pass{Player: "p2", Group: dragons, Host: "host-1", Epoch: 7})),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			(&bench{t: t}).checkInvalid(b.keys, signed, "")
		})
	}
}

// splice puts the signature of one JWT under the head and payload of another.
func splice(payload, signature string) string {
	return payload[:strings.LastIndexByte(payload, '.')] + signature[strings.LastIndexByte(signature, '.'):]
}

// These have a good signature: a mistake in who signs must not open a room either.
func TestBadClaims(t *testing.T) {
	t.Parallel()
	b := setup(t)
	if got, err := ReadPass(b.keys, b.forge(jwt.SigningMethodEdDSA, b.key, claims(nil))); err != nil || got != good {
		t.Fatalf("the claims that the bad ones are made of = %+v, %v", got, err)
	}
	for name, test := range map[string]struct {
		changes map[string]any
		says    string
	}{
		"no expiry":          {map[string]any{"exp": nil}, "exp claim is required"},
		"expiry as text":     {map[string]any{"exp": "soon"}, ""},
		"expired":            {map[string]any{"exp": time.Now().Add(-time.Minute).Unix()}, "expired"},
		"not yet":            {map[string]any{"nbf": time.Now().Add(time.Hour).Unix()}, "not valid yet"},
		"no audience":        {map[string]any{"aud": nil}, "aud"},
		"empty audience":     {map[string]any{"aud": []string{}}, "aud"},
		"another audience":   {map[string]any{"aud": "guildhall-rooms"}, "audience"},
		"audience of tokens": {map[string]any{"aud": tokenAudience}, "audience"},
		"no player":          {map[string]any{"sub": nil}, "the name is empty"},
		"bad player":         {map[string]any{"sub": "p 1"}, "no spaces"},
		"no group":           {map[string]any{"grp": nil}, "want kind:id"},
		"bad group":          {map[string]any{"grp": "Guild:x"}, "the kind has 'G'"},
		"two groups":         {map[string]any{"grp": []string{"guild:a", "guild:b"}}, ""},
		"negative epoch":     {map[string]any{"epo": -1}, ""},
		"epoch as text":      {map[string]any{"epo": "7"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bad := &bench{t: t}
			bad.checkInvalid(b.keys, bad.forge(jwt.SigningMethodEdDSA, b.key, claims(test.changes)), test.says)
		})
	}
}

func TestPassIsNoTokenAndViceVersa(t *testing.T) {
	t.Parallel()
	b := setup(t)
	token, err := SignToken(b.key, Token{Player: "p1", Groups: []guildhall.Group{dragons}}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	b.checkInvalid(b.keys, token, "audience")
	if got, err := ReadToken(b.keys, b.mint(good)); !errors.Is(err, ErrInvalid) {
		t.Errorf("a pass is taken for a token: %+v, %v", got, err)
	}
}

func TestTokenRoundTrip(t *testing.T) {
	t.Parallel()
	b := setup(t)
	party := guildhall.Group{Kind: "party", ID: "42"}
	for _, groups := range [][]guildhall.Group{nil, {dragons}, {dragons, party}} {
		signed, err := SignToken(b.key, Token{Player: "p1", Groups: groups}, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		got, err := ReadToken(b.keys, signed)
		if err != nil || got.Player != "p1" || len(got.Groups) != len(groups) {
			t.Errorf("ReadToken = %+v, %v; want groups %v", got, err, groups)
		}
		for _, group := range []guildhall.Group{dragons, party, {}} {
			if want := strings.Contains(joined(groups), group.String()+","); got.Names(group) != want {
				t.Errorf("a token of %v names %s: %t", groups, group, got.Names(group))
			}
		}
	}
}

func joined(groups []guildhall.Group) string {
	var b strings.Builder
	for _, group := range groups {
		b.WriteString(group.String() + ",")
	}
	return b.String()
}

func TestBadTokens(t *testing.T) {
	t.Parallel()
	b := setup(t)
	token := func(changes map[string]any) string {
		all := claims(map[string]any{"aud": tokenAudience, "groups": []string{"guild:dragons"}})
		for name, value := range changes {
			all[name] = value
		}
		return b.forge(jwt.SigningMethodEdDSA, b.key, all)
	}
	if _, err := ReadToken(b.keys, token(nil)); err != nil {
		t.Fatalf("the claims that the bad ones are made of: %v", err)
	}
	for name, changes := range map[string]map[string]any{
		"expired":          {"exp": time.Now().Add(-time.Hour).Unix()},
		"audience of pass": {"aud": passAudience},
		"bad player":       {"sub": ""},
		"one bad group":    {"groups": []string{"guild:dragons", "guild:"}},
		"groups as text":   {"groups": "guild:dragons"},
	} {
		got, err := ReadToken(b.keys, token(changes))
		if !errors.Is(err, ErrInvalid) || got.Player != "" || got.Groups != nil {
			t.Errorf("%s: %+v, %v; want ErrInvalid", name, got, err)
		}
	}
	expired, err := SignToken(b.key, Token{Player: "p1"}, -time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ReadToken(b.keys, expired); !errors.Is(err, ErrInvalid) {
		t.Errorf("a token that had expired when it was signed: %v", err)
	}
}

// The development key is public: nobody but a frontend in development mode may take what it signs.
func TestDevelopmentToken(t *testing.T) {
	t.Parallel()
	b := setup(t)
	signed, err := DevelopmentToken(Token{Player: "p1", Groups: []guildhall.Group{dragons}})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ReadToken(DevelopmentKeys(), signed); err != nil || got.Player != "p1" || !got.Names(dragons) {
		t.Errorf("ReadToken = %+v, %v", got, err)
	}
	if _, err := ReadToken(b.keys, signed); !errors.Is(err, ErrInvalid) {
		t.Errorf("another key's check takes a development token: %v", err)
	}
}

func FuzzReadPass(f *testing.F) {
	b := setup(f)
	signed, _, err := b.minter.Mint(good)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(signed, true)
	f.Add("eyJhbGciOiJub25lIn0.e30.", true)
	f.Add(`{"sub":"p1","aud":"guildhall-room","exp":99999999999,"grp":"guild:x","hst":"h","epo":1}`, false)
	f.Add(`{"sub":"p1","aud":["guildhall-room"],"exp":1e300,"grp":"guild:x"}`, false)
	f.Add(`{"exp":null,"grp":":"}`, false)
	f.Fuzz(func(t *testing.T, text string, isJWT bool) {
		if !isJWT { // a payload under a good signature: the fuzzer finds none by itself
			text = signPayload(b.key, text)
		}
		got, err := ReadPass(b.keys, text)
		switch {
		case err != nil:
			if !errors.Is(err, ErrInvalid) || got != (Pass{}) {
				t.Errorf("ReadPass = %+v, %v; want ErrInvalid and nothing", got, err)
			}
		case isJWT && text != signed:
			checkSame(t, signed, text)
		default:
			if _, err := guildhall.ParseGroup(got.Group.String()); err != nil || got.Player == "" {
				t.Errorf("ReadPass let %+v in: %v", got, err)
			}
		}
	})
}

// checkSame lets a text pass that differs from the signed one in no bit of head, payload or signature.
func checkSame(t *testing.T, signed, text string) {
	t.Helper()
	decode := func(s string) (parts [3]string) {
		for i, part := range strings.SplitN(s, ".", 3) {
			bytes, err := jwt.NewParser().DecodeSegment(part)
			if err != nil {
				t.Errorf("ReadPass took %q: %v", s, err)
			}
			parts[i] = string(bytes)
		}
		return parts
	}
	if decode(signed) != decode(text) {
		t.Errorf("ReadPass took %q, which nobody has signed", text)
	}
}

func signPayload(key ed25519.PrivateKey, payload string) string {
	encoder := jwt.NewWithClaims(jwt.SigningMethodEdDSA, jwt.MapClaims{})
	text := encoder.EncodeSegment([]byte(`{"alg":"EdDSA","typ":"JWT"}`)) + "." + encoder.EncodeSegment([]byte(payload))
	return text + "." + encoder.EncodeSegment(ed25519.Sign(key, []byte(text)))
}
