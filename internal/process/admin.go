package process

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Admin is a service's admin port: /livez says that the process runs, /readyz whether it takes work, /metrics
// what it counts, and, if asked for, /debug/pprof what it does.
type Admin struct {
	listener net.Listener
	server   *http.Server
	reason   atomic.Pointer[string] // why it is not ready; empty if it is
	first    sync.Once
	started  chan struct{} // closed when it is ready for the first time
}

// NewAdmin opens the admin port of a service. It is not ready until [Admin.SetReady].
func NewAdmin(common *Common) (*Admin, error) {
	listener, err := Listen("ADMIN_LISTEN", common.AdminListen)
	if err != nil {
		return nil, err
	}
	admin := &Admin{listener: listener, started: make(chan struct{})}
	admin.SetNotReady("starting")
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", admin.serveReady)
	mux.Handle("GET /metrics", promhttp.HandlerFor(common.Metrics, promhttp.HandlerOpts{}))
	if common.Pprof {
		mux.HandleFunc("/debug/pprof/", pprof.Index)
		mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	}
	admin.server = &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	return admin, nil
}

// Addr gives the address that the admin port listens on.
func (a *Admin) Addr() string { return a.listener.Addr().String() }

// Started gives a channel that is closed once the service is ready for the first time.
func (a *Admin) Started() <-chan struct{} { return a.started }

// SetReady makes /readyz say ok.
func (a *Admin) SetReady() {
	a.SetNotReady("")
	a.first.Do(func() { close(a.started) })
}

// SetNotReady makes /readyz answer 503 with a reason.
func (a *Admin) SetNotReady(reason string) { a.reason.Store(&reason) }

func (a *Admin) serveReady(w http.ResponseWriter, _ *http.Request) {
	if reason := *a.reason.Load(); reason != "" {
		http.Error(w, reason, http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ok")
}

// Run serves until ctx ends.
func (a *Admin) Run(ctx context.Context) error {
	return ServeHTTP(ctx, a.server, a.listener, time.Second)
}

// Close gives up the listener of an Admin that does not run.
func (a *Admin) Close() error { return a.listener.Close() }
