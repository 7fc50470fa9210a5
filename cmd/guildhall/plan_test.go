package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/guildhall-dev/guildhall/internal/capacity"
)

var updatePlan = flag.Bool("update", false, "write the plan of ten million players into docs/scaling.md")

// planned runs the command in a process of its own.
func planned(t *testing.T, args ...string) (string, error) {
	t.Helper()
	out, err := command(t, append([]string{"plan"}, args...)...).Output()
	return string(out), err
}

// TestThePlanOfTheDocumentIsTheTools: docs/scaling.md shows what the command prints.
func TestThePlanOfTheDocumentIsTheTools(t *testing.T) {
	t.Parallel()
	const page, begin, end = "../../docs/scaling.md", "<!-- plan -->\n\n", "\n<!-- /plan -->"
	out, err := planned(t, "--players", "10000000", "--groups", "500000")
	if err != nil {
		t.Fatal(err)
	}
	want := "```\n" + out + "```\n"
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(text), begin)
	shown, after, ends := strings.Cut(rest, end)
	if !found || !ends {
		t.Fatalf("%s has no %q and %q", page, begin, end)
	}
	if *updatePlan {
		if err := os.WriteFile(page, []byte(before+begin+want+end+after), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if shown != want {
		t.Errorf("%s shows another plan than the tool; go test ./cmd/guildhall -run Document -update writes it:\n%s", page, want)
	}
}

// TestPlanAsJSON: one object, which has what the table has.
func TestPlanAsJSON(t *testing.T) {
	t.Parallel()
	out, err := planned(t, "--players", "1000", "--groups", "10", "--messages-per-second", "20", "--json")
	if err != nil {
		t.Fatal(err)
	}
	var plan capacity.Plan
	decoder := json.NewDecoder(bytes.NewReader([]byte(out)))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&plan); err != nil || decoder.More() {
		t.Fatalf("printed %s: %v", out, err)
	}
	if plan.Deliveries != 2000 || plan.Hosts.Replicas < 1 || len(plan.Limits) == 0 || plan.Load.Players != 1000 {
		t.Errorf("the plan is %+v", plan)
	}
}

func TestPlanOfNonsense(t *testing.T) {
	t.Parallel()
	for says, args := range map[string][]string{
		"more than --players=10":           {"--players", "10", "--groups", "11"},
		"--players=-5":                     {"--players=-5", "--groups", "1"},
		"--messages-per-second=-1: want":   {"--players", "10", "--groups", "1", "--messages-per-second=-1"},
		"--kind-capacity=1000 seats fewer": {"--players", "5000", "--groups", "1"},
		"missing flags":                    {"--players", "5000"},
		"--margin=0":                       {"--players", "50", "--groups", "1", "--margin", "0"},
	} {
		out, err := command(t, append([]string{"plan"}, args...)...).CombinedOutput()
		if err == nil || !strings.Contains(string(out), says) {
			t.Errorf("%v printed %q, %v; want %q in it", args, out, err, says)
		}
	}
}
