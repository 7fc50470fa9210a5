package e2e

import (
	"context"
	"encoding/hex"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.opentelemetry.io/otel/trace"
	collectorv1 "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/guildhall-dev/guildhall"
	"github.com/guildhall-dev/guildhall/client"
	"github.com/guildhall-dev/guildhall/embedded"
)

// span is what a collector was told.
type span struct {
	service, name     string
	trace, id, parent string
	linked            []string // the traces that it refers to
	attributes        map[string]string
}

// collector is a small OTLP receiver.
type collector struct {
	collectorv1.UnimplementedTraceServiceServer

	mu    sync.Mutex
	spans []span // guarded by mu
	said  string // guarded by mu; everything, as text
}

// Export takes spans.
func (c *collector) Export(_ context.Context, request *collectorv1.ExportTraceServiceRequest) (*collectorv1.ExportTraceServiceResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.said += request.String()
	for _, resource := range request.GetResourceSpans() {
		service := ""
		for _, attribute := range resource.GetResource().GetAttributes() {
			if attribute.GetKey() == "service.name" {
				service = attribute.GetValue().GetStringValue()
			}
		}
		for _, scope := range resource.GetScopeSpans() {
			for _, s := range scope.GetSpans() {
				got := span{
					service: strings.TrimPrefix(service, "guildhall-"), name: s.GetName(), trace: hex.EncodeToString(s.GetTraceId()),
					id: hex.EncodeToString(s.GetSpanId()), parent: hex.EncodeToString(s.GetParentSpanId()), attributes: map[string]string{},
				}
				for _, attribute := range s.GetAttributes() {
					got.attributes[attribute.GetKey()] = attribute.GetValue().GetStringValue()
				}
				for _, link := range s.GetLinks() {
					got.linked = append(got.linked, hex.EncodeToString(link.GetTraceId()))
				}
				c.spans = append(c.spans, got)
			}
		}
	}
	return &collectorv1.ExportTraceServiceResponse{}, nil
}

// of gives the spans of a trace, by service and name.
func (c *collector) of(traceID string) map[string]span {
	c.mu.Lock()
	defer c.mu.Unlock()
	found := map[string]span{}
	for _, s := range c.spans {
		if s.trace == traceID {
			found[s.service+" "+s.name] = s
		}
	}
	return found
}

func startCollector(t *testing.T) (*collector, string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c, server := &collector{}, grpc.NewServer()
	collectorv1.RegisterTraceServiceServer(server, c)
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return c, "http://" + listener.Addr().String()
}

// traced is the context of a player's own trace.
func traced(ctx context.Context, number byte, flags trace.TraceFlags) (_ context.Context, traceID, spanID string) {
	of := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{15: number}, SpanID: trace.SpanID{7: number}, TraceFlags: flags, Remote: true})
	return trace.ContextWithRemoteSpanContext(ctx, of), of.TraceID().String(), of.SpanID().String()
}

// joinTraced brings a player into a room, in the trace of ctx.
func (b *bundle) joinTraced(ctx context.Context, conn grpc.ClientConnInterface, name string, group guildhall.Group) {
	b.t.Helper()
	config := client.Config{Server: b.server, Conn: conn, Token: b.token(name, group), HTTPClient: players}
	room, err := client.Join(ctx, config, group)
	if err != nil {
		b.t.Fatal(err)
	}
	p := &player{b: b, name: guildhall.PlayerID(name), room: room}
	b.t.Cleanup(p.goAway)
	until[client.Joined](p)
}

// One trace leads from the player's own span through every process to the welcome. The environment alone says so, to the
// hosts' processes too.
func TestOneTraceFromEnterToWelcome(t *testing.T) { // not parallel, for its variables
	if !isEmbedded {
		t.Skip("the collector of the installation at " + server + " is not for a test to be")
	}
	collected, endpoint := startCollector(t)
	for name, value := range map[string]string{
		"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_BSP_SCHEDULE_DELAY": "20",
		"GUILDHALL_LOG_LEVEL": "ERROR", "GUILDHALL_HEADROOM": "none", "GUILDHALL_ROOMS_PER_HOST": "1", // so that each group has a host allocated
	} {
		t.Setenv(name, value)
	}
	config := embedded.Config{Hosts: 2}
	if err := config.Load(nil); err != nil {
		t.Fatal(err)
	}
	if err := config.Open(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(config.Close)
	stack := startOwn(t, config)
	b := setupAt(t, stack.URL())
	conn, err := grpc.NewClient(stack.GRPCAddr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() }) // nothing is under way

	// First one that is not to be traced: who decides so decides it for all.
	quiet, quietTrace, _ := traced(b.ctx, 1, 0)
	b.joinTraced(quiet, nil, "hush-player", guildhall.Group{Kind: "guild", ID: "hush-group"})
	own, ownTrace, ownSpan := traced(b.ctx, 2, trace.FlagsSampled)
	b.joinTraced(own, conn, "secret-player", guildhall.Group{Kind: "guild", ID: "secret-group"})

	parents := map[string]string{
		"frontend Enter": "", "frontend ticket": "frontend Enter", "matchfunction match": "frontend ticket",
		"director place": "frontend ticket", "director allocate": "director place", "director open room": "director place",
		"roomserver open room": "director open room", "director assign": "director place",
		"roomserver join": "frontend Enter", "roomserver welcome": "roomserver join",
	}
	var got map[string]span
	b.eventually("all spans are collected", func() bool { got = collected.of(ownTrace); return len(got) >= len(parents) })
	for name, parent := range parents {
		want := ownSpan
		if parent != "" {
			want = got[parent].id
		}
		if s, found := got[name]; !found || s.parent != want {
			t.Errorf("%s is below %q, want %s %q", name, s.parent, parent, want)
		}
	}
	for name := range got {
		if _, expected := parents[name]; !expected {
			t.Errorf("there is a span %s, too", name)
		}
	}
	host := got["roomserver join"].attributes["guildhall.host"]
	if enter := got["frontend Enter"].attributes; enter["guildhall.host"] != host || host == "" ||
		enter["guildhall.group.kind"] != "guild" || enter["guildhall.path"] != "ticket" {
		t.Errorf("Enter says %v, of a room on %q", enter, host)
	}

	// Somebody without a trace, to the live room: one of the server's own.
	b.joinTraced(b.ctx, nil, "late-player", guildhall.Group{Kind: "guild", ID: "secret-group"})
	b.eventually("the second welcome is collected", func() bool {
		collected.mu.Lock()
		defer collected.mu.Unlock()
		return slices.ContainsFunc(collected.spans, func(s span) bool { return s.name == "welcome" && s.trace != ownTrace })
	})
	collected.mu.Lock()
	defer collected.mu.Unlock()
	for _, s := range collected.spans {
		if s.trace != ownTrace && s.name == "Enter" && (s.parent != "" || s.attributes["guildhall.path"] != "live") {
			t.Errorf("the trace of who brought none begins with %+v", s)
		}
		if s.trace == quietTrace {
			t.Errorf("%s %s was collected, of a trace that was not to be", s.service, s.name)
		}
	}
	for _, personal := range []string{"hush-", "secret-", "late-player"} {
		if strings.Contains(collected.said, personal) {
			t.Errorf("the collector was told %q", personal)
		}
	}
}
