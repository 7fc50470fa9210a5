package kubernetes

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	allocation "agones.dev/agones/pkg/allocation/go"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/guildhall-dev/guildhall/internal/agoneslocal"
	"github.com/guildhall-dev/guildhall/internal/certtest"
)

const (
	allocationGroup = "allocation.agones.dev"
	allocationPath  = "/apis/" + allocationGroup + "/v1"
	// The Service behind which Agones' part of the API is. There is no network of a cluster: it is another name for this
	// machine.
	agonesNamespace  = "agones-system"
	extensionService = "agones-extensions"
)

// extension serves Agones' part of the API to the API server, which has authenticated and authorized whoever asks. What is
// behind it is a stand-in for each namespace.
type extension struct {
	// Static after construction.
	authority *certtest.Authority
	listener  net.Listener
	server    *http.Server
	ended     chan error

	mu     sync.Mutex
	behind map[string]http.Handler // guarded by mu; by namespace
	users  []string                // guarded by mu; who has asked, as the API server says
}

// startExtension serves those alone who show a certificate of the front proxy's authority.
func startExtension(t *testing.T, front *certtest.Authority) (*extension, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	e := &extension{authority: certtest.New(t), listener: listener, ended: make(chan error, 1), behind: map[string]http.Handler{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+allocationPath, discover)
	mux.HandleFunc("POST "+allocationPath+"/namespaces/{namespace}/gameserverallocations", e.allocate)
	name := extensionService + "." + agonesNamespace + ".svc"
	e.server = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, TLSConfig: &tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{e.authority.Pair(certtest.Leaf{Host: name})},
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: front.Pool(),
	}}
	go func() { e.ended <- e.server.ServeTLS(listener, "", "") }()
	return e, nil
}

func (e *extension) port() int64 {
	address, _ := e.listener.Addr().(*net.TCPAddr) // it is one of TCP
	return int64(address.Port)
}

func (e *extension) stop() error {
	err := e.server.Close()
	if served := <-e.ended; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}

// discover tells what there is: an API server asks for it before it sends anybody.
func discover(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{ // a caller that has gone gets nothing
		"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": allocationGroup + "/v1",
		"resources": []any{map[string]any{
			"name": "gameserverallocations", "singularName": "gameserverallocation", "namespaced": true,
			"kind": "GameServerAllocation", "verbs": []string{"create"},
		}},
	})
}

func (e *extension) allocate(w http.ResponseWriter, r *http.Request) {
	e.mu.Lock()
	handler := e.behind[r.PathValue("namespace")]
	e.users = append(e.users, r.Header.Get("X-Remote-User"))
	e.mu.Unlock()
	if handler == nil {
		http.Error(w, "there is no fleet in this namespace", http.StatusInternalServerError)
		return
	}
	handler.ServeHTTP(w, r)
}

// askedBy gives who has asked so far.
func (e *extension) askedBy() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]string(nil), e.users...)
}

// serve has a stand-in answer for a namespace until the test ends.
func (e *extension) serve(t *testing.T, namespace string, server *agoneslocal.Server) {
	t.Helper()
	conn, err := grpc.NewClient(server.AllocatorAddr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	set := func(handler http.Handler) {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.behind[namespace] = handler
	}
	set(agoneslocal.KubernetesHandler(forward{to: allocation.NewAllocationServiceClient(conn)}, nil))
	t.Cleanup(func() { set(nil) })
}

// forward is an allocator service that asks another.
type forward struct {
	allocation.UnimplementedAllocationServiceServer

	to allocation.AllocationServiceClient
}

var _ allocation.AllocationServiceServer = forward{}

// Allocate asks the other.
func (f forward) Allocate(ctx context.Context, in *allocation.AllocationRequest) (*allocation.AllocationResponse, error) {
	return f.to.Allocate(ctx, in)
}
