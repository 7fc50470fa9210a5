package tracing

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	otelcodes "go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

const (
	sampled   = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	unsampled = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
)

// recording gives a tracer, and what it has recorded.
func recording() (Tracer, *tracetest.SpanRecorder) {
	recorder := tracetest.NewSpanRecorder()
	return New(sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder)), "test"), recorder
}

// Nobody collects: all of it is nothing, and costs nothing.
func TestOffCostsNothing(t *testing.T) {
	var tracer Tracer
	call := metadata.NewIncomingContext(context.Background(), metadata.Pairs("authorization", "x"))
	failed := errors.New("failed")
	if n := testing.AllocsPerRun(1000, func() {
		ctx, span := tracer.StartFrom(call, Incoming(call), "Enter", Server, time.Time{})
		ctx, child := tracer.Start(ctx, "place", Internal)
		child.Kind("guild")
		child.Room("host-1", 7)
		child.Path("live")
		child.Link(sampled)
		child.End(failed)
		Current(ctx).Path("live")
		if ctx = Outgoing(ctx); Parent(ctx) != "" || ctx != call {
			t.Error("there is a trace")
		}
		span.End(nil)
	}); n != 0 {
		t.Errorf("a step that nobody collects allocates %v times", n)
	}
	// Nor does it hand on what somebody sends.
	if ctx, _ := tracer.StartFrom(context.Background(), sampled, "Enter", Server, time.Time{}); Parent(ctx) != "" {
		t.Error("a trace is handed on that nobody here collects")
	}
}

func TestATraceGoesOnElsewhere(t *testing.T) {
	t.Parallel()
	here, recorder := recording()
	ctx, span := here.StartFrom(context.Background(), sampled, "Enter", Server, time.Time{})
	parent := Parent(ctx)
	outgoing, _ := metadata.FromOutgoingContext(Outgoing(ctx))
	_, remote := here.StartFrom(context.Background(), Incoming(metadata.NewIncomingContext(context.Background(), outgoing)), "open room", Server, time.Time{})
	remote.End(status.Error(codes.NotFound, "guild:secret is not there"))
	span.Kind("guild")
	span.Room("host-1", 7)
	span.Path("live")
	span.End(nil)
	span.End(nil)
	ended := recorder.Ended()
	if len(ended) != 2 || ended[0].Name() != "open room" || ended[1].Name() != "Enter" {
		t.Fatalf("recorded %v", ended)
	}
	inner, outer := ended[0], ended[1]
	if inner.Parent().SpanID() != outer.SpanContext().SpanID() || outer.Parent().SpanID().String() != "b7ad6b7169203331" ||
		inner.SpanContext().TraceID().String() != "0af7651916cd43dd8448eb211c80319c" || !strings.HasPrefix(parent, "00-0af7651916cd43dd8448eb211c80319c-") {
		t.Errorf("%v is below %v, below %v; handed on as %s", inner.SpanContext(), inner.Parent(), outer.Parent(), parent)
	}
	if got := inner.Status(); got.Code != otelcodes.Error || got.Description != "NotFound" {
		t.Errorf("the error is told as %+v, want its code alone", got)
	}
	if got := attribute.NewSet(outer.Attributes()...); got.Len() != 4 {
		t.Errorf("the attributes are %v", outer.Attributes())
	}
}

// Who is not traced is not traced anywhere, and what is no traceparent begins a trace.
func TestDecisionsGoOn(t *testing.T) {
	t.Parallel()
	tracer, recorder := recording()
	ctx, span := tracer.StartFrom(context.Background(), unsampled, "Enter", Server, time.Time{})
	if parent := Parent(ctx); !strings.HasPrefix(parent, "00-0af7651916cd43dd8448eb211c80319c-") || !strings.HasSuffix(parent, "-00") {
		t.Errorf("handed on as %q", parent)
	}
	span.Kind("guild")
	span.End(nil)
	if n := len(recorder.Ended()); n != 0 {
		t.Errorf("%d spans of a trace that was not to be", n)
	}
	for _, none := range []string{"", "00", "hello", strings.Repeat("f", 10000), "ff-" + sampled[3:], "00-" + strings.Repeat("0", 32) + "-b7ad6b7169203331-01"} {
		_, span := tracer.StartFrom(context.Background(), none, "Enter", Server, time.Time{})
		span.End(nil)
	}
	for _, ended := range recorder.Ended() {
		if ended.Parent().IsValid() {
			t.Errorf("it goes on with %v", ended.Parent())
		}
	}
}

// A step of another trace is referred to; one of the same is not.
func TestLinks(t *testing.T) {
	t.Parallel()
	tracer, recorder := recording()
	for _, traceparent := range []string{"", sampled} {
		_, span := tracer.StartFrom(context.Background(), traceparent, "Enter", Server, time.Time{})
		span.Link(sampled)
		span.Link("")
		span.Link("nothing")
		span.End(nil)
	}
	ended := recorder.Ended()
	if n := len(ended[0].Links()); n != 1 || ended[0].Links()[0].SpanContext.TraceID().String() != "0af7651916cd43dd8448eb211c80319c" {
		t.Errorf("another trace is referred to by %v", ended[0].Links())
	}
	if n := len(ended[1].Links()); n != 0 {
		t.Errorf("the same trace is referred to by %v", ended[1].Links())
	}
}
