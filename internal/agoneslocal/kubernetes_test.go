package agoneslocal

import (
	"crypto/tls"
	"encoding/json"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	allocation "agones.dev/agones/pkg/allocation/go"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/guildhall-dev/guildhall/internal/certtest"
)

const allocationsPath = "/apis/allocation.agones.dev/v1/namespaces/default/gameserverallocations"

// kubernetesBench is a bench with the form of the Kubernetes API.
type kubernetesBench struct {
	*bench
	client *http.Client
	token  atomic.Pointer[string]
}

func setupKubernetes(t *testing.T, change func(*Config)) *kubernetesBench {
	t.Helper()
	k := &kubernetesBench{}
	authority, token := certtest.New(t), "a-token"
	k.token.Store(&token)
	k.bench = setup(t, good, func(c *Config) {
		c.KubernetesListen = "127.0.0.1:0"
		c.KubernetesTLS = &tls.Config{Certificates: []tls.Certificate{authority.Pair(certtest.Leaf{Host: "127.0.0.1"})}}
		c.KubernetesToken = func() string { return *k.token.Load() }
		if change != nil {
			change(c)
		}
	})
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: authority.Pool()}}
	t.Cleanup(transport.CloseIdleConnections)
	k.client = &http.Client{Transport: transport}
	return k
}

// create posts an object, and gives what comes back.
func (k *kubernetesBench) create(path, token, body string) (int, map[string]any) {
	k.t.Helper()
	request, err := http.NewRequestWithContext(k.ctx, http.MethodPost, "https://"+k.KubernetesAddr()+path, strings.NewReader(body))
	if err != nil {
		k.t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+token)
	response, err := k.client.Do(request)
	if err != nil {
		k.t.Fatal(err)
	}
	defer response.Body.Close()
	var got map[string]any
	_ = json.NewDecoder(response.Body).Decode(&got) // an error is plain text, and gives nil
	return response.StatusCode, got
}

func TestCreatingAnAllocation(t *testing.T) {
	t.Parallel()
	k := setupKubernetes(t, func(c *Config) {
		c.Fleet.Ports = []string{"game"}
		c.Fleet.Counters = map[string]Counter{"rooms": {Count: 1, Capacity: 5}}
		c.Fleet.Lists = map[string]List{"groups": {Values: []string{"a"}, Capacity: 2}}
	})
	gs := k.ready(1)[0]
	code, got := k.create(allocationsPath, "a-token", `{
		"apiVersion": "allocation.agones.dev/v1", "kind": "GameServerAllocation",
		"spec": {
			"selectors": [
				{"matchLabels": {"no": "where"}},
				{"matchLabels": {"agones.dev/fleet": "guildhall-rooms"}, "gameServerState": "Ready", "counters": {"rooms": {"minAvailable": 1}}}
			],
			"scheduling": "Packed",
			"metadata": {"labels": {"group": "dragons"}, "annotations": {"why": "a test"}},
			"counters": {"rooms": {"action": "Increment", "amount": 2}},
			"lists": {"groups": {"addValues": ["b"]}}
		}
	}`)
	if code != http.StatusCreated || got["kind"] != "GameServerAllocation" || got["apiVersion"] != "allocation.agones.dev/v1" {
		t.Fatalf("%d, %v", code, got)
	}
	text, err := json.Marshal(got["status"])
	if err != nil {
		t.Fatal(err)
	}
	var status objectStatus
	if err := json.Unmarshal(text, &status); err != nil {
		t.Fatal(err)
	}
	if status.State != "Allocated" || status.GameServerName != gs.Name || status.Address != "127.0.0.1" || status.Source != "local" ||
		status.NodeName == "" || len(status.Addresses) != 1 || int(status.Ports[0].Port) != gs.Ports["game"] {
		t.Errorf("%+v", status)
	}
	if status.Counters["rooms"] != (objectCounter{Count: 3, Capacity: 5}) || strings.Join(status.Lists["groups"].Values, " ") != "a b" {
		t.Errorf("%+v", status)
	}
	if status.Metadata.Labels["group"] != "dragons" || status.Metadata.Annotations["why"] != "a test" {
		t.Errorf("%+v", status.Metadata)
	}
	again := `{"spec":{"required":{"gameServerState":"Allocated"},"preferred":[{"matchLabels":{"no":"where"}}]}}`
	if code, got := k.create(allocationsPath, "a-token", again); code != http.StatusCreated || got["status"].(map[string]any)["gameServerName"] != gs.Name {
		t.Errorf("%d, %v", code, got)
	}
}

func TestWhatKubernetesRefuses(t *testing.T) {
	t.Parallel()
	k := setupKubernetes(t, nil)
	k.ready(1)
	for name, c := range map[string]struct {
		path, token, body string
		want              int
	}{
		"no token":         {allocationsPath, "", `{}`, http.StatusUnauthorized},
		"another token":    {allocationsPath, "another", `{}`, http.StatusUnauthorized},
		"another resource": {"/apis/agones.dev/v1/namespaces/default/gameservers", "a-token", `{}`, http.StatusNotFound},
		"no JSON":          {allocationsPath, "a-token", `spec:`, http.StatusInternalServerError},
		"no such state":    {allocationsPath, "a-token", `{"spec":{"selectors":[{"gameServerState":"Sleepy"}]}}`, http.StatusInternalServerError},
		"no such field":    {allocationsPath, "a-token", `{"spec":{"selector":{}}}`, http.StatusInternalServerError},
		"an invalid label": {allocationsPath, "a-token", `{"spec":{"metadata":{"labels":{"group":"guild:dragons"}}}}`, http.StatusUnprocessableEntity},
		"too large":        {allocationsPath, "a-token", `"` + strings.Repeat("x", maxObject) + `"`, http.StatusRequestEntityTooLarge},
	} {
		if code, got := k.create(c.path, c.token, c.body); code != c.want {
			t.Errorf("%s: %d, %v; want %d", name, code, got, c.want)
		}
	}
	response, err := k.client.Get("https://" + k.KubernetesAddr() + allocationsPath)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusUnauthorized {
		t.Errorf("%d", response.StatusCode)
	}
}

// What cannot be had is said in the status of an object that was created.
func TestNoneIsASuccess(t *testing.T) {
	t.Parallel()
	k := setupKubernetes(t, nil)
	k.ready(1)
	code, got := k.create(allocationsPath, "a-token", `{"spec":{"required":{"matchLabels":{"no":"where"}}}}`)
	if status, _ := got["status"].(map[string]any); code != http.StatusCreated || status["state"] != "UnAllocated" || status["gameServerName"] != "" {
		t.Errorf("%d, %v", code, got)
	}
}

// The allocator takes who shows a certificate of its authority, and nobody else.
func TestAllocatorWithClientCertificates(t *testing.T) {
	t.Parallel()
	authority := certtest.New(t)
	b := setup(t, good, func(c *Config) {
		c.AllocatorTLS = &tls.Config{
			Certificates: []tls.Certificate{authority.Pair(certtest.Leaf{Host: "127.0.0.1"})},
			ClientAuth:   tls.RequireAndVerifyClientCert, ClientCAs: authority.Pool(),
		}
	})
	b.ready(1)
	for name, c := range map[string]struct {
		config *tls.Config
		want   codes.Code
	}{
		"none":    {&tls.Config{RootCAs: authority.Pool()}, codes.Unavailable},
		"foreign": {&tls.Config{RootCAs: authority.Pool(), Certificates: []tls.Certificate{certtest.New(t).Pair(certtest.Leaf{})}}, codes.Unavailable},
		"ours":    {&tls.Config{RootCAs: authority.Pool(), Certificates: []tls.Certificate{authority.Pair(certtest.Leaf{})}}, codes.OK},
	} {
		conn, err := grpc.NewClient(b.AllocatorAddr(), grpc.WithTransportCredentials(credentials.NewTLS(c.config)))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		got, err := allocation.NewAllocationServiceClient(conn).Allocate(b.ctx, wanted())
		if status.Code(err) != c.want {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

// A stand-in that is never run gives both its ports back, and one whose second port is taken gives back the first.
func TestPortsAreGivenBack(t *testing.T) {
	t.Parallel()
	first, err := New(Config{KubernetesListen: "127.0.0.1:0", Fleet: Fleet{Command: inRole(good)}})
	if err != nil {
		t.Fatal(err)
	}
	taken, free := first.KubernetesAddr(), first.AllocatorAddr()
	if _, err := New(Config{KubernetesListen: taken, Fleet: Fleet{Command: inRole(good)}}); err == nil {
		t.Error("a port is listened on twice")
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := New(Config{AllocatorListen: free, KubernetesListen: taken, Fleet: Fleet{Command: inRole(good)}})
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}
