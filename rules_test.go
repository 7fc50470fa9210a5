package guildhall_test

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const module = "github.com/guildhall-dev/guildhall"

// wall forbids a package, and all that it links, to link something.
type wall struct {
	from, to, because string
}

// walls are the walls of the design: services meet on the wire, and each links only what it talks to.
var walls = []wall{
	{"", "/internal", "the words are below everything"},
	{"api/guildhall/v1", "", "the contract stands alone: a client of another program links nothing of ours"},

	{"frontend", "/director", "services never import one another"},
	{"frontend", "/matchfunction", "services never import one another"},
	{"frontend", "/roomserver", "services never import one another"},
	{"director", "/frontend", "services never import one another"},
	{"director", "/matchfunction", "services never import one another"},
	{"director", "/roomserver", "services never import one another"},
	{"matchfunction", "/frontend", "services never import one another"},
	{"matchfunction", "/director", "services never import one another"},
	{"matchfunction", "/roomserver", "services never import one another"},
	{"roomserver", "/frontend", "services never import one another"},
	{"roomserver", "/director", "services never import one another"},
	{"roomserver", "/matchfunction", "services never import one another"},

	{"roomserver", "open-match.dev", "a host knows claims and passes, not tickets"},
	{"frontend", "agones.dev", "a frontend knows tickets and claims, not game servers"},
	{"matchfunction", "agones.dev", "a match function groups tickets"},
	{"matchfunction", "github.com/nats-io", "a match function keeps nothing"},
	{"client", "github.com/nats-io", "players speak to frontends and hosts"},
	{"client", "open-match.dev", "players speak to frontends and hosts"},
	{"client", "agones.dev", "players speak to frontends and hosts"},
	{"client", "github.com/prometheus", "a game links the client: it stays small"},
	{"client", "go.opentelemetry.io/otel/sdk", "a game that traces has an SDK of its own"},
	{"internal/tracing", "go.opentelemetry.io/otel/sdk", "only a process has a collector"},
	{"internal/tracing", "/api", "only the words are below it"},

	{"load", "github.com/nats-io", "whoever measures is a player"},
	{"load", "open-match.dev", "whoever measures is a player"},
	{"load", "agones.dev", "whoever measures is a player"},
	{"load", "/roomserver", "whoever measures is a player"},

	{"frontend", "github.com/nats-io/nats-server", "the server is for one process on a laptop"},
	{"director", "github.com/nats-io/nats-server", "the server is for one process on a laptop"},
	{"roomserver", "github.com/nats-io/nats-server", "the server is for one process on a laptop"},
	{"frontend", "/internal/openmatchlocal", "a stand-in sits behind a socket"},
	{"director", "/internal/openmatchlocal", "a stand-in sits behind a socket"},
	{"director", "/internal/agoneslocal", "a stand-in sits behind a socket"},
	{"roomserver", "/internal/agoneslocal", "a stand-in sits behind a socket"},
	{"internal/openmatchlocal", "/internal", "a stand-in stands for somebody else's program"},
	{"internal/agoneslocal", "/internal", "a stand-in stands for somebody else's program"},
	{"internal/registry", "/frontend", "imports point one way"},
	{"internal/roomlog", "/roomserver", "imports point one way"},
	{"internal/process", "/embedded", "imports point one way"},
	{"embedded", "/cmd", "imports point one way"},
}

// listed is what go list says of a package.
type listed struct {
	ImportPath string
	Deps       []string
}

func TestWalls(t *testing.T) {
	t.Parallel()
	out, err := exec.Command("go", "list", "-deps=false", "-json=ImportPath,Deps", "./...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	deps := map[string][]string{}
	for decoder := json.NewDecoder(strings.NewReader(string(out))); decoder.More(); {
		var l listed
		if err := decoder.Decode(&l); err != nil {
			t.Fatal(err)
		}
		deps[l.ImportPath] = l.Deps
	}
	for _, w := range walls {
		from := strings.TrimSuffix(module+"/"+w.from, "/")
		linked, known := deps[from]
		if !known {
			t.Errorf("the wall of %s stands before no package", from)
			continue
		}
		to := w.to
		if to == "" || strings.HasPrefix(to, "/") {
			to = module + w.to
		}
		for _, dep := range linked {
			if dep != from && (dep == to || strings.HasPrefix(dep, to+"/")) {
				t.Errorf("%s links %s, but %s", from, dep, w.because)
			}
		}
	}
}

func TestOnePackageComment(t *testing.T) {
	t.Parallel()
	comments := map[string]int{}
	err := filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if name := entry.Name(); path != "." && strings.HasPrefix(name, ".") || name == "testdata" || path == "api/openmatch" || path == "api/agones" {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments|parser.PackageClauseOnly)
		if err != nil {
			return err
		}
		count := 0
		if file.Doc != nil && !ast.IsGenerated(file) {
			count = 1
		}
		if strings.HasPrefix(path, "api/") { // generated from protos, whose comments document it
			count = 1
		}
		comments[filepath.Dir(path)] += count
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for folder, count := range comments {
		if count != 1 && !strings.HasPrefix(folder, "api/") {
			t.Errorf("package %s has %d package comments, want one", folder, count)
		}
	}
}

// A test that sleeps is slow where the machine is fast and wrong where it is slow.
func TestNoTestSleeps(t *testing.T) {
	t.Parallel()
	err := filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(node ast.Node) bool {
			if call, ok := node.(*ast.SelectorExpr); ok && call.Sel.Name == "Sleep" {
				if pkg, ok := call.X.(*ast.Ident); ok && pkg.Name == "time" {
					err = errors.Join(err, errors.New(path+" sleeps"))
				}
			}
			return true
		})
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
