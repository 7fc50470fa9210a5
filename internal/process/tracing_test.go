package process

import (
	"bytes"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/guildhall-dev/guildhall/internal/tracing"
)

// otelVariables are set to nothing before each case: whoever runs the tests may have some.
var otelVariables = []string{
	"OTEL_SDK_DISABLED", "OTEL_TRACES_EXPORTER", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
	"OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG",
}

func setOTEL(t *testing.T, pairs ...string) {
	t.Helper()
	for _, name := range otelVariables {
		t.Setenv(name, "")
	}
	for _, pair := range pairs {
		name, value, _ := strings.Cut(pair, "=")
		t.Setenv(name, value)
	}
}

// Nothing is traced unless a collector is named, and what makes no sense is refused by name.
func TestWhoAsksForTraces(t *testing.T) {
	for _, c := range []struct {
		environ string
		on      bool
		says    string // the error
	}{
		{"", false, ""},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:1", true, ""},
		{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://127.0.0.1:1/v1/traces", true, ""},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:1 OTEL_EXPORTER_OTLP_PROTOCOL=grpc", true, ""},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:1 OTEL_TRACES_EXPORTER=none", false, ""},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:1 OTEL_SDK_DISABLED=true", false, ""},
		{"OTEL_TRACES_EXPORTER=otlp", true, ""},
		{"OTEL_TRACES_EXPORTER=zipkin", false, `OTEL_TRACES_EXPORTER="zipkin": want otlp or none`},
		{"OTEL_TRACES_EXPORTER=otlp OTEL_EXPORTER_OTLP_PROTOCOL=carrier-pigeon", false, `OTEL_EXPORTER_OTLP_PROTOCOL="carrier-pigeon"`},
	} {
		t.Run(c.environ, func(t *testing.T) {
			setOTEL(t, strings.Fields(c.environ)...)
			tracer, flush, err := openTracing("test", slog.New(slog.DiscardHandler))
			switch {
			case c.says != "":
				if err == nil || !strings.Contains(err.Error(), c.says) {
					t.Errorf("%v, want an error that says %s", err, c.says)
				}
			case err != nil || tracer.IsOn() != c.on:
				t.Errorf("it traces: %t, %v; want %t", tracer.IsOn(), err, c.on)
			default:
				flush()
			}
		})
	}
}

// What is on its way when a service ends is sent.
func TestTheLastSpansAreSent(t *testing.T) {
	got := make(chan string, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got <- r.Method + " " + r.URL.Path
		w.Header().Set("Content-Type", "application/x-protobuf")
	}))
	defer server.Close()
	setOTEL(t, "OTEL_EXPORTER_OTLP_ENDPOINT="+server.URL)
	common := Common{LogFormat: "json"}
	if err := common.Open("test"); err != nil {
		t.Fatal(err)
	}
	_, span := common.Tracer.StartFrom(t.Context(), "", "Enter", tracing.Server, time.Time{})
	span.End(nil)
	common.Close()
	if request := receive(t, got, "the span"); request != "POST /v1/traces" {
		t.Errorf("the collector got %s", request)
	}
}

// A collector that is away is complained of, and nothing else.
func TestACollectorThatIsAway(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listener.Close()
	setOTEL(t, "OTEL_EXPORTER_OTLP_ENDPOINT=http://"+listener.Addr().String(), "OTEL_EXPORTER_OTLP_HEADERS=api-key=hush")
	t.Setenv("OTEL_BSP_EXPORT_TIMEOUT", "50")
	var log bytes.Buffer
	tracer, flush, err := openTracing("test", slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	_, span := tracer.StartFrom(t.Context(), "", "Enter", tracing.Server, time.Time{})
	span.End(nil)
	flush()
	if !strings.Contains(log.String(), "level=WARN") || strings.Contains(log.String(), "hush") {
		t.Errorf("logged %s", &log)
	}
}
