package guildhall

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// KindRules is what holds for every group of a kind.
type KindRules struct {
	// Capacity is how many players a room seats at once.
	Capacity int
	// IdleGrace is how long an empty room stays open.
	IdleGrace time.Duration
	// History is how many messages are kept for those who come later or come back.
	History int
	// Keep is how old a message may become before it is dropped; 0 is for ever. The last thing in a group's log stays, for it
	// holds the group's numbers.
	Keep time.Duration
}

// MaxHistory is the most messages that can be kept of a group.
const MaxHistory = 2000

// Kinds maps each kind of group that this installation knows to its rules.
type Kinds map[Kind]KindRules

// DefaultKinds are the kinds of an installation that configures none, in the form that [Kinds.Decode] reads.
const DefaultKinds = "guild capacity=1000 idle=30s history=1000; party capacity=100 idle=10s history=200"

// Decode reads kinds from a text such as [DefaultKinds]: kinds separated by semicolons, each a name and its
// rules: capacity=N, idle=DURATION, history=N and keep=DURATION. A rule that is left out is that of a guild in DefaultKinds;
// without keep, messages are kept for ever.
func (k *Kinds) Decode(text string) error {
	kinds := Kinds{}
	for part := range strings.SplitSeq(text, ";") {
		words := strings.Fields(part)
		if len(words) == 0 {
			continue
		}
		kind := Kind(words[0])
		if err := checkKind(words[0]); err != nil {
			return fmt.Errorf("kind %s: %w", quoteShort(words[0]), err)
		}
		if _, twice := kinds[kind]; twice {
			return fmt.Errorf("kind %q stands twice", kind)
		}
		rules, err := parseRules(words[1:])
		if err != nil {
			return fmt.Errorf("kind %q: %w", kind, err)
		}
		kinds[kind] = rules
	}
	if len(kinds) == 0 {
		return fmt.Errorf("no kinds; want for example %q", DefaultKinds)
	}
	*k = kinds
	return nil
}

func parseRules(words []string) (KindRules, error) {
	rules := KindRules{Capacity: 1000, IdleGrace: 30 * time.Second, History: 1000}
	seen := map[string]bool{}
	for _, word := range words {
		name, value, _ := strings.Cut(word, "=")
		if seen[name] {
			return rules, fmt.Errorf("rule %s stands twice", quoteShort(name))
		}
		seen[name] = true
		var err error
		switch name {
		case "capacity":
			rules.Capacity, err = atLeastOne(value)
		case "history":
			if rules.History, err = atLeastOne(value); rules.History > MaxHistory {
				err = fmt.Errorf("%d is more than the %d that the log keeps", rules.History, MaxHistory)
			}
		case "idle":
			rules.IdleGrace, err = moreThanNone(value)
		case "keep":
			if rules.Keep, err = time.ParseDuration(value); err == nil && rules.Keep < 0 {
				err = fmt.Errorf("%s is less than 0", rules.Keep)
			}
		default:
			return rules, fmt.Errorf("rule %s: want capacity=N, idle=DURATION, history=N or keep=DURATION", quoteShort(word))
		}
		if err != nil {
			return rules, fmt.Errorf("rule %s: %w", quoteShort(word), err)
		}
	}
	return rules, nil
}

func atLeastOne(text string) (int, error) {
	n, err := strconv.Atoi(text)
	if err == nil && n < 1 {
		err = fmt.Errorf("%d is not at least 1", n)
	}
	return n, err
}

// moreThanNone reads a duration. A room without any idle grace would be over before its first player is there.
func moreThanNone(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if err == nil && d <= 0 {
		err = fmt.Errorf("%s is not more than 0", d)
	}
	return d, err
}

// String gives the form that [Kinds.Decode] reads.
func (k Kinds) String() string {
	var parts []string
	for _, kind := range k.Names() {
		r := k[kind]
		part := fmt.Sprintf("%s capacity=%d idle=%s history=%d", kind, r.Capacity, r.IdleGrace, r.History)
		if r.Keep > 0 {
			part += fmt.Sprintf(" keep=%s", r.Keep)
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, "; ")
}

// Names gives the kinds in alphabetical order.
func (k Kinds) Names() []Kind {
	return slices.Sorted(maps.Keys(k))
}

// Check says whether a group is of a known kind.
func (k Kinds) Check(g Group) error {
	if _, known := k[g.Kind]; !known {
		return fmt.Errorf("group %s: unknown kind %q, known are %s", quoteShort(g.String()), g.Kind, joinKinds(k.Names()))
	}
	return nil
}

func joinKinds(kinds []Kind) string {
	names := make([]string, len(kinds))
	for i, kind := range kinds {
		names[i] = string(kind)
	}
	return strings.Join(names, ", ")
}
