package install

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func TestLint(t *testing.T) {
	t.Parallel()
	for name, files := range installations {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := helm(t, append([]string{"lint", "chart", "--strict", "--namespace", namespace}, withValues(files)...)...); err != nil {
				t.Error(err)
			}
		})
	}
}

// Another name and namespace: whatever is written out in a template shows.
func TestAnotherReleaseSharesNothing(t *testing.T) {
	t.Parallel()
	out, err := helm(t, "template", "other", "chart", "--namespace", "elsewhere", "--values", "testdata/everything.yaml", "--set", "fleet.name=theirs")
	if err != nil {
		t.Fatal(err)
	}
	ours := map[string]bool{}
	for _, o := range render(t, "testdata/everything.yaml") {
		ours[o.String()] = true
	}
	for _, o := range parse(t, out) {
		shared := o.Kind == "ExternalSecret" || o.Kind == "SecretStore" // by the names of values
		if ours[o.String()] && !shared {
			t.Errorf("%s is in both releases", o)
		}
		if o.Metadata.Namespace == "" && o.Kind != "PriorityClass" {
			t.Errorf("%s has no namespace", o)
		}
	}
}

// What is wrong is refused with an error that says what to set.
func TestRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ set, want string }{
		"a value that is unknown":          {"frontend.replica=3", "replica"},
		"a part that is unknown":           {"frontends.replicas=3", "frontends"},
		"a number as text":                 {"frontend.replicas=many", "replicas"},
		"a duration without unit":          {"settings.stopGrace=20", "stopGrace"},
		"an unknown level":                 {"settings.logLevel=LOUD", "logLevel"},
		"two copies":                       {"nats.replicas=2", "replicas"},
		"an address without port":          {"agones.allocator=agones-allocator", "allocator"},
		"an image without digest":          {"image.requireDigest=true", "image.digest is not set"},
		"a digest that is none":            {"frontend.image.digest=sha256:abc", "digest"},
		"root":                             {"securityContext.runAsUser=0", "runAsUser"},
		"a container without limits":       {"frontend.resources.limits=null", "limits"},
		"a port policy that does not work": {"fleet.port.portPolicy=Passthrough", "portPolicy"},
		"Static without a port":            {"fleet.port.portPolicy=Static", "fleet.port.hostPort"},
		"an unknown door":                  {"director.allocator.door=back", "door"},
		"certificates for no door":         {"director.allocator.door=kubernetes,director.allocator.tls.secretName=x", "door=grpc"},
		"a buffer beyond the most":         {"fleet.autoscaler.counter.bufferSize=9000", "Agones refuses"},
		"a least below the buffer":         {"fleet.autoscaler.counter.minCapacity=10", "Agones refuses"},
		"a headroom that is no number":     {"director.headroom=much", "headroom"},
		"a Gateway without a name":         {"gateway.enabled=true", "gateway.parentRefs"},
		"an Ingress for everything":        {"ingress.enabled=true", "ingress.hosts"},
		"a store without region":           {"externalSecrets.enabled=true", "aws.region"},
		"a store for nobody's Secret":      {"externalSecrets.enabled=true,externalSecrets.store.aws.region=x,externalSecrets.remote.natsCredentials=x", "nats.credentials.secretName"},
		"a token for nobody's Secret":      {"externalSecrets.enabled=true,externalSecrets.store.aws.region=x,externalSecrets.remote.natsToken=x", "nats.token.secretName"},
		"a CA for nobody's Secret":         {"externalSecrets.enabled=true,externalSecrets.store.aws.region=x,externalSecrets.remote.natsTLS.ca=x", "nats.tls.secretName"},
		"a client without a certificate":   {"externalSecrets.enabled=true,externalSecrets.store.aws.region=x,externalSecrets.remote.natsTLS.ca=x,nats.tls.secretName=x,nats.tls.client=true", "cert and key"},
		"certificates for nobody's Secret": {"externalSecrets.enabled=true,externalSecrets.store.aws.region=x,externalSecrets.remote.allocatorTLS.ca=x", "director.allocator.tls.secretName"},
		"an allocator's CA alone":          {"externalSecrets.enabled=true,externalSecrets.store.aws.region=x,externalSecrets.remote.allocatorTLS.ca=x,director.allocator.tls.secretName=x", "ca, cert and key"},
		"a rule's label that is none":      {"monitoring.rules.labels=prometheus", "labels"},
		"dashboards in a place":            {"monitoring.dashboards.namespace=monitoring", "namespace"},
		"a player without a token":         {"tests.enter=true", "tests.tokenSecretName"},
		"nobody may play":                  {"networkPolicy.playerCIDRs=null", "playerCIDRs"},
		"everybody may play, by mistake":   {"networkPolicy.playerCIDRs={}", "playerCIDRs"},
		"a part taken away":                {"director=null", "director"},
		"a variable of the chart's own":    {"director.env.GUILDHALL_HEADROOM=none", "director.env has GUILDHALL_HEADROOM"},
		"one of the rooms":                 {"fleet.env.GUILDHALL_LISTEN=:1", "fleet.env has GUILDHALL_LISTEN"},
		"a name that no variable can have": {"frontend.env.lower=1", "env"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := template(t, "chart", "--set", c.set)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("--set %s: %v, want an error with %q", c.set, err, c.want)
			}
		})
	}
}

// A tag may be something else tomorrow: production is told so.
func TestProductionWantsDigests(t *testing.T) {
	t.Parallel()
	for _, file := range []string{"values/eks.yaml", "values/gke.yaml"} {
		if _, err := template(t, "chart", "--values", file); err == nil || !strings.Contains(err.Error(), "image.digest is not set") {
			t.Errorf("%s without digests: %v, want an error that names what to set", file, err)
		}
	}
}

// A new version of the chart that changes nothing of a pod replaces none: rooms would move for nothing.
func TestChartVersionReplacesNoPods(t *testing.T) {
	t.Parallel()
	newer := t.TempDir()
	if err := os.CopyFS(newer, os.DirFS("chart")); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(newer, "Chart.yaml")
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(strings.Replace(string(raw), "\nversion: 0.1.0\n", "\nversion: 0.1.1\n", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := template(t, newer)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out, "guildhall-0.1.1") {
		t.Fatal("the newer chart is not newer")
	}
	after := pods(t, parse(t, out))
	for i, before := range pods(t, render(t)) {
		if before.kind != "Pod" && !reflect.DeepEqual(before, after[i]) { // those of helm test are new each time
			t.Errorf("%s is replaced", before)
		}
	}
}

func TestOldKubernetesIsRefused(t *testing.T) {
	t.Parallel()
	if _, err := template(t, "chart", "--kube-version", "1.31.9"); err == nil || !strings.Contains(err.Error(), "1.32") {
		t.Errorf("%v, want an error that names what is needed", err)
	}
}

func TestNotesTellTheWay(t *testing.T) {
	t.Parallel()
	for name, files := range installations {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, err := helm(t, append([]string{"install", release, "chart", "--namespace", namespace, "--dry-run=client"}, withValues(files)...)...)
			if err != nil {
				t.Fatal(err)
			}
			_, notes, found := strings.Cut(out, "NOTES:")
			if !found || !strings.Contains(notes, "guildhall-pass-key (pass.pem)") || !strings.Contains(notes, "helm -n guildhall test guildhall") {
				t.Errorf("the notes say\n%s", notes)
			}
			if dev := name == "dev" || name == "kind"; dev != strings.Contains(notes, "anybody may be anybody") {
				t.Errorf("development: %t, but the notes say\n%s", dev, notes)
			}
		})
	}
}

func TestImagesByDigest(t *testing.T) {
	t.Parallel()
	for _, p := range pods(t, render(t, "values/eks.yaml", "testdata/digests.yaml")) {
		if image := p.container().Image; !strings.HasPrefix(image, "123456789012.dkr.ecr.eu-west-1.amazonaws.com/guildhall") || !strings.Contains(image, "@sha256:") {
			t.Errorf("%s: image %s, want it of the registry and by its digest", p, image)
		}
	}
	seen := map[string]string{}
	for _, p := range pods(t, render(t)) {
		image := p.container().Image
		if other := seen[image]; other != "" && p.kind != "Pod" {
			t.Errorf("%s and %s have the image %s", p, other, image)
		}
		seen[image] = p.String()
	}
}

// A Service selects the pods of one part, and its ports are theirs.
func TestServicesReachTheirPods(t *testing.T) {
	t.Parallel()
	everyInstallation(t, func(t *testing.T, r rendered) {
		services := all[corev1.Service](t, r, "Service")
		for _, s := range services {
			var selected []*pod
			for _, p := range pods(t, r) {
				if p.namespace == s.Namespace && selects(t, &metav1.LabelSelector{MatchLabels: s.Spec.Selector}, p.labels) {
					selected = append(selected, p)
				}
			}
			if len(selected) != 1 || selected[0].component() != s.Labels["app.kubernetes.io/component"] {
				t.Errorf("Service %s selects %v", s.Name, selected)
				continue
			}
			for _, port := range s.Spec.Ports {
				if !hasPort(selected[0].container(), port.TargetPort) {
					t.Errorf("Service %s: %s has no port %s", s.Name, selected[0], port.TargetPort.String())
				}
			}
		}
		if len(services) < 3 {
			t.Errorf("%d Services, want one for each of frontend, director and matchfunction at least", len(services))
		}
	})
}

func hasPort(c *corev1.Container, port intstr.IntOrString) bool {
	for _, p := range c.Ports {
		if p.Name == port.StrVal || p.ContainerPort == port.IntVal {
			return true
		}
	}
	return false
}

func TestDeploymentsSelectTheirPods(t *testing.T) {
	t.Parallel()
	everyInstallation(t, func(t *testing.T, r rendered) {
		for _, d := range all[appsv1.Deployment](t, r, "Deployment") {
			for _, p := range pods(t, r) {
				if got, want := selects(t, d.Spec.Selector, p.labels), p.name == d.Name; got != want {
					t.Errorf("Deployment %s selects the pods of %s: %t", d.Name, p, got)
				}
			}
			for _, spread := range d.Spec.Template.Spec.TopologySpreadConstraints {
				if !selects(t, spread.LabelSelector, d.Spec.Template.Labels) {
					t.Errorf("Deployment %s: a spread does not count its own pods", d.Name)
				}
			}
		}
	})
}

// A budget for each stateless part that can spare a pod, and for no room: Agones guards those.
func TestDisruptionBudgets(t *testing.T) {
	t.Parallel()
	everyInstallation(t, func(t *testing.T, r rendered) {
		budgets := all[policyv1.PodDisruptionBudget](t, r, "PodDisruptionBudget")
		for _, p := range pods(t, r) {
			guards := 0
			for _, b := range budgets {
				if b.Namespace == p.namespace && selects(t, b.Spec.Selector, p.labels) {
					guards++
				}
			}
			want := 0
			if p.kind == "Deployment" && len(budgets) > 0 {
				want = 1
			}
			if guards != want {
				t.Errorf("%s has %d budgets, want %d", p, guards, want)
			}
		}
	})
}

func TestRoutesLeadToTheFrontend(t *testing.T) {
	t.Parallel()
	r := render(t, "testdata/everything.yaml")
	ports := map[string]int32{}
	for _, s := range all[corev1.Service](t, r, "Service") {
		for _, p := range s.Spec.Ports {
			ports[s.Name+":"+p.Name] = p.Port
		}
	}
	for _, i := range all[networkingv1.Ingress](t, r, "Ingress") {
		backend := i.Spec.Rules[0].HTTP.Paths[0].Backend.Service
		if ports[backend.Name+":"+backend.Port.Name] == 0 {
			t.Errorf("the Ingress leads to %s:%s, which is not there", backend.Name, backend.Port.Name)
		}
	}
	type route struct {
		metav1.TypeMeta   `json:",inline"`
		metav1.ObjectMeta `json:"metadata"`
		Spec              struct {
			ParentRefs, Hostnames any
			Rules                 []struct {
				Matches, Timeouts any
				BackendRefs       []struct {
					Name string
					Port int32
				}
			}
		}
	}
	for _, h := range all[route](t, r, "HTTPRoute") {
		if backend := h.Spec.Rules[0].BackendRefs[0]; backend.Port == 0 || ports[backend.Name+":lobby"] != backend.Port {
			t.Errorf("the HTTPRoute leads to %s:%d, which is not there", backend.Name, backend.Port)
		}
	}
}

func TestMonitorsSeeEveryPart(t *testing.T) {
	t.Parallel()
	r := render(t, "testdata/everything.yaml")
	type monitor struct {
		metav1.TypeMeta   `json:",inline"`
		metav1.ObjectMeta `json:"metadata"`
		Spec              struct {
			NamespaceSelector   struct{ MatchNames []string }
			Selector            metav1.LabelSelector
			PodTargetLabels     []string
			TargetLabels        []string
			Endpoints           []struct{ Port, Path, Interval string }
			PodMetricsEndpoints []struct{ Port, Path, Interval string }
		}
	}
	for _, m := range all[monitor](t, r, "PodMonitor") {
		for _, p := range pods(t, r) {
			if p.component() == "test" {
				continue
			}
			if !selects(t, &m.Spec.Selector, p.labels) || !contains(m.Spec.NamespaceSelector.MatchNames, p.namespace) {
				t.Errorf("the PodMonitor does not see %s", p)
			}
			if !hasPort(p.container(), intstr.FromString(m.Spec.PodMetricsEndpoints[0].Port)) {
				t.Errorf("%s has no port %s", p, m.Spec.PodMetricsEndpoints[0].Port)
			}
		}
	}
	for _, m := range all[monitor](t, r, "ServiceMonitor") {
		seen := 0
		for _, s := range all[corev1.Service](t, r, "Service") {
			if selects(t, &m.Spec.Selector, s.Labels) {
				seen++
				if s.Spec.Type == corev1.ServiceTypeLoadBalancer {
					t.Errorf("the admin port is on the load balancer of %s", s.Name)
				}
			}
		}
		if seen != 3 {
			t.Errorf("the ServiceMonitor sees %d Services, want 3", seen)
		}
	}
}

func contains(list []string, wanted string) bool {
	for _, item := range list {
		if item == wanted {
			return true
		}
	}
	return false
}

// A file that is mounted alone stays what it was when its pod began: no secret would rotate.
func TestSecretsAreMountedWhole(t *testing.T) {
	t.Parallel()
	everyInstallation(t, func(t *testing.T, r rendered) {
		for _, p := range pods(t, r) {
			for _, mount := range p.container().VolumeMounts {
				if mount.SubPath != "" || mount.SubPathExpr != "" {
					t.Errorf("%s mounts %s by subPath", p, mount.MountPath)
				}
			}
			for _, v := range p.container().Env {
				if v.ValueFrom != nil && v.ValueFrom.SecretKeyRef != nil {
					t.Errorf("%s has the secret %s as a variable", p, v.Name)
				}
			}
		}
	})
}

// Secrets are mounted where they are, and each that is mounted is one that the notes and External Secrets know.
func TestEverySecretIsFilled(t *testing.T) {
	t.Parallel()
	r := render(t, "testdata/everything.yaml")
	filled := map[string]bool{}
	for _, o := range r {
		if o.Kind == "ExternalSecret" {
			filled[o.Metadata.Namespace+"/"+o.Metadata.Name] = true
		}
	}
	mounted := map[string]bool{}
	for _, p := range pods(t, r) {
		for _, v := range p.spec.Volumes {
			if v.Secret != nil && p.component() != "test" { // its token is the tester's
				mounted[p.namespace+"/"+v.Secret.SecretName] = true
			}
		}
	}
	for name := range mounted {
		if !filled[name] {
			t.Errorf("%s is mounted, and nobody fills it", name)
		}
	}
	for name := range filled {
		if !mounted[name] {
			t.Errorf("%s is filled, and nobody mounts it", name)
		}
	}
}
