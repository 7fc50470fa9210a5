package install

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// stub writes a program of shell, and gives its path.
func stub(t *testing.T, name, script string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, []byte("#!/bin/sh\n"+script), 0o700); err != nil {
		t.Fatal(err)
	}
	return file
}

// run runs a script of this folder, and gives what it prints.
func run(script string, args []string, env ...string) (string, error) {
	command := exec.Command(script, args...)
	command.Env = append(os.Environ(), env...)
	var failure bytes.Buffer
	command.Stderr = &failure
	out, err := command.Output()
	if err != nil {
		err = fmt.Errorf("%s: %w: %s", script, err, failure.String())
	}
	return string(out), err
}

// A program that says what it is told in place of ko, for ko takes minutes: what images.sh prints installs those images.
func TestImagesGoByDigestIntoTheChart(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	told, references := filepath.Join(folder, "told"), filepath.Join(folder, "references")
	ko := stub(t, "ko", `echo "$KO_DOCKER_REPO $*" >>`+told+`
echo "$KO_DOCKER_REPO:1.2.3@sha256:$(echo "$KO_DOCKER_REPO" | sha256sum | cut -c 1-64)"`)
	values, err := run("./images.sh", []string{"push", "registry.example.com/games"}, "KO="+ko, "VERSION=v1.2.3", "REFERENCES="+references)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(folder, "digests.yaml")
	if err := os.WriteFile(file, []byte(values), 0o600); err != nil {
		t.Fatal(err)
	}
	listed := must(os.ReadFile(references))
	said := string(must(os.ReadFile(told)))
	installed := render(t, "values/eks.yaml", file)
	for _, p := range pods(t, installed) {
		image, main := "guildhall-"+p.component(), "./cmd/"+p.component()
		if p.component() == "test" {
			image, main = "guildhall", "./cmd/guildhall"
		}
		repository, _, byDigest := strings.Cut(p.container().Image, "@sha256:")
		if repository != "registry.example.com/games/"+image || !byDigest {
			t.Errorf("%s has the image %s, want %s by its digest", p, p.container().Image, image)
		}
		if !strings.Contains(string(listed), p.container().Image+"\n") {
			t.Errorf("%s is not among the references\n%s", p.container().Image, listed)
		}
		line := ""
		for l := range strings.Lines(said) {
			if strings.HasPrefix(l, repository+" ") {
				line = l
			}
		}
		for _, want := range []string{main + "\n", "--platform=linux/amd64,linux/arm64", "--tags 1.2.3 ", "process.release=v1.2.3"} {
			if !strings.Contains(line, want) {
				t.Errorf("%s: ko is told %q, want %q in it", image, line, want)
			}
		}
	}
}

// A release with some of its images is none.
func TestImagesAllOrNothing(t *testing.T) {
	t.Parallel()
	ko := stub(t, "ko", `case $KO_DOCKER_REPO in *roomserver) exit 1;; esac
echo "$KO_DOCKER_REPO@sha256:0"`)
	out, err := run("./images.sh", []string{"push", "registry.example.com"}, "KO="+ko)
	if err == nil || out != "" {
		t.Errorf("%v, and it printed %q: want an error and nothing", err, out)
	}
}

func TestImagesToFiles(t *testing.T) {
	t.Parallel()
	folder := filepath.Join(t.TempDir(), "images")
	ko := stub(t, "ko", `for flag; do case $flag in --tarball=*) echo "$KO_DOCKER_REPO $*" >"${flag#*=}";; esac; done`)
	if _, err := run("./images.sh", []string{"archive", folder}, "KO="+ko); err != nil {
		t.Fatal(err)
	}
	for _, p := range pods(t, render(t, "values/dev.yaml", "values/kind.yaml")) {
		name, tag, _ := strings.Cut(p.container().Image, ":")
		told, err := os.ReadFile(filepath.Join(folder, name+".tar"))
		if err != nil || !strings.HasPrefix(string(told), name+" ") || !strings.Contains(string(told), "--tags "+tag+" ") {
			t.Errorf("%s: %v; ko is told %q, want the tag %s", p, err, told, tag)
		}
	}
}

func TestImagesSaysHowItIsUsed(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{nil, {"push"}, {"pull", "x"}} {
		if _, err := run("./images.sh", args); err == nil || !strings.Contains(err.Error(), "images.sh push REGISTRY") {
			t.Errorf("images.sh %v: %v, want how it is used", args, err)
		}
	}
}

// The keys that Skaffold's hook makes are one pair, and stay as they are once they are there.
func TestPrepareMakesAPassKey(t *testing.T) {
	t.Parallel()
	cluster := t.TempDir() // a file for each Secret
	kubectl := stub(t, "kubectl", `cd `+cluster+`; echo "$*" >>told
case "$*" in
*"get secret"*) test -e guildhall-pass-key && test -e guildhall-pass-keys ;;
*"create secret generic"*) for a; do case $a in guildhall-*) name=$a;; --from-file=*) cp "${a#*=}" $name;; esac; done ;;
esac`)
	env := []string{"PATH=" + filepath.Dir(kubectl) + ":" + os.Getenv("PATH"), "SKAFFOLD_KUBE_CONTEXT=somewhere"}
	for range 2 {
		if _, err := run("dev/prepare.sh", nil, env...); err != nil {
			t.Fatal(err)
		}
	}
	private := parsePEM(t, filepath.Join(cluster, "guildhall-pass-key"), x509.ParsePKCS8PrivateKey)
	public := parsePEM(t, filepath.Join(cluster, "guildhall-pass-keys"), x509.ParsePKIXPublicKey)
	if key, is := private.(ed25519.PrivateKey); !is || !key.Public().(ed25519.PublicKey).Equal(public) {
		t.Errorf("%T and %T are no pair", private, public)
	}
	told := string(must(os.ReadFile(filepath.Join(cluster, "told"))))
	if made := strings.Count(told, "create secret"); made != 2 {
		t.Errorf("%d Secrets were made, want 2, once:\n%s", made, told)
	}
	for line := range strings.Lines(told) {
		if !strings.HasPrefix(line, "--context somewhere ") {
			t.Errorf("kubectl %s: in whatever context is the current one", line)
		}
	}
}

func parsePEM(t *testing.T, file string, parse func([]byte) (any, error)) any {
	t.Helper()
	block, _ := pem.Decode(must(os.ReadFile(file)))
	if block == nil {
		t.Fatalf("%s is no PEM", file)
	}
	key, err := parse(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return key
}
