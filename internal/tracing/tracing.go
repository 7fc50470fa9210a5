// Package tracing writes down the steps of the path of a ticket, from Enter to the welcome, as spans of OpenTelemetry. A
// trace crosses processes as W3C's traceparent, a string: in the header of a call, in a ticket, in a pass.
//
// It is the part that every service has, and costs nothing while nobody collects: the zero value of [Tracer] makes spans
// that are nothing, and allocates nothing. package process makes the others.
package tracing

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	otelcodes "go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/guildhall-dev/guildhall"
)

// Header is the name of the header and of gRPC's metadata that a traceparent is in.
const Header = "traceparent"

// The kinds of spans.
const (
	Internal = trace.SpanKindInternal
	Server   = trace.SpanKindServer
	Client   = trace.SpanKindClient
	Producer = trace.SpanKindProducer
	Consumer = trace.SpanKindConsumer
)

// Tracer makes a service's spans. Its zero value makes none.
type Tracer struct{ inner trace.Tracer }

// New makes the tracer of a service.
func New(provider trace.TracerProvider, service string) Tracer {
	return Tracer{provider.Tracer("github.com/guildhall-dev/guildhall/" + service)}
}

// IsOn says whether there is anybody to trace for.
func (t Tracer) IsOn() bool { return t.inner != nil }

// Start begins a step below that of the context. The caller must end it.
func (t Tracer) Start(ctx context.Context, name string, kind trace.SpanKind) (context.Context, Span) {
	if t.inner == nil {
		return ctx, Span{}
	}
	ctx, inner := t.inner.Start(ctx, name, trace.WithSpanKind(kind)) //nolint:spancheck // the caller ends it
	return ctx, Span{inner}                                          //nolint:spancheck // the caller ends it
}

// StartFrom begins a step below one of another process, or another goroutine, whose traceparent it is given; of none, or
// of what is none, it begins a trace. A zero start means now.
func (t Tracer) StartFrom(ctx context.Context, traceparent, name string, kind trace.SpanKind, start time.Time) (context.Context, Span) {
	if t.inner == nil {
		return ctx, Span{}
	}
	options := []trace.SpanStartOption{trace.WithSpanKind(kind)}
	if !start.IsZero() {
		options = append(options, trace.WithTimestamp(start))
	}
	ctx, inner := t.inner.Start(trace.ContextWithRemoteSpanContext(ctx, parse(traceparent)), name, options...) //nolint:spancheck // the caller ends it
	return ctx, Span{inner}                                                                                    //nolint:spancheck // the caller ends it
}

// parse reads a traceparent; what is none gives a context that is not valid.
func parse(traceparent string) trace.SpanContext {
	carrier := propagation.MapCarrier{Header: traceparent}
	return trace.SpanContextFromContext(propagation.TraceContext{}.Extract(context.Background(), carrier))
}

// Parent gives the traceparent of the context's step, for whoever goes on elsewhere; empty if there is none.
func Parent(ctx context.Context) string {
	if !trace.SpanContextFromContext(ctx).IsValid() {
		return ""
	}
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	return carrier[Header]
}

// Outgoing has a gRPC call carry the context's step.
func Outgoing(ctx context.Context) context.Context {
	if parent := Parent(ctx); parent != "" {
		return metadata.AppendToOutgoingContext(ctx, Header, parent)
	}
	return ctx
}

// Incoming gives the traceparent that a gRPC call carries; empty if it carries none.
func Incoming(ctx context.Context) string {
	if values := metadata.ValueFromIncomingContext(ctx, Header); len(values) > 0 {
		return values[0]
	}
	return ""
}

// Span is one step. Its zero value is none. What it can say is little on purpose: who the player is and which group it
// is are personal, and stay out of traces.
type Span struct{ inner trace.Span }

// Current gives the context's step.
func Current(ctx context.Context) Span {
	if inner := trace.SpanFromContext(ctx); inner.IsRecording() {
		return Span{inner}
	}
	return Span{}
}

func (s Span) set(attribute attribute.KeyValue) {
	if s.inner != nil && s.inner.IsRecording() {
		s.inner.SetAttributes(attribute)
	}
}

// Kind says of which kind the group is.
func (s Span) Kind(kind guildhall.Kind) {
	s.set(attribute.String("guildhall.group.kind", string(kind)))
}

// Room says on which host the room is, at which epoch; nothing if that is not known.
func (s Span) Room(host string, epoch uint64) {
	if host == "" {
		return
	}
	s.set(attribute.String("guildhall.host", host))
	if epoch != 0 {
		s.set(attribute.Int64("guildhall.epoch", int64(epoch)))
	}
}

// Path says by which path an assignment came: live or ticket.
func (s Span) Path(path string) { s.set(attribute.String("guildhall.path", path)) }

// Link notes that a step of another trace was waited for. In the same trace there is nothing to note.
func (s Span) Link(traceparent string) {
	if s.inner == nil || traceparent == "" || !s.inner.IsRecording() {
		return
	}
	if other := parse(traceparent); other.IsValid() && other.TraceID() != s.inner.SpanContext().TraceID() {
		s.inner.AddLink(trace.Link{SpanContext: other})
	}
}

// End ends the step. Of an error it says the code and not the text, in which there may be names.
func (s Span) End(err error) {
	if s.inner == nil {
		return
	}
	if err != nil && s.inner.IsRecording() {
		s.inner.SetStatus(otelcodes.Error, code(err))
	}
	s.inner.End()
}

// code names the code of an error.
func code(err error) string {
	if said, ok := status.FromError(err); ok {
		return said.Code().String()
	}
	return status.FromContextError(err).Code().String()
}
