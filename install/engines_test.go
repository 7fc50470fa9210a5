package install

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/yannh/kubeconform/pkg/validator"
)

// chartOf gives the folder of somebody else's chart, which the environment names: they are fetched from chart
// repositories, which is not for a test to do.
func chartOf(t *testing.T, variable string) string {
	t.Helper()
	folder := os.Getenv(variable)
	if folder == "" {
		t.Skipf("%s is not set: the folder of the chart that install/values is for", variable)
	}
	return folder
}

// checkKnown is an error for a value of ours that the chart's own values do not have: helm itself takes anything.
func checkKnown(t *testing.T, path string, ours, theirs any, free func(path string) bool) {
	t.Helper()
	mine, isMap := ours.(map[string]any)
	known, _ := theirs.(map[string]any)
	if !isMap || free(path) {
		return
	}
	for _, key := range slices.Sorted(maps.Keys(mine)) {
		below := strings.TrimPrefix(path+"."+key, ".")
		if _, has := known[key]; !has {
			t.Errorf("%s is no value of that chart", below)
			continue
		}
		checkKnown(t, below, mine[key], known[key], free)
	}
}

func readValues(t *testing.T, file string) map[string]any {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var values map[string]any
	if err := yaml.UnmarshalStrict(raw, &values); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return values
}

// TestAgones holds install/values/agones.yaml and the Fleet to the chart of Agones.
func TestAgones(t *testing.T) {
	t.Parallel()
	chart := chartOf(t, "GUILDHALL_TEST_AGONES_CHART")
	checkKnown(t, "", readValues(t, "values/agones.yaml"), readValues(t, filepath.Join(chart, "values.yaml")), func(string) bool { return false })
	out, err := helm(t, "template", "agones", chart, "--namespace", "agones-system", "--values", "values/agones.yaml")
	if err != nil {
		t.Fatal(err)
	}
	agones := parse(t, out)
	checkReached(t, agones, "agones-allocator", 443, podOf(t, render(t), "director"), "GUILDHALL_AGONES_ALLOCATOR", "agones-system")
	allocator := place{name: "allocator", namespace: "agones-system", labels: podLabels(t, agones, "agones-allocator")}
	if !selectsAll(allocator.labels, stringMap(readValues(t, "chart/values.yaml")["agones"].(map[string]any)["allocatorPodLabels"])) {
		t.Errorf("the allocator's pods have the labels %v", allocator.labels)
	}

	folder := t.TempDir()
	for _, o := range agones {
		if o.Kind == "CustomResourceDefinition" {
			if err := writeCRDs(folder, o.raw); err != nil {
				t.Fatal(err)
			}
		}
	}
	crds, err := validator.New([]string{folder + "/{{ .Group }}/{{ .ResourceKind }}_{{ .ResourceAPIVersion }}.json"}, validator.Opts{Strict: true})
	if err != nil {
		t.Fatal(err)
	}
	everyInstallation(t, func(t *testing.T, r rendered) {
		for _, o := range r {
			if strings.HasSuffix(o.APIVersion, "agones.dev/v1") {
				validate(t, crds, o.String(), o.raw)
			}
		}
	})
}

// TestNATS holds install/values/nats.yaml to the official chart.
func TestNATS(t *testing.T) {
	t.Parallel()
	chart := chartOf(t, "GUILDHALL_TEST_NATS_CHART")
	for _, files := range [][]string{{"values/nats.yaml"}, {"values/nats.yaml", "values/nats-dev.yaml"}} {
		for _, file := range files {
			checkKnown(t, "", readValues(t, file), readValues(t, filepath.Join(chart, "values.yaml")), func(path string) bool {
				return strings.HasSuffix(path, ".merge") || strings.HasSuffix(path, ".env") || path == "podTemplate.topologySpreadConstraints"
			})
		}
		out, err := helm(t, append([]string{"template", "nats", chart, "--namespace", "nats"}, withValues(files)...)...)
		if err != nil {
			t.Fatal(err)
		}
		nats := parse(t, out)
		checkReached(t, nats, "nats", 4222, podOf(t, render(t), "frontend"), "GUILDHALL_NATS", "nats")
		for _, s := range all[appsv1.StatefulSet](t, nats, "StatefulSet") {
			labels := stringMap(readValues(t, "chart/values.yaml")["nats"].(map[string]any)["podLabels"])
			if !selectsAll(s.Spec.Template.Labels, labels) {
				t.Errorf("NATS' pods have the labels %v, want %v", s.Spec.Template.Labels, labels)
			}
			if server := s.Spec.Template.Spec.Containers[0]; server.Resources.Limits.Memory().IsZero() {
				t.Error("NATS has no memory limit")
			}
			want := int32(3)
			if len(files) == 2 {
				want = 1
			}
			if *s.Spec.Replicas != want {
				t.Errorf("%v: %d nodes, want %d", files, *s.Spec.Replicas, want)
			}
		}
	}
}

// TestOpenMatch holds install/values/open-match.yaml to the chart of Open Match. Its Redis is a chart of its own, which a
// checkout does not have: it is left out here.
func TestOpenMatch(t *testing.T) {
	t.Parallel()
	chart := withoutRedis(t, chartOf(t, "GUILDHALL_TEST_OPENMATCH_CHART"))
	checkKnown(t, "", readValues(t, "values/open-match.yaml"), readValues(t, filepath.Join(chart, "values.yaml")), func(path string) bool {
		return path == "redis" || path == "open-match-customize" // of charts of their own
	})
	out, err := helm(t, "template", "open-match", chart, "--namespace", "open-match", "--values", "values/open-match.yaml",
		"--set", "open-match-core.redis.enabled=false,open-match-core.redis.hostname=redis")
	if err != nil {
		t.Fatal(err)
	}
	openmatch := parse(t, out)
	r := render(t)
	for _, c := range []struct {
		service, part, variable string
		port                    int32
	}{
		{"open-match-frontend", "frontend", "GUILDHALL_OPENMATCH_FRONTEND", 50504},
		{"open-match-frontend", "director", "GUILDHALL_OPENMATCH_FRONTEND", 50504},
		{"open-match-backend", "director", "GUILDHALL_OPENMATCH_BACKEND", 50505},
		{"open-match-query", "matchfunction", "GUILDHALL_OPENMATCH_QUERY", 50503},
	} {
		checkReached(t, openmatch, c.service, c.port, podOf(t, r, c.part), c.variable, "open-match")
		component := strings.TrimPrefix(c.service, "open-match-")
		if labels := podLabels(t, openmatch, c.service); !selectsAll(labels, map[string]string{"app": "open-match", "component": component}) {
			t.Errorf("the pods of %s have the labels %v", c.service, labels)
		}
	}
	// A pod of Open Match waits for ever for a ConfigMap that is not there.
	for _, d := range all[appsv1.Deployment](t, openmatch, "Deployment") {
		for _, v := range d.Spec.Template.Spec.Volumes {
			if v.ConfigMap != nil && !slices.ContainsFunc(openmatch, func(o *object) bool {
				return o.Kind == "ConfigMap" && o.Metadata.Name == v.ConfigMap.Name
			}) {
				t.Errorf("%s mounts %s, which is not there", d.Name, v.ConfigMap.Name)
			}
		}
	}
	for _, config := range all[corev1.ConfigMap](t, openmatch, "ConfigMap") {
		for file, text := range config.Data {
			if strings.Contains(file, "override") && !strings.Contains(text, "registrationInterval:  20ms") {
				t.Errorf("%s says\n%s", file, text)
			}
		}
	}
}

// withoutRedis copies the chart of Open Match, and leaves its dependency on Redis out.
func withoutRedis(t *testing.T, chart string) string {
	t.Helper()
	copied := t.TempDir()
	if err := os.CopyFS(copied, os.DirFS(chart)); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(filepath.Join(copied, "charts"), os.DirFS(filepath.Join(chart, "subcharts"))); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(copied, "Chart.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	without := regexp.MustCompile(`(?m)^  - name: redis\n(    .*\n)+`).ReplaceAll(raw, nil)
	if err := os.WriteFile(filepath.Join(copied, "Chart.yaml"), without, 0o600); err != nil {
		t.Fatal(err)
	}
	return copied
}

// checkReached sees that a part is given the address of a Service that is there.
func checkReached(t *testing.T, r rendered, service string, port int32, p *pod, variable, namespace string) {
	t.Helper()
	if address := environment(p)[variable]; !strings.Contains(address, service+"."+namespace+".svc.cluster.local:") {
		t.Errorf("%s: %s=%s, want the Service %s", p, variable, address, service)
	}
	for _, s := range all[corev1.Service](t, r, "Service") {
		if s.Name == service && slices.ContainsFunc(s.Spec.Ports, func(p corev1.ServicePort) bool { return p.Port == port }) {
			return
		}
	}
	t.Errorf("there is no Service %s with the port %d", service, port)
}

func podLabels(t *testing.T, r rendered, deployment string) map[string]string {
	t.Helper()
	for _, d := range all[appsv1.Deployment](t, r, "Deployment") {
		if d.Name == deployment {
			return d.Spec.Template.Labels
		}
	}
	t.Fatalf("there is no Deployment %s", deployment)
	return nil
}

func selectsAll(labels, wanted map[string]string) bool {
	for key, value := range wanted {
		if labels[key] != value {
			return false
		}
	}
	return true
}

func stringMap(value any) map[string]string {
	raw, _ := json.Marshal(value)
	var m map[string]string
	_ = json.Unmarshal(raw, &m)
	return m
}
