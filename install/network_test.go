package install

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
)

// place is somebody on the network: a pod of ours, somebody else's, or an address.
type place struct {
	name      string
	namespace string
	labels    map[string]string
	address   string
	ours      bool
}

// others are whom the parts talk to, and who might try.
var others = []place{
	{name: "nats", namespace: "nats", labels: map[string]string{"app.kubernetes.io/name": "nats"}, address: "10.1.0.1"},
	{name: "openmatch-frontend", namespace: "open-match", labels: map[string]string{"app": "open-match", "component": "frontend"}, address: "10.1.0.2"},
	{name: "openmatch-backend", namespace: "open-match", labels: map[string]string{"app": "open-match", "component": "backend"}, address: "10.1.0.3"},
	{name: "openmatch-query", namespace: "open-match", labels: map[string]string{"app": "open-match", "component": "query"}, address: "10.1.0.4"},
	{name: "openmatch-synchronizer", namespace: "open-match", labels: map[string]string{"app": "open-match", "component": "synchronizer"}, address: "10.1.0.5"},
	{name: "allocator", namespace: "agones-system", labels: map[string]string{"multicluster.agones.dev/role": "allocator"}, address: "10.1.0.6"},
	{name: "agones-controller", namespace: "agones-system", labels: map[string]string{"agones.dev/role": "controller"}, address: "10.1.0.7"},
	{name: "dns", namespace: "kube-system", labels: map[string]string{"k8s-app": "kube-dns"}, address: "10.1.0.8"},
	{name: "collector", namespace: "observability", labels: map[string]string{"app.kubernetes.io/name": "opentelemetry-collector"}, address: "10.1.0.14"},
	{name: "prometheus", namespace: "monitoring", address: "10.1.0.9"},
	{name: "ingress", namespace: "ingress", address: "10.1.0.10"},
	{name: "operator", namespace: "operators", address: "10.1.0.11"},
	{name: "stranger", namespace: "default", address: "10.1.0.12"},
	{name: "neighbour", namespace: namespace, labels: map[string]string{"app.kubernetes.io/name": "redis"}, address: "10.1.0.13"},
	{name: "api-server", address: "10.0.0.1"},
	{name: "player", address: "198.51.100.7"},
	{name: "metadata", address: "169.254.169.254"},
}

var ports = []int32{53, 80, 443, 4222, 4317, 6222, 6443, 7000, 7001, 7500, 7777, 7778, 8080, 8443, 9090, 50502, 50503, 50504, 50505, 50506, 50600}

// TestNetworkHasTheEdgesOfATicket lists every connection that the policies let through, with everything switched on and
// every address narrowed.
func TestNetworkHasTheEdgesOfATicket(t *testing.T) {
	t.Parallel()
	want := []string{
		// The path of a ticket.
		"ingress -> frontend:7777", "ingress -> frontend:7778",
		"frontend -> nats:4222",
		"frontend -> openmatch-frontend:50504",
		"openmatch-backend -> matchfunction:50502",
		"matchfunction -> openmatch-query:50503",
		"director -> openmatch-backend:50505",
		"director -> openmatch-frontend:50504",
		"director -> nats:4222",
		"director -> allocator:8443",
		"director -> roomserver:7001",
		"roomserver -> nats:4222",
		"player -> roomserver:7500",
		// What is traced of it.
		"frontend -> collector:4317", "director -> collector:4317", "matchfunction -> collector:4317", "roomserver -> collector:4317",
		// The sidecar of a host.
		"roomserver -> api-server:443",
		// Those who look after it.
		"operator -> director:50600",
		"test -> director:50600",
		"test -> frontend:7777",
	}
	for _, part := range []string{"frontend", "director", "matchfunction", "roomserver", "test"} {
		want = append(want, part+" -> dns:53", "prometheus -> "+part+":9090")
	}
	for _, port := range ports { // the test dials its room as a player does
		want = append(want, fmt.Sprintf("test -> player:%d", port))
	}
	compareEdges(t, edges(t, render(t, "testdata/everything.yaml")), want)
}

func compareEdges(t *testing.T, got, want []string) {
	t.Helper()
	for _, edge := range got {
		if !slices.Contains(want, edge) {
			t.Errorf("allowed and not needed: %s", edge)
		}
	}
	for _, edge := range want {
		if !slices.Contains(got, edge) {
			t.Errorf("needed and not allowed: %s", edge)
		}
	}
}

// As values come, players and the API server may be anywhere; all the rest is as narrow.
func TestNetworkOfEveryInstallation(t *testing.T) {
	t.Parallel()
	everyInstallation(t, func(t *testing.T, r rendered) {
		allowed := edges(t, r)
		allocation := "director -> allocator:8443"
		if environment(podOf(t, r, "director"))["GUILDHALL_AGONES_DOOR"] == "kubernetes" {
			allocation = "director -> api-server:443"
		}
		for _, edge := range []string{
			"frontend -> nats:4222", "frontend -> openmatch-frontend:50504", "openmatch-backend -> matchfunction:50502",
			"matchfunction -> openmatch-query:50503", "director -> openmatch-backend:50505", "director -> openmatch-frontend:50504",
			"director -> nats:4222", allocation, "director -> roomserver:7001", "roomserver -> nats:4222",
			"director -> dns:53", "prometheus -> roomserver:9090", "test -> director:50600",
		} {
			if !slices.Contains(allowed, edge) {
				t.Errorf("needed and not allowed: %s", edge)
			}
		}
		for _, edge := range allowed {
			from, to, _ := strings.Cut(edge, " -> ")
			if reason := unwanted(from, to); reason != "" && edge != allocation {
				t.Errorf("%s is allowed, but %s", edge, reason)
			}
		}
	})
}

// unwanted says why nobody wants a connection, in whatever installation.
func unwanted(from, to string) string {
	called, port, _ := strings.Cut(to, ":")
	private := called == "director" || called == "matchfunction" || port == "9090" || port == "7001"
	switch {
	case slices.Contains([]string{"stranger", "player", "neighbour", "metadata", "nats"}, from) && private:
		return "it is none of their business"
	case from == "frontend" && !slices.Contains([]string{"nats", "openmatch-frontend", "dns", "collector"}, called):
		return "a frontend calls nobody else"
	case from == "matchfunction" && !slices.Contains([]string{"openmatch-query", "dns", "collector"}, called):
		return "a match function calls nobody else"
	case from == "director" && !slices.Contains([]string{"nats", "openmatch-frontend", "openmatch-backend", "allocator", "roomserver", "dns", "collector"}, called):
		return "a director calls nobody else"
	case from == "roomserver" && called != "nats" && called != "dns" && called != "collector" && port != "443" && port != "6443":
		return "a host calls nobody but NATS, and its sidecar the API server"
	}
	return ""
}

// Without policies of the parts, the default one alone lets nothing through but names and metrics.
func TestDefaultDeny(t *testing.T) {
	t.Parallel()
	var alone rendered
	for _, o := range render(t, "testdata/everything.yaml") {
		if o.Kind != "NetworkPolicy" || strings.HasSuffix(o.Metadata.Name, "-default") {
			alone = append(alone, o)
		}
	}
	for _, edge := range edges(t, alone) {
		if !strings.HasSuffix(edge, "-> dns:53") && !strings.HasPrefix(edge, "prometheus -> ") {
			t.Errorf("allowed by default: %s", edge)
		}
	}
}

// edges gives every connection between a pod of ours and anybody that the policies let through.
func edges(t *testing.T, r rendered) []string {
	t.Helper()
	policies := all[networkingv1.NetworkPolicy](t, r, "NetworkPolicy")
	places := slices.Clone(others)
	seen := map[string]bool{}
	for i, p := range pods(t, r) {
		if !seen[p.component()] {
			places = append(places, place{p.component(), p.namespace, p.labels, fmt.Sprintf("10.2.0.%d", i+1), true})
		}
		seen[p.component()] = true
	}
	found := map[string]bool{}
	for _, from := range places {
		for _, to := range places {
			if from.name == to.name || !from.ours && !to.ours {
				continue
			}
			for _, port := range ports {
				if leaves(t, policies, from, to, port) && enters(t, policies, from, to, port) {
					found[fmt.Sprintf("%s -> %s:%d", from.name, to.name, port)] = true
				}
			}
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// leaves says whether the policies of from let it call.
func leaves(t *testing.T, policies []networkingv1.NetworkPolicy, from, to place, port int32) bool {
	t.Helper()
	isolated := false
	for _, p := range policies {
		if !governs(t, &p, from, networkingv1.PolicyTypeEgress) {
			continue
		}
		isolated = true
		for _, rule := range p.Spec.Egress {
			if opens(rule.Ports, port) && isPeer(t, rule.To, p.Namespace, to) {
				return true
			}
		}
	}
	return !isolated
}

// enters says whether the policies of to let it be called.
func enters(t *testing.T, policies []networkingv1.NetworkPolicy, from, to place, port int32) bool {
	t.Helper()
	isolated := false
	for _, p := range policies {
		if !governs(t, &p, to, networkingv1.PolicyTypeIngress) {
			continue
		}
		isolated = true
		for _, rule := range p.Spec.Ingress {
			if opens(rule.Ports, port) && isPeer(t, rule.From, p.Namespace, from) {
				return true
			}
		}
	}
	return !isolated
}

func governs(t *testing.T, p *networkingv1.NetworkPolicy, who place, direction networkingv1.PolicyType) bool {
	t.Helper()
	return who.ours && p.Namespace == who.namespace && selects(t, &p.Spec.PodSelector, who.labels) && slices.Contains(p.Spec.PolicyTypes, direction)
}

// opens says whether a rule has a port: of TCP, but for names, which are asked for by UDP.
func opens(ports []networkingv1.NetworkPolicyPort, port int32) bool {
	protocol := corev1.ProtocolTCP
	if port == 53 {
		protocol = corev1.ProtocolUDP
	}
	return len(ports) == 0 || slices.ContainsFunc(ports, func(p networkingv1.NetworkPolicyPort) bool {
		return p.Port.IntVal == port && *p.Protocol == protocol
	})
}

func isPeer(t *testing.T, peers []networkingv1.NetworkPolicyPeer, in string, who place) bool {
	t.Helper()
	return len(peers) == 0 || slices.ContainsFunc(peers, func(peer networkingv1.NetworkPolicyPeer) bool {
		if peer.IPBlock != nil {
			return netip.MustParsePrefix(peer.IPBlock.CIDR).Contains(netip.MustParseAddr(who.address))
		}
		inside := who.namespace == in
		if peer.NamespaceSelector != nil {
			inside = who.namespace != "" && selects(t, peer.NamespaceSelector, map[string]string{"kubernetes.io/metadata.name": who.namespace})
		}
		return inside && (peer.PodSelector == nil || selects(t, peer.PodSelector, who.labels))
	})
}
