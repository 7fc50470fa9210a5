package kubernetes

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"
)

// install is the folder of the chart.
const install = "../../install"

// tested is install/testdata/tested.yaml.
type tested struct {
	Installations map[string][]string
	Definitions   map[string][]string
}

func readTested() (*tested, error) {
	raw, err := os.ReadFile(filepath.Join(install, "testdata/tested.yaml"))
	if err != nil {
		return nil, err
	}
	read := &tested{}
	return read, yaml.UnmarshalStrict(raw, read)
}

// goCommand gives what a go command prints in the folder of the chart.
func goCommand(args ...string) (string, error) {
	out, err := exec.Command("go", append([]string{"-C", install}, args...)...).Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return "", fmt.Errorf("go %s: %w: %s", strings.Join(args, " "), err, exit.Stderr)
	}
	return strings.TrimSpace(string(out)), err
}

// allDefinitions gives a CustomResourceDefinition for each kind that the chart uses and Kubernetes does not have: those
// that are published, and those made of install/schemas.
func allDefinitions() ([]*unstructured.Unstructured, error) {
	about, err := readTested()
	if err != nil {
		return nil, err
	}
	var all []*unstructured.Unstructured
	for module, files := range about.Definitions {
		published, err := readModule(module, files)
		if err != nil {
			return nil, err
		}
		all = append(all, published...)
	}
	files, err := filepath.Glob(filepath.Join(install, "schemas/*/*.json"))
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		ours, err := readSchema(file)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		all = append(all, ours)
	}
	// The chart makes none, but accounts must not reach them.
	gameServer := definition(schema.GroupVersionKind{Group: "agones.dev", Version: "v1", Kind: "GameServer"}, map[string]any{
		"type": "object", "x-kubernetes-preserve-unknown-fields": true,
	})
	return append(all, gameServer), nil
}

func readModule(module string, files []string) ([]*unstructured.Unstructured, error) {
	out, err := goCommand("mod", "download", "-json", module)
	if err != nil {
		return nil, err
	}
	var downloaded struct{ Dir string }
	if err := json.Unmarshal([]byte(out), &downloaded); err != nil {
		return nil, err
	}
	var all []*unstructured.Unstructured
	for _, file := range files {
		raw, err := os.ReadFile(filepath.Join(downloaded.Dir, file))
		if err != nil {
			return nil, err
		}
		read := &unstructured.Unstructured{}
		if err := yaml.Unmarshal(raw, &read.Object); err != nil {
			return nil, err
		}
		all = append(all, read)
	}
	return all, nil
}

// readSchema makes a definition of a schema of ours, whose path is GROUP/KIND_VERSION.json.
func readSchema(file string) (*unstructured.Unstructured, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var read map[string]any
	if err := json.Unmarshal(raw, &read); err != nil {
		return nil, err
	}
	_, version, _ := strings.Cut(strings.TrimSuffix(filepath.Base(file), ".json"), "_")
	properties, _ := read["properties"].(map[string]any)
	named, _ := properties["kind"].(map[string]any)
	kind, _ := named["const"].(string)
	definitions, _ := read["$defs"].(map[string]any)
	root := structural(read, definitions)
	fields, _ := root["properties"].(map[string]any)
	fields["metadata"] = map[string]any{"type": "object"} // what is in there is Kubernetes' own to say
	return definition(schema.GroupVersionKind{Group: filepath.Base(filepath.Dir(file)), Version: version, Kind: kind}, root), nil
}

// definition gives a CustomResourceDefinition of one version.
func definition(kind schema.GroupVersionKind, root map[string]any) *unstructured.Unstructured {
	singular := strings.ToLower(kind.Kind)
	return makeObject("apiextensions.k8s.io/v1", "CustomResourceDefinition", "", singular+"s."+kind.Group, map[string]any{
		"spec": map[string]any{
			"group": kind.Group, "scope": "Namespaced",
			"names": map[string]any{"kind": kind.Kind, "listKind": kind.Kind + "List", "plural": singular + "s", "singular": singular},
			"versions": []any{map[string]any{
				"name": kind.Version, "served": true, "storage": true, "schema": map[string]any{"openAPIV3Schema": root},
			}},
		},
	})
}

// structural writes a JSON schema as Kubernetes wants those of a CustomResourceDefinition: without references, with one type
// for each value, and with what a value may be beside what it is. Fields that are not listed are unknown there anyway.
func structural(from any, definitions map[string]any) map[string]any {
	schema, _ := from.(map[string]any)
	if reference, ok := schema["$ref"].(string); ok {
		return structural(definitions[strings.TrimPrefix(reference, "#/$defs/")], definitions)
	}
	to := map[string]any{}
	for word, value := range schema {
		switch word {
		case "properties":
			fields := map[string]any{}
			for name, field := range value.(map[string]any) {
				fields[name] = structural(field, definitions)
			}
			to[word] = fields
		case "items":
			to[word] = structural(value, definitions)
		case "additionalProperties":
			if value != false {
				to[word] = structural(value, definitions)
			}
		case "const":
			to["type"], to["enum"] = "string", []any{value}
		case "enum":
			to["type"], to[word] = "string", value
		case "type":
			to["type"] = value
			if several, ok := value.([]any); ok { // [TYPE, "null"]
				to["type"], to["nullable"] = several[0], true
			}
		case "anyOf": // an integer, or a text of percent
			to["x-kubernetes-int-or-string"] = true
		case "oneOf":
			merge(to, value.([]any), definitions)
		case "$defs":
		default:
			to[word] = value
		}
	}
	if to["type"] == "object" && to["properties"] == nil && to["additionalProperties"] == nil {
		to["x-kubernetes-preserve-unknown-fields"] = true
	}
	return to
}

// merge writes alternatives as one object with the fields of all, of which one set must be there.
func merge(to map[string]any, alternatives []any, definitions map[string]any) {
	fields, kinds := map[string]any{}, []any{}
	var sets []any
	for _, alternative := range alternatives {
		one := structural(alternative, definitions)
		properties := one["properties"].(map[string]any)
		for name, field := range properties {
			fields[name] = field
		}
		kind := properties["type"].(map[string]any)["enum"]
		kinds = append(kinds, kind.([]any)...)
		sets = append(sets, map[string]any{
			"required": one["required"], "properties": map[string]any{"type": map[string]any{"enum": kind}},
		})
	}
	fields["type"] = map[string]any{"type": "string", "enum": kinds}
	to["type"], to["properties"], to["oneOf"] = "object", fields, sets
}

// served waits until all kinds are served.
func (a *api) served(definitions []*unstructured.Unstructured) error {
	return eventually(a.ctx, func() error {
		for _, d := range definitions {
			group, _, _ := unstructured.NestedString(d.Object, "spec", "group")
			plural, _, _ := unstructured.NestedString(d.Object, "spec", "names", "plural")
			versions, _, _ := unstructured.NestedSlice(d.Object, "spec", "versions")
			for _, version := range versions {
				name, _ := version.(map[string]any)["name"].(string)
				found, err := a.typed.Discovery().ServerResourcesForGroupVersion(group + "/" + name)
				if err != nil {
					return err
				}
				if !slices.ContainsFunc(found.APIResources, func(r metav1.APIResource) bool { return r.Name == plural }) {
					return fmt.Errorf("%s is not served", d.GetName())
				}
			}
		}
		return nil
	})
}

func TestStructural(t *testing.T) {
	t.Parallel()
	read := func(text string) (value map[string]any) {
		if err := json.Unmarshal([]byte(text), &value); err != nil {
			t.Fatal(err)
		}
		return value
	}
	definitions := read(`{"port": {"type": "integer", "maximum": 65535}}`)
	for from, want := range map[string]string{
		`{"$ref": "#/$defs/port"}`:                   `{"type": "integer", "maximum": 65535}`,
		`{"const": "a"}`:                             `{"type": "string", "enum": ["a"]}`,
		`{"enum": ["a", "b"]}`:                       `{"type": "string", "enum": ["a", "b"]}`,
		`{"type": ["string", "null"]}`:               `{"type": "string", "nullable": true}`,
		`{"anyOf": [{"type": "integer"}]}`:           `{"x-kubernetes-int-or-string": true}`,
		`{"type": "object"}`:                         `{"type": "object", "x-kubernetes-preserve-unknown-fields": true}`,
		`{"type": "array", "items": {"const": "a"}}`: `{"type": "array", "items": {"type": "string", "enum": ["a"]}}`,
		`{"type": "object", "additionalProperties": {"$ref": "#/$defs/port"}}`:                                          `{"type": "object", "additionalProperties": {"type": "integer", "maximum": 65535}}`,
		`{"type": "object", "additionalProperties": false, "required": ["a"], "properties": {"a": {"type": "string"}}}`: `{"type": "object", "required": ["a"], "properties": {"a": {"type": "string"}}}`,
	} {
		if got := structural(read(from), definitions); !reflect.DeepEqual(got, read(want)) {
			t.Errorf("%s becomes %v, want %s", from, got, want)
		}
	}
}
