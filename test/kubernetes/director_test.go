package kubernetes

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/guildhall-dev/guildhall"
	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
	"github.com/guildhall-dev/guildhall/api/guildhall/v1/guildhallv1connect"
	"github.com/guildhall-dev/guildhall/client"
	"github.com/guildhall-dev/guildhall/director"
	"github.com/guildhall-dev/guildhall/embedded"
	"github.com/guildhall-dev/guildhall/internal/agoneslocal"
	"github.com/guildhall-dev/guildhall/internal/brokerlocal"
	"github.com/guildhall-dev/guildhall/internal/certtest"
	"github.com/guildhall-dev/guildhall/internal/pass"
	"github.com/guildhall-dev/guildhall/internal/process"
	"github.com/guildhall-dev/guildhall/roomserver"
)

const fleet = "guildhall-rooms"

// town is all of Guildhall, with a director that allocates hosts by the API server, as the account of the chart.
type town struct {
	*api
	t      *testing.T
	stack  *embedded.Stack
	agones *agoneslocal.Server
	files  *certtest.Volume
	said   chan string // what the director warns of
}

// setupTown installs the chart, and starts Guildhall beside the cluster, with a token for the director.
func setupTown(t *testing.T, token func(a *api) string) *town {
	t.Helper()
	w := &town{api: setup(t), t: t, said: make(chan string, 1000)}
	w.install(t, installation(t, "kubernetes"))
	w.files = certtest.Mount(t, map[string][]byte{"token": []byte(token(w.api)), "ca.crt": w.ca})

	nats, err := brokerlocal.Start(brokerlocal.Config{Folder: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nats.Stop)
	private, public := filepath.Join(t.TempDir(), "pass.pem"), filepath.Join(t.TempDir(), "pass-keys.pem")
	key, err := pass.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	if err := pass.SaveKeyPair(key, private, public); err != nil {
		t.Fatal(err)
	}
	w.agones = startFleet(t, []string{"room", "internal"}, func(gs agoneslocal.GameServer) *exec.Cmd {
		return asHost(gs, roomserver.Config{PassKeysFile: public}, nats.URL())
	})
	w.extension.serve(t, roomsNamespace, w.agones)

	config := embedded.Config{NATS: nats.URL()}
	config.Frontend.PassKeyFile = private
	config.Director.Logger = slog.New(told{w.said})
	config.Director.Headroom = director.NoHeadroom // so that a player waits for the allocation
	config.Director.AgonesConfig = director.AgonesConfig{
		AgonesDoor: director.DoorKubernetes, AgonesNamespace: roomsNamespace, AgonesFleet: fleet,
		AgonesKubernetesURL: w.url, AgonesKubernetesTokenFile: w.files.Path("token"), AgonesKubernetesCAFile: w.files.Path("ca.crt"),
	}
	if w.stack, err = embedded.New(config); err != nil {
		t.Fatal(err)
	}
	runUntilTheEnd(t, w.stack.Run)
	select {
	case <-w.stack.Ready():
	case <-w.ctx.Done():
		t.Fatal("Guildhall is not ready")
	}
	return w
}

// startFleet runs a stand-in for Agones until the test ends.
func startFleet(t *testing.T, ports []string, command func(agoneslocal.GameServer) *exec.Cmd) *agoneslocal.Server {
	t.Helper()
	server, err := agoneslocal.New(agoneslocal.Config{Fleet: agoneslocal.Fleet{
		Name: fleet, Namespace: roomsNamespace, Ready: 1, Max: 8, Ports: ports, Command: command,
		Counters: map[string]agoneslocal.Counter{"rooms": {Capacity: 10}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	runUntilTheEnd(t, server.Run)
	return server
}

func runUntilTheEnd(t *testing.T, run func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// asHost makes this test binary a host.
func asHost(gs agoneslocal.GameServer, config roomserver.Config, nats string) *exec.Cmd {
	config.AdminListen, config.NATS, config.AgonesPort = "127.0.0.1:0", nats, "room"
	config.Listen = net.JoinHostPort(gs.Address, strconv.Itoa(gs.Ports["room"]))
	config.InternalListen = net.JoinHostPort(gs.Address, strconv.Itoa(gs.Ports["internal"]))
	command := asChild("host")
	command.Env = append(command.Env, process.Environ(&config)...)
	return command
}

func asChild(kind string) *exec.Cmd {
	command := exec.Command(os.Args[0])
	command.Env = append(os.Environ(), childVariable+"="+kind)
	return command
}

// told passes on what is logged as a warning or worse.
type told struct{ to chan<- string }

var _ slog.Handler = told{}

// Enabled says what is passed on.
func (h told) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelWarn }

// Handle passes one on, unless nobody has listened for long.
func (h told) Handle(_ context.Context, record slog.Record) error {
	text := record.Message
	record.Attrs(func(a slog.Attr) bool {
		text += " " + a.String()
		return true
	})
	select {
	case h.to <- text:
	default:
	}
	return nil
}

// WithAttrs and WithGroup tell nothing more.
func (h told) WithAttrs([]slog.Attr) slog.Handler { return h }

// WithGroup is as WithAttrs.
func (h told) WithGroup(string) slog.Handler { return h }

// hears waits until the director has warned of something in all of these words.
func (w *town) hears(words ...string) {
	w.t.Helper()
	last := ""
	for {
		select {
		case last = <-w.said:
			if !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(last, word) }) {
				return
			}
		case <-w.ctx.Done():
			w.t.Fatalf("the director never warns of %q; the last it says is %q", words, last)
		}
	}
}

// enter sends a player of a new group on the way to its room, and gives what becomes of it.
func (w *town) enter(group string) <-chan entered {
	w.t.Helper()
	to := guildhall.Group{Kind: "guild", ID: group}
	development := guildhallv1connect.NewDevelopmentServiceClient(http.DefaultClient, w.stack.URL())
	minted, err := development.MintToken(w.ctx, connect.NewRequest(&guildhallv1.MintTokenRequest{Player: "p1", Groups: []string{to.String()}}))
	if err != nil {
		w.t.Fatal(err)
	}
	became := make(chan entered, 1)
	go func() {
		assignment, err := client.Enter(w.ctx, client.Config{Server: w.stack.URL(), Token: minted.Msg.GetToken()}, to)
		became <- entered{assignment, err}
	}()
	return became
}

type entered struct {
	assignment *guildhallv1.Assignment
	err        error
}

// arrives waits for somebody who was sent on the way.
func (w *town) arrives(became <-chan entered) {
	w.t.Helper()
	if e := <-became; e.err != nil { // the test's time bounds it
		w.t.Fatalf("entering: %v", e.err)
	}
}

// A director allocates with the token of its account, under the chart's Role, through authentication, authorization and
// aggregation; and that is all it asks of Kubernetes.
func TestADirectorAllocatesWithTheChartsRights(t *testing.T) {
	w := setupTown(t, func(a *api) string { return a.token(t, directorAccount, nil) })
	before, err := w.audit()
	if err != nil {
		t.Fatal(err)
	}
	asked := len(w.extension.askedBy())
	w.arrives(w.enter("first"))
	if users := w.extension.askedBy()[asked:]; len(users) == 0 || slices.ContainsFunc(users, func(u string) bool { return u != directorAccount.String() }) {
		t.Errorf("Agones was asked by %q, want the director's account", users)
	}
	after, err := w.audit()
	if err != nil {
		t.Fatal(err)
	}
	requests := after[len(before):]
	for _, r := range requests {
		if r.UserAgent != "guildhall-director" || r.Verb != "create" || r.ObjectRef.Resource != "gameserverallocations" || r.ObjectRef.Namespace != roomsNamespace || r.Status.Code != http.StatusCreated {
			t.Errorf("a director asks Kubernetes for %+v", r)
		}
	}
	if len(requests) == 0 {
		t.Error("the API server has seen nobody")
	}
}

// Without its Role a director says which is missing, and works as soon as it is there.
func TestADirectorSaysWhichRightIsMissing(t *testing.T) {
	w := setupTown(t, func(a *api) string { return a.token(t, directorAccount, nil) })
	var binding *unstructured.Unstructured
	for _, o := range installation(t, "kubernetes") {
		if o.GetKind() == "RoleBinding" {
			binding = o
		}
	}
	if err := w.remove(binding); err != nil {
		t.Fatal(err)
	}
	own, err := w.as(w.ctx, w.token(t, directorAccount, nil))
	if err != nil {
		t.Fatal(err)
	}
	if err := eventually(w.ctx, func() error { // the API server learns of it by watch
		if err := own.allocate(roomsNamespace); !apierrors.IsForbidden(err) {
			return &unexpected{err}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	became := w.enter("second")
	w.hears("403", "allocation_denied", "in namespace "+roomsNamespace, "gameserverallocations", "create")
	if _, err := w.apply(binding); err != nil {
		t.Fatal(err)
	}
	w.arrives(became)
}

// unexpected is an answer that is not the one that is waited for.
type unexpected struct{ got error }

func (u *unexpected) Error() string { return "not yet: " + errorText(u.got) }

func errorText(err error) string {
	if err == nil {
		return "no error"
	}
	return err.Error()
}

// A token expires, and the kubelet has put another in its place: the director goes on. Had it not, the director would say so.
func TestADirectorFollowsItsToken(t *testing.T) {
	const lifetime = 2 * time.Second
	var first string
	w := setupTown(t, func(a *api) string {
		first = a.sign(t, directorAccount, lifetime)
		return first
	})
	if err := eventually(w.ctx, func() error { // it expires; and what the API server remembers of it, too
		if err := w.tries(first); !apierrors.IsUnauthorized(err) {
			return &unexpected{err}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	became := w.enter("third")
	w.hears("401", "allocation_denied", "GUILDHALL_AGONES_KUBERNETES_TOKEN_FILE")
	w.files.Swap(map[string][]byte{"token": []byte(w.token(t, directorAccount, nil)), "ca.crt": w.ca})
	w.arrives(became)
}
