package director

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	allocation "agones.dev/agones/pkg/allocation/go"

	"github.com/guildhall-dev/guildhall/internal/secret"
)

// AgonesConfig says which hosts a director asks Agones for, and by which door.
type AgonesConfig struct {
	AgonesDoor      Door          `split_words:"true" default:"allocator" desc:"how Agones is asked for hosts: allocator (its allocator service, over gRPC) or kubernetes (a GameServerAllocation created by the Kubernetes API)"`
	AgonesNamespace string        `split_words:"true" default:"default" desc:"namespace of the fleet"`
	AgonesFleet     string        `split_words:"true" default:"guildhall-rooms" desc:"name of the fleet"`
	AgonesTimeout   time.Duration `split_words:"true" default:"5s" desc:"how long one allocation may take; Agones asks another cluster for up to 30s"`

	AgonesAllocator  string `split_words:"true" default:"127.0.0.1:8443" desc:"Agones' allocator service, host:port"`
	AgonesCertFile   string `split_words:"true" desc:"this director's certificate for the allocator service, PEM. With its key and the CA: mutual TLS; all three are read anew for each connection. None of them: plaintext, for a mesh"`
	AgonesKeyFile    string `split_words:"true" desc:"the key of the certificate, PEM"`
	AgonesCAFile     string `split_words:"true" desc:"the CA of the allocator service, PEM"`
	AgonesServerName string `split_words:"true" desc:"the name in the allocator service's certificate, if it is not the host of its address"`

	AgonesKubernetesURL       string `split_words:"true" desc:"the Kubernetes API, https://host:port; without it, that of the cluster in which the director runs"`
	AgonesKubernetesTokenFile string `split_words:"true" default:"/var/run/secrets/kubernetes.io/serviceaccount/token" desc:"the token for the Kubernetes API, read anew for each allocation"`
	AgonesKubernetesCAFile    string `split_words:"true" default:"/var/run/secrets/kubernetes.io/serviceaccount/ca.crt" desc:"the CA of the Kubernetes API, PEM, read anew for each connection"`

	AgonesRoomsCounter   bool   `split_words:"true" desc:"allocate only game servers whose counter rooms has one free; needs Agones' CountsAndLists and the counter in the fleet"`
	AgonesMulticluster   bool   `split_words:"true" desc:"have Agones follow its allocation policies to other clusters; their hosts must use the same NATS"`
	AgonesPolicySelector Labels `split_words:"true" desc:"labels of the allocation policies to follow, for example tier=gold,region=eu; without it, all"`
}

// Door is a way to ask Agones for hosts.
type Door string

// The doors.
const (
	DoorAllocator  Door = "allocator"  // the allocator service, over gRPC
	DoorKubernetes Door = "kubernetes" // the Kubernetes API
)

// Labels are labels of Kubernetes.
type Labels map[string]string

// Decode reads key=value,key=value; nothing means none.
func (l *Labels) Decode(text string) error {
	labels := Labels{}
	if strings.TrimSpace(text) == "" {
		*l = labels
		return nil
	}
	for pair := range strings.SplitSeq(text, ",") {
		key, value, found := strings.Cut(strings.TrimSpace(pair), "=")
		if !found || key == "" {
			return fmt.Errorf("%q is not key=value", pair)
		}
		labels[key] = value
	}
	*l = labels
	return nil
}

// String gives the form that [Labels.Decode] reads.
func (l Labels) String() string {
	pairs := make([]string, 0, len(l))
	for _, key := range slices.Sorted(maps.Keys(l)) {
		pairs = append(pairs, key+"="+l[key])
	}
	return strings.Join(pairs, ",")
}

// usesTLS says whether the allocator service is spoken to by TLS.
func (c *AgonesConfig) usesTLS() bool { return c.AgonesCertFile != "" }

// multiCluster gives the setting for Agones, nil for none.
func (c *AgonesConfig) multiCluster() *allocation.MultiClusterSetting {
	if !c.AgonesMulticluster {
		return nil
	}
	setting := &allocation.MultiClusterSetting{Enabled: true}
	if len(c.AgonesPolicySelector) > 0 {
		setting.PolicySelector = &allocation.LabelSelector{MatchLabels: c.AgonesPolicySelector}
	}
	return setting
}

func (c *AgonesConfig) check() error {
	var errs []error
	switch c.AgonesDoor {
	case DoorAllocator:
		errs = append(errs, c.checkAllocator())
	case DoorKubernetes:
		errs = append(errs, c.checkKubernetes())
	default:
		errs = append(errs, fmt.Errorf("GUILDHALL_AGONES_DOOR=%q: want %s or %s", c.AgonesDoor, DoorAllocator, DoorKubernetes))
	}
	if len(c.AgonesPolicySelector) > 0 && !c.AgonesMulticluster {
		errs = append(errs, errors.New("GUILDHALL_AGONES_POLICY_SELECTOR is set: it needs GUILDHALL_AGONES_MULTICLUSTER=true"))
	}
	return errors.Join(errs...)
}

func (c *AgonesConfig) checkAllocator() error {
	if c.AgonesKubernetesURL != "" {
		return errors.New("GUILDHALL_AGONES_KUBERNETES_URL is set: it needs GUILDHALL_AGONES_DOOR=kubernetes")
	}
	files := map[string]string{"CERT_FILE": c.AgonesCertFile, "KEY_FILE": c.AgonesKeyFile, "CA_FILE": c.AgonesCAFile}
	var missing []string
	for name, file := range files {
		if file == "" {
			missing = append(missing, "GUILDHALL_AGONES_"+name)
		}
	}
	slices.Sort(missing)
	switch {
	case len(missing) == len(files) && c.AgonesServerName != "":
		return fmt.Errorf("GUILDHALL_AGONES_SERVER_NAME is set, but not %s, without which there is no TLS", strings.Join(missing, ", "))
	case len(missing) > 0 && len(missing) < len(files):
		return fmt.Errorf("not set: %s. TLS to the allocator service needs certificate, key and CA; plaintext none of them", strings.Join(missing, ", "))
	}
	return nil
}

func (c *AgonesConfig) checkKubernetes() error {
	if c.AgonesCertFile+c.AgonesKeyFile+c.AgonesCAFile+c.AgonesServerName != "" {
		return errors.New("GUILDHALL_AGONES_CERT_FILE, _KEY_FILE, _CA_FILE and _SERVER_NAME are for GUILDHALL_AGONES_DOOR=allocator; the door kubernetes has GUILDHALL_AGONES_KUBERNETES_TOKEN_FILE and _CA_FILE")
	}
	if c.AgonesKubernetesURL == "" {
		return nil
	}
	u, err := url.Parse(c.AgonesKubernetesURL)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return fmt.Errorf("GUILDHALL_AGONES_KUBERNETES_URL=%q: want https://host:port", c.AgonesKubernetesURL)
	}
	return nil
}

// door is a way to Agones. Whichever it is, it is asked by the allocator service's request and answers with its reply,
// or with an error of gRPC, so that [allocationError] tells failures apart once for all.
type door interface {
	allocation.AllocationServiceClient
	io.Closer
}

func openDoor(config *AgonesConfig, secrets *secret.Files, metrics *metrics) (door, error) {
	if config.AgonesDoor == DoorKubernetes {
		return openKubernetes(config, secrets, metrics)
	}
	return openAllocator(config, secrets, metrics)
}
