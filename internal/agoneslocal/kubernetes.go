package agoneslocal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	allocation "agones.dev/agones/pkg/allocation/go"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
)

const (
	kubernetesGroup = "allocation.agones.dev/v1"
	kubernetesPath  = "POST /apis/" + kubernetesGroup + "/namespaces/{namespace}/gameserverallocations"
	// maxObject is the largest object that Kubernetes takes.
	maxObject = 3 << 20
)

// kubernetes serves the form of the Kubernetes API.
type kubernetes struct {
	listener net.Listener
	server   *http.Server
}

func newKubernetes(config *Config, allocator *allocator) (*kubernetes, error) {
	listener, err := net.Listen("tcp", config.KubernetesListen)
	if err != nil {
		return nil, err
	}
	return &kubernetes{listener: listener, server: &http.Server{
		Handler: KubernetesHandler(allocator, config.KubernetesToken), TLSConfig: config.KubernetesTLS,
		ReadHeaderTimeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(config.Logger.Handler(), slog.LevelDebug),
	}}, nil
}

// serve serves until stop is called.
func (k *kubernetes) serve() error {
	serve := k.server.Serve
	if k.server.TLSConfig != nil {
		serve = func(l net.Listener) error { return k.server.ServeTLS(l, "", "") }
	}
	if err := serve(k.listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("agoneslocal: serve the Kubernetes API: %w", err)
	}
	return nil
}

// stop lets calls in flight end for callGrace.
func (k *kubernetes) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), callGrace)
	defer cancel()
	if err := k.server.Shutdown(ctx); err != nil {
		k.server.Close() //nolint:errcheck // nobody is left to be told
	}
	k.listener.Close() // a server that never served does not know its listener
}

// KubernetesHandler gives an allocator in the form of the Kubernetes API: GameServerAllocations are created, and not
// kept. token gives the bearer token that requests must show at the time; nil lets everybody in.
func KubernetesHandler(server allocation.AllocationServiceServer, token func() string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc(kubernetesPath, func(w http.ResponseWriter, r *http.Request) { create(server, w, r) })
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if token != nil && r.Header.Get("Authorization") != "Bearer "+token() {
			fail(w, http.StatusUnauthorized, "Unauthorized", "Unauthorized")
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// create answers one request: what Agones decides about the object is in its status, and only what is wrong with the
// request is an error.
func create(server allocation.AllocationServiceServer, w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxObject))
	if err != nil {
		fail(w, http.StatusRequestEntityTooLarge, "RequestEntityTooLarge", err.Error())
		return
	}
	object, in, err := readObject(body, r.PathValue("namespace"))
	if err != nil {
		http.Error(w, "error decoding body: "+err.Error(), http.StatusInternalServerError)
		return
	}
	response, err := server.Allocate(r.Context(), in)
	said := status.Convert(err)
	switch said.Code() {
	case codes.OK:
		object.allocated(response)
	case codes.ResourceExhausted:
		object.Status = objectStatus{State: "UnAllocated"}
	case codes.Aborted:
		object.Status = objectStatus{State: "Contention"}
	default:
		fail(w, httpStatusOf(said.Code()), said.Code().String(), said.Message())
		return
	}
	reply(w, http.StatusCreated, object)
}

// httpStatusOf gives how the API says what keeps it from creating an object. What goes wrong in Agones is 500.
func httpStatusOf(code codes.Code) int {
	switch code {
	case codeInvalid:
		return http.StatusUnprocessableEntity
	case codes.InvalidArgument:
		return http.StatusBadRequest
	case codes.Unauthenticated:
		return http.StatusUnauthorized
	case codes.PermissionDenied:
		return http.StatusForbidden
	case codes.NotFound, codes.Unimplemented:
		return http.StatusNotFound
	case codes.Unavailable:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

// fail answers with a Status of Kubernetes.
func fail(w http.ResponseWriter, code int, reason, message string) {
	reply(w, code, map[string]any{
		"kind": "Status", "apiVersion": "v1", "metadata": map[string]any{},
		"status": "Failure", "message": message, "reason": reason, "code": code,
	})
}

func reply(w http.ResponseWriter, code int, object any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(object) // a caller that has gone gets nothing
}

// object is a GameServerAllocation.
type object struct {
	APIVersion string         `json:"apiVersion"`
	Kind       string         `json:"kind"`
	Metadata   objectMetadata `json:"metadata"`
	Spec       map[string]any `json:"spec"`
	Status     objectStatus   `json:"status"`
}

type objectMetadata struct {
	Name              string    `json:"name,omitempty"`
	Namespace         string    `json:"namespace"`
	CreationTimestamp time.Time `json:"creationTimestamp"`
}

type objectStatus struct {
	State          string                   `json:"state"`
	GameServerName string                   `json:"gameServerName"`
	Ports          []objectPort             `json:"ports,omitempty"`
	Address        string                   `json:"address,omitempty"`
	Addresses      []objectAddress          `json:"addresses,omitempty"`
	NodeName       string                   `json:"nodeName,omitempty"`
	Source         string                   `json:"source"`
	Metadata       *objectLabels            `json:"metadata,omitempty"`
	Counters       map[string]objectCounter `json:"counters,omitempty"`
	Lists          map[string]objectList    `json:"lists,omitempty"`
}

type objectPort struct {
	Name string `json:"name"`
	Port int32  `json:"port"`
}

type objectAddress struct {
	Type    string `json:"type"`
	Address string `json:"address"`
}

type objectLabels struct {
	Labels      map[string]string `json:"labels,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

type objectCounter struct {
	Count    int64 `json:"count"`
	Capacity int64 `json:"capacity"`
}

type objectList struct {
	Capacity int64    `json:"capacity"`
	Values   []string `json:"values"`
}

// readObject reads an object, and gives what the allocator service is asked by it. The two say nearly the same in JSON.
func readObject(body []byte, namespace string) (*object, *allocation.AllocationRequest, error) {
	read := object{APIVersion: kubernetesGroup, Kind: "GameServerAllocation"}
	if err := json.Unmarshal(body, &read); err != nil {
		return nil, nil, err
	}
	read.Metadata = objectMetadata{Namespace: namespace, CreationTimestamp: time.Now().UTC()}
	read.Status = objectStatus{}
	asked := map[string]any{"namespace": namespace}
	for name, value := range read.Spec {
		switch name {
		case "selectors":
			asked["gameServerSelectors"] = namedStates(value)
		case "preferred":
			asked["preferredGameServerSelectors"] = namedStates(value)
		case "required":
			asked["requiredGameServerSelector"] = namedState(value)
		default:
			asked[name] = value
		}
	}
	text, err := json.Marshal(asked)
	if err != nil {
		return nil, nil, err
	}
	in := &allocation.AllocationRequest{}
	return &read, in, protojson.Unmarshal(text, in)
}

// namedStates names the states in a list of selectors as the allocator service does.
func namedStates(selectors any) any {
	list, _ := selectors.([]any)
	list = slices.Clone(list)
	for i, selector := range list {
		list[i] = namedState(selector)
	}
	return list
}

func namedState(selector any) any {
	fields, ok := selector.(map[string]any)
	if !ok {
		return selector
	}
	named := map[string]any{}
	for name, value := range fields {
		if state, ok := value.(string); ok && name == "gameServerState" {
			value = strings.ToUpper(state)
		}
		named[name] = value
	}
	return named
}

// allocated fills in what was allocated.
func (o *object) allocated(got *allocation.AllocationResponse) {
	o.Metadata.Name = got.GetGameServerName()
	o.Status = objectStatus{
		State: "Allocated", GameServerName: got.GetGameServerName(), Address: got.GetAddress(), NodeName: got.GetNodeName(),
		Source: got.GetSource(), Counters: map[string]objectCounter{}, Lists: map[string]objectList{},
		Metadata: &objectLabels{Labels: got.GetMetadata().GetLabels(), Annotations: got.GetMetadata().GetAnnotations()},
	}
	for _, port := range got.GetPorts() {
		o.Status.Ports = append(o.Status.Ports, objectPort{Name: port.GetName(), Port: port.GetPort()})
	}
	for _, address := range got.GetAddresses() {
		o.Status.Addresses = append(o.Status.Addresses, objectAddress{Type: address.GetType(), Address: address.GetAddress()})
	}
	for name, counter := range got.GetCounters() {
		o.Status.Counters[name] = objectCounter{Count: counter.GetCount().GetValue(), Capacity: counter.GetCapacity().GetValue()}
	}
	for name, list := range got.GetLists() {
		o.Status.Lists[name] = objectList{Values: list.GetValues(), Capacity: list.GetCapacity().GetValue()}
	}
}
