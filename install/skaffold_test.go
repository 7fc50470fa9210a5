package install

import (
	"encoding/json"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/yaml"
)

// skaffoldModule is where Skaffold's own schema of its configuration comes from: Skaffold itself takes too long to build.
const skaffoldModule = "github.com/GoogleContainerTools/skaffold/v2@v2.24.0"

// skaffold is what these tests want to know of a configuration; its own schema has the rest.
type skaffold struct {
	APIVersion string `json:"apiVersion"`
	Metadata   struct{ Name string }
	skaffoldPipeline
	Profiles []skaffoldProfile
}

type skaffoldProfile struct {
	Name string
	skaffoldPipeline
	Patches []struct{ Op, Path string }
}

type skaffoldPipeline struct {
	Build struct {
		Artifacts []skaffoldArtifact
	}
	Manifests struct{ RawYaml []string }
	Deploy    struct {
		Helm struct {
			Hooks struct {
				Before []struct{ Host struct{ Command []string } }
			}
			Releases []skaffoldRelease
		}
	}
	PortForward []struct {
		ResourceType, ResourceName, Namespace string
		Port, LocalPort                       int32
	}
}

type skaffoldArtifact struct {
	Image string
	Ko    struct {
		Main         string
		Dependencies struct{ Paths, Ignore []string }
	}
}

type skaffoldRelease struct {
	Name, Repo, RemoteChart, ChartPath, Namespace string
	ValuesFiles                                   []string
	Wait                                          bool
	SetValues                                     map[string]any
	SetValueTemplates                             map[string]string
}

// skaffoldDocuments gives the configurations of ../skaffold.yaml as JSON.
func skaffoldDocuments(t *testing.T) [][]byte {
	t.Helper()
	raw, err := os.ReadFile("../skaffold.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var documents [][]byte
	for document := range strings.SplitSeq(string(raw), "\n---\n") {
		converted, err := yaml.YAMLToJSONStrict([]byte(document))
		if err != nil {
			t.Fatal(err)
		}
		documents = append(documents, converted)
	}
	return documents
}

// skaffoldConfigs gives the configurations by their names.
func skaffoldConfigs(t *testing.T) map[string]*skaffold {
	t.Helper()
	configs := map[string]*skaffold{}
	for _, document := range skaffoldDocuments(t) {
		var config skaffold
		if err := json.Unmarshal(document, &config); err != nil {
			t.Fatal(err)
		}
		configs[config.Metadata.Name] = &config
	}
	return configs
}

// Skaffold refuses what its schema does not have, and a misspelt key with it.
func TestSkaffoldSchema(t *testing.T) {
	t.Parallel()
	module, err := moduleFolder(skaffoldModule)
	if err != nil {
		t.Fatal(err)
	}
	for _, document := range skaffoldDocuments(t) {
		version := strings.TrimPrefix(skaffoldVersion(t, document), "skaffold/")
		schema, err := jsonschema.NewCompiler().Compile(filepath.Join(module, "docs-v2/content/en/schemas", version+".json"))
		if err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(jsonValue(t, string(document))); err != nil {
			t.Error(err)
		}
		for known, unknown := range map[string]string{`"valuesFiles"`: `"valueFiles"`, `"deploy"`: `"deployment"`} {
			spoiled := strings.Replace(string(document), known, unknown, 1)
			if schema.Validate(jsonValue(t, spoiled)) == nil {
				t.Errorf("%s for %s is valid: the schema finds nothing", unknown, known)
			}
		}
	}
}

func skaffoldVersion(t *testing.T, document []byte) string {
	t.Helper()
	var config skaffold
	if err := json.Unmarshal(document, &config); err != nil {
		t.Fatal(err)
	}
	return config.APIVersion
}

func jsonValue(t *testing.T, text string) any {
	t.Helper()
	value, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return value
}

// What an image is made of is what Skaffold watches: no file less, or a change is not seen; no file more, or it rebuilds what
// has not changed.
func TestSkaffoldWatchesWhatImagesAreMadeOf(t *testing.T) {
	t.Parallel()
	artifacts := skaffoldConfigs(t)["guildhall"].Build.Artifacts
	for _, a := range artifacts {
		name := strings.TrimPrefix(a.Image, "guildhall-")
		if a.Ko.Main != "./cmd/"+name {
			t.Errorf("%s is made of %s, want ./cmd/%s", a.Image, a.Ko.Main, name)
		}
		want := madeOf(t, a.Ko.Main)
		slices.Sort(a.Ko.Dependencies.Paths)
		if !slices.Equal(a.Ko.Dependencies.Paths, want) {
			t.Errorf("%s: skaffold.yaml watches\n%s\nwant\n%s", a.Image, strings.Join(a.Ko.Dependencies.Paths, "\n"), strings.Join(want, "\n"))
		}
		if !slices.Equal(a.Ko.Dependencies.Ignore, []string{"**/*_test.go"}) {
			t.Errorf("%s ignores %q, want the tests", a.Image, a.Ko.Dependencies.Ignore)
		}
		for _, pattern := range want { // one that matches nothing stops Skaffold
			if found, err := filepath.Glob(filepath.Join("..", pattern)); err != nil || len(found) == 0 {
				t.Errorf("%s: %s matches no file (%v)", a.Image, pattern, err)
			}
		}
	}
	if programs, _ := os.ReadDir("../cmd"); len(artifacts) != len(programs) {
		t.Errorf("%d images of %d programs", len(artifacts), len(programs))
	}
}

// madeOf gives patterns of the files that a program of this repository is made of, in order.
func madeOf(t *testing.T, main string) []string {
	t.Helper()
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	listed, err := goCommand("-C", "..", "list", "-deps", "-f", "{{.Dir}}/*.go{{range .EmbedFiles}}\n{{$.Dir}}/{{.}}{{end}}", main)
	if err != nil {
		t.Fatal(err)
	}
	patterns := []string{".ko.yaml", "go.mod", "go.sum"}
	for file := range strings.Lines(listed) {
		file, err := filepath.Rel(root, strings.TrimSpace(file))
		if err != nil || strings.HasPrefix(file, "..") { // of another module
			continue
		}
		patterns = append(patterns, filepath.ToSlash(file))
	}
	slices.Sort(patterns)
	return patterns
}

// What is needed first is installed first: Skaffold installs configurations and releases in order.
func TestSkaffoldInstallsInOrder(t *testing.T) {
	t.Parallel()
	var order []string
	for _, document := range skaffoldDocuments(t) {
		var config skaffold
		if err := json.Unmarshal(document, &config); err != nil {
			t.Fatal(err)
		}
		for _, r := range config.Deploy.Helm.Releases {
			order = append(order, r.Name)
			for _, file := range r.ValuesFiles {
				readValues(t, filepath.Join("..", file))
			}
			if r.RemoteChart != "" && !r.Wait {
				t.Errorf("%s is not waited for, and what comes behind it needs it", r.Name)
			}
			if r.ChartPath != "" && r.ChartPath != "install/chart" {
				t.Errorf("%s is the chart %s", r.Name, r.ChartPath)
			}
			checkReachable(t, r)
		}
	}
	if want := []string{"agones", "open-match", "nats", "guildhall"}; !slices.Equal(order, want) {
		t.Errorf("releases %v, want %v", order, want)
	}
}

// checkReachable sees that a release is in the namespace in which our chart looks for it.
func checkReachable(t *testing.T, r skaffoldRelease) {
	t.Helper()
	ours := readValues(t, "chart/values.yaml")
	if part, is := map[string]string{"agones": "agones", "open-match": "openmatch", "nats": "nats"}[r.Name]; is {
		if where := ours[part].(map[string]any)["namespace"]; r.Namespace != where {
			t.Errorf("%s is in %s, and install/chart looks for it in %v", r.Name, r.Namespace, where)
		}
	}
}

// Each pod gets the image that Skaffold has made for it, with a digest where there is one.
func TestSkaffoldSetsEveryImage(t *testing.T) {
	t.Parallel()
	config := skaffoldConfigs(t)["guildhall"]
	release := config.Deploy.Helm.Releases[0]
	for _, digest := range []string{"", "sha256:" + strings.Repeat("a", 64)} {
		args := withValues([]string{"values/dev.yaml"})
		for key, value := range release.SetValues {
			args = append(args, "--set", key+"="+strings.TrimSpace(string(must(json.Marshal(value)))))
		}
		for _, key := range slices.Sorted(maps.Keys(release.SetValueTemplates)) {
			args = append(args, "--set", key+"="+expandImage(t, config.Build.Artifacts, release.SetValueTemplates[key], digest))
		}
		used := map[string]bool{}
		for _, p := range pods(t, renderWith(t, args...)) {
			name, rest, _ := strings.Cut(strings.TrimPrefix(p.container().Image, "registry.example.com/"), ":")
			used[name] = true
			want := map[string]string{"test": "guildhall"}[p.component()]
			if want == "" {
				want = "guildhall-" + p.component()
			}
			if wanted := strings.TrimSuffix("t@"+digest, "@"); name != want || rest != wanted {
				t.Errorf("%s has the image %s, want %s:%s", p, p.container().Image, want, wanted)
			}
		}
		if len(used) != len(config.Build.Artifacts) {
			t.Errorf("pods use %v of %d images", used, len(config.Build.Artifacts))
		}
	}
}

// expandImage expands the variables of images as Skaffold does.
func expandImage(t *testing.T, artifacts []skaffoldArtifact, template, digest string) string {
	t.Helper()
	for _, a := range artifacts {
		suffix := strings.ReplaceAll(a.Image, "-", "_") + "}}"
		template = strings.ReplaceAll(template, "{{.IMAGE_REPO_"+suffix, "registry.example.com/"+a.Image)
		template = strings.ReplaceAll(template, "{{.IMAGE_TAG_"+suffix, "t")
		template = strings.ReplaceAll(template, "{{.IMAGE_DIGEST_"+suffix, digest)
	}
	if strings.Contains(template, "{{") {
		t.Errorf("%s is of no image", template)
	}
	return strings.TrimSuffix(template, "@")
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func TestSkaffoldForwardsPortsThatAreThere(t *testing.T) {
	t.Parallel()
	config := skaffoldConfigs(t)["guildhall"]
	installed := render(t, config.Deploy.Helm.Releases[0].valuesFiles()...)
	checkForwards(t, installed, config.skaffoldPipeline)
	for _, profile := range config.Profiles {
		for _, file := range profile.Manifests.RawYaml {
			checkForwards(t, standIns(t, file), profile.skaffoldPipeline)
		}
	}
}

func (r skaffoldRelease) valuesFiles() []string {
	var files []string
	for _, file := range r.ValuesFiles {
		files = append(files, strings.TrimPrefix(file, "install/"))
	}
	return files
}

func checkForwards(t *testing.T, r rendered, pipeline skaffoldPipeline) {
	t.Helper()
	if len(pipeline.PortForward) == 0 {
		t.Error("no port is forwarded")
	}
	for _, forward := range pipeline.PortForward {
		there := slices.ContainsFunc(r, func(o *object) bool {
			return strings.EqualFold(o.Kind, forward.ResourceType) && o.Metadata.Name == forward.ResourceName && o.Metadata.Namespace == forward.Namespace
		})
		switch {
		case !there:
			t.Errorf("there is no %s %s/%s", forward.ResourceType, forward.Namespace, forward.ResourceName)
		case forward.ResourceType == "service":
			for _, s := range all[corev1.Service](t, r, "Service") {
				if s.Name == forward.ResourceName && !slices.ContainsFunc(s.Spec.Ports, func(p corev1.ServicePort) bool { return p.Port == forward.Port }) {
					t.Errorf("the Service %s has no port %d", s.Name, forward.Port)
				}
			}
		default:
			for _, d := range all[appsv1.Deployment](t, r, "Deployment") {
				if d.Name == forward.ResourceName && !hasPort(&d.Spec.Template.Spec.Containers[0], intstr.FromInt32(forward.Port)) {
					t.Errorf("the Deployment %s has no port %d", d.Name, forward.Port)
				}
			}
		}
	}
}

// standIns reads the objects of the profile without engines.
func standIns(t *testing.T, file string) rendered {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("..", file))
	if err != nil {
		t.Fatal(err)
	}
	return parse(t, string(raw))
}

// Without engines there is one pod, of an image that is made, with no more rights than the others.
func TestSkaffoldStandIns(t *testing.T) {
	t.Parallel()
	for name, config := range skaffoldConfigs(t) {
		i := slices.IndexFunc(config.Profiles, func(p skaffoldProfile) bool { return p.Name == "stand-ins" })
		if i < 0 {
			t.Fatalf("%s has no profile stand-ins: the engines would be installed", name)
		}
		profile := config.Profiles[i]
		if len(profile.Patches) != 1 || profile.Patches[0].Op != "remove" || profile.Patches[0].Path != "/deploy/helm" {
			t.Errorf("%s: with stand-ins it patches %v, want the releases removed", name, profile.Patches)
		}
		for _, file := range profile.Manifests.RawYaml {
			schemas := schemaFolder(t)
			for _, o := range standIns(t, file) {
				if o.Kind != "Namespace" {
					validate(t, schemas, o.String(), o.raw)
				}
			}
			for _, d := range all[appsv1.Deployment](t, standIns(t, file), "Deployment") {
				checkStandIns(t, &d, profile.Build.Artifacts)
			}
		}
	}
}

func checkStandIns(t *testing.T, d *appsv1.Deployment, artifacts []skaffoldArtifact) {
	t.Helper()
	c := d.Spec.Template.Spec.Containers[0]
	if len(artifacts) != 1 || artifacts[0].Image != c.Image {
		t.Errorf("%s has the image %s, and %v are made", d.Name, c.Image, artifacts)
	}
	p := &pod{"Deployment", d.Name, d.Namespace, d.Spec.Template.Labels, d.Spec.Template.Spec}
	if got := unrestricted(p); !slices.Equal(got, []string{"volume data is no Secret"}) { // it is an empty folder
		t.Errorf("%s: %q", p, got)
	}
	help, err := goCommand("-C", "..", "run", "./cmd/guildhall", c.Args[0], "--help")
	if err != nil {
		t.Fatal(err)
	}
	for _, arg := range c.Args[1:] {
		if strings.HasPrefix(arg, "--") && !strings.Contains(help, arg+"=") {
			t.Errorf("guildhall %s has no %s", c.Args[0], arg)
		}
	}
}

var namespaceInScript = regexp.MustCompile(`for namespace in ([-a-z ]+);`)

// What Skaffold runs before it installs can be run, and makes every namespace that Agones wants to find.
func TestSkaffoldHooks(t *testing.T) {
	t.Parallel()
	for name, config := range skaffoldConfigs(t) {
		if len(config.Deploy.Helm.Hooks.Before) == 0 {
			t.Errorf("%s prepares nothing", name)
		}
		for _, hook := range config.Deploy.Helm.Hooks.Before {
			file := filepath.Join("..", hook.Host.Command[0])
			info, err := os.Stat(file)
			if err != nil || info.Mode()&fs.FileMode(0o111) == 0 {
				t.Errorf("%s cannot be run: %v", file, err)
				continue
			}
			raw, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			made := strings.Fields(namespaceInScript.FindStringSubmatch(string(raw))[1])
			servers := readValues(t, "values/agones.yaml")["gameservers"].(map[string]any)
			for _, wanted := range servers["namespaces"].([]any) {
				if !slices.Contains(made, wanted.(string)) {
					t.Errorf("%s makes %v, and Agones wants %v", file, made, wanted)
				}
			}
		}
	}
}
