package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// What the chart ships is what this program writes.
func TestDashboardsAreCurrent(t *testing.T) {
	t.Parallel()
	fresh := t.TempDir()
	if err := write(fresh); err != nil {
		t.Fatal(err)
	}
	want, got := files(t, fresh), files(t, filepath.Join("..", folder))
	for name, text := range want {
		if !bytes.Equal(text, got[name]) {
			t.Errorf("%s is not what would be written: go -C install run ./monitoring", name)
		}
		delete(got, name)
	}
	for name := range got {
		t.Errorf("%s is written by nobody", name)
	}
}

func files(t *testing.T, folder string) map[string][]byte {
	t.Helper()
	texts := map[string][]byte{}
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if texts[entry.Name()], err = os.ReadFile(filepath.Join(folder, entry.Name())); err != nil {
			t.Fatal(err)
		}
	}
	return texts
}

// units are those of Grafana's that are used here, written as Grafana has them: one that it does not know is shown as text.
var units = []string{"s", "ms", "short", "ops", "reqps", "mps", "bytes", "percent", "percentunit", "cores"}

// Each panel says what it shows, in what, and when to worry.
func TestPanelsAreTold(t *testing.T) {
	t.Parallel()
	uids := map[string]bool{}
	for _, d := range dashboards {
		if uids[d.uid] || !strings.HasPrefix(d.uid, "guildhall-") || len(d.uid) > 40 {
			t.Errorf("%s: its uid %s stands twice, is not ours, or is longer than Grafana's 40 characters", d.title, d.uid)
		}
		uids[d.uid] = true
		for _, r := range d.rows {
			if columns%len(r.panels) != 0 {
				t.Errorf("%s: %d panels in the row %s do not fill it", d.title, len(r.panels), r.title)
			}
			for _, p := range r.panels {
				if !slices.Contains(units, p.unit) || len(p.about) < 10 || p.worry == "" || p.title == "" || len(p.queries) == 0 {
					t.Errorf("%s > %s: it lacks a title, queries, a unit (%q), what it is about or when to worry", d.title, p.title, p.unit)
				}
				for _, q := range p.queries {
					if q.legend == "" {
						t.Errorf("%s > %s: %s has no legend", d.title, p.title, q.expr)
					}
					if strings.Contains(q.expr, "$namespace") == d.foreign {
						t.Errorf("%s > %s: %s asks for the namespace that is chosen: %t; want the contrary", d.title, p.title, q.expr, d.foreign)
					}
				}
			}
		}
	}
}

// Grafana finds the data source by a variable, wherever one is named.
func TestDashboardsAskForTheDataSource(t *testing.T) {
	t.Parallel()
	for name, text := range files(t, filepath.Join("..", folder)) {
		var d struct {
			UID           string
			SchemaVersion int
			Templating    struct{ List []struct{ Name, Type string } }
			Panels        []struct {
				ID         int
				Type       string
				Datasource struct{ UID string }
				Targets    []struct{ Datasource struct{ UID string } }
			}
		}
		if err := json.Unmarshal(text, &d); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if d.UID+".json" != name || d.SchemaVersion != schemaVersion || d.Templating.List[0].Type != "datasource" {
			t.Errorf("%s has the uid %s, schema %d and first the variable %+v", name, d.UID, d.SchemaVersion, d.Templating.List[0])
		}
		for _, p := range d.Panels {
			uids := []string{p.Datasource.UID}
			for _, target := range p.Targets {
				uids = append(uids, target.Datasource.UID)
			}
			for _, uid := range uids {
				if uid != "${datasource}" && p.Type != "row" {
					t.Errorf("%s: panel %d asks %q", name, p.ID, uid)
				}
			}
		}
	}
}
