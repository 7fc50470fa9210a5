package director

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	allocation "agones.dev/agones/pkg/allocation/go"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/guildhall-dev/guildhall"
	"github.com/guildhall-dev/guildhall/internal/agoneslocal"
	"github.com/guildhall-dev/guildhall/internal/certtest"
	"github.com/guildhall-dev/guildhall/internal/registry"
	"github.com/guildhall-dev/guildhall/internal/secret"
)

const firstToken, secondToken = "first", "second"

// doorway is a door and what is behind it: the small allocator, in the form that the door speaks, over TLS.
type doorway struct {
	t         *testing.T
	ctx       context.Context
	allocator *smallAllocator
	agones    door
	config    AgonesConfig
	registry  *prometheus.Registry
	log       *bytes.Buffer // written by calls through the door; look between them
	server    *certtest.Authority
	clients   *certtest.Authority
	volume    *certtest.Volume
	listener  *cutListener
	side      atomic.Pointer[tls.Config] // the server's
	token     atomic.Pointer[string]     // what the server takes
}

// overDoors runs a test of placement through each door.
func overDoors(t *testing.T, name string, test func(w *world, d *doorway)) {
	t.Helper()
	for _, kind := range []Door{DoorAllocator, DoorKubernetes} {
		t.Run(strings.Trim(name+" "+string(kind), " "), func(t *testing.T) {
			w := setup(t)
			d := newDoorway(t, w.ctx, w.allocator)
			d.serveDoor(kind)
			w.agones = d.agones
			test(w, d)
		})
	}
}

// eachDoor runs a test of the doors themselves.
func eachDoor(t *testing.T, name string, test func(d *doorway)) {
	t.Helper()
	for _, kind := range []Door{DoorAllocator, DoorKubernetes} {
		t.Run(strings.Trim(name+" "+string(kind), " "), func(t *testing.T) { test(setupDoor(t, kind)) })
	}
}

func setupDoor(t *testing.T, kind Door) *doorway {
	t.Helper()
	d := setupDoorway(t)
	d.serveDoor(kind)
	return d
}

// setupDoorway makes one behind which nobody is yet.
func setupDoorway(t *testing.T) *doorway {
	t.Helper()
	t.Parallel()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return newDoorway(t, ctx, &smallAllocator{})
}

func newDoorway(t *testing.T, ctx context.Context, allocator *smallAllocator) *doorway {
	t.Helper()
	d := &doorway{
		t: t, ctx: ctx, allocator: allocator, log: &bytes.Buffer{},
		server: certtest.New(t), clients: certtest.New(t),
	}
	d.takeToken(firstToken)
	d.serverIs(d.server, certtest.Leaf{Host: "127.0.0.1"})
	d.volume = certtest.Mount(t, d.files(nil))
	return d
}

// files gives what the door needs, with changes.
func (d *doorway) files(changes map[string][]byte) map[string][]byte {
	cert, key := d.clients.Issue(certtest.Leaf{CommonName: "director"})
	files := map[string][]byte{"tls.crt": cert, "tls.key": key, "ca.crt": d.server.PEM(), "token": []byte(*d.token.Load() + "\n")}
	for name, text := range changes {
		files[name] = text
		if text == nil {
			delete(files, name)
		}
	}
	return files
}

// serverIs has new connections find a server with such a certificate.
func (d *doorway) serverIs(authority *certtest.Authority, leaf certtest.Leaf) {
	d.side.Store(&tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{authority.Pair(leaf)},
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: d.clients.Pool(), NextProtos: []string{"h2"},
	})
}

func (d *doorway) takeToken(token string) { d.token.Store(&token) }

// replaceAll has the other side replace its authorities, certificates and token; connections end.
func (d *doorway) replaceAll() {
	d.server, d.clients = certtest.New(d.t), certtest.New(d.t)
	d.serverIs(d.server, certtest.Leaf{Host: "127.0.0.1"})
	d.takeToken(secondToken)
	d.listener.cut()
}

// serveDoor serves the small allocator as the door wants it, until the test ends, and opens the door.
func (d *doorway) serveDoor(kind Door) {
	d.t.Helper()
	if kind == DoorKubernetes {
		d.serveKubernetes(agoneslocal.KubernetesHandler(d.allocator, func() string { return *d.token.Load() }), "")
		return
	}
	server := grpc.NewServer(grpc.Creds(credentials.NewTLS(&tls.Config{
		MinVersion:         tls.VersionTLS12,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return d.side.Load(), nil },
	})))
	allocation.RegisterAllocationServiceServer(server, d.allocator)
	d.listen()
	done := make(chan error, 1)
	go func() { done <- server.Serve(d.listener) }()
	d.t.Cleanup(func() {
		server.Stop()
		if err := <-done; err != nil && !errors.Is(err, grpc.ErrServerStopped) && !errors.Is(err, net.ErrClosed) {
			d.t.Error(err)
		}
	})
	d.config = AgonesConfig{
		AgonesDoor: kind, AgonesAllocator: d.listener.Addr().String(), AgonesCAFile: d.volume.Path("ca.crt"),
		AgonesCertFile: d.volume.Path("tls.crt"), AgonesKeyFile: d.volume.Path("tls.key"),
	}
	d.open()
}

func (d *doorway) listen() {
	d.t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		d.t.Fatal(err)
	}
	d.listener = &cutListener{Listener: listener}
}

// serveKubernetes serves as the Kubernetes API, below a path, until the test ends, and opens the door.
func (d *doorway) serveKubernetes(handler http.Handler, path string) {
	d.t.Helper()
	d.listen()
	d.serveHTTPS(handler)
	d.config = AgonesConfig{
		AgonesDoor: DoorKubernetes, AgonesKubernetesURL: "https://" + d.listener.Addr().String() + path,
		AgonesKubernetesTokenFile: d.volume.Path("token"), AgonesKubernetesCAFile: d.volume.Path("ca.crt"),
	}
	d.open()
}

func (d *doorway) serveHTTPS(handler http.Handler) {
	server := &httptest.Server{Listener: d.listener, Config: &http.Server{
		Handler: handler, ReadHeaderTimeout: patience, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug),
	}}
	server.TLS = &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			side := d.side.Load().Clone()
			side.ClientAuth, side.NextProtos = tls.NoClientCert, nil
			return side, nil
		},
	}
	server.StartTLS()
	d.t.Cleanup(server.Close)
}

// open opens the door as a director does, and has placers use it.
func (d *doorway) open() {
	d.t.Helper()
	if err := d.config.check(); err != nil {
		d.t.Fatal(err)
	}
	d.registry = prometheus.NewRegistry()
	opened, err := openDoor(&d.config, secret.New(slog.New(slog.NewTextHandler(d.log, nil)), d.registry), newMetrics(d.registry))
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() {
		if err := opened.Close(); err != nil {
			d.t.Error(err)
		}
	})
	d.agones = opened
}

// caller makes an allocator that calls through the door.
func (d *doorway) caller(registry *registry.Registry) *allocator {
	return NewPlacer(PlacerConfig{Registry: registry, Allocator: d.agones, Namespace: "default", Fleet: "rooms"}).allocator
}

// ask asks for a host, and gives its name, or why there is none.
func (d *doorway) ask() (name, reason string, err error) {
	given, err := d.caller(nil).call(d.ctx, testGroup(1))
	if err != nil {
		return "", why(err), err
	}
	return given.GetGameServerName(), "", nil
}

// inPassing are the failures of a moment: of a connection that the other side refuses, now and then only the end is seen;
// one that has been cut is used once more; gRPC rests between two connections.
func inPassing(reason string) bool {
	return reason == "allocator_away" || reason == "allocation_unknown"
}

// fails asks until it fails for a reason.
func (d *doorway) fails(reason string) error {
	d.t.Helper()
	for {
		_, got, err := d.ask()
		if got == reason {
			return err
		}
		if !inPassing(got) || d.ctx.Err() != nil {
			d.t.Fatalf("failed with %v, %s; want %s", err, got, reason)
		}
	}
}

// gives asks until there is a host.
func (d *doorway) gives(name string) {
	d.t.Helper()
	d.allocator.put(name)
	for {
		got, reason, err := d.ask()
		if got == name {
			return
		}
		if !inPassing(reason) && reason != "allocator_tls" || d.ctx.Err() != nil {
			d.t.Fatalf("%q, %s, %v", got, reason, err)
		}
	}
}

// cutListener can cut the connections that it has accepted, and counts them.
type cutListener struct {
	net.Listener
	mu       sync.Mutex
	conns    []net.Conn
	accepted int
}

// Accept takes a connection.
func (l *cutListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err == nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.conns = append(l.conns, conn)
		l.accepted++
	}
	return conn, err
}

func (l *cutListener) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, conn := range l.conns {
		conn.Close()
	}
	l.conns = nil
}

func (l *cutListener) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.accepted
}

// Agones is asked for the same through both doors.
func TestWhatIsAsked(t *testing.T) {
	group := guildhall.Group{Kind: "guild", ID: "Drachen & Söhne/" + strings.Repeat("x", 100)}
	plain := func() *allocation.AllocationRequest {
		return &allocation.AllocationRequest{
			Namespace: "default", Scheduling: allocation.AllocationRequest_Packed,
			GameServerSelectors: []*allocation.GameServerSelector{{
				MatchLabels: map[string]string{"agones.dev/fleet": "rooms"}, GameServerState: allocation.GameServerSelector_READY,
			}},
			Metadata: &allocation.MetaPatch{
				// printf %s "$GROUP" | sha256sum | cut -c 1-32, as docs/agones.md says
				Labels:      map[string]string{"guildhall.dev/allocated-for": "group", "guildhall.dev/group": "51956b80a36482a3b96c3de8f1113a77"},
				Annotations: map[string]string{"guildhall.dev/group": group.String()},
			},
		}
	}
	for name, c := range map[string]struct {
		set   func(*PlacerConfig)
		group guildhall.Group
		want  func(*allocation.AllocationRequest)
	}{
		"a group": {group: group},
		"a headroom": {want: func(r *allocation.AllocationRequest) {
			r.Metadata = &allocation.MetaPatch{Labels: map[string]string{"guildhall.dev/allocated-for": "headroom"}}
		}},
		"the counter": {
			set: func(c *PlacerConfig) { c.RoomsCounter = true }, group: group,
			want: func(r *allocation.AllocationRequest) {
				r.GameServerSelectors[0].Counters = map[string]*allocation.CounterSelector{"rooms": {MinAvailable: 1}}
			},
		},
		"several clusters": {
			set:   func(c *PlacerConfig) { c.MultiCluster = (&AgonesConfig{AgonesMulticluster: true}).multiCluster() },
			group: group,
			want: func(r *allocation.AllocationRequest) {
				r.MultiClusterSetting = &allocation.MultiClusterSetting{Enabled: true}
			},
		},
		"some clusters": {
			set: func(c *PlacerConfig) {
				c.MultiCluster = (&AgonesConfig{AgonesMulticluster: true, AgonesPolicySelector: Labels{"tier": "gold"}}).multiCluster()
			},
			group: group,
			want: func(r *allocation.AllocationRequest) {
				r.MultiClusterSetting = &allocation.MultiClusterSetting{
					Enabled: true, PolicySelector: &allocation.LabelSelector{MatchLabels: map[string]string{"tier": "gold"}},
				}
			},
		},
	} {
		eachDoor(t, name, func(w *doorway) {
			config := PlacerConfig{Allocator: w.agones, Namespace: "default", Fleet: "rooms"}
			if c.set != nil {
				c.set(&config)
			}
			w.allocator.put("a")
			given, err := NewPlacer(config).allocator.call(w.ctx, c.group)
			if err != nil || given.GetGameServerName() != "a" {
				w.t.Fatalf("%v, %v", given, err)
			}
			want, got := plain(), w.allocator.asked
			if c.want != nil {
				c.want(want)
			}
			if !proto.Equal(got, want) {
				w.t.Errorf("asked %v\nwant %v", got, want)
			}
		})
	}
}

// A label takes few characters, and a group's name has any.
func FuzzMarks(f *testing.F) {
	f.Add("guild", "dragons")
	f.Add("-", "Söhne & Töchter")
	value := regexp.MustCompile(`^[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$`)
	f.Fuzz(func(t *testing.T, kind, id string) {
		marks := marks(guildhall.Group{Kind: guildhall.Kind(kind), ID: id})
		for key, label := range marks.GetLabels() {
			if !value.MatchString(label) {
				t.Errorf("label %s=%q", key, label)
			}
		}
	})
}

// The connection breaks behind the request: a host is allocated, the director knows it and finds that one.
func TestLostReply(t *testing.T) {
	overDoors(t, "", func(w *world, d *doorway) {
		p := w.placer()
		hosts := w.ready(p, 10, "a", "b", "c")
		w.allocator.failWith(codes.Internal)
		w.allocator.lost = func(string) {
			hosts[0].become(registry.HostAllocated, w.registry)
			d.listener.cut()
		}
		if got := w.mustPlace(p, testGroup(1)); got.GetHost() != "a" || w.allocator.gave() != 1 {
			w.t.Errorf("placed on %s with %d hosts", got.GetHost(), w.allocator.gave())
		}
		if n := counted(w.t, p.metrics.retries, "allocation_unknown"); n != 1 {
			w.t.Errorf("%v lost replies are counted, want 1", n)
		}
	})
}

// Nobody is there: that is told apart from a reply that was lost, for no host can have been allocated.
func TestNobodyIsThere(t *testing.T) {
	eachDoor(t, "", func(d *doorway) {
		d.listener.Close()
		d.listener.cut()
		if _, reason, err := d.ask(); reason != "allocator_away" {
			d.t.Errorf("%s, %v", reason, err)
		}
	})
}

// Somebody takes the connection and says nothing, not even hello.
func TestSilentConnection(t *testing.T) {
	eachDoor(t, "", func(d *doorway) {
		silent, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			d.t.Fatal(err)
		}
		d.t.Cleanup(func() { silent.Close() })
		d.config.AgonesAllocator = silent.Addr().String()
		if d.config.AgonesDoor == DoorKubernetes {
			d.config.AgonesKubernetesURL = "https://" + silent.Addr().String()
		}
		d.open()
		a := d.caller(nil)
		a.timeout = 100 * time.Millisecond
		if _, err := a.call(d.ctx, testGroup(1)); err == nil || why(err) != "allocator_away" {
			d.t.Errorf("%v", err)
		}
	})
}

func TestAReplyWithoutAName(t *testing.T) {
	eachDoor(t, "", func(d *doorway) {
		d.allocator.reply = &allocation.AllocationResponse{Address: "192.0.2.1"}
		if _, reason, err := d.ask(); reason != "allocation_unknown" || !strings.Contains(err.Error(), "no game server") {
			d.t.Errorf("%s, %v", reason, err)
		}
	})
}

// Where Agones speaks for the allocator of another cluster, its code is lost.
func TestNoneAvailableByAnyCode(t *testing.T) {
	for _, code := range []codes.Code{codes.NotFound, codes.Unknown, codes.Unavailable} {
		eachDoor(t, code.String(), func(d *doorway) {
			d.allocator.fail = []error{status.Error(code, "rpc error: "+noneAvailable)}
			if _, reason, err := d.ask(); reason != "fleet_empty" {
				d.t.Errorf("%s, %v", reason, err)
			}
		})
	}
}

// Hosts of another cluster that do not use our NATS are of no use, and the error says what to look at.
func TestAHostOfAnotherCluster(t *testing.T) {
	overDoors(t, "", func(w *world, _ *doorway) {
		w.allocator.reply = &allocation.AllocationResponse{GameServerName: "far-away", Source: "203.0.113.7:443"}
		a := w.placer().allocator
		given, err := a.call(w.ctx, testGroup(1))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(w.ctx, 50*time.Millisecond)
		defer cancel()
		_, err = a.awaitLease(ctx, given)
		if !errors.Is(err, errNoLease) || !strings.Contains(err.Error(), "203.0.113.7:443") || !strings.Contains(err.Error(), "NATS") {
			w.t.Errorf("%v", err)
		}
		if _, err = a.awaitLease(ctx, &allocation.AllocationResponse{GameServerName: "near", Source: "local"}); strings.Contains(err.Error(), "cluster") {
			w.t.Errorf("%v", err)
		}
	})
}

// One connection serves one call after the other.
func TestConnectionsAreReused(t *testing.T) {
	eachDoor(t, "", func(d *doorway) {
		for i := range 5 {
			d.gives(fmt.Sprint("host-", i))
		}
		if n := d.listener.count(); n != 1 {
			d.t.Errorf("%d connections for 5 calls", n)
		}
	})
}

// Everything is replaced, as the kubelet and a certificate's issuer do it, and the director goes on.
func TestRotation(t *testing.T) {
	eachDoor(t, "", func(d *doorway) {
		d.gives("before")
		d.replaceAll()
		d.fails("allocator_tls") // it trusts the old authority
		d.volume.Swap(d.files(nil))
		d.gives("after")
		if strings.Contains(d.log.String(), "ERROR") || !strings.Contains(d.log.String(), "a secret was replaced") {
			d.t.Errorf("logged %s", d.log)
		}
	})
}

// unread gives how often a secret could not be read.
func (d *doorway) unread(what string) float64 {
	d.t.Helper()
	families, err := d.registry.Gather()
	if err != nil {
		d.t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() != "guildhall_secret_reads_total" {
			continue
		}
		for _, m := range family.GetMetric() { // by outcome and what
			if m.GetLabel()[0].GetValue() == "failed" && m.GetLabel()[1].GetValue() == what {
				return m.GetCounter().GetValue()
			}
		}
	}
	d.t.Fatalf("nothing counts the failures of %s", what)
	return 0
}

// A rotation that goes wrong leaves what there was, is told once, and is over with the next.
func TestBrokenRotation(t *testing.T) {
	for name, broken := range map[string]map[string][]byte{
		"no CA":          {"ca.crt": nil},
		"not PEM":        {"ca.crt": []byte("a word")},
		"no certificate": {"tls.crt": nil},
		"another's key":  {"tls.key": []byte("ANOTHER")},
		"no token":       {"token": nil},
		"an empty token": {"token": []byte("\n")},
		"two words":      {"token": []byte("two\nwords")},
	} {
		for _, kind := range []Door{DoorAllocator, DoorKubernetes} {
			isToken := broken["token"] != nil || strings.HasSuffix(name, "token")
			isCertificate := strings.HasSuffix(name, "certificate") || strings.HasSuffix(name, "key")
			if kind == DoorAllocator && isToken || kind == DoorKubernetes && isCertificate {
				continue
			}
			t.Run(name+" "+string(kind), func(t *testing.T) {
				d := setupDoor(t, kind)
				d.gives("at first")
				d.replaceAll()
				good, bad := d.files(nil), d.files(broken)
				if string(bad["tls.key"]) == "ANOTHER" {
					_, bad["tls.key"] = d.clients.Issue(certtest.Leaf{})
				}
				d.volume.Swap(good)
				d.gives("before")
				d.volume.Swap(bad)
				for i := range 3 {
					d.listener.cut()
					d.gives(fmt.Sprint("meanwhile-", i))
				}
				what := "agones_certificates"
				if isToken {
					what = "kubernetes_token"
				}
				if n := d.unread(what); n < 3 {
					t.Errorf("%v uses of old credentials are counted, want 3 or more", n)
				}
				if n := strings.Count(d.log.String(), "cannot be read"); n != 1 {
					t.Errorf("told %d times, want once: %s", n, d.log)
				}
				d.volume.Swap(good)
				d.listener.cut()
				d.gives("after")
				if n := strings.Count(d.log.String(), "can be read again"); n != 1 {
					t.Errorf("that it is over is told %d times, want once: %s", n, d.log)
				}
			})
		}
	}
}

// What is wrong with certificates is told apart from an allocator that is away, and costs one try; once they are
// replaced the director goes on.
func TestWrongCertificates(t *testing.T) {
	host := certtest.Leaf{Host: "127.0.0.1"}
	for name, c := range map[string]struct {
		wrong    func(d *doorway)
		ofClient bool // the Kubernetes API takes tokens
	}{
		"a server of another authority": {wrong: func(d *doorway) { d.serverIs(certtest.New(d.t), host) }},
		"a server that has expired":     {wrong: func(d *doorway) { d.serverIs(d.server, certtest.Leaf{Host: "127.0.0.1", Expired: true}) }},
		"a server of another name":      {wrong: func(d *doorway) { d.serverIs(d.server, certtest.Leaf{Host: "elsewhere.example"}) }},
		"a server without a SAN":        {wrong: func(d *doorway) { d.serverIs(d.server, certtest.Leaf{CommonName: "127.0.0.1"}) }},
		"a client of another authority": {ofClient: true, wrong: func(d *doorway) {
			cert, key := certtest.New(d.t).Issue(certtest.Leaf{CommonName: "director"})
			d.volume.Swap(d.files(map[string][]byte{"tls.crt": cert, "tls.key": key}))
		}},
		"a client that has expired": {ofClient: true, wrong: func(d *doorway) {
			cert, key := d.clients.Issue(certtest.Leaf{CommonName: "director", Expired: true})
			d.volume.Swap(d.files(map[string][]byte{"tls.crt": cert, "tls.key": key}))
		}},
	} {
		for _, kind := range []Door{DoorAllocator, DoorKubernetes} {
			if kind == DoorKubernetes && c.ofClient {
				continue
			}
			t.Run(name+" "+string(kind), func(t *testing.T) {
				d := setupDoor(t, kind)
				c.wrong(d)
				err := d.fails("allocator_tls")
				if failed := (*allocationError)(nil); !errors.As(err, &failed) || failed.isWorthATry() || !strings.Contains(err.Error(), "GUILDHALL_AGONES_") {
					t.Errorf("%v", err)
				}
				if d.allocator.called() != 0 {
					t.Error("the allocator was reached")
				}
				d.serverIs(d.server, host)
				d.volume.Swap(d.files(nil))
				d.gives("once it is right")
			})
		}
	}
}

// The allocator's certificate may have another name than its address.
func TestServerName(t *testing.T) {
	d := setupDoor(t, DoorAllocator)
	d.serverIs(d.server, certtest.Leaf{Host: "agones-allocator.agones-system.svc"})
	d.fails("allocator_tls")
	d.config.AgonesServerName = "agones-allocator.agones-system.svc"
	d.open()
	d.gives("a")
}

// In a mesh there is no TLS of ours.
func TestPlaintext(t *testing.T) {
	w := setup(t)
	server := grpc.NewServer()
	allocation.RegisterAllocationServiceServer(server, w.allocator)
	d := newDoorway(t, w.ctx, w.allocator)
	d.config = AgonesConfig{AgonesDoor: DoorAllocator, AgonesAllocator: w.serve(server)}
	d.open()
	d.gives("a")
}

// A token of an hour is replaced on the way; no connection is lost for it.
func TestTokenRotation(t *testing.T) {
	d := setupDoor(t, DoorKubernetes)
	d.gives("a")
	d.takeToken(secondToken)
	if err := d.fails("allocation_denied"); !strings.Contains(err.Error(), "GUILDHALL_AGONES_KUBERNETES_TOKEN_FILE") {
		t.Errorf("%v", err)
	}
	d.volume.Swap(d.files(nil))
	d.gives("b")
	if n := d.listener.count(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

// answering is a Kubernetes API that gives one answer.
func answering(t *testing.T, answer http.HandlerFunc) *doorway {
	t.Helper()
	d := setupDoorway(t)
	d.serveKubernetes(answer, "/a/proxy/")
	return d
}

func TestRepliesOfKubernetes(t *testing.T) {
	object := func(status string) string { return `{"kind":"GameServerAllocation","status":` + status + `}` }
	failure := func(message string) string { return `{"kind":"Status","status":"Failure","message":"` + message + `"}` }
	for name, c := range map[string]struct {
		code   int
		body   string
		reason string // "" means a host
		says   string
	}{
		"allocated":        {201, object(`{"state":"Allocated","gameServerName":"a","source":"local"}`), "", ""},
		"by an older one":  {200, object(`{"state":"Allocated","gameServerName":"a"}`), "", ""},
		"none":             {201, object(`{"state":"UnAllocated"}`), "fleet_empty", ""},
		"contention":       {201, object(`{"state":"Contention"}`), "allocation_contended", ""},
		"an unknown state": {201, object(`{"state":"Reserved","gameServerName":"a"}`), "allocation_unknown", `"Reserved"`},
		"no state":         {201, `{}`, "allocation_unknown", `""`},
		"no name":          {201, object(`{"state":"Allocated"}`), "allocation_unknown", "names no game server"},
		"no JSON":          {201, `<html>`, "allocation_unknown", "no GameServerAllocation"},
		"no body":          {201, ``, "allocation_unknown", "no GameServerAllocation"},
		"too large":        {201, object(`{"state":"Allocated","gameServerName":"` + strings.Repeat("a", maxAllocationReply) + `"}`), "allocation_unknown", "more than"},
		"a redirection":    {307, ``, "allocation_refused", "307"},
		"malformed":        {400, failure("no such field"), "allocation_refused", "no such field"},
		"no token":         {401, failure("Unauthorized"), "allocation_denied", "TOKEN_FILE"},
		"not allowed":      {403, failure("u cannot create"), "allocation_denied", "u cannot create: the token's account needs, in namespace default, a Role with the rule apiGroups [allocation.agones.dev], resources [gameserverallocations], verbs [create]"},
		"no Agones":        {404, "404 page not found", "allocator_missing", "not installed"},
		"a conflict":       {409, failure("again"), "allocation_contended", "again"},
		"invalid":          {422, failure("spec.metadata.labels: Invalid value"), "allocation_refused", "spec.metadata.labels"},
		"too many":         {429, failure("Too many requests"), "allocator_away", "429"},
		"none, by gRPC":    {429, failure("rpc error: code = ResourceExhausted desc = " + noneAvailable), "fleet_empty", ""},
		"an error":         {500, "could not update the selected GameServer\n", "allocation_unknown", "could not update"},
		"a bad gateway":    {502, ``, "allocation_unknown", "Bad Gateway"},
		"not available":    {503, failure("service unavailable"), "allocator_away", "service unavailable"},
		"a slow gateway":   {504, ``, "allocation_unknown", "504"},
	} {
		t.Run(name, func(t *testing.T) {
			d := answering(t, func(w http.ResponseWriter, r *http.Request) {
				const path = "/a/proxy/apis/allocation.agones.dev/v1/namespaces/default/gameserverallocations"
				if r.Method != http.MethodPost || r.URL.Path != path || r.Header.Get("Authorization") != "Bearer first" {
					t.Errorf("asked %s %s by %q", r.Method, r.URL, r.Header.Get("Authorization"))
				}
				w.Header().Set("Location", "/elsewhere")
				w.WriteHeader(c.code)
				_, _ = w.Write([]byte(c.body)) // what is too large is not read to its end
			})
			got, reason, err := d.ask()
			if reason != c.reason || err == nil && got != "a" {
				t.Errorf("%q, %s, %v; want %s", got, reason, err, c.reason)
			}
			if err != nil && (!strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), "fleet default/rooms") || len(err.Error()) > 2*maxReason) {
				t.Errorf("says %v; want %s", err, c.says)
			}
		})
	}
}

// A reply that breaks off says nothing of what was allocated.
func TestHalfAReply(t *testing.T) {
	d := answering(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "1000")
		w.WriteHeader(http.StatusCreated)
		_, _ = w.Write([]byte(`{"status":{"state":"UnAllocated"}}`))
	})
	if _, reason, err := d.ask(); reason != "allocation_unknown" {
		t.Errorf("%s, %v", reason, err)
	}
}
