package install

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

// The rules that the operator gives to Prometheus are those of the file, whatever stands in them that a template might take
// for its own.
func TestRulesAreTheFile(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("chart/files/rules.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var want any
	if err := yaml.UnmarshalStrict(raw, &want); err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, o := range render(t, "testdata/everything.yaml") {
		if o.Kind != "PrometheusRule" {
			continue
		}
		found++
		var rule struct{ Spec any }
		if err := json.Unmarshal(o.raw, &rule); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(rule.Spec, want) {
			t.Error("the PrometheusRule is not the file")
		}
		if o.Metadata.Labels["release"] != "prometheus" {
			t.Errorf("it has the labels %v", o.Metadata.Labels)
		}
	}
	if found != 1 {
		t.Errorf("there are %d PrometheusRules, want 1", found)
	}
}

// Each dashboard is a ConfigMap that has its file as it is.
func TestDashboardsAreTheFiles(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("chart/files/dashboards/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d dashboards, %v", len(files), err)
	}
	shipped := map[string]string{}
	for _, m := range all[corev1.ConfigMap](t, render(t, "testdata/everything.yaml"), "ConfigMap") {
		if m.Labels["grafana_dashboard"] != "1" || m.Annotations["grafana_folder"] != "Guildhall" {
			t.Errorf("%s has the labels %v and the annotations %v", m.Name, m.Labels, m.Annotations)
		}
		for name, text := range m.Data {
			shipped[name] = text
		}
	}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Base(file)
		if strings.TrimSpace(shipped[name]) != strings.TrimSpace(string(raw)) {
			t.Errorf("the ConfigMap does not have %s as it is", name)
		}
		delete(shipped, name)
	}
	for name := range shipped {
		t.Errorf("%s is shipped, and no file", name)
	}
}

// Who does not ask for them gets neither: without the operator a PrometheusRule is an error.
func TestMonitoringIsAskedFor(t *testing.T) {
	t.Parallel()
	for _, o := range render(t) {
		if o.Kind == "PrometheusRule" || o.Kind == "ConfigMap" || o.Kind == "PodMonitor" {
			t.Errorf("%s is there, and nobody asked for it", o)
		}
	}
}
