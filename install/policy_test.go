package install

import (
	"reflect"
	"slices"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
)

// TestEveryPodIsRestricted holds every pod to the restricted Pod Security Standard, and to what we want beyond it.
func TestEveryPodIsRestricted(t *testing.T) {
	t.Parallel()
	everyInstallation(t, func(t *testing.T, r rendered) {
		for _, p := range pods(t, r) {
			for _, complaint := range unrestricted(p) {
				t.Errorf("%s: %s", p, complaint)
			}
		}
	})
}

// unrestricted says what is wrong with a pod.
func unrestricted(p *pod) []string {
	var complaints []string
	check := func(good bool, complaint string) {
		if !good {
			complaints = append(complaints, complaint)
		}
	}
	check(!p.spec.HostNetwork && !p.spec.HostPID && !p.spec.HostIPC, "shares a namespace of the node")
	check(p.spec.EnableServiceLinks != nil && !*p.spec.EnableServiceLinks, "gets variables for each Service beside it")
	podSecurity := p.spec.SecurityContext
	check(podSecurity != nil && podSecurity.SeccompProfile != nil && podSecurity.SeccompProfile.Type == corev1.SeccompProfileTypeRuntimeDefault, "the pod has no seccomp profile")
	check(podSecurity != nil && isTrue(podSecurity.RunAsNonRoot), "the pod may run as root")
	check(podSecurity != nil && podSecurity.FSGroup != nil, "whose files are the Secrets'?")
	for _, v := range p.spec.Volumes {
		check(v.Secret != nil && v.HostPath == nil, "volume "+v.Name+" is no Secret")
		check(v.Secret == nil || v.Secret.DefaultMode != nil && *v.Secret.DefaultMode&0o7 == 0, "everybody reads "+v.Name)
	}
	for _, c := range slices.Concat(p.spec.InitContainers, p.spec.Containers) {
		s := c.SecurityContext
		if s == nil {
			complaints = append(complaints, c.Name+" has no security context")
			continue
		}
		check(isTrue(s.RunAsNonRoot) && s.RunAsUser != nil && *s.RunAsUser > 0, c.Name+" may run as root")
		check(isFalse(s.AllowPrivilegeEscalation), c.Name+" may gain privileges")
		check(isTrue(s.ReadOnlyRootFilesystem), c.Name+" writes to its image")
		check(s.Privileged == nil || !*s.Privileged, c.Name+" is privileged")
		check(s.Capabilities != nil && slices.Equal(s.Capabilities.Drop, []corev1.Capability{"ALL"}) && len(s.Capabilities.Add) == 0, c.Name+" has capabilities")
		check(s.SeccompProfile != nil && s.SeccompProfile.Type == corev1.SeccompProfileTypeRuntimeDefault, c.Name+" has no seccomp profile")
		for _, resource := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
			request, limit := c.Resources.Requests[resource], c.Resources.Limits[resource]
			check(!request.IsZero() && !limit.IsZero() && request.Cmp(limit) <= 0, c.Name+" has no request and limit of "+string(resource))
		}
		for _, port := range c.Ports {
			check(port.HostPort == 0, c.Name+" takes a port of the node")
		}
	}
	return complaints
}

func isTrue(b *bool) bool  { return b != nil && *b }
func isFalse(b *bool) bool { return b != nil && !*b }

// The check above finds what it looks for.
func TestUnrestrictedPodsAreFound(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(*pod){
		"root":         func(p *pod) { p.container().SecurityContext.RunAsUser = new(int64) },
		"capability":   func(p *pod) { p.container().SecurityContext.Capabilities.Add = []corev1.Capability{"NET_ADMIN"} },
		"no drop":      func(p *pod) { p.container().SecurityContext.Capabilities.Drop = nil },
		"writes":       func(p *pod) { p.container().SecurityContext.ReadOnlyRootFilesystem = nil },
		"no seccomp":   func(p *pod) { p.spec.SecurityContext.SeccompProfile = nil },
		"no limit":     func(p *pod) { delete(p.container().Resources.Limits, corev1.ResourceMemory) },
		"host network": func(p *pod) { p.spec.HostNetwork = true },
		"init":         func(p *pod) { p.spec.InitContainers = []corev1.Container{{Name: "init"}} },
		"host path": func(p *pod) {
			p.spec.Volumes[0].VolumeSource = corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/"}}
		},
		"host port": func(p *pod) { p.container().Ports[0].HostPort = 7777 },
	} {
		p := podOf(t, render(t), "frontend")
		if spoil(p); len(unrestricted(p)) == 0 {
			t.Errorf("%s: nothing was found", name)
		}
	}
}

// Every service is probed; a room's host tells Agones that it lives, and a probe of ours would take the place of Agones'.
func TestProbes(t *testing.T) {
	t.Parallel()
	everyInstallation(t, func(t *testing.T, r rendered) {
		for _, p := range pods(t, r) {
			c := p.container()
			if want := p.kind == "Deployment"; want != (c.LivenessProbe != nil && c.ReadinessProbe != nil && c.StartupProbe != nil) {
				t.Errorf("%s has probes: %t", p, !want)
			}
		}
	})
}

// Each part has an account of its own, and the rooms have Agones'. Nobody has a token or a right but a director that
// allocates by the Kubernetes API: it may create allocations where the Fleet is, and nothing else.
func TestNobodyHasRights(t *testing.T) {
	t.Parallel()
	everyInstallation(t, func(t *testing.T, r rendered) {
		byKubernetes := environment(podOf(t, r, "director"))["GUILDHALL_AGONES_DOOR"] == "kubernetes"
		accounts := map[string]bool{}
		for _, a := range all[corev1.ServiceAccount](t, r, "ServiceAccount") {
			accounts[a.Namespace+"/"+a.Name] = true
			if !isFalse(a.AutomountServiceAccountToken) {
				t.Errorf("the token of %s is mounted", a.Name)
			}
		}
		used := map[string]bool{}
		for _, d := range all[appsv1.Deployment](t, r, "Deployment") {
			spec := d.Spec.Template.Spec
			account := d.Namespace + "/" + spec.ServiceAccountName
			if !accounts[account] || used[account] {
				t.Errorf("Deployment %s has the account %s", d.Name, account)
			}
			used[account] = true
			calls := byKubernetes && d.Labels["app.kubernetes.io/component"] == "director"
			if *spec.AutomountServiceAccountToken != calls {
				t.Errorf("Deployment %s has a token: %t", d.Name, !calls)
			}
		}
		var rights []string
		for _, o := range r {
			switch o.Kind {
			case "Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding":
				rights = append(rights, o.String())
			}
		}
		var want []string
		if byKubernetes {
			where := theFleet(t, r).Metadata.Namespace
			want = []string{"Role " + where + "/guildhall-director", "RoleBinding " + where + "/guildhall-director"}
		}
		if slices.Sort(rights); !slices.Equal(rights, want) {
			t.Errorf("rights are given by %v, want %v", rights, want)
		}
		for _, role := range all[rbacv1.Role](t, r, "Role") {
			least := []rbacv1.PolicyRule{{APIGroups: []string{"allocation.agones.dev"}, Resources: []string{"gameserverallocations"}, Verbs: []string{"create"}}}
			if !reflect.DeepEqual(role.Rules, least) {
				t.Errorf("Role %s gives %v", role.Name, role.Rules)
			}
		}
		for _, b := range all[rbacv1.RoleBinding](t, r, "RoleBinding") {
			if len(b.Subjects) != 1 || b.Subjects[0] != (rbacv1.Subject{Kind: "ServiceAccount", Name: "guildhall-director", Namespace: namespace}) {
				t.Errorf("RoleBinding %s is for %v", b.Name, b.Subjects)
			}
		}
	})
	if account := podOf(t, render(t), "roomserver").spec.ServiceAccountName; account != "" {
		t.Errorf("rooms have the account %s: their container would see its token", account)
	}
}
