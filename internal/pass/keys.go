// Package pass holds the two signed words of Guildhall. A player token says who somebody is and which groups are
// theirs; the game's own login signs it and the frontend checks it. A pass admits one player to one group's room
// on one host at one epoch; the frontend signs it and the host checks it. Both are JWTs signed with EdDSA.
package pass

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"

	"github.com/golang-jwt/jwt/v5"
)

// PublicKeys are the keys of which any may have signed: while a key is replaced, two are good.
type PublicKeys []ed25519.PublicKey

// LogValue gives the names of the keys, for logs.
func (k PublicKeys) LogValue() slog.Value {
	names := make([]string, len(k))
	for i, key := range k {
		names[i] = keyID(key)
	}
	return slog.StringValue(strings.Join(names, " "))
}

// NewKey makes a private key.
func NewKey() (ed25519.PrivateKey, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making a key: %w", err)
	}
	return key, nil
}

// developmentKey signs player tokens where the frontend runs in development mode. It is public on purpose: in
// that mode anybody may be anybody.
func developmentKey() ed25519.PrivateKey {
	seed := sha256.Sum256([]byte("guildhall development key: signs player tokens for whoever asks"))
	return ed25519.NewKeyFromSeed(seed[:])
}

// LoadPrivateKey reads an Ed25519 private key: PEM, PKCS #8, as `openssl genpkey -algorithm ed25519` writes it.
func LoadPrivateKey(file string) (ed25519.PrivateKey, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading a private key: %w", err)
	}
	block, _ := pem.Decode(data)
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, fmt.Errorf("%s: want a PEM block PRIVATE KEY", file)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	key, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%s: the key is %T, want Ed25519", file, parsed)
	}
	return key, nil
}

// LoadPublicKeys reads one or more Ed25519 public keys: PEM blocks as `openssl pkey -pubout` writes them, one
// behind the other.
func LoadPublicKeys(file string) (PublicKeys, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading public keys: %w", err)
	}
	var keys PublicKeys
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "PUBLIC KEY" {
			return nil, fmt.Errorf("%s: key %d is a PEM block %s, want PUBLIC KEY", file, len(keys)+1, block.Type)
		}
		parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: key %d: %w", file, len(keys)+1, err)
		}
		key, ok := parsed.(ed25519.PublicKey)
		if !ok {
			return nil, fmt.Errorf("%s: key %d is %T, want Ed25519", file, len(keys)+1, parsed)
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("%s: want a PEM block PUBLIC KEY", file)
	}
	// The decoder skips a block that is damaged: what the missing key signs would be refused, and nobody would know why.
	if begun := bytes.Count(data, []byte("-----BEGIN ")); begun != len(keys) {
		return nil, fmt.Errorf("%s: %d of %d PEM blocks are damaged", file, begun-len(keys), begun)
	}
	return keys, nil
}

// publicKey gives the public half: the second half of an Ed25519 private key.
func publicKey(key ed25519.PrivateKey) ed25519.PublicKey {
	return ed25519.PublicKey(key[ed25519.PrivateKeySize-ed25519.PublicKeySize:])
}

// SavePrivateKey writes a private key, readable by its owner only, as [LoadPrivateKey] reads it.
func SavePrivateKey(key ed25519.PrivateKey, file string) error {
	encoded, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("encoding a private key: %w", err)
	}
	// A file that is there would keep its mode, and others might read the key.
	if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("replacing a private key: %w", err)
	}
	return os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded}), 0o600)
}

// SavePublicKey writes the public half of a key, as [LoadPublicKeys] reads it.
func SavePublicKey(key ed25519.PrivateKey, file string) error {
	encoded, err := x509.MarshalPKIXPublicKey(publicKey(key))
	if err != nil {
		return fmt.Errorf("encoding a public key: %w", err)
	}
	return os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: encoded}), 0o644)
}

// SaveKeyPair writes both halves of a key.
func SaveKeyPair(key ed25519.PrivateKey, privateFile, publicFile string) error {
	return errors.Join(SavePrivateKey(key, privateFile), SavePublicKey(key, publicFile))
}

// keyID names a key: its JWK thumbprint (RFC 7638, of a key as in RFC 8037), which other libraries can make too.
func keyID(key ed25519.PublicKey) string {
	sum := sha256.Sum256([]byte(`{"crv":"Ed25519","kty":"OKP","x":"` + base64.RawURLEncoding.EncodeToString(key) + `"}`))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

func sign(key ed25519.PrivateKey, id string, claims jwt.Claims) (string, error) {
	token := jwt.NewWithClaims(jwt.SigningMethodEdDSA, claims)
	token.Header["kid"] = id
	signed, err := token.SignedString(crypto.Signer(key))
	if err != nil {
		return "", fmt.Errorf("signing: %w", err)
	}
	return signed, nil
}

// of gives the keys that may have signed a JWT: the one that its header names, or all if it names none of them, for a
// game's login may name its keys as it likes, or not at all.
func (k PublicKeys) of(token *jwt.Token) jwt.VerificationKeySet {
	set := jwt.VerificationKeySet{}
	id, named := token.Header["kid"].(string)
	for _, key := range k {
		if named && len(k) > 1 && id == keyID(key) { // with one key there is nothing to choose
			return jwt.VerificationKeySet{Keys: []jwt.VerificationKey{key}}
		}
		set.Keys = append(set.Keys, key)
	}
	return set
}

// verify checks signature, audience and expiry and fills claims in.
func verify(keys PublicKeys, audience, signed string, claims jwt.Claims) error {
	_, err := jwt.ParseWithClaims(signed, claims, func(token *jwt.Token) (any, error) { return keys.of(token), nil },
		jwt.WithValidMethods([]string{jwt.SigningMethodEdDSA.Alg()}),
		jwt.WithAudience(audience), jwt.WithExpirationRequired(), jwt.WithLeeway(clockSkew))
	return err
}
