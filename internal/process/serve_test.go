package process

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

func listen(t *testing.T) net.Listener {
	t.Helper()
	listener, err := Listen("LISTEN", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() }) // the server may have
	return listener
}

// get makes a request on a connection of its own.
func get(t *testing.T, url string) (code int, body string) {
	t.Helper()
	request, err := http.NewRequestWithContext(withPatience(t), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Close = true
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	data, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(data)
}

func TestListenNamesTheVariable(t *testing.T) {
	t.Parallel()
	taken := listen(t)
	for _, address := range []string{taken.Addr().String(), "nonsense", "127.0.0.1:99999"} {
		_, err := Listen("ADMIN_LISTEN", address)
		if err == nil || !strings.Contains(err.Error(), "GUILDHALL_ADMIN_LISTEN") || !strings.Contains(err.Error(), address) {
			t.Errorf("Listen(%q): %v, want an error that names variable and address", address, err)
		}
	}
}

// startAdmin runs an admin port until the test ends.
func startAdmin(t *testing.T, common Common) *Admin {
	t.Helper()
	common.AdminListen = "127.0.0.1:0"
	common.FillIn()
	admin, err := NewAdmin(&common)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- admin.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return admin
}

func TestAdmin(t *testing.T) {
	t.Parallel()
	admin := startAdmin(t, Common{})
	url := "http://" + admin.Addr()
	check := func(path string, wantCode int, says string) {
		t.Helper()
		if code, body := get(t, url+path); code != wantCode || !strings.Contains(body, says) {
			t.Errorf("%s: %d %q, want %d %q", path, code, body, wantCode, says)
		}
	}
	check("/livez", 200, "ok")
	check("/readyz", 503, "starting")
	select {
	case <-admin.Started():
		t.Error("it has started before it was ready")
	default:
	}
	for range 2 {
		admin.SetReady()
		receive(t, admin.Started(), "the start")
		check("/readyz", 200, "ok")
		admin.SetNotReady("draining")
		check("/readyz", 503, "draining")
	}
	check("/livez", 200, "ok")
	check("/metrics", 200, "")
	for _, path := range []string{"/debug/pprof/", "/debug/pprof/heap", "/debug/pprof/cmdline", "/", "/nothing"} {
		check(path, 404, "")
	}
}

func TestAdminServesPprofIfAskedFor(t *testing.T) {
	t.Parallel()
	admin := startAdmin(t, Common{Pprof: true})
	for _, path := range []string{"/debug/pprof/", "/debug/pprof/goroutine?debug=1", "/debug/pprof/cmdline"} {
		if code, _ := get(t, "http://"+admin.Addr()+path); code != 200 {
			t.Errorf("%s: %d", path, code)
		}
	}
}

func TestAdminMetrics(t *testing.T) {
	t.Parallel()
	common := Common{LogFormat: "json"}
	if err := common.Open("test"); err != nil {
		t.Fatal(err)
	}
	admin := startAdmin(t, common)
	if _, body := get(t, "http://"+admin.Addr()+"/metrics"); !strings.Contains(body, "go_goroutines") {
		t.Errorf("the process's metrics are not there: %.200s", body)
	}
}

func TestAdminThatDoesNotRunIsClosed(t *testing.T) {
	t.Parallel()
	common := Common{AdminListen: "127.0.0.1:0"}
	common.FillIn()
	admin, err := NewAdmin(&common)
	if err != nil {
		t.Fatal(err)
	}
	taken := Common{AdminListen: admin.Addr()}
	taken.FillIn()
	if _, err := NewAdmin(&taken); err == nil || !strings.Contains(err.Error(), "GUILDHALL_ADMIN_LISTEN") {
		t.Errorf("NewAdmin on a taken port: %v", err)
	}
	if err := admin.Close(); err != nil {
		t.Error(err)
	}
}

// hanging is a handler that has begun and waits to be let go, or for its request's end.
type hanging struct {
	begun  chan struct{}
	let    chan struct{}
	served chan struct{}
}

func newHanging() *hanging {
	return &hanging{begun: make(chan struct{}), let: make(chan struct{}), served: make(chan struct{})}
}

func (h *hanging) wait(ctx context.Context) error {
	defer close(h.served)
	close(h.begun)
	select {
	case <-h.let:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func TestServeHTTPLetsRequestsFinish(t *testing.T) {
	t.Parallel()
	checkHTTPStop(t, patience, func(h *hanging) { close(h.let) }, true)
}

func TestServeHTTPCutsOffAfterTheGrace(t *testing.T) {
	t.Parallel()
	checkHTTPStop(t, time.Millisecond, func(*hanging) {}, false)
}

// checkHTTPStop stops a server with a request under way, and sees whether the client gets its answer.
func checkHTTPStop(t *testing.T, grace time.Duration, then func(*hanging), answered bool) {
	t.Helper()
	h := newHanging()
	listener := listen(t)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if h.wait(r.Context()) == nil {
			_, _ = io.WriteString(w, "done")
		}
	})}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	stopping, ended, got := make(chan struct{}), make(chan error, 1), make(chan error, 1)
	server.RegisterOnShutdown(func() { close(stopping) })
	go func() { ended <- ServeHTTP(ctx, server, listener, grace) }()
	request, err := http.NewRequestWithContext(withPatience(t), http.MethodGet, "http://"+listener.Addr().String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Close = true
	go func() {
		answer, err := http.DefaultClient.Do(request)
		if err == nil {
			err = answer.Body.Close()
		}
		got <- err
	}()
	receive(t, h.begun, "the request")
	cancel()
	receive(t, stopping, "the stop to begin")
	then(h)
	if err := receive(t, ended, "the stop"); err != nil {
		t.Errorf("ServeHTTP: %v", err)
	}
	if err := receive(t, got, "the answer"); (err == nil) != answered {
		t.Errorf("the request that was under way: %v, answered should be %t", err, answered)
	}
	receive(t, h.served, "the handler's end")
}

func TestServeStoppedBeforeItStarts(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for range 50 { // which comes first is up to the scheduler
		if err := NewGRPC(false).Serve(ctx, listen(t), patience); err != nil {
			t.Fatalf("GRPC: %v", err)
		}
		if err := ServeHTTP(ctx, &http.Server{}, listen(t), patience); err != nil {
			t.Fatalf("ServeHTTP: %v", err)
		}
	}
}

func TestServeFails(t *testing.T) {
	t.Parallel()
	closed := listen(t)
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	if err := NewGRPC(true).Serve(context.Background(), closed, patience); !errors.Is(err, net.ErrClosed) {
		t.Errorf("GRPC on a closed listener: %v", err)
	}
	if err := ServeHTTP(context.Background(), &http.Server{}, closed, patience); !errors.Is(err, net.ErrClosed) {
		t.Errorf("ServeHTTP on a closed listener: %v", err)
	}
}

// startGRPC runs a gRPC server whose one stream hangs.
func startGRPC(t *testing.T, h *hanging, grace time.Duration) (conn *grpc.ClientConn, stop func(), ended chan error) {
	t.Helper()
	description := &grpc.ServiceDesc{ServiceName: "test", HandlerType: (*any)(nil), Streams: []grpc.StreamDesc{{
		StreamName: "Hang", ServerStreams: true, ClientStreams: true,
		Handler: func(_ any, stream grpc.ServerStream) error { return h.wait(stream.Context()) },
	}}}
	server := NewGRPC(true)
	server.RegisterService(description, nil)
	listener := listen(t)
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	ended = make(chan error, 1)
	go func() { ended <- server.Serve(ctx, listener, grace) }()
	conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn, cancel, ended
}

func TestGRPCStop(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		grace time.Duration
		let   bool
		want  codes.Code
	}{
		{"lets calls finish", patience, true, codes.OK},
		{"cuts off after the grace", time.Millisecond, false, codes.Unavailable},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			h := newHanging()
			conn, stop, ended := startGRPC(t, h, test.grace)
			watch, err := grpc_health_v1.NewHealthClient(conn).Watch(withPatience(t), &grpc_health_v1.HealthCheckRequest{})
			if err != nil {
				t.Fatal(err)
			}
			if got, err := watch.Recv(); err != nil || got.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING {
				t.Fatalf("health before the stop: %v, %v", got, err)
			}
			call, err := conn.NewStream(withPatience(t), &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, "/test/Hang")
			if err != nil {
				t.Fatal(err)
			}
			receive(t, h.begun, "the call")
			stop()
			if got, err := watch.Recv(); err == nil && got.GetStatus() != grpc_health_v1.HealthCheckResponse_NOT_SERVING || test.let && err != nil {
				t.Errorf("health while stopping: %v, %v", got, err)
			}
			if test.let {
				close(h.let)
			}
			if err := call.RecvMsg(&grpc_health_v1.HealthCheckRequest{}); test.want == codes.OK && !errors.Is(err, io.EOF) || test.want != codes.OK && status.Code(err) != test.want {
				t.Errorf("the call that was under way: %v, want %s", err, test.want)
			}
			receive(t, h.served, "the handler's end")
			if err := conn.Close(); err != nil { // the watch of its health ends with it
				t.Error(err)
			}
			if err := receive(t, ended, "the stop"); err != nil {
				t.Errorf("Serve: %v", err)
			}
		})
	}
}
