// Package guildhall holds the words that every part of Guildhall uses: who plays ([PlayerID]), who belongs
// together ([Group]), who hosts their room ([HostName]), and by which right ([Epoch]).
//
// The path of a ticket runs through the folders beside this file: frontend → matchfunction → director →
// roomserver, with [client] at both ends. ARCHITECTURE.md follows it file by file.
package guildhall

import (
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// PlayerID names a player, as the subject of the player token does.
type PlayerID string

// HostName names a host: the name of its Agones GameServer.
type HostName string

// Epoch is the revision of the claim by which a host owns a group's room. A later claim of the same group
// has a greater epoch, whatever happened in between; 0 is no epoch.
type Epoch uint64

// Seq numbers the messages of a group, from 1 without gaps; 0 is before the first.
type Seq uint64

// Kind is a kind of group, for example "guild" or "party".
type Kind string

// Group names a guild or a party. The zero Group names none.
type Group struct {
	Kind Kind
	ID   string
}

// The longest names that are taken, in bytes.
const (
	MaxGroupIDBytes  = 128
	MaxPlayerIDBytes = 128
	maxKindBytes     = 32
)

// ParseGroup reads `kind:id`. The kind is lower-case letters, digits and dashes; the id is 1 to
// [MaxGroupIDBytes] bytes of UTF-8 without spaces and control characters.
func ParseGroup(s string) (Group, error) {
	kind, id, found := strings.Cut(s, ":")
	if !found {
		return Group{}, fmt.Errorf("group %s: want kind:id, for example guild:dragons", quoteShort(s))
	}
	if err := checkKind(kind); err != nil {
		return Group{}, fmt.Errorf("group %s: %w", quoteShort(s), err)
	}
	if err := checkName(id, MaxGroupIDBytes); err != nil {
		return Group{}, fmt.Errorf("group %s: the id %w", quoteShort(s), err)
	}
	return Group{Kind: Kind(kind), ID: id}, nil
}

// String gives `kind:id`; [ParseGroup] reads it back.
func (g Group) String() string {
	return string(g.Kind) + ":" + g.ID
}

// LogValue shows a group in logs as it is written.
func (g Group) LogValue() slog.Value { return slog.StringValue(g.String()) }

// Key gives the group as one token of [A-Za-z0-9=_-] and a dot behind the kind, for keys and subjects of
// NATS. Two groups have two keys.
func (g Group) Key() string {
	var b strings.Builder
	b.WriteString(string(g.Kind))
	b.WriteByte('.')
	for i := range len(g.ID) {
		c := g.ID[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_':
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "=%02X", c)
		}
	}
	return b.String()
}

// ParseGroupKey reads what [Group.Key] gave.
func ParseGroupKey(key string) (Group, error) {
	kind, escaped, found := strings.Cut(key, ".")
	if !found {
		return Group{}, fmt.Errorf("group key %s: no kind", quoteShort(key))
	}
	var id []byte
	for i := 0; i < len(escaped); i++ {
		if escaped[i] != '=' {
			id = append(id, escaped[i])
			continue
		}
		c, err := strconv.ParseUint(escaped[i+1:min(i+3, len(escaped))], 16, 8)
		if err != nil {
			return Group{}, fmt.Errorf("group key %s: %w", quoteShort(key), err)
		}
		id = append(id, byte(c))
		i += 2
	}
	return ParseGroup(kind + ":" + string(id))
}

// Shard gives the group's shard among so many: the same in every process and every version.
func (g Group) Shard(shards int) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(g.String())) // a hash takes everything
	return int(h.Sum32() % uint32(shards))
}

// ParsePlayerID checks a player's name: 1 to [MaxPlayerIDBytes] bytes of UTF-8 without spaces and control
// characters.
func ParsePlayerID(s string) (PlayerID, error) {
	if err := checkName(s, MaxPlayerIDBytes); err != nil {
		return "", fmt.Errorf("player %s: the name %w", quoteShort(s), err)
	}
	return PlayerID(s), nil
}

func checkKind(s string) error {
	if s == "" || len(s) > maxKindBytes {
		return fmt.Errorf("the kind has %d bytes, want 1 to %d", len(s), maxKindBytes)
	}
	for _, c := range s {
		if ('a' > c || c > 'z') && ('0' > c || c > '9') && c != '-' {
			return fmt.Errorf("the kind has %q, want a-z, 0-9 and -", c)
		}
	}
	return nil
}

func checkName(s string, most int) error {
	switch {
	case s == "":
		return errors.New("is empty")
	case len(s) > most:
		return fmt.Errorf("has %d bytes, at most %d are taken", len(s), most)
	case !utf8.ValidString(s):
		return errors.New("is not UTF-8")
	}
	for _, c := range s {
		if unicode.IsSpace(c) || unicode.IsControl(c) {
			return fmt.Errorf("has %q: no spaces, no control characters", c)
		}
	}
	return nil
}

// quoteShort quotes what a caller sent, cut to a length that fits an error message.
func quoteShort(s string) string {
	const most = 48
	if len(s) > most {
		return fmt.Sprintf("%q… (%d bytes)", s[:most], len(s))
	}
	return fmt.Sprintf("%q", s)
}
