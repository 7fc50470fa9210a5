package director

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"time"

	allocation "agones.dev/agones/pkg/allocation/go"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/guildhall-dev/guildhall/internal/secret"
	"github.com/guildhall-dev/guildhall/internal/tracing"
)

const (
	allocationGroup    = "allocation.agones.dev"
	allocationResource = "gameserverallocations"
	allocationVersion  = allocationGroup + "/v1"
	// codeInvalid is HTTP's Unprocessable Entity, which the allocator service puts into gRPC as it is.
	codeInvalid = codes.Code(http.StatusUnprocessableEntity)
	// maxAllocationReply bounds a reply: a game server's labels and annotations, which Kubernetes bounds by 256 KiB.
	maxAllocationReply = 1 << 20
	// maxReason bounds what of a failure's text is told.
	maxReason = 500
	// idleConnFor is how long a connection without a call stays.
	idleConnFor = 90 * time.Second
)

// kubernetesDoor is the way to Agones by the Kubernetes API: one kind of object, which is created and not kept. A client
// library of Kubernetes would be many times the rest of a director for this one call.
type kubernetesDoor struct {
	url    *url.URL // of the API
	token  *secret.Value[string]
	client *http.Client
}

func openKubernetes(config *AgonesConfig, secrets *secret.Files, metrics *metrics) (door, error) {
	api, err := kubernetesURL(config)
	if err != nil {
		return nil, err
	}
	file := config.AgonesKubernetesTokenFile
	token, err := secret.Follow(secrets, "kubernetes_token", func() (string, error) { return secret.ReadToken(file) }, file)
	if err != nil {
		return nil, fmt.Errorf("GUILDHALL_AGONES_KUBERNETES_TOKEN_FILE: %w", err)
	}
	trust, err := tlsFiles{ca: config.AgonesKubernetesCAFile}.follow(secrets)
	if err != nil {
		return nil, fmt.Errorf("GUILDHALL_AGONES_KUBERNETES_CA_FILE: %w", err)
	}
	metrics.expiring("ca", config.AgonesKubernetesCAFile)
	transport := &http.Transport{DialTLSContext: dialRotating(trust), IdleConnTimeout: idleConnFor}
	return &kubernetesDoor{url: api, token: token, client: &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // the token is for this address
	}}, nil
}

// kubernetesURL gives the address of the API: the one configured, or that of the cluster around us.
func kubernetesURL(config *AgonesConfig) (*url.URL, error) {
	if config.AgonesKubernetesURL != "" {
		return url.Parse(config.AgonesKubernetesURL) // checked before
	}
	host, port := os.Getenv("KUBERNETES_SERVICE_HOST"), os.Getenv("KUBERNETES_SERVICE_PORT")
	if host == "" || port == "" {
		return nil, errors.New("GUILDHALL_AGONES_DOOR=kubernetes, but this is no pod of a cluster: " +
			"set GUILDHALL_AGONES_KUBERNETES_URL, _TOKEN_FILE and _CA_FILE")
	}
	return &url.URL{Scheme: "https", Host: net.JoinHostPort(host, port)}, nil
}

// dialRotating makes connections that trust what is to be trusted when they are made.
func dialRotating(trust *secret.Value[*tls.Config]) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		dialer := tls.Dialer{NetDialer: &net.Dialer{Timeout: dialTimeout}, Config: trust.Read()}
		return dialer.DialContext(ctx, network, address)
	}
}

// Close closes the connections.
func (d *kubernetesDoor) Close() error {
	d.client.CloseIdleConnections()
	return nil
}

// Allocate creates a GameServerAllocation.
func (d *kubernetesDoor) Allocate(ctx context.Context, in *allocation.AllocationRequest, _ ...grpc.CallOption) (*allocation.AllocationResponse, error) {
	var sent atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		WroteRequest: func(info httptrace.WroteRequestInfo) { sent.Store(info.Err == nil) },
	})
	request, err := d.request(ctx, in)
	if err != nil {
		return nil, err
	}
	response, err := d.client.Do(request)
	if err != nil {
		code := codes.Unavailable
		if ctx.Err() != nil {
			code = status.FromContextError(ctx.Err()).Code()
		}
		return nil, unanswered(status.Error(code, err.Error()), sent.Load())
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAllocationReply+1))
	switch {
	case response.StatusCode/100 != 2:
		return nil, d.refusal(response.StatusCode, body, in.GetNamespace()) // what there is of the text
	case err != nil:
		return nil, status.Errorf(codes.Unknown, "the reply was lost: %v", err)
	case len(body) > maxAllocationReply:
		return nil, status.Errorf(codes.Unknown, "the reply has more than %d bytes", maxAllocationReply)
	}
	return readAllocation(body)
}

func (d *kubernetesDoor) request(ctx context.Context, in *allocation.AllocationRequest) (*http.Request, error) {
	body, err := json.Marshal(newAllocation(in))
	if err != nil {
		return nil, status.Errorf(codes.InvalidArgument, "encoding a GameServerAllocation: %v", err)
	}
	address := d.url.JoinPath("apis", allocationVersion, "namespaces", in.GetNamespace(), allocationResource)
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, address.String(), bytes.NewReader(body))
	if err != nil {
		return nil, status.Errorf(codes.InvalidArgument, "a request to %s: %v", address, err)
	}
	request.Header.Set("Authorization", "Bearer "+d.token.Read())
	request.Header.Set("Content-Type", "application/json")
	if parent := tracing.Parent(ctx); parent != "" {
		request.Header.Set(tracing.Header, parent)
	}
	request.Header.Set("Accept", "application/json")
	request.Header.Set("User-Agent", "guildhall-director")
	return request, nil
}

// refusal gives the error for a status of HTTP that is no success.
func (d *kubernetesDoor) refusal(httpStatus int, body []byte, namespace string) error {
	reason := reasonOf(body)
	code := codes.Unknown // of those from 500 on: it may have come that far
	advice := ""
	switch httpStatus {
	case http.StatusUnauthorized:
		code, advice = codes.Unauthenticated, ": the token in GUILDHALL_AGONES_KUBERNETES_TOKEN_FILE is not accepted"
	case http.StatusForbidden:
		code, advice = codes.PermissionDenied, fmt.Sprintf(": the token's account needs, in namespace %s, a Role with the rule "+
			"apiGroups [%s], resources [%s], verbs [create]", namespace, allocationGroup, allocationResource)
	case http.StatusNotFound:
		code, advice = codes.NotFound, ": Agones is not installed in this cluster, or has no "+allocationVersion
	case http.StatusConflict:
		code = codes.Aborted
	case http.StatusUnprocessableEntity:
		code = codeInvalid
	case http.StatusTooManyRequests, http.StatusServiceUnavailable: // the API server's own: overloaded; Agones is not reached
		code = codes.Unavailable
	default:
		if httpStatus < http.StatusInternalServerError {
			code = codes.InvalidArgument
		}
	}
	return status.Errorf(code, "the Kubernetes API says %d, %s%s", httpStatus, cmp.Or(reason, http.StatusText(httpStatus)), advice)
}

// reasonOf gives what a failure says of itself: the message of a Status of Kubernetes, or its text.
func reasonOf(body []byte) string {
	var told struct {
		Message string `json:"message"`
	}
	reason := strings.TrimSpace(string(body))
	if err := json.Unmarshal(body, &told); err == nil && told.Message != "" {
		reason = told.Message
	}
	return strings.ToValidUTF8(reason[:min(len(reason), maxReason)], "")
}

// gameServerAllocation is the object to create, as far as a director fills it in.
type gameServerAllocation struct {
	APIVersion string         `json:"apiVersion"`
	Kind       string         `json:"kind"`
	Spec       allocationSpec `json:"spec"`
}

type allocationSpec struct {
	MultiClusterSetting *multiClusterSetting `json:"multiClusterSetting,omitempty"`
	Selectors           []allocationSelector `json:"selectors"`
	Scheduling          string               `json:"scheduling"`
	Metadata            allocationMetadata   `json:"metadata"`
}

type multiClusterSetting struct {
	Enabled        bool          `json:"enabled"`
	PolicySelector labelSelector `json:"policySelector,omitzero"`
}

type labelSelector struct {
	MatchLabels map[string]string `json:"matchLabels,omitempty"`
}

type allocationSelector struct {
	labelSelector

	GameServerState string                     `json:"gameServerState"`
	Counters        map[string]counterSelector `json:"counters,omitempty"`
}

type counterSelector struct {
	MinAvailable int64 `json:"minAvailable"`
}

type allocationMetadata struct {
	Labels      map[string]string `json:"labels,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

// newAllocation says in Kubernetes' words what the request says in those of the allocator service.
func newAllocation(in *allocation.AllocationRequest) gameServerAllocation {
	spec := allocationSpec{
		Scheduling: in.GetScheduling().String(),
		Metadata:   allocationMetadata{Labels: in.GetMetadata().GetLabels(), Annotations: in.GetMetadata().GetAnnotations()},
	}
	if setting := in.GetMultiClusterSetting(); setting != nil {
		spec.MultiClusterSetting = &multiClusterSetting{
			Enabled: setting.GetEnabled(), PolicySelector: labelSelector{setting.GetPolicySelector().GetMatchLabels()},
		}
	}
	for _, wanted := range in.GetGameServerSelectors() {
		selector := allocationSelector{labelSelector: labelSelector{wanted.GetMatchLabels()}, GameServerState: "Ready"}
		if len(wanted.GetCounters()) > 0 {
			selector.Counters = map[string]counterSelector{}
		}
		for name, counter := range wanted.GetCounters() {
			selector.Counters[name] = counterSelector{MinAvailable: counter.GetMinAvailable()}
		}
		spec.Selectors = append(spec.Selectors, selector)
	}
	return gameServerAllocation{APIVersion: allocationVersion, Kind: "GameServerAllocation", Spec: spec}
}

// readAllocation reads the object that was created. That no game server was to be had is a success for Kubernetes.
func readAllocation(body []byte) (*allocation.AllocationResponse, error) {
	var created struct {
		Status struct {
			State          string `json:"state"`
			GameServerName string `json:"gameServerName"`
			Source         string `json:"source"`
		} `json:"status"`
	}
	if err := json.Unmarshal(body, &created); err != nil {
		return nil, status.Errorf(codes.Unknown, "the reply is no GameServerAllocation: %v", err)
	}
	switch got := created.Status; got.State {
	case "Allocated":
		return &allocation.AllocationResponse{GameServerName: got.GameServerName, Source: got.Source}, nil
	case "UnAllocated": // none, or only such as others' requests have in flight
		return nil, status.Error(codes.ResourceExhausted, noneAvailable)
	case "Contention":
		return nil, status.Error(codes.Aborted, "other requests wanted the same game servers")
	default:
		return nil, status.Errorf(codes.Unknown, "the reply has status.state %.50q, want Allocated, UnAllocated or Contention", got.State)
	}
}
