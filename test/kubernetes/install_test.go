package kubernetes

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// helmBinary builds helm, as install/go.mod pins it, once.
var helmBinary = sync.OnceValues(func() (string, error) { return goCommand("tool", "-n", "helm") })

// render gives what the chart makes of values files, in the order in which helm installs it.
func render(t *testing.T, files []string) []*unstructured.Unstructured {
	t.Helper()
	binary, err := helmBinary()
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"template", "guildhall", "chart", "--namespace", namespace}
	for _, file := range files {
		args = append(args, "--values", file)
	}
	home := t.TempDir() // nobody's settings
	command := exec.Command(binary, args...)
	command.Dir = install
	command.Env = []string{"HOME=" + home, "PATH=" + os.Getenv("PATH"), "KUBECONFIG=" + filepath.Join(home, "none")}
	var out, failure bytes.Buffer
	command.Stdout, command.Stderr = &out, &failure
	if err := command.Run(); err != nil {
		t.Fatalf("helm %s: %v\n%s", strings.Join(args, " "), err, failure.String())
	}
	var objects []*unstructured.Unstructured
	for manifest := range strings.SplitSeq("\n"+out.String(), "\n---") {
		o := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(manifest), &o.Object); err != nil {
			t.Fatalf("%v in\n%s", err, manifest)
		}
		if len(o.Object) > 0 { // more than comments
			objects = append(objects, o)
		}
	}
	return objects
}

// installation gives what the chart makes of one of the sets of values files.
func installation(t *testing.T, name string) []*unstructured.Unstructured {
	t.Helper()
	about, err := readTested()
	if err != nil {
		t.Fatal(err)
	}
	files, known := about.Installations[name]
	if !known {
		t.Fatalf("there is no installation %q", name)
	}
	return render(t, files)
}

// everyInstallation runs a test for each set of values files, one after the other: their objects have the same names.
func everyInstallation(t *testing.T, test func(t *testing.T, a *api, objects []*unstructured.Unstructured)) {
	t.Helper()
	about, err := readTested()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range slices.Sorted(maps.Keys(about.Installations)) {
		t.Run(name, func(t *testing.T) { test(t, setup(t), render(t, about.Installations[name])) })
	}
}

// install applies what the chart makes, each object dry and then really, until the test ends. A warning is an error.
func (a *api) install(t *testing.T, objects []*unstructured.Unstructured) {
	t.Helper()
	t.Cleanup(func() {
		for _, o := range slices.Backward(objects) {
			if err := a.remove(o); err != nil {
				t.Errorf("removing %s: %v", named(o), err)
			}
		}
	})
	for _, o := range objects {
		if _, err := a.apply(o, metav1.DryRunAll); err != nil {
			t.Errorf("%s, dry: %v", named(o), err)
		}
		if _, err := a.apply(o); err != nil {
			t.Errorf("%s: %v", named(o), err)
		}
		for _, warning := range a.heard.take() {
			t.Errorf("%s: the API server warns: %s", named(o), warning)
		}
	}
}

func named(o *unstructured.Unstructured) string {
	return fmt.Sprintf("%s %s/%s", o.GetKind(), o.GetNamespace(), o.GetName())
}

// The API server takes all that the chart makes, and once more without a change; and its pods.
func TestEveryInstallationIsAccepted(t *testing.T) {
	everyInstallation(t, func(t *testing.T, a *api, objects []*unstructured.Unstructured) {
		a.install(t, objects)
		for _, o := range objects {
			before, err := a.apply(o)
			if err != nil {
				t.Fatal(err)
			}
			after, err := a.apply(o)
			if err != nil {
				t.Fatal(err)
			}
			if before.GetResourceVersion() != after.GetResourceVersion() {
				t.Errorf("%s changes whenever it is applied", named(o))
			}
		}
		found := pods(t, objects)
		if len(found) < 4 {
			t.Errorf("there are %d pods, want those of three services and of the Fleet", len(found))
		}
		for _, pod := range found {
			if err := a.admit(pod); err != nil {
				t.Errorf("%s in %s: %v", pod.GetName(), pod.GetNamespace(), err)
			}
			if warnings := a.heard.take(); len(warnings) > 0 {
				t.Errorf("%s in %s: the API server warns: %v", pod.GetName(), pod.GetNamespace(), warnings)
			}
		}
	})
}

// podsOf are where pods are described, by the kind of who makes them.
var podsOf = map[string][]string{
	"Deployment": {"spec", "template"},
	"Fleet":      {"spec", "template", "spec", "template"},
}

// pods gives the pods that there will be: one for each template. Those of the Fleet as the chart has them, without what Agones
// adds.
func pods(t *testing.T, objects []*unstructured.Unstructured) []*unstructured.Unstructured {
	t.Helper()
	var found []*unstructured.Unstructured
	for _, o := range objects {
		path, makes := podsOf[o.GetKind()]
		if !makes {
			continue
		}
		template, _, err := unstructured.NestedMap(o.Object, path...)
		if err != nil || template == nil {
			t.Fatalf("%s has no template of a pod: %v", named(o), err)
		}
		pod := makeObject("v1", "Pod", o.GetNamespace(), "x", template)
		pod.SetName("the-pod-of-" + strings.ToLower(o.GetKind()) + "-" + o.GetName())
		found = append(found, pod)
	}
	return found
}

// admit creates a pod dry, in its namespace and in one that admits only restricted ones.
func (a *api) admit(pod *unstructured.Unstructured) error {
	if _, err := a.apply(pod, metav1.DryRunAll); err != nil {
		return err
	}
	strict := pod.DeepCopy()
	strict.SetNamespace(namespace)
	unstructured.RemoveNestedField(strict.Object, "spec", "serviceAccountName") // which may not be there
	_, err := a.apply(strict, metav1.DryRunAll)
	return err
}

// What the API server is there for, it finds.
func TestMistakesAreRefused(t *testing.T) {
	a := setup(t)
	objects := installation(t, "everything")
	a.install(t, objects)
	spoiled := map[string]struct{ kind, right, wrong, complaint string }{
		"a field of a Deployment":         {"Deployment", `"readinessProbe"`, `"readynessProbe"`, "field not declared in schema"},
		"a field of a Fleet":              {"Fleet", `"portPolicy"`, `"portpolicy"`, "field not declared in schema"},
		"a value of a Fleet":              {"Fleet", `"Static"`, `"static"`, "Unsupported value"},
		"a field of a FleetAutoscaler":    {"FleetAutoscaler", `"maxReplicas"`, `"maximum"`, "field not declared in schema"},
		"the policy of a FleetAutoscaler": {"FleetAutoscaler", `"type":"Buffer"`, `"type":"Counter"`, "spec.policy"},
		"a field of an HTTPRoute":         {"HTTPRoute", `"backendRefs"`, `"backendRef"`, "field not declared in schema"},
		"a field of an ExternalSecret":    {"ExternalSecret", `"remoteRef"`, `"remote"`, "field not declared in schema"},
		"a field of a PodMonitor":         {"PodMonitor", `"podMetricsEndpoints"`, `"endpoints"`, "field not declared in schema"},
		"a name":                          {"Service", `"name":"lobby"`, `"name":"Lobby"`, "Invalid value"},
	}
	for name, s := range spoiled {
		index := slices.IndexFunc(objects, func(o *unstructured.Unstructured) bool {
			raw, err := json.Marshal(o)
			return err == nil && o.GetKind() == s.kind && bytes.Contains(raw, []byte(s.right))
		})
		if index < 0 {
			t.Errorf("%s: no %s has %s", name, s.kind, s.right)
			continue
		}
		raw, err := json.Marshal(objects[index])
		if err != nil {
			t.Fatal(err)
		}
		o := &unstructured.Unstructured{}
		if err := o.UnmarshalJSON(bytes.ReplaceAll(raw, []byte(s.right), []byte(s.wrong))); err != nil {
			t.Fatal(err)
		}
		if _, err := a.apply(o, metav1.DryRunAll); err == nil || !strings.Contains(err.Error(), s.complaint) {
			t.Errorf("%s: %v, want %q", name, err, s.complaint)
		}
	}
	for name, path := range map[string][]string{
		"a pod with root":             {"spec", "securityContext"},
		"a container with privileges": {"spec", "containers"},
	} {
		pod := pods(t, objects)[0].DeepCopy()
		if path[1] == "containers" {
			containers, _, _ := unstructured.NestedSlice(pod.Object, path...)
			containers[0].(map[string]any)["securityContext"] = map[string]any{"privileged": true}
			_ = unstructured.SetNestedSlice(pod.Object, containers, path...)
		} else {
			_ = unstructured.SetNestedMap(pod.Object, map[string]any{"runAsUser": int64(0)}, path...)
		}
		if err := a.admit(pod); err == nil || !strings.Contains(err.Error(), "PodSecurity") {
			t.Errorf("%s: %v, want it refused by PodSecurity", name, err)
		}
	}
}
