package install

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// ours are the workflows and actions of this repository.
func workflowFiles(t *testing.T) []string {
	t.Helper()
	files := must(filepath.Glob("../.github/*/*.yml"))
	files = append(files, must(filepath.Glob("../.github/actions/*/action.yml"))...)
	if len(files) < 3 {
		t.Fatalf("only %v were found", files)
	}
	return files
}

var (
	uses   = regexp.MustCompile(`(?m)uses: *(\S+)(.*)$`)
	pinned = regexp.MustCompile(`^[\w-]+/[\w./-]+@[0-9a-f]{40}$`)
	tagged = regexp.MustCompile(`^ # v\d+\.\d+\.\d+$`)
)

// A tag of somebody else's repository may be something else tomorrow, with our rights.
func TestActionsAreCommits(t *testing.T) {
	t.Parallel()
	versions := map[string]string{}
	for _, file := range workflowFiles(t) {
		for _, m := range uses.FindAllStringSubmatch(string(must(os.ReadFile(file))), -1) {
			if strings.HasPrefix(m[1], "./") {
				if _, err := os.Stat(filepath.Join("..", m[1])); err != nil {
					t.Errorf("%s uses %s: %v", file, m[1], err)
				}
				continue
			}
			if !pinned.MatchString(m[1]) || !tagged.MatchString(m[2]) {
				t.Errorf("%s uses %s%s, want a commit and behind it the version", file, m[1], m[2])
			}
			name, _, _ := strings.Cut(m[1], "@")
			if other := versions[name]; other != "" && other != m[1]+m[2] {
				t.Errorf("%s is used as %s and as %s%s", name, other, m[1], m[2])
			}
			versions[name] = m[1] + m[2]
		}
	}
}

// A workflow has no right that it does not name, and none but the release writes anything.
func TestWorkflowsHaveFewRights(t *testing.T) {
	t.Parallel()
	for _, file := range must(filepath.Glob("../.github/workflows/*.yml")) {
		var workflow struct {
			Permissions map[string]string `json:"permissions"`
			Concurrency map[string]any    `json:"concurrency"`
			Jobs        map[string]struct {
				Permissions    map[string]string `json:"permissions"`
				TimeoutMinutes int               `json:"timeout-minutes"`
				Uses           string            `json:"uses"`
			} `json:"jobs"`
		}
		if err := yaml.Unmarshal(must(os.ReadFile(file)), &workflow); err != nil {
			t.Fatal(err)
		}
		if workflow.Permissions == nil || workflow.Concurrency == nil {
			t.Errorf("%s leaves its permissions or its concurrency to GitHub", file)
		}
		for _, right := range workflow.Permissions {
			if right == "write" {
				t.Errorf("%s writes, in all of its jobs", file)
			}
		}
		for name, job := range workflow.Jobs {
			if job.TimeoutMinutes == 0 && job.Uses == "" {
				t.Errorf("%s: %s may run for six hours", file, name)
			}
			for what, right := range job.Permissions {
				if right == "write" && filepath.Base(file) != "release.yml" || right == "write" && what == "contents" && name != "notes" {
					t.Errorf("%s: %s writes %s", file, name, what)
				}
			}
		}
	}
}

func TestReleaseNotes(t *testing.T) {
	t.Parallel()
	changelog := string(must(os.ReadFile("../CHANGELOG.md")))
	for heading := range strings.Lines(changelog) {
		version, is := strings.CutPrefix(strings.TrimSpace(heading), "## [")
		if !is {
			continue
		}
		version, _, _ = strings.Cut(version, "]")
		notes, err := run("../.github/release-notes.sh", []string{version})
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(notes, "### ") || strings.Contains(notes, "\n## ") || !strings.Contains(changelog, notes) {
			t.Errorf("the notes of %s are\n%s", version, notes)
		}
	}
	if _, err := run("../.github/release-notes.sh", []string{"v987.0.0"}); err == nil || !strings.Contains(err.Error(), "no section") {
		t.Errorf("a version that nobody wrote about: %v, want an error", err)
	}
}

var scriptInCommand = regexp.MustCompile(`\b((?:install|\.github)/[\w./-]+\.sh)\b`)

// CodeBuild takes any key and runs nothing of one that it does not know.
func TestBuildspec(t *testing.T) {
	t.Parallel()
	type phase struct {
		RuntimeVersions map[string]string `json:"runtime-versions"`
		Commands        []string          `json:"commands"`
	}
	var spec struct {
		Version float64 `json:"version"`
		Env     struct {
			Shell     string            `json:"shell"`
			Variables map[string]string `json:"variables"`
		} `json:"env"`
		Phases struct {
			Install   phase `json:"install"`
			PreBuild  phase `json:"pre_build"`
			Build     phase `json:"build"`
			PostBuild phase `json:"post_build"`
		} `json:"phases"`
		Artifacts struct {
			Files []string `json:"files"`
		} `json:"artifacts"`
	}
	if err := yaml.UnmarshalStrict(must(os.ReadFile("aws/buildspec.yml")), &spec); err != nil {
		t.Fatal(err)
	}
	if spec.Version != 0.2 || spec.Env.Shell != "bash" {
		t.Errorf("version %v with the shell %s: before 0.2 each command has a shell of its own", spec.Version, spec.Env.Shell)
	}
	var all []string
	for name, p := range map[string]phase{"pre_build": spec.Phases.PreBuild, "build": spec.Phases.Build, "post_build": spec.Phases.PostBuild} {
		if len(p.Commands) == 0 {
			t.Errorf("%s does nothing", name)
		}
		all = append(all, p.Commands...)
	}
	scripts := scriptInCommand.FindAllString(strings.Join(all, "\n"), -1)
	for _, script := range scripts {
		if info, err := os.Stat(filepath.Join("..", script)); err != nil || info.Mode()&0o111 == 0 {
			t.Errorf("%s cannot be run: %v", script, err)
		}
	}
	if len(scripts) == 0 || spec.Phases.Install.RuntimeVersions["golang"] == "" || len(spec.Artifacts.Files) == 0 {
		t.Error("it makes no images, has no Go or keeps nothing")
	}
}

// The base of the images cannot change under a tag.
func TestBaseImageByDigest(t *testing.T) {
	t.Parallel()
	base, _ := readValues(t, "../.ko.yaml")["defaultBaseImage"].(string)
	if !regexp.MustCompile(`^\S+:nonroot@sha256:[0-9a-f]{64}$`).MatchString(base) {
		t.Errorf("the base image is %q, want one without root, by its digest", base)
	}
}
