package guildhall

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"
)

// token is what NATS takes as two tokens of a subject and as a key of a bucket.
var token = regexp.MustCompile(`^[a-z0-9-]{1,32}\.[A-Za-z0-9=_-]+$`)

var goodGroups = []string{
	"guild:dragons", "party:42", "a:b", "0-9:x", "guild:a:b", "guild::", "guild:.", "guild:*", "guild:>", "guild:=41",
	"guild:ünïcode", "guild:日本", "guild:" + strings.Repeat("x", MaxGroupIDBytes), strings.Repeat("k", maxKindBytes) + ":x",
	"guild:a%20b", "guild:-_=", "guild:\"'<&>", "guild:🐉",
}

func TestGroupRoundTrips(t *testing.T) {
	t.Parallel()
	keys := map[string]string{}
	for _, text := range goodGroups {
		group, err := ParseGroup(text)
		if err != nil {
			t.Errorf("ParseGroup(%q): %v", text, err)
			continue
		}
		if group.String() != text {
			t.Errorf("String of %q = %q", text, group.String())
		}
		checkKey(t, group)
		if other, twice := keys[group.Key()]; twice {
			t.Errorf("%q and %q have one key %q", text, other, group.Key())
		}
		keys[group.Key()] = text
	}
}

func checkKey(t *testing.T, group Group) {
	t.Helper()
	key := group.Key()
	if !token.MatchString(key) {
		t.Errorf("key of %q = %q, which NATS does not take", group, key)
	}
	if back, err := ParseGroupKey(key); err != nil || back != group {
		t.Errorf("ParseGroupKey(%q) = %+v, %v; want %+v", key, back, err, group)
	}
}

// TestKeyIsForEver holds what is in the buckets and the logs of installations.
func TestKeyIsForEver(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"guild:dragons": "guild.dragons", "party:42": "party.42", "guild:a.b": "guild.a=2Eb", "guild:ü": "guild.=C3=BC", "guild:=": "guild.=3D",
	} {
		group, err := ParseGroup(text)
		if err != nil || group.Key() != want {
			t.Errorf("key of %s = %q, %v; want %q", text, group.Key(), err, want)
		}
	}
}

func TestBadGroups(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ text, says string }{
		{"", "want kind:id"},
		{"dragons", "want kind:id"},
		{":", "the kind has 0 bytes"},
		{":dragons", "the kind has 0 bytes"},
		{"Guild:dragons", `the kind has 'G', want a-z`},
		{"gui ld:dragons", `the kind has ' '`},
		{"gui.ld:dragons", `the kind has '.'`},
		{"gülde:dragons", `the kind has 'ü'`},
		{"g\xff:dragons", "the kind has"},
		{strings.Repeat("k", maxKindBytes+1) + ":x", "the kind has 33 bytes, want 1 to 32"},
		{"guild:", "the id is empty"},
		{"guild:" + strings.Repeat("x", MaxGroupIDBytes+1), "the id has 129 bytes, at most 128"},
		{"guild:" + strings.Repeat("x", 10_000), "the id has 10000 bytes, at most 128"},
		{"guild:a b", "no spaces"},
		{"guild: ", "no spaces"},
		{"guild:a\tb", "no spaces, no control"},
		{"guild:a\nb", "no spaces, no control"},
		{"guild:a\x00b", "no control"},
		{"guild:a\x7fb", "no control"},
		{"guild:a\u00a0b", "no spaces"},
		{"guild:a\u2028b", "no spaces"},
		{"guild:a\xffb", "is not UTF-8"},
		{"guild:\xc3", "is not UTF-8"},
	} {
		group, err := ParseGroup(test.text)
		checkRefusal(t, fmt.Sprintf("ParseGroup(%.60q)", test.text), err, test.says)
		if group != (Group{}) {
			t.Errorf("ParseGroup(%.60q) gave %+v with its error", test.text, group)
		}
	}
}

// checkRefusal sees that an error says what is wrong, in a length that fits a log line.
func checkRefusal(t *testing.T, what string, err error, says string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), says) {
		t.Errorf("%s: %v, want an error that says %q", what, err, says)
		return
	}
	if len(err.Error()) > 400 || strings.ContainsAny(err.Error(), "\n\x00") || !utf8.ValidString(err.Error()) {
		t.Errorf("%s: its error has %d bytes or is not to be printed: %.80q", what, len(err.Error()), err)
	}
}

func TestBadGroupKeys(t *testing.T) {
	t.Parallel()
	for _, key := range []string{
		"", "guild", "guild.", ".dragons", "guild.=", "guild.=4", "guild.a=", "guild.=GG", "guild.=-1", "guild.=+1", "guild.a b",
		"guild.=20", "guild.=FF", "Guild.x", "guild." + strings.Repeat("=41", MaxGroupIDBytes+1),
	} {
		if group, err := ParseGroupKey(key); err == nil {
			t.Errorf("ParseGroupKey(%.60q) = %+v, want an error", key, group)
		}
	}
}

func FuzzParseGroup(f *testing.F) {
	for _, text := range goodGroups {
		f.Add(text, "guild:other")
	}
	f.Add("guild:\xff", "guild:a b")
	f.Add("guild:=41", "guild:A")
	f.Fuzz(func(t *testing.T, one, two string) {
		first, err := ParseGroup(one)
		if err != nil {
			checkRefusal(t, "ParseGroup", err, "group ")
			return
		}
		if first.String() != one || first.ID == "" || len(first.ID) > MaxGroupIDBytes {
			t.Errorf("ParseGroup(%q) = %+v", one, first)
		}
		checkKey(t, first)
		second, err := ParseGroup(two)
		if err == nil && (first == second) != (first.Key() == second.Key()) {
			t.Errorf("groups %q and %q have keys %q and %q", one, two, first.Key(), second.Key())
		}
	})
}

func FuzzParseGroupKey(f *testing.F) {
	for _, key := range []string{"guild.dragons", "guild.=C3=BC", "guild.=c3=bc", "guild.=", "guild.=4", ".", "a.=41"} {
		f.Add(key)
	}
	f.Fuzz(func(t *testing.T, key string) {
		group, err := ParseGroupKey(key)
		if err != nil {
			return
		}
		checkKey(t, group)
	})
}

func TestShard(t *testing.T) {
	t.Parallel()
	// Every process of every version must agree: these numbers are for ever.
	for text, want := range map[string]int{"guild:dragons": 2, "party:42": 1, "guild:ü": 1} {
		group, err := ParseGroup(text)
		if err != nil || group.Shard(4) != want {
			t.Errorf("shard of %s among 4 = %d, %v; want %d", text, group.Shard(4), err, want)
		}
	}
	counts := make([]int, 7)
	for n := range 7000 {
		group := Group{Kind: "guild", ID: fmt.Sprint(n)}
		shard := group.Shard(len(counts))
		if shard < 0 || shard >= len(counts) {
			t.Fatalf("shard of %s = %d", group, shard)
		}
		if group.Shard(1) != 0 {
			t.Errorf("shard of %s among one = %d", group, group.Shard(1))
		}
		counts[shard]++
	}
	for shard, count := range counts {
		if count < 700 || count > 1300 {
			t.Errorf("shard %d has %d of 7000 groups", shard, count)
		}
	}
}

func TestParsePlayerID(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"p1", "a:b.c*>", "日本", strings.Repeat("x", MaxPlayerIDBytes)} {
		if id, err := ParsePlayerID(name); err != nil || string(id) != name {
			t.Errorf("ParsePlayerID(%q) = %q, %v", name, id, err)
		}
	}
	for name, says := range map[string]string{
		"": "the name is empty", "a b": "no spaces", "a\x1bb": "no control", "\xff": "is not UTF-8", strings.Repeat("x", 10_000): "has 10000 bytes",
	} {
		id, err := ParsePlayerID(name)
		checkRefusal(t, fmt.Sprintf("ParsePlayerID(%.60q)", name), err, says)
		if id != "" {
			t.Errorf("ParsePlayerID(%.60q) gave %q with its error", name, id)
		}
	}
}
