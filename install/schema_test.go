package install

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/yannh/kubeconform/pkg/validator"
	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

// kubernetesModule has the schemas of Kubernetes' own kinds: what is published as Go modules is fetched and checked as such.
const kubernetesModule = "k8s.io/kubernetes@v1.34.3"

// TestSchemas validates every object, strictly: a field that its kind does not have is an error.
func TestSchemas(t *testing.T) {
	t.Parallel()
	schemas := schemaFolder(t)
	everyInstallation(t, func(t *testing.T, r rendered) {
		for _, o := range r {
			validate(t, schemas, o.String(), o.raw)
		}
		// The pod inside the Fleet, as what Kubernetes has for such.
		template := theFleet(t, r).Spec.Template.Spec.Template
		validate(t, schemas, "the Fleet's pods", podTemplate(t, r, template))
	})
}

// podTemplate gives the Fleet's pod template as an object of its own: as it was rendered, unknown fields and all.
func podTemplate(t *testing.T, r rendered, _ corev1.PodTemplateSpec) []byte {
	t.Helper()
	for _, o := range r {
		if o.Kind != "Fleet" {
			continue
		}
		var f struct {
			Spec struct {
				Template struct {
					Spec struct{ Template json.RawMessage }
				}
			}
		}
		if err := json.Unmarshal(o.raw, &f); err != nil {
			t.Fatal(err)
		}
		return []byte(`{"apiVersion":"v1","kind":"PodTemplate","metadata":{"name":"fleet"},"template":` + string(f.Spec.Template.Spec.Template) + `}`)
	}
	t.Fatal("there is no Fleet")
	return nil
}

func validate(t *testing.T, v validator.Validator, name string, raw []byte) {
	t.Helper()
	for _, complaint := range invalid(v, raw) {
		t.Errorf("%s: %s", name, complaint)
	}
}

// invalid says what is wrong with an object.
func invalid(v validator.Validator, raw []byte) []string {
	var complaints []string
	for _, result := range v.Validate("rendered", io.NopCloser(bytes.NewReader(raw))) {
		if result.Status == validator.Valid {
			continue
		}
		complaints = append(complaints, result.Err.Error())
		for _, e := range result.ValidationErrors {
			complaints = append(complaints, e.Path+": "+e.Msg)
		}
	}
	return complaints
}

// What the schemas are for, they find.
func TestSchemasFindMistakes(t *testing.T) {
	t.Parallel()
	schemas := schemaFolder(t)
	manifests, err := template(t, "chart", "--values", "testdata/everything.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for kind, mistake := range map[string][2]string{
		"Deployment":      {"readinessProbe", "readynessProbe"},
		"Service":         {"targetPort", "targetport"},
		"NetworkPolicy":   {"policyTypes", "policyType"},
		"Fleet":           {"portPolicy", "portpolicy"},
		"FleetAutoscaler": {"maxReplicas", "maximum"},
		"PodMonitor":      {"podMetricsEndpoints", "endpoints"},
		"ServiceMonitor":  {`"endpoints"`, `"podMetricsEndpoints"`},
		"PrometheusRule":  {`"record"`, `"recorded"`},
		"ConfigMap":       {`"data"`, `"date"`},
		"HTTPRoute":       {"backendRefs", "backendRef"},
		"ExternalSecret":  {"remoteRef", "remote"},
		"SecretStore":     {"region", "zone"},
	} {
		found := false
		for _, o := range parse(t, manifests) {
			if o.Kind != kind {
				continue
			}
			spoiled := strings.Replace(string(o.raw), mistake[0], mistake[1], 1)
			if spoiled == string(o.raw) && kind != "Service" {
				t.Errorf("%s has no %s to spoil", o, mistake[0])
			}
			found = found || len(invalid(schemas, []byte(spoiled))) > 0
		}
		if !found {
			t.Errorf("%s with %s for %s is valid", kind, mistake[1], mistake[0])
		}
	}
	fleetPods := strings.Replace(string(podTemplate(t, parse(t, manifests), corev1.PodTemplateSpec{})), "volumeMounts", "volumemounts", 1)
	if len(invalid(schemas, []byte(fleetPods))) == 0 {
		t.Error("a Fleet's pod with volumemounts is valid")
	}
}

// schemaFolder gives a validator that knows every kind of the chart.
func schemaFolder(t *testing.T) validator.Validator {
	t.Helper()
	folder, err := writeSchemas()
	if err != nil {
		t.Fatal(err)
	}
	const layout = "/{{ .Group }}/{{ .ResourceKind }}_{{ .ResourceAPIVersion }}.json"
	v, err := validator.New([]string{folder + layout, "schemas" + layout}, validator.Opts{Strict: true})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// writeSchemas writes the schemas of modules as files, once, in the layout of schemas/.
var writeSchemas = sync.OnceValues(func() (string, error) {
	folder, err := os.MkdirTemp("", "guildhall-schemas-")
	if err != nil {
		return "", err
	}
	temporary = append(temporary, folder)
	if err := writeKubernetes(folder); err != nil {
		return "", err
	}
	for module, files := range about.Definitions {
		published, err := moduleFolder(module)
		if err != nil {
			return "", err
		}
		for _, file := range files {
			if err := writeCRD(folder, filepath.Join(published, file)); err != nil {
				return "", err
			}
		}
	}
	return folder, nil
})

// temporary are folders that go with the tests.
var temporary []string

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		for _, folder := range temporary {
			os.RemoveAll(folder)
		}
		os.Exit(code)
	}))
}

// moduleFolder fetches a module, unless it is there already.
func moduleFolder(module string) (string, error) {
	out, err := goCommand("mod", "download", "-json", module)
	if err != nil {
		return "", err
	}
	var downloaded struct{ Dir string }
	err = json.Unmarshal([]byte(out), &downloaded)
	return downloaded.Dir, err
}

// writeKubernetes writes the schemas of Kubernetes' own kinds that the chart may have.
func writeKubernetes(folder string) error {
	module, err := moduleFolder(kubernetesModule)
	if err != nil {
		return err
	}
	for file, kinds := range map[string][]string{
		"api__v1":                             {"Service", "ServiceAccount", "Pod", "PodTemplate", "ConfigMap", "Secret"},
		"apis__apps__v1":                      {"Deployment"},
		"apis__policy__v1":                    {"PodDisruptionBudget"},
		"apis__networking.k8s.io__v1":         {"NetworkPolicy", "Ingress"},
		"apis__scheduling.k8s.io__v1":         {"PriorityClass"},
		"apis__rbac.authorization.k8s.io__v1": {"Role", "RoleBinding"},
	} {
		raw, err := os.ReadFile(filepath.Join(module, "api/openapi-spec/v3", file+"_openapi.json"))
		if err != nil {
			return err
		}
		var document struct {
			Components struct{ Schemas map[string]any }
		}
		if err := json.Unmarshal([]byte(strings.ReplaceAll(string(raw), "#/components/schemas/", "#/definitions/")), &document); err != nil {
			return err
		}
		parts := strings.Split(file, "__")
		group, version := "", parts[len(parts)-1]
		if len(parts) == 3 {
			group = parts[1]
		}
		forbidUnknown(document.Components.Schemas)
		for _, kind := range kinds {
			if err := writeKind(folder, group, version, kind, document.Components.Schemas); err != nil {
				return err
			}
		}
	}
	return nil
}

// writeKind writes the schema of one kind, with all that it refers to.
func writeKind(folder, group, version, kind string, definitions map[string]any) error {
	for name, definition := range definitions {
		known, _ := definition.(map[string]any)["x-kubernetes-group-version-kind"].([]any)
		for _, gvk := range known {
			gvk, _ := gvk.(map[string]any)
			if gvk["group"] == group && gvk["version"] == version && gvk["kind"] == kind {
				return writeSchema(folder, group, version, kind, map[string]any{"$ref": "#/definitions/" + name, "definitions": definitions})
			}
		}
	}
	return os.ErrNotExist
}

func writeSchema(folder, group, version, kind string, schema any) error {
	raw, err := json.Marshal(schema)
	if err != nil {
		return err
	}
	if group == "" { // kubeconform calls the group of core kinds by their version
		group = version
	}
	file := filepath.Join(folder, group, strings.ToLower(kind)+"_"+version+".json")
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	return os.WriteFile(file, raw, 0o600)
}

// writeCRD writes the schemas of a CustomResourceDefinition's versions.
func writeCRD(folder, file string) error {
	raw, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	return writeCRDs(folder, raw)
}

func writeCRDs(folder string, manifest []byte) error {
	var crd struct {
		Spec struct {
			Group    string
			Names    struct{ Kind string }
			Versions []struct {
				Name   string
				Schema struct{ OpenAPIV3Schema map[string]any }
			}
		}
	}
	if err := yaml.Unmarshal(manifest, &crd); err != nil {
		return err
	}
	for _, version := range crd.Spec.Versions {
		schema := version.Schema.OpenAPIV3Schema
		properties, _ := schema["properties"].(map[string]any)
		for _, name := range []string{"apiVersion", "kind", "metadata"} { // Agones leaves out what every object has
			if _, has := properties[name]; !has {
				properties[name] = map[string]any{}
			}
		}
		forbidUnknown(schema)
		if err := writeSchema(folder, crd.Spec.Group, version.Name, crd.Spec.Names.Kind, schema); err != nil {
			return err
		}
	}
	return nil
}

// forbidUnknown makes schemas strict: an object that lists its fields has no others.
func forbidUnknown(schema any) {
	switch schema := schema.(type) {
	case map[string]any:
		for _, below := range schema {
			forbidUnknown(below)
		}
		properties, lists := schema["properties"].(map[string]any)
		_, open := schema["additionalProperties"]
		_, free := schema["x-kubernetes-preserve-unknown-fields"]
		if _, typed := schema["type"].(string); lists && typed && !open && !free && len(properties) > 0 {
			schema["additionalProperties"] = false
		}
		if intOrString, _ := schema["x-kubernetes-int-or-string"].(bool); intOrString {
			delete(schema, "type")
		}
		if schema["nullable"] == true {
			if kind, typed := schema["type"].(string); typed {
				schema["type"] = []any{kind, "null"}
			}
		}
	case []any:
		for _, below := range schema {
			forbidUnknown(below)
		}
	}
}
