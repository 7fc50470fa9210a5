package main

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// selector is a metric as an expression names it: with the labels that it is selected by, and their values.
type selector struct {
	name   string
	labels map[string]string
}

var (
	grouping   = regexp.MustCompile(`\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)`)
	selecting  = regexp.MustCompile(`([a-zA-Z_:][a-zA-Z0-9_:]*)\s*(\{[^}]*\})?(\s*\()?`)
	matching   = regexp.MustCompile(`([a-zA-Z_][a-zA-Z0-9_]*)\s*(?:=~|!~|!=|=)\s*"([^"]*)"`)
	durations  = regexp.MustCompile(`\[[^\]]*\]`)
	quoted     = regexp.MustCompile(`"[^"]*"`)
	numbers    = regexp.MustCompile(`\b[0-9][0-9.e]*\b`)
	operations = []string{"and", "or", "unless", "bool", "offset", "by", "on", "without", "ignoring", "group_left", "group_right"}
)

// read gives what an expression names: metrics, and the labels that it groups by. Whether it is an expression at all
// Prometheus says.
func read(expr string) (selectors []selector, labels []string) {
	for _, match := range grouping.FindAllStringSubmatch(expr, -1) {
		for label := range strings.SplitSeq(match[1], ",") {
			if label = strings.TrimSpace(label); label != "" && label != "le" {
				labels = append(labels, label)
			}
		}
	}
	expr = grouping.ReplaceAllString(durations.ReplaceAllString(expr, ""), "")
	for _, match := range selecting.FindAllStringSubmatch(withoutStrings(expr), -1) {
		if match[3] != "" && match[2] == "" || slices.Contains(operations, match[1]) { // a function, or an operator
			continue
		}
		s := selector{name: match[1], labels: map[string]string{}}
		for _, m := range matching.FindAllStringSubmatch(match[2], -1) {
			s.labels[m[1]] = m[2]
		}
		selectors = append(selectors, s)
	}
	return selectors, labels
}

// withoutStrings takes away strings that are no values of labels, and numbers.
func withoutStrings(expr string) string {
	var kept strings.Builder
	depth, rest := 0, expr
	for rest != "" {
		if rest[0] == '"' && depth == 0 {
			rest = rest[len(quoted.FindString(rest)):]
			continue
		}
		switch rest[0] {
		case '{':
			depth++
		case '}':
			depth--
		}
		kept.WriteByte(rest[0])
		rest = rest[1:]
	}
	if strings.Contains(kept.String(), "{") {
		return kept.String()
	}
	return numbers.ReplaceAllString(kept.String(), "")
}

// What is named is found, in all the forms that are used here.
func TestRead(t *testing.T) {
	t.Parallel()
	for expr, want := range map[string]struct{ names, labels []string }{
		`histogram_quantile(0.5, sum by (namespace, path, le) (rate(a_bucket{namespace=~"$namespace"}[5m])))`: {[]string{"a_bucket"}, []string{"namespace", "path"}},
		`label_replace(a:b:c > 1e3, "path", "seat", "", "")`:                                                  {[]string{"a:b:c"}, nil},
		`sum(a{b="c",d!="e"} * on (f) group_left (g) h{i="x"}) or absent(j)`:                                  {[]string{"a", "h", "j"}, []string{"f", "g"}},
		`min by (what) (a_seconds) - time() < 7 * 86400`:                                                      {[]string{"a_seconds"}, []string{"what"}},
		`a == 1 and b > 0`: {[]string{"a", "b"}, nil},
	} {
		selectors, labels := read(expr)
		var names []string
		for _, s := range selectors {
			names = append(names, s.name)
		}
		if !slices.Equal(names, want.names) || !slices.Equal(labels, want.labels) {
			t.Errorf("%s names %v, by %v; want %v, by %v", expr, names, labels, want.names, want.labels)
		}
	}
	selectors, _ := read(`a{b="c",d=~"e|f"}`)
	if want := map[string]string{"b": "c", "d": "e|f"}; !maps.Equal(selectors[0].labels, want) {
		t.Errorf("selected by %v, want %v", selectors[0].labels, want)
	}
}
