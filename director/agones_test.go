package director

import (
	"maps"
	"strings"
	"testing"

	"github.com/guildhall-dev/guildhall/internal/process"
	"github.com/guildhall-dev/guildhall/internal/secret"
)

// What does not make sense together is refused at the start, and the variables are named.
func TestAgonesConfiguration(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		config AgonesConfig
		want   []string // in the error; none for no error
	}{
		"plaintext":           {AgonesConfig{}, nil},
		"mutual TLS":          {AgonesConfig{AgonesCertFile: "a", AgonesKeyFile: "b", AgonesCAFile: "c", AgonesServerName: "d"}, nil},
		"no key":              {AgonesConfig{AgonesCertFile: "a", AgonesCAFile: "c"}, []string{"not set: GUILDHALL_AGONES_KEY_FILE."}},
		"a CA alone":          {AgonesConfig{AgonesCAFile: "c"}, []string{"not set: GUILDHALL_AGONES_CERT_FILE, GUILDHALL_AGONES_KEY_FILE."}},
		"no CA":               {AgonesConfig{AgonesCertFile: "a", AgonesKeyFile: "b"}, []string{"not set: GUILDHALL_AGONES_CA_FILE."}},
		"a name alone":        {AgonesConfig{AgonesServerName: "d"}, []string{"GUILDHALL_AGONES_SERVER_NAME", "GUILDHALL_AGONES_CERT_FILE"}},
		"no such door":        {AgonesConfig{AgonesDoor: "rest"}, []string{`GUILDHALL_AGONES_DOOR="rest"`, "allocator or kubernetes"}},
		"kubernetes":          {AgonesConfig{AgonesDoor: DoorKubernetes}, nil},
		"kubernetes by URL":   {AgonesConfig{AgonesDoor: DoorKubernetes, AgonesKubernetesURL: "https://127.0.0.1:6443"}, nil},
		"a token in the open": {AgonesConfig{AgonesDoor: DoorKubernetes, AgonesKubernetesURL: "http://127.0.0.1:6443"}, []string{"GUILDHALL_AGONES_KUBERNETES_URL", "https://host:port"}},
		"no URL":              {AgonesConfig{AgonesDoor: DoorKubernetes, AgonesKubernetesURL: "127.0.0.1:6443"}, []string{"GUILDHALL_AGONES_KUBERNETES_URL"}},
		"a URL, other door":   {AgonesConfig{AgonesKubernetesURL: "https://127.0.0.1:6443"}, []string{"GUILDHALL_AGONES_DOOR=kubernetes"}},
		"files of the other":  {AgonesConfig{AgonesDoor: DoorKubernetes, AgonesCAFile: "c"}, []string{"GUILDHALL_AGONES_KUBERNETES_TOKEN_FILE"}},
		"policies":            {AgonesConfig{AgonesMulticluster: true, AgonesPolicySelector: Labels{"a": "b"}}, nil},
		"policies, no use":    {AgonesConfig{AgonesPolicySelector: Labels{"a": "b"}}, []string{"GUILDHALL_AGONES_MULTICLUSTER"}},
		"no time":             {AgonesConfig{AgonesTimeout: -1}, []string{"GUILDHALL_AGONES_TIMEOUT"}},
	} {
		config := Config{AgonesConfig: c.config}
		process.FillZero(&config)
		err := config.check()
		if (err == nil) != (c.want == nil) {
			t.Errorf("%s: %v", name, err)
		}
		for _, want := range c.want {
			if err != nil && !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want %s", name, err, want)
			}
		}
	}
}

func TestLabels(t *testing.T) {
	t.Parallel()
	var got Labels
	if err := got.Decode("tier=gold, example.com/region=eu,empty="); err != nil {
		t.Fatal(err)
	}
	if want := (Labels{"tier": "gold", "example.com/region": "eu", "empty": ""}); !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	var again Labels
	if err := again.Decode(got.String()); err != nil || !maps.Equal(again, got) {
		t.Errorf("%v, %v", again, err)
	}
	if err := again.Decode(" "); err != nil || len(again) != 0 {
		t.Errorf("%v, %v", again, err)
	}
	for _, bad := range []string{"tier", "=gold", "tier=gold,", "tier=gold,,a=b"} {
		if err := new(Labels).Decode(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

// Files that are not there when a director starts are an error, not a reason to go on without.
func TestMissingFiles(t *testing.T) {
	for _, kind := range []Door{DoorAllocator, DoorKubernetes} {
		for _, name := range []string{"ca.crt", "tls.crt", "tls.key", "token"} {
			if isToken := name == "token"; strings.HasPrefix(name, "tls") && kind == DoorKubernetes || isToken && kind == DoorAllocator {
				continue
			}
			t.Run(name+" "+string(kind), func(t *testing.T) {
				d := setupDoor(t, kind)
				d.volume.Swap(d.files(map[string][]byte{name: nil}))
				_, err := openDoor(&d.config, secret.New(nil, nil), newMetrics(nil))
				if err == nil || !strings.Contains(err.Error(), "GUILDHALL_AGONES_") || !strings.Contains(err.Error(), name) {
					t.Errorf("opened with %v", err)
				}
			})
		}
	}
}

// A pod is told by its environment where the API of its cluster is.
func TestTheClusterAroundUs(t *testing.T) {
	t.Setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
	t.Setenv("KUBERNETES_SERVICE_PORT", "443")
	if got, err := kubernetesURL(&AgonesConfig{}); err != nil || got.String() != "https://[fd00::1]:443" {
		t.Errorf("%v, %v", got, err)
	}
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	if got, err := kubernetesURL(&AgonesConfig{}); err == nil || !strings.Contains(err.Error(), "GUILDHALL_AGONES_KUBERNETES_URL") {
		t.Errorf("%v, %v", got, err)
	}
}
