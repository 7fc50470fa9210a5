package process

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"os"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/guildhall-dev/guildhall/internal/tracing"
)

// flushWithin bounds how long the last spans may take to be sent when a process ends.
const flushWithin = 5 * time.Second

// openTracing makes the tracer of a service as OpenTelemetry's own variables say: OTEL_EXPORTER_OTLP_ENDPOINT and the
// like. Unless they name a collector there is none, and flush does nothing. The service must call flush at its end.
func openTracing(service string, logger *slog.Logger) (tracer tracing.Tracer, flush func(), err error) {
	export, err := isTraced()
	if err != nil || !export {
		return tracing.Tracer{}, func() {}, err
	}
	ctx := context.Background()
	exporter, err := newExporter(ctx)
	if err != nil {
		return tracing.Tracer{}, nil, err
	}
	// OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES come last: they win.
	about, err := resource.New(ctx, resource.WithTelemetrySDK(), resource.WithAttributes(
		attribute.String("service.name", "guildhall-"+service), attribute.String("service.version", Version()),
	), resource.WithFromEnv())
	if err != nil {
		return tracing.Tracer{}, nil, fmt.Errorf("OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	// Of the library, which knows no other way to tell that a collector is away.
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { logger.Warn("tracing", "error", err) }))
	provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(about))
	return tracing.New(provider, service), func() {
		ctx, cancel := context.WithTimeout(ctx, flushWithin)
		defer cancel()
		if err := provider.Shutdown(ctx); err != nil {
			logger.Warn("the last spans could not be sent", "error", err)
		}
	}, nil
}

// isTraced says whether the environment asks for traces. By the specification everybody exports to this machine unless
// told otherwise; we do if an endpoint or the exporter is named.
func isTraced() (bool, error) {
	if os.Getenv("OTEL_SDK_DISABLED") == "true" {
		return false, nil
	}
	switch exporter := os.Getenv("OTEL_TRACES_EXPORTER"); exporter {
	case "otlp":
		return true, nil
	case "none":
		return false, nil
	case "":
		return cmp.Or(os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"), os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT")) != "", nil
	default:
		return false, fmt.Errorf("OTEL_TRACES_EXPORTER=%q: want otlp or none", exporter)
	}
}

func newExporter(ctx context.Context) (sdktrace.SpanExporter, error) {
	protocol := cmp.Or(os.Getenv("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"), os.Getenv("OTEL_EXPORTER_OTLP_PROTOCOL"), "http/protobuf")
	switch protocol {
	case "grpc":
		return otlptracegrpc.New(ctx)
	case "http/protobuf":
		return otlptracehttp.New(ctx)
	}
	return nil, fmt.Errorf("OTEL_EXPORTER_OTLP_PROTOCOL=%q: want grpc or http/protobuf", protocol)
}
