package install

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/guildhall-dev/guildhall/director"
	"github.com/guildhall-dev/guildhall/frontend"
	"github.com/guildhall-dev/guildhall/internal/brokerlocal"
	"github.com/guildhall-dev/guildhall/internal/pass"
	"github.com/guildhall-dev/guildhall/internal/process"
	"github.com/guildhall-dev/guildhall/matchfunction"
	"github.com/guildhall-dev/guildhall/roomserver"
)

// environment gives the variables of a pod's container.
func environment(p *pod) map[string]string {
	env := map[string]string{}
	for _, v := range p.container().Env {
		env[v.Name] = v.Value
	}
	return env
}

func duration(t *testing.T, text string) time.Duration {
	t.Helper()
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestEnvironmentIsTheServices reads each container's variables as its service does: one that is unknown, or does not
// parse, is an error.
func TestEnvironmentIsTheServices(t *testing.T) {
	for name, files := range installations {
		r := render(t, files...)
		for component, config := range map[string]any{
			"frontend": new(frontend.Config), "director": new(director.Config),
			"matchfunction": new(matchfunction.Config), "roomserver": new(roomserver.Config),
		} {
			t.Run(name+"/"+component, func(t *testing.T) {
				p := podOf(t, r, component)
				seen := map[string]bool{}
				for _, v := range p.container().Env {
					if seen[v.Name] {
						t.Errorf("%s stands twice", v.Name)
					}
					seen[v.Name] = true
					t.Setenv(v.Name, v.Value)
				}
				if err := process.Load(nil, config); err != nil {
					t.Error(err)
				}
				if rooms, ok := config.(*roomserver.Config); ok {
					if err := rooms.Check(); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
}

// A variable that is misspelt in values is found by the same means.
func TestUnknownVariableIsFound(t *testing.T) {
	r := renderWith(t, "--set-string", "director.env.GUILDHALL_HEADROM=5")
	for name, value := range environment(podOf(t, r, "director")) {
		t.Setenv(name, value)
	}
	if err := process.Load(nil, new(director.Config)); err == nil || !strings.Contains(err.Error(), "GUILDHALL_HEADROM") {
		t.Errorf("%v, want an error that names the variable", err)
	}
}

// What is traced, and whether, is said to all services alike, or to none.
func TestTracingIsForAllOrNone(t *testing.T) {
	t.Parallel()
	everyInstallation(t, func(t *testing.T, r rendered) {
		want := environment(podOf(t, r, "frontend"))["OTEL_EXPORTER_OTLP_ENDPOINT"]
		for _, component := range []string{"frontend", "director", "matchfunction", "roomserver"} {
			env := environment(podOf(t, r, component))
			for _, name := range []string{"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_TRACES_SAMPLER"} {
				if _, set := env[name]; set != (want != "") {
					t.Errorf("%s: %s is set: %t", component, name, set)
				}
			}
		}
		if name := strings.HasSuffix(t.Name(), "/everything"); name != (want != "") {
			t.Errorf("traces go to %q", want)
		}
	})
}

// Ports are named after what serves there, at the services' own defaults.
func TestPortsAreTheServices(t *testing.T) {
	t.Parallel()
	var f frontend.Config
	var d director.Config
	var m matchfunction.Config
	var h roomserver.Config
	for _, config := range []any{&f, &d, &m, &h} {
		process.FillZero(config)
	}
	want := map[string]map[string]string{
		"frontend":      {"lobby": f.Listen, "lobby-grpc": f.GRPCListen, "admin": f.AdminListen},
		"director":      {"operator": d.Listen, "admin": d.AdminListen},
		"matchfunction": {"grpc": m.Listen, "admin": m.AdminListen},
		"roomserver":    {"internal": h.InternalListen, "admin": h.AdminListen},
	}
	everyInstallation(t, func(t *testing.T, r rendered) {
		for component, ports := range want {
			c := podOf(t, r, component).container()
			if len(c.Ports) != len(ports) {
				t.Errorf("%s has the ports %v, want %v", component, c.Ports, ports)
			}
			for _, port := range c.Ports {
				if got := ":" + strconv.Itoa(int(port.ContainerPort)); got != ports[port.Name] {
					t.Errorf("%s: port %s is %s, the service listens on %s", component, port.Name, got, ports[port.Name])
				}
			}
		}
	})
}

// Directors tell Open Match a Service that is there.
func TestMatchfunctionIsWhereDirectorsSay(t *testing.T) {
	t.Parallel()
	everyInstallation(t, func(t *testing.T, r rendered) {
		advertised := environment(podOf(t, r, "director"))["GUILDHALL_MATCHFUNCTION_ADVERTISE"]
		for _, s := range all[corev1.Service](t, r, "Service") {
			if net.JoinHostPort(s.Name+"."+s.Namespace+".svc.cluster.local", strconv.Itoa(int(s.Spec.Ports[0].Port))) == advertised {
				return
			}
		}
		t.Errorf("no Service is at %s", advertised)
	})
}

// Of what all must have the same, all have the same.
func TestSharedSettingsAreShared(t *testing.T) {
	t.Parallel()
	everyInstallation(t, func(t *testing.T, r rendered) {
		for _, name := range []string{"GUILDHALL_NATS", "GUILDHALL_NATS_REPLICAS", "GUILDHALL_KINDS", "GUILDHALL_LEASE_TTL", "GUILDHALL_SHARDS"} {
			values := map[string]bool{}
			for _, p := range pods(t, r) {
				if value, set := environment(p)[name]; set {
					values[value] = true
				}
			}
			if len(values) != 1 {
				t.Errorf("%s has the values %v", name, values)
			}
		}
	})
}

// patience is how long a test waits for an event on a busy machine.
const patience = 30 * time.Second

// TestServicesStartAsDeployed starts each stateless service with the variables, files and probes of its Deployment, and a
// NATS in place of the cluster's.
func TestServicesStartAsDeployed(t *testing.T) {
	for name, files := range installations {
		r := render(t, files...)
		t.Run(name+"/frontend", func(t *testing.T) { startAsDeployed(t, r, "frontend", frontend.New) })
		t.Run(name+"/director", func(t *testing.T) { startAsDeployed(t, r, "director", director.New) })
		t.Run(name+"/matchfunction", func(t *testing.T) { startAsDeployed(t, r, "matchfunction", matchfunction.New) })
	}
}

// deployed is a service that has an admin port.
type deployed interface {
	process.Service
	AdminAddr() string
	Started() <-chan struct{}
}

func startAsDeployed[C any, S deployed](t *testing.T, r rendered, component string, open func(C) (S, error)) {
	t.Helper()
	p := podOf(t, r, component)
	files := materialize(t, p)
	for _, v := range p.container().Env {
		t.Setenv(v.Name, moved(v.Value, files))
	}
	if component != "matchfunction" {
		t.Setenv("GUILDHALL_NATS", startNATS(t))
		t.Setenv("GUILDHALL_NATS_REPLICAS", "1")
	}
	if isTrue(p.spec.AutomountServiceAccountToken) {
		withAccount(t)
	}
	for _, name := range []string{"CREDS", "TOKEN_FILE", "CA_FILE", "CERT_FILE", "KEY_FILE"} {
		t.Setenv("GUILDHALL_NATS_"+name, "") // the NATS of this test lets everybody in
		if component == "matchfunction" {    // which has no such variable
			os.Unsetenv("GUILDHALL_NATS_" + name)
		}
	}
	t.Setenv("GUILDHALL_LISTEN", "127.0.0.1:0")
	if component == "frontend" {
		t.Setenv("GUILDHALL_GRPC_LISTEN", "127.0.0.1:0")
	}
	t.Setenv("GUILDHALL_ADMIN_LISTEN", "127.0.0.1:0")
	var config C
	if err := process.Load(nil, &config); err != nil {
		t.Fatal(err)
	}
	service, err := open(config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- service.Run(ctx) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	select {
	case <-service.Started():
	case <-time.After(patience):
		t.Fatal("it does not become ready")
	}
	for what, probe := range map[string]*corev1.Probe{
		"startup": p.container().StartupProbe, "liveness": p.container().LivenessProbe, "readiness": p.container().ReadinessProbe,
	} {
		askProbe(t, what, probe, service.AdminAddr())
	}
}

func askProbe(t *testing.T, what string, probe *corev1.Probe, admin string) {
	t.Helper()
	if probe == nil || probe.HTTPGet == nil || probe.HTTPGet.Port.StrVal != "admin" {
		t.Errorf("the %s probe does not ask the admin port", what)
		return
	}
	response, err := http.Get("http://" + admin + probe.HTTPGet.Path)
	if err != nil {
		t.Error(err)
		return
	}
	defer http.DefaultClient.CloseIdleConnections()
	defer response.Body.Close()
	if body, _ := io.ReadAll(response.Body); response.StatusCode != http.StatusOK || string(body) != "ok\n" {
		t.Errorf("the %s probe, %s, is answered by %s", what, probe.HTTPGet.Path, response.Status)
	}
}

// materialize makes the files that a pod's Secrets would be, and gives the folder of each mount.
func materialize(t *testing.T, p *pod) map[string]string {
	t.Helper()
	key, err := pass.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	folders := map[string]string{}
	for _, mount := range p.container().VolumeMounts {
		folder := t.TempDir()
		folders[mount.MountPath] = folder
		for _, volume := range p.spec.Volumes {
			if volume.Name != mount.Name || volume.Secret == nil {
				continue
			}
			if mount.Name == "allocator" || mount.Name == "nats-tls" {
				saveCertificates(t, key, folder)
				continue
			}
			file := filepath.Join(folder, volume.Secret.Items[0].Path)
			save := pass.SavePrivateKey
			if mount.Name == "token" {
				save = pass.SavePublicKey
			}
			if err := save(key, file); err != nil {
				t.Fatal(err)
			}
		}
	}
	return folders
}

// saveCertificates writes a certificate that signs itself, as the three files of a Secret for TLS.
func saveCertificates(t *testing.T, key ed25519.PrivateKey, folder string) {
	t.Helper()
	certificate := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	signed, err := x509.CreateCertificate(rand.Reader, certificate, certificate, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	encoded := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: signed})
	for _, name := range []string{"tls.crt", "ca.crt"} {
		if err := os.WriteFile(filepath.Join(folder, name), encoded, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := pass.SavePrivateKey(key, filepath.Join(folder, "tls.key")); err != nil {
		t.Fatal(err)
	}
}

// withAccount gives the process what a pod with a token has of Kubernetes.
func withAccount(t *testing.T) {
	t.Helper()
	key, err := pass.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	saveCertificates(t, key, folder)
	token := filepath.Join(folder, "token")
	if err := os.WriteFile(token, []byte("token"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
	t.Setenv("KUBERNETES_SERVICE_PORT", "443")
	t.Setenv("GUILDHALL_AGONES_KUBERNETES_TOKEN_FILE", token)
	t.Setenv("GUILDHALL_AGONES_KUBERNETES_CA_FILE", filepath.Join(folder, "ca.crt"))
}

// moved gives a value with the mount's path replaced by where the test has its files.
func moved(value string, folders map[string]string) string {
	for mount, folder := range folders {
		value = strings.Replace(value, mount+"/", folder+"/", 1)
	}
	return value
}

func startNATS(t *testing.T) string {
	t.Helper()
	server, err := brokerlocal.Start(brokerlocal.Config{Folder: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	return server.URL()
}

// Every file that a variable names is mounted, and every file that is mounted has a variable.
func TestFilesAreMounted(t *testing.T) {
	t.Parallel()
	everyInstallation(t, func(t *testing.T, r rendered) {
		for _, p := range pods(t, r) {
			named := map[string]bool{}
			for _, value := range environment(p) {
				if strings.HasPrefix(value, "/etc/guildhall/") {
					named[value] = true
				}
			}
			for _, mount := range p.container().VolumeMounts {
				for _, volume := range p.spec.Volumes {
					if volume.Name == mount.Name {
						for _, item := range volume.Secret.Items {
							file := mount.MountPath + "/" + item.Path
							if !named[file] || !mount.ReadOnly {
								t.Errorf("%s: %s is mounted, read-only: %t, and named: %t", p, file, mount.ReadOnly, named[file])
							}
							delete(named, file)
						}
					}
				}
			}
			for file := range named {
				t.Errorf("%s: %s is named and not mounted", p, file)
			}
		}
	})
}

// A pod's grace is more than what its stop takes: twice the grace of a part, and the pause before.
func TestPodsHaveTimeToStop(t *testing.T) {
	t.Parallel()
	everyInstallation(t, func(t *testing.T, r rendered) {
		for _, p := range pods(t, r) {
			if p.component() == "test" {
				continue
			}
			need := 2 * duration(t, environment(p)["GUILDHALL_STOP_GRACE"])
			if lifecycle := p.container().Lifecycle; lifecycle != nil {
				need += time.Duration(lifecycle.PreStop.Sleep.Seconds) * time.Second
			}
			if got := time.Duration(*p.spec.TerminationGracePeriodSeconds) * time.Second; got <= need {
				t.Errorf("%s has %s to stop, and may need %s", p, got, need)
			}
		}
		for _, d := range all[appsv1.Deployment](t, r, "Deployment") {
			if d.Spec.Strategy.RollingUpdate.MaxUnavailable.IntValue() != 0 {
				t.Errorf("Deployment %s: an old pod goes before a new one is there", d.Name)
			}
		}
	})
}
