package pass

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// files writes files by name into a folder of its own and gives the folder.
func files(t *testing.T, contents map[string][]byte) string {
	t.Helper()
	folder := t.TempDir()
	for name, content := range contents {
		if err := os.WriteFile(filepath.Join(folder, name), content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return folder
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestKeyPairRoundTrip(t *testing.T) {
	t.Parallel()
	b := setup(t)
	folder := t.TempDir()
	private, public := filepath.Join(folder, "private.pem"), filepath.Join(folder, "public.pem")
	for range 2 { // also over files that are there
		if err := SaveKeyPair(b.key, private, public); err != nil {
			t.Fatal(err)
		}
	}
	key, err := LoadPrivateKey(private)
	if err != nil || !key.Equal(b.key) {
		t.Errorf("LoadPrivateKey: another key, or %v", err)
	}
	keys, err := LoadPublicKeys(public)
	if err != nil || len(keys) != 1 || !keys[0].Equal(b.keys[0]) {
		t.Errorf("LoadPublicKeys: %d keys, %v", len(keys), err)
	}
}

func TestPrivateKeyIsItsOwnersOnly(t *testing.T) {
	t.Parallel()
	b := setup(t)
	folder := files(t, map[string][]byte{"there.pem": []byte("of another day, for all to read")})
	for _, name := range []string{"new.pem", "there.pem"} {
		private := filepath.Join(folder, name)
		if err := SaveKeyPair(b.key, private, filepath.Join(folder, "public.pem")); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(private)
		if err != nil || info.Mode().Perm() != fs.FileMode(0o600) {
			t.Errorf("%s has mode %s, %v; want 0600", name, info.Mode().Perm(), err)
		}
	}
}

func TestSeveralPublicKeysInOneFile(t *testing.T) {
	t.Parallel()
	one, two := publicPEM(t, setup(t).key.Public()), publicPEM(t, setup(t).key.Public())
	folder := files(t, map[string][]byte{
		"plain":    append(append([]byte{}, one...), two...),
		"comments": bytes.Join([][]byte{[]byte("the old key\n"), one, []byte("\nthe new key\n"), two, []byte("\n\n")}, nil),
	})
	for _, name := range []string{"plain", "comments"} {
		if keys, err := LoadPublicKeys(filepath.Join(folder, name)); err != nil || len(keys) != 2 || keys[0].Equal(keys[1]) {
			t.Errorf("%s: %d keys, %v; want 2", name, len(keys), err)
		}
	}
}

func TestBadKeyFiles(t *testing.T) {
	t.Parallel()
	b := setup(t)
	pair := t.TempDir()
	if err := SaveKeyPair(b.key, filepath.Join(pair, "private"), filepath.Join(pair, "public")); err != nil {
		t.Fatal(err)
	}
	private, public := read(t, filepath.Join(pair, "private")), read(t, filepath.Join(pair, "public"))
	elliptic, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ellipticPrivate, err := x509.MarshalPKCS8PrivateKey(elliptic)
	if err != nil {
		t.Fatal(err)
	}
	folder := files(t, map[string][]byte{
		"empty":               nil,
		"text":                []byte("hello"),
		"private":             private,
		"public":              public,
		"ecdsa-private":       pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: ellipticPrivate}),
		"ecdsa-public":        publicPEM(t, elliptic.Public()),
		"damaged-private":     pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("x")}),
		"damaged-public":      pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: []byte("x")}),
		"second-damaged":      append(append([]byte{}, public...), bytes.Replace(public, []byte("\n"), []byte("\n!"), 1)...),
		"first-damaged":       append(bytes.Replace(public, []byte("\n"), []byte("\n!"), 1), public...),
		"second-cut-off":      append(append([]byte{}, public...), public[:len(public)/2]...),
		"second-elliptic":     append(append([]byte{}, public...), publicPEM(t, elliptic.Public())...),
		"public-then-private": append(append([]byte{}, public...), private...),
	})
	loadPublic := func(file string) error { _, err := LoadPublicKeys(file); return err }
	loadPrivate := func(file string) error { _, err := LoadPrivateKey(file); return err }
	for _, test := range []struct {
		load       func(string) error
		file, says string
	}{
		{loadPrivate, "missing", "no such file"},
		{loadPrivate, "empty", "want a PEM block PRIVATE KEY"},
		{loadPrivate, "text", "want a PEM block PRIVATE KEY"},
		{loadPrivate, "public", "want a PEM block PRIVATE KEY"},
		{loadPrivate, "damaged-private", "asn1"},
		{loadPrivate, "ecdsa-private", "want Ed25519"},
		{loadPublic, "missing", "no such file"},
		{loadPublic, "empty", "want a PEM block PUBLIC KEY"},
		{loadPublic, "text", "want a PEM block PUBLIC KEY"},
		{loadPublic, "private", "want PUBLIC KEY"},
		{loadPublic, "damaged-public", "key 1: asn1"},
		{loadPublic, "ecdsa-public", "want Ed25519"},
		{loadPublic, "second-damaged", "1 of 2 PEM blocks are damaged"},
		{loadPublic, "first-damaged", "1 of 2 PEM blocks are damaged"},
		{loadPublic, "second-cut-off", "1 of 2 PEM blocks are damaged"},
		{loadPublic, "second-elliptic", "key 2 is *ecdsa.PublicKey, want Ed25519"},
		{loadPublic, "public-then-private", "key 2 is a PEM block PRIVATE KEY"},
	} {
		file := filepath.Join(folder, test.file)
		err := test.load(file)
		if err == nil || !strings.Contains(err.Error(), file) || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %v, want an error that names the file and says %q", test.file, err, test.says)
		}
		if err != nil && strings.Contains(err.Error(), string(private[30:60])) {
			t.Errorf("%s: the error tells the key", test.file)
		}
	}
}

func TestSaveKeyPairIntoNowhere(t *testing.T) {
	t.Parallel()
	nowhere := filepath.Join(t.TempDir(), "missing", "key.pem")
	if err := SaveKeyPair(setup(t).key, nowhere, nowhere); err == nil || !strings.Contains(err.Error(), nowhere) {
		t.Errorf("SaveKeyPair: %v, want an error that names the file", err)
	}
}

func publicPEM(t *testing.T, key crypto.PublicKey) []byte {
	t.Helper()
	data, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: data})
}

// The name of a key is that of RFC 8037, appendix A.3.
func TestKeyID(t *testing.T) {
	t.Parallel()
	public, err := base64.RawURLEncoding.DecodeString("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")
	if err != nil {
		t.Fatal(err)
	}
	if id := keyID(public); id != "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k" {
		t.Errorf("the key's name is %s", id)
	}
}

// The name in a JWT's header chooses among keys, and decides nothing else.
func TestTheHeaderNamesTheKey(t *testing.T) {
	t.Parallel()
	one, two := setup(t), setup(t)
	both := PublicKeys{one.keys[0], two.keys[0]}
	for name, c := range map[string]struct {
		kid  any
		good bool
		used int // keys that are tried
	}{
		"its own":      {keyID(two.keys[0]), true, 1},
		"another's":    {keyID(one.keys[0]), false, 1},
		"none":         {nil, true, 2},
		"nobody's":     {"login-2026", true, 2},
		"not a string": {7, true, 2},
	} {
		token := jwt.NewWithClaims(jwt.SigningMethodEdDSA, jwt.MapClaims(claims(nil)))
		if c.kid != nil {
			token.Header["kid"] = c.kid
		}
		signed, err := token.SignedString(two.key)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ReadPass(both, signed); (err == nil) != c.good {
			t.Errorf("%s: %v", name, err)
		}
		if n := len(both.of(token).Keys); n != c.used {
			t.Errorf("%s: %d keys are tried, want %d", name, n, c.used)
		}
		if _, err := ReadPass(two.keys, signed); err != nil { // with one key there is nothing to choose
			t.Errorf("%s, with one key: %v", name, err)
		}
		if _, err := ReadPass(one.keys, signed); err == nil {
			t.Errorf("%s: another key took it", name)
		}
	}
	signed, err := SignToken(one.key, Token{Player: "p1"}, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{one.mint(good), signed} {
		if parsed, _, err := jwt.NewParser().ParseUnverified(text, jwt.MapClaims{}); err != nil || parsed.Header["kid"] != keyID(one.keys[0]) {
			t.Errorf("the header is %v, %v", parsed.Header, err)
		}
	}
}
