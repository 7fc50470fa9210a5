package agones

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/guildhall-dev/guildhall/internal/agoneslocal"
	"github.com/guildhall-dev/guildhall/internal/certtest"
)

// kubernetes is an allocator in the form of the Kubernetes API, and who may use it.
type kubernetes struct {
	url, token, namespace, fleet string
	standIn                      *agoneslocal.Server // nil for a real one
	client                       *http.Client
}

// setupKubernetes gives one with at least so many Ready game servers, of the test's own or real.
func setupKubernetes(t *testing.T, ready int) (*kubernetes, context.Context) {
	t.Helper()
	t.Parallel()
	ctx := bounded(t)
	if url := os.Getenv("GUILDHALL_TEST_AGONES_KUBERNETES"); url != "" {
		return realKubernetes(t, url), ctx
	}
	const token = "a-token-for-the-test"
	authority := certtest.New(t)
	server := startStandIn(t, ctx, ready, func(c *agoneslocal.Config) {
		c.KubernetesListen = "127.0.0.1:0"
		c.KubernetesTLS = &tls.Config{Certificates: []tls.Certificate{authority.Pair(certtest.Leaf{Host: "127.0.0.1"})}}
		c.KubernetesToken = func() string { return token }
	})
	makeReady(t, ctx, server, ready)
	return &kubernetes{
		url: "https://" + server.KubernetesAddr(), token: token, namespace: "default", fleet: "guildhall-rooms",
		standIn: server, client: trusting(t, authority.Pool()),
	}, ctx
}

func realKubernetes(t *testing.T, url string) *kubernetes {
	t.Helper()
	read := func(variable string) []byte {
		text, err := os.ReadFile(os.Getenv(variable))
		if err != nil {
			t.Fatalf("%s: %v", variable, err)
		}
		return text
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(read("GUILDHALL_TEST_AGONES_KUBERNETES_CA")) {
		t.Fatal("no certificate in GUILDHALL_TEST_AGONES_KUBERNETES_CA")
	}
	k := &kubernetes{
		url: strings.TrimSuffix(url, "/"), token: strings.TrimSpace(string(read("GUILDHALL_TEST_AGONES_KUBERNETES_TOKEN"))),
		namespace: os.Getenv("GUILDHALL_TEST_AGONES_NAMESPACE"), fleet: os.Getenv("GUILDHALL_TEST_AGONES_FLEET"),
		client: trusting(t, roots),
	}
	if k.fleet == "" {
		t.Fatal("GUILDHALL_TEST_AGONES_FLEET must name the fleet")
	}
	if k.namespace == "" {
		k.namespace = "default"
	}
	return k
}

func trusting(t *testing.T, roots *x509.CertPool) *http.Client {
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// created is what of a GameServerAllocation comes back.
type created struct {
	Kind    string
	Message string // of a Status
	Status  json.RawMessage
}

// allocated is its status.
type allocated struct {
	State, GameServerName, Address, NodeName, Source string
	Metadata                                         struct{ Labels, Annotations labels }
	Ports                                            []struct {
		Name string
		Port int
	}
}

func (c *created) status(t *testing.T) allocated {
	t.Helper()
	var status allocated
	if err := json.Unmarshal(c.Status, &status); err != nil {
		t.Fatalf("%s: %v", c.Status, err)
	}
	return status
}

// create posts an object with a spec.
func (k *kubernetes) create(t *testing.T, ctx context.Context, token string, spec any) (int, *created) {
	t.Helper()
	body, err := json.Marshal(map[string]any{"apiVersion": "allocation.agones.dev/v1", "kind": "GameServerAllocation", "spec": spec})
	if err != nil {
		t.Fatal(err)
	}
	url := k.url + "/apis/allocation.agones.dev/v1/namespaces/" + k.namespace + "/gameserverallocations"
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Authorization", "Bearer "+token)
	response, err := k.client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	got := &created{}
	if err := json.Unmarshal(text, got); err != nil {
		got.Message = string(text)
	}
	return response.StatusCode, got
}

// spec asks for a Ready game server of the fleet, and labels it with the group.
func (k *kubernetes) spec(group string) map[string]any {
	return map[string]any{
		"scheduling": "Packed",
		"selectors":  []any{map[string]any{"matchLabels": labels{"agones.dev/fleet": k.fleet}, "gameServerState": "Ready"}},
		"metadata":   map[string]any{"labels": labels{"group": group}, "annotations": labels{"guildhall.dev/why": "a test, and any text"}},
	}
}

func TestKubernetesAllocation(t *testing.T) {
	k, ctx := setupKubernetes(t, 1)
	group := unique()
	code, got := k.create(t, ctx, k.token, k.spec(group))
	for k.standIn == nil && code == http.StatusCreated && got.status(t).State != "Allocated" {
		code, got = k.create(t, ctx, k.token, k.spec(group)) // each try takes its batch wait
	}
	if code != http.StatusCreated || got.Kind != "GameServerAllocation" {
		t.Fatalf("%d, %+v", code, got)
	}
	status := got.status(t)
	if status.State != "Allocated" || !strings.HasPrefix(status.GameServerName, k.fleet+"-") || status.Address == "" || status.NodeName == "" || status.Source != "local" || len(status.Ports) == 0 {
		t.Errorf("%+v", status)
	}
	if status.Metadata.Labels["group"] != group || status.Metadata.Annotations["guildhall.dev/why"] != "a test, and any text" {
		t.Errorf("%+v", status.Metadata)
	}
}

// What cannot be had is a success for Kubernetes.
func TestKubernetesUnAllocated(t *testing.T) {
	k, ctx := setupKubernetes(t, 1)
	for name, selector := range map[string]any{
		"label":   map[string]any{"matchLabels": labels{"no": "where"}},
		"counter": map[string]any{"counters": map[string]any{"missing": map[string]any{"minAvailable": 1}}},
	} {
		spec := k.spec(unique())
		spec["selectors"] = []any{selector}
		code, got := k.create(t, ctx, k.token, spec)
		if code != http.StatusCreated || got.status(t).State != "UnAllocated" || got.status(t).GameServerName != "" {
			t.Errorf("%s: %d, %+v", name, code, got)
		}
	}
}

func TestKubernetesInvalidLabel(t *testing.T) {
	k, ctx := setupKubernetes(t, 1)
	code, got := k.create(t, ctx, k.token, k.spec("guild:dragons"))
	if code != http.StatusUnprocessableEntity || got.Kind != "Status" || !strings.Contains(got.Message, "invalid") {
		t.Errorf("%d, %+v", code, got)
	}
}

func TestKubernetesKnowsWhoAsks(t *testing.T) {
	k, ctx := setupKubernetes(t, 1)
	code, got := k.create(t, ctx, "not a token", k.spec(unique()))
	if !slices.Contains([]int{http.StatusUnauthorized, http.StatusForbidden}, code) || got.Kind != "Status" {
		t.Errorf("%d, %+v", code, got)
	}
}
