package pass

import (
	"crypto/ed25519"
	"fmt"
	"slices"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/guildhall-dev/guildhall"
)

const tokenAudience = "guildhall"

// developmentTokenTTL is long enough for a day's work.
const developmentTokenTTL = 24 * time.Hour

// Token says who a player is and which groups are theirs. As a JWT it is
//
//	{"sub": "p1", "aud": "guildhall", "exp": …, "groups": ["guild:dragons", "party:42"]}
type Token struct {
	Player guildhall.PlayerID
	Groups []guildhall.Group
}

type tokenClaims struct {
	jwt.RegisteredClaims
	Groups []string `json:"groups"`
}

// Names says whether the token names the group.
func (t Token) Names(group guildhall.Group) bool { return slices.Contains(t.Groups, group) }

// ReadToken checks a signed player token; [ErrInvalid] says why it is none.
func ReadToken(keys PublicKeys, signed string) (Token, error) {
	var claims tokenClaims
	if err := verify(keys, tokenAudience, signed, &claims); err != nil {
		return Token{}, fmt.Errorf("player token: %w: %w", ErrInvalid, err)
	}
	player, err := guildhall.ParsePlayerID(claims.Subject)
	if err != nil {
		return Token{}, fmt.Errorf("player token: %w: %w", ErrInvalid, err)
	}
	token := Token{Player: player}
	for _, text := range claims.Groups {
		group, err := guildhall.ParseGroup(text)
		if err != nil {
			return Token{}, fmt.Errorf("player token: %w: %w", ErrInvalid, err)
		}
		token.Groups = append(token.Groups, group)
	}
	return token, nil
}

// SignToken signs a player token, as a game's login does.
func SignToken(key ed25519.PrivateKey, token Token, ttl time.Duration) (string, error) {
	claims := tokenClaims{RegisteredClaims: jwt.RegisteredClaims{
		Subject: string(token.Player), Audience: jwt.ClaimStrings{tokenAudience},
		IssuedAt: jwt.NewNumericDate(time.Now()), ExpiresAt: jwt.NewNumericDate(time.Now().Add(ttl)),
	}}
	for _, group := range token.Groups {
		claims.Groups = append(claims.Groups, group.String())
	}
	return sign(key, keyID(publicKey(key)), claims)
}

// DevelopmentToken signs a player token with the development key, which only a frontend in development mode
// takes.
func DevelopmentToken(token Token) (string, error) {
	return SignToken(developmentKey(), token, developmentTokenTTL)
}

// DevelopmentKeys are the keys that check what [DevelopmentToken] signs.
func DevelopmentKeys() PublicKeys {
	return PublicKeys{publicKey(developmentKey())}
}
