// Tests of the Helm chart. This is a module of its own, so that who builds Guildhall does not fetch helm.
package install

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

const (
	release   = "guildhall"
	namespace = "guildhall"
)

// tested is testdata/tested.yaml.
type tested struct {
	Installations map[string][]string
	Definitions   map[string][]string
}

var (
	about         = mustRead("testdata/tested.yaml")
	installations = about.Installations
)

func mustRead(file string) (read tested) {
	raw, err := os.ReadFile(file)
	if err == nil {
		err = yaml.UnmarshalStrict(raw, &read)
	}
	if err != nil {
		panic(err)
	}
	return read
}

// helmBinary builds helm, as go.mod pins it, once.
var helmBinary = sync.OnceValues(func() (string, error) { return goCommand("tool", "-n", "helm") })

// goCommand gives what a go command prints.
func goCommand(args ...string) (string, error) {
	out, err := exec.Command("go", args...).Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return "", fmt.Errorf("go %s: %w: %s", strings.Join(args, " "), err, exit.Stderr)
	}
	return strings.TrimSpace(string(out)), err
}

// helm runs helm where it finds neither a cluster nor anybody's settings.
func helm(t *testing.T, args ...string) (string, error) {
	t.Helper()
	binary, err := helmBinary()
	if err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	command := exec.Command(binary, args...)
	command.Env = []string{"HOME=" + home, "PATH=" + os.Getenv("PATH"), "KUBECONFIG=" + filepath.Join(home, "none")}
	var out, failure bytes.Buffer
	command.Stdout, command.Stderr = &out, &failure
	if err := command.Run(); err != nil {
		return "", fmt.Errorf("helm %s: %w\n%s%s", strings.Join(args, " "), err, failure.String(), out.String())
	}
	return out.String(), nil
}

// template renders a chart.
func template(t *testing.T, chart string, args ...string) (string, error) {
	t.Helper()
	return helm(t, append([]string{"template", release, chart, "--namespace", namespace}, args...)...)
}

func withValues(files []string) []string {
	var args []string
	for _, file := range files {
		args = append(args, "--values", file)
	}
	return args
}

// object is one rendered object.
type object struct {
	metav1.TypeMeta `json:",inline"`
	Metadata        metav1.ObjectMeta `json:"metadata"`
	raw             []byte            // JSON
}

func (o *object) String() string {
	return fmt.Sprintf("%s %s/%s", o.Kind, o.Metadata.Namespace, o.Metadata.Name)
}

// rendered is what the chart makes of values.
type rendered []*object

func render(t *testing.T, files ...string) rendered {
	t.Helper()
	return renderWith(t, withValues(files)...)
}

// renderWith renders the chart with flags, the same ones once.
func renderWith(t *testing.T, args ...string) rendered {
	t.Helper()
	once, _ := renderings.LoadOrStore(strings.Join(args, " "), sync.OnceValues(func() (string, error) {
		return template(t, "chart", args...)
	}))
	out, err := once.(func() (string, error))()
	if err != nil {
		t.Fatal(err)
	}
	return parse(t, out)
}

// renderings holds what helm made, by its flags: helm takes most of the time of these tests.
var renderings sync.Map

func parse(t *testing.T, manifests string) rendered {
	t.Helper()
	var objects rendered
	for manifest := range strings.SplitSeq("\n"+manifests, "\n---") {
		raw, err := yaml.YAMLToJSONStrict([]byte(manifest))
		if err != nil {
			t.Fatalf("%v in\n%s", err, manifest)
		}
		if string(raw) == "null" { // nothing but comments
			continue
		}
		o := &object{raw: raw}
		if err := json.Unmarshal(raw, o); err != nil {
			t.Fatalf("%v in\n%s", err, manifest)
		}
		objects = append(objects, o)
	}
	return objects
}

// all gives the objects of a kind, and fails on a field that the kind does not have.
func all[T any](t *testing.T, r rendered, kind string) []T {
	t.Helper()
	var found []T
	for _, o := range r {
		if o.Kind != kind {
			continue
		}
		var typed T
		decoder := json.NewDecoder(bytes.NewReader(o.raw))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&typed); err != nil {
			t.Errorf("%s: %v", o, err)
		}
		found = append(found, typed)
	}
	return found
}

// fleet is what the tests want to know of Agones' Fleet; schemas/agones.dev has the rest.
type fleet struct {
	Metadata metav1.ObjectMeta `json:"metadata"`
	Spec     struct {
		Replicas           *int `json:"replicas"`
		AllocationOverflow struct {
			Labels map[string]string `json:"labels"`
		} `json:"allocationOverflow"`
		Template struct {
			Spec struct {
				Ports    []fleetPort `json:"ports"`
				Counters map[string]struct {
					Capacity int `json:"capacity"`
				} `json:"counters"`
				Health struct {
					Disabled bool `json:"disabled"`
				} `json:"health"`
				Template corev1.PodTemplateSpec `json:"template"`
			} `json:"spec"`
		} `json:"template"`
	} `json:"spec"`
}

type fleetPort struct {
	Name          string `json:"name"`
	PortPolicy    string `json:"portPolicy"`
	Protocol      string `json:"protocol"`
	ContainerPort int32  `json:"containerPort"`
	HostPort      int32  `json:"hostPort"`
}

// theFleet gives the only Fleet.
func theFleet(t *testing.T, r rendered) *fleet {
	t.Helper()
	for _, o := range r {
		if o.Kind == "Fleet" {
			var f fleet
			if err := json.Unmarshal(o.raw, &f); err != nil {
				t.Fatal(err)
			}
			return &f
		}
	}
	t.Fatal("there is no Fleet")
	return nil
}

// pod is a pod that the chart will have run, and from what.
type pod struct {
	kind, name, namespace string
	labels                map[string]string
	spec                  corev1.PodSpec
}

func (p *pod) String() string { return p.kind + " " + p.name }

// component gives the part that the pod is of.
func (p *pod) component() string { return p.labels["app.kubernetes.io/component"] }

// container gives the container of the part.
func (p *pod) container() *corev1.Container { return &p.spec.Containers[0] }

func pods(t *testing.T, r rendered) []*pod {
	t.Helper()
	var found []*pod
	for _, d := range all[appsv1.Deployment](t, r, "Deployment") {
		found = append(found, &pod{"Deployment", d.Name, d.Namespace, d.Spec.Template.Labels, d.Spec.Template.Spec})
	}
	for _, p := range all[corev1.Pod](t, r, "Pod") {
		found = append(found, &pod{"Pod", p.Name, p.Namespace, p.Labels, p.Spec})
	}
	f := theFleet(t, r)
	template := f.Spec.Template.Spec.Template
	found = append(found, &pod{"Fleet", f.Metadata.Name, f.Metadata.Namespace, template.Labels, template.Spec})
	for _, p := range found {
		if len(p.spec.Containers) != 1 {
			t.Fatalf("%s has %d containers, want one", p, len(p.spec.Containers))
		}
	}
	return found
}

// podOf gives the pod of a part.
func podOf(t *testing.T, r rendered, component string) *pod {
	t.Helper()
	for _, p := range pods(t, r) {
		if p.component() == component {
			return p
		}
	}
	t.Fatalf("there is no pod of %s", component)
	return nil
}

// selects says whether a selector matches labels.
func selects(t *testing.T, selector *metav1.LabelSelector, labels map[string]string) bool {
	t.Helper()
	s, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		t.Fatal(err)
	}
	return s.Matches(labelSet(labels))
}

type labelSet map[string]string

func (l labelSet) Has(label string) bool              { _, has := l[label]; return has }
func (l labelSet) Get(label string) string            { return l[label] }
func (l labelSet) Lookup(label string) (string, bool) { v, has := l[label]; return v, has }

// everyInstallation runs a test for each set of values.
func everyInstallation(t *testing.T, test func(t *testing.T, r rendered)) {
	t.Helper()
	for name, files := range installations {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, render(t, files...))
		})
	}
}
