package pass

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/guildhall-dev/guildhall"
)

// TTL is how long a pass may be shown.
const TTL = 60 * time.Second

// clockSkew is how far two machines' clocks may be apart.
const clockSkew = 5 * time.Second

const passAudience = "guildhall-room"

// ErrInvalid says that a pass or a token is none: not signed by a known key, expired, or not well-formed.
var ErrInvalid = errors.New("not valid")

// Pass admits one player to one group's room on one host at one epoch.
type Pass struct {
	Player guildhall.PlayerID
	Group  guildhall.Group
	Host   guildhall.HostName
	Epoch  guildhall.Epoch
	// Traceparent is the trace of the call that it answers, as package tracing writes it; empty if there is none.
	Traceparent string
}

type passClaims struct {
	jwt.RegisteredClaims
	Group string `json:"grp"`
	Host  string `json:"hst"`
	Epoch uint64 `json:"epo"`
	Trace string `json:"trc,omitempty"`
}

// Minter signs passes.
type Minter struct {
	key ed25519.PrivateKey
	id  string // of the key
}

// NewMinter makes a minter.
func NewMinter(key ed25519.PrivateKey) *Minter { return &Minter{key: key, id: keyID(publicKey(key))} }

// LoadMinter makes a minter of the private key in a file, as [LoadPrivateKey] reads it.
func LoadMinter(file string) (*Minter, error) {
	key, err := LoadPrivateKey(file)
	if err != nil {
		return nil, err
	}
	return NewMinter(key), nil
}

// LogValue gives the name of the key, for logs.
func (m *Minter) LogValue() slog.Value { return slog.StringValue(m.id) }

// Mint signs a pass that may be shown until expires.
func (m *Minter) Mint(p Pass) (signed string, expires time.Time, err error) {
	now := time.Now()
	expires = now.Add(TTL)
	signed, err = sign(m.key, m.id, passClaims{
		RegisteredClaims: jwt.RegisteredClaims{
			Subject: string(p.Player), Audience: jwt.ClaimStrings{passAudience},
			IssuedAt: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(expires),
		},
		Group: p.Group.String(), Host: string(p.Host), Epoch: uint64(p.Epoch), Trace: p.Traceparent,
	})
	return signed, expires, err
}

// ReadPass checks a signed pass; [ErrInvalid] says why it is none.
func ReadPass(keys PublicKeys, signed string) (Pass, error) {
	var claims passClaims
	if err := verify(keys, passAudience, signed, &claims); err != nil {
		return Pass{}, fmt.Errorf("pass: %w: %w", ErrInvalid, err)
	}
	player, playerErr := guildhall.ParsePlayerID(claims.Subject)
	group, groupErr := guildhall.ParseGroup(claims.Group)
	if err := errors.Join(playerErr, groupErr); err != nil {
		return Pass{}, fmt.Errorf("pass: %w: %w", ErrInvalid, err)
	}
	return Pass{
		Player: player, Group: group, Host: guildhall.HostName(claims.Host), Epoch: guildhall.Epoch(claims.Epoch), Traceparent: claims.Trace,
	}, nil
}
