package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// rulesFile is what the chart ships, and what promtool and Prometheus read here.
const rulesFile = "../chart/files/rules.yaml"

// rule is a recording rule or an alert.
type rule struct {
	Record, Alert, Expr, For string
	Labels, Annotations      map[string]string
}

func readRules(t *testing.T) (records, alerts []rule) {
	t.Helper()
	var file struct {
		Groups []struct {
			Name  string
			Rules []rule
		}
	}
	readYAML(t, rulesFile, &file)
	for _, group := range file.Groups {
		for _, r := range group.Rules {
			if r.Alert != "" {
				alerts = append(alerts, r)
			} else {
				records = append(records, r)
			}
		}
	}
	if len(records) == 0 || len(alerts) == 0 {
		t.Fatalf("%s has %d recording rules and %d alerts", rulesFile, len(records), len(alerts))
	}
	return records, alerts
}

func readYAML(t *testing.T, file string, into any) {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.UnmarshalStrict(raw, into); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}

const (
	runbooks    = "../../docs/runbooks"
	runbooksURL = "https://github.com/guildhall-dev/guildhall/blob/main/docs/runbooks/"
)

var capital = regexp.MustCompile(`[A-Z]`)

// page gives the runbook of an alert: GuildhallJoinSlow is told in join-slow.md.
func page(alert string) string {
	words := capital.ReplaceAllStringFunc(strings.TrimPrefix(alert, "Guildhall"), func(letter string) string { return "-" + strings.ToLower(letter) })
	return strings.TrimPrefix(words, "-") + ".md"
}

// sections are what a runbook has to answer, in this order.
var sections = []string{"What it means", "What players feel", "What to look at", "What to do", "What made it fire in a test"}

// readRunbooks gives the texts of the runbooks and of their list, by file name.
func readRunbooks(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(runbooks, "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	texts := map[string]string{}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		texts[filepath.Base(file)] = string(raw)
	}
	return texts
}

// Whoever is woken finds a page, and each page is about an alert that there is.
func TestEachAlertHasARunbook(t *testing.T) {
	t.Parallel()
	_, alerts := readRules(t)
	texts := readRunbooks(t)
	pages := map[string]bool{"README.md": true}
	for _, alert := range alerts {
		name := page(alert.Alert)
		pages[name] = true
		if got := alert.Annotations["runbook_url"]; got != runbooksURL+name {
			t.Errorf("%s: runbook_url is %s, want %s", alert.Alert, got, runbooksURL+name)
		}
		text, there := texts[name]
		if !there {
			t.Errorf("%s: there is no %s", alert.Alert, name)
			continue
		}
		var found []string
		for line := range strings.Lines(text) {
			if title, is := strings.CutPrefix(strings.TrimSpace(line), "## "); is {
				found = append(found, title)
			}
		}
		if !strings.HasPrefix(text, "# "+alert.Alert+"\n") || !slices.Equal(found, sections) {
			t.Errorf("%s: it begins otherwise than with # %s, or its sections are %q, want %q", name, alert.Alert, found, sections)
		}
		if !strings.Contains(text, alert.Labels["severity"]) {
			t.Errorf("%s does not say that it is %s", name, alert.Labels["severity"])
		}
	}
	for name := range texts {
		if !pages[name] {
			t.Errorf("%s is about no alert", name)
		}
	}
	for name := range pages {
		if name != "README.md" && !strings.Contains(texts["README.md"], "("+name+")") {
			t.Errorf("the list of runbooks has no link to %s", name)
		}
	}
}

var panelInText = regexp.MustCompile(`\*Guildhall / ([^*>]+?) > ([^*]+?)\*`)

// A runbook names panels that are there.
func TestRunbooksNamePanels(t *testing.T) {
	t.Parallel()
	panels := map[string]bool{}
	for _, d := range dashboards {
		for _, r := range d.rows {
			for _, p := range r.panels {
				panels[d.title+" > "+p.title] = true
			}
		}
	}
	for file, text := range readRunbooks(t) {
		named := panelInText.FindAllStringSubmatch(strings.Join(strings.Fields(text), " "), -1)
		for _, match := range named {
			if !panels["Guildhall / "+match[1]+" > "+match[2]] {
				t.Errorf("%s names %s, which is no panel", file, match[0])
			}
		}
		if len(named) == 0 && file != "README.md" {
			t.Errorf("%s names no panel to look at", file)
		}
	}
}

var testInText = regexp.MustCompile(`\bTest[A-Z][A-Za-z]+`)

// A runbook names tests that are there.
func TestRunbooksNameTests(t *testing.T) {
	t.Parallel()
	var tests strings.Builder
	for _, part := range []string{"director", "embedded", "frontend", "roomserver"} {
		files, err := filepath.Glob(filepath.Join("../..", part, "*_test.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			raw, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			tests.Write(raw)
		}
	}
	named := 0
	for page, text := range readRunbooks(t) {
		for _, test := range testInText.FindAllString(text, -1) {
			named++
			if !strings.Contains(tests.String(), "func "+test+"(t *testing.T)") {
				t.Errorf("%s names %s, which is no test", page, test)
			}
		}
	}
	if named < 10 {
		t.Errorf("only %d tests were found in runbooks", named)
	}
}

// An alert says how bad it is, and of what and how much.
func TestAlertsSayWhat(t *testing.T) {
	t.Parallel()
	_, alerts := readRules(t)
	seen := map[string]bool{}
	for _, alert := range alerts {
		if seen[alert.Alert] {
			t.Errorf("%s stands twice", alert.Alert)
		}
		seen[alert.Alert] = true
		if severity := alert.Labels["severity"]; severity != "critical" && severity != "warning" {
			t.Errorf("%s: severity is %q, want critical or warning", alert.Alert, severity)
		}
		if summary := alert.Annotations["summary"]; !strings.Contains(summary, "{{") {
			t.Errorf("%s: the summary has no values: %s", alert.Alert, summary)
		}
	}
}

// testsFile is what promtool runs: for each alert, when it fires and when not.
const testsFile = "testdata/rules_test.yaml"

// Each alert has a case in which it fires, and one in which it does not although something is there to look at.
func TestEachAlertIsTestedBothWays(t *testing.T) {
	t.Parallel()
	var file struct {
		RuleFiles          []string `json:"rule_files"`
		EvaluationInterval string   `json:"evaluation_interval"`
		Tests              []struct {
			Name        string
			Interval    string
			InputSeries []struct{ Series, Values string } `json:"input_series"`
			Alerts      []struct {
				EvalTime string           `json:"eval_time"`
				Name     string           `json:"alertname"`
				Expect   []map[string]any `json:"exp_alerts"`
			} `json:"alert_rule_test"`
		}
	}
	readYAML(t, testsFile, &file)
	if want := []string{"../" + rulesFile}; !slices.Equal(file.RuleFiles, want) {
		t.Errorf("%s tests %v, want %v", testsFile, file.RuleFiles, want)
	}
	fires, rests := map[string]bool{}, map[string]bool{}
	for _, test := range file.Tests {
		for _, alert := range test.Alerts {
			if len(alert.Expect) > 0 {
				fires[alert.Name] = true
			} else if len(test.InputSeries) > 0 {
				rests[alert.Name] = true
			}
		}
	}
	_, alerts := readRules(t)
	for _, alert := range alerts {
		if !fires[alert.Alert] || !rests[alert.Alert] {
			t.Errorf("%s: fires in a test: %t, does not in another: %t; want both", alert.Alert, fires[alert.Alert], rests[alert.Alert])
		}
	}
}

// tool gives the path of promtool or of prometheus. GUILDHALL_TEST_PROMETHEUS is the folder that has both
// (install/monitoring/prometheus.sh); without it there is nothing to test with.
func tool(t *testing.T, name string) string {
	t.Helper()
	folder := os.Getenv("GUILDHALL_TEST_PROMETHEUS")
	if folder == "" {
		t.Skip("GUILDHALL_TEST_PROMETHEUS is not set: make monitoring fetches Prometheus and sets it")
	}
	path := filepath.Join(folder, name)
	if out, err := exec.Command(path, "--version").CombinedOutput(); err != nil {
		t.Fatalf("%s does not run: %v\n%s", path, err, out)
	}
	return path
}

// The rules are what promtool takes for rules, and do what is said of them.
func TestPromtool(t *testing.T) {
	t.Parallel()
	promtool := tool(t, "promtool")
	for _, args := range [][]string{{"check", "rules", rulesFile}, {"test", "rules", testsFile}, {"check", "config", "--syntax-only", configFile}} {
		if out, err := exec.Command(promtool, args...).CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}
