package frontend

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"connectrpc.com/connect"
	connectcors "connectrpc.com/cors"
	"connectrpc.com/grpchealth"
	"connectrpc.com/grpcreflect"
	"github.com/rs/cors"

	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
	"github.com/guildhall-dev/guildhall/api/guildhall/v1/guildhallv1connect"
	"github.com/guildhall-dev/guildhall/internal/process"
	"github.com/guildhall-dev/guildhall/internal/tracing"
)

// compressFrom is from how many bytes an answer is compressed, for those who take it: none is so large. To compress an
// assignment costs more than all the rest of entering.
const compressFrom = 16 << 10

// connectLobby is the lobby by Connect, gRPC-Web and gRPC over net/http.
type connectLobby struct{ lobby *lobby }

var _ guildhallv1connect.LobbyServiceHandler = connectLobby{}

func (c connectLobby) FileTicket(ctx context.Context, request *connect.Request[guildhallv1.FileTicketRequest]) (*connect.Response[guildhallv1.FileTicketResponse], error) {
	return connectResponse(c.lobby.fileTicket(ctx, callerByHeader(request.Header()), request.Msg))
}

func (c connectLobby) WatchAssignment(ctx context.Context, request *connect.Request[guildhallv1.WatchAssignmentRequest], stream *connect.ServerStream[guildhallv1.WatchAssignmentResponse]) error {
	return c.lobby.watchAssignment(ctx, callerByHeader(request.Header()), request.Msg, stream.Send)
}

func (c connectLobby) CancelTicket(_ context.Context, request *connect.Request[guildhallv1.CancelTicketRequest]) (*connect.Response[guildhallv1.CancelTicketResponse], error) {
	return connectResponse(c.lobby.cancelTicket(callerByHeader(request.Header()), request.Msg))
}

func (c connectLobby) Enter(ctx context.Context, request *connect.Request[guildhallv1.EnterRequest], stream *connect.ServerStream[guildhallv1.EnterResponse]) error {
	return c.lobby.enter(ctx, callerByHeader(request.Header()), request.Msg, stream.Send)
}

// connectDevelopment is development mode by the same.
type connectDevelopment struct{ *development }

var _ guildhallv1connect.DevelopmentServiceHandler = connectDevelopment{}

func (c connectDevelopment) MintToken(_ context.Context, request *connect.Request[guildhallv1.MintTokenRequest]) (*connect.Response[guildhallv1.MintTokenResponse], error) {
	return connectResponse(c.mintToken(request.Msg))
}

func callerByHeader(header http.Header) caller {
	return caller{authorization: header.Get("Authorization"), traceparent: header.Get(tracing.Header)}
}

func connectResponse[T any](message *T, err error) (*connect.Response[T], error) {
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(message), nil
}

// httpServer serves the port of all protocols.
func (f *Frontend) httpServer() *http.Server {
	return &http.Server{
		Handler: f.handler(), Protocols: process.CleartextHTTP2(), ReadHeaderTimeout: 10 * time.Second,
		ErrorLog: slog.NewLogLogger(f.logger.Handler(), slog.LevelDebug), HTTP2: &http.HTTP2Config{MaxConcurrentStreams: maxCalls},
	}
}

func (f *Frontend) handler() http.Handler {
	options := connect.WithHandlerOptions(connect.WithReadMaxBytes(maxRequestBytes), connect.WithCompressMinBytes(compressFrom))
	services := []string{guildhallv1connect.LobbyServiceName}
	mux := http.NewServeMux()
	mux.Handle(guildhallv1connect.NewLobbyServiceHandler(connectLobby{f.lobby}, options))
	if f.config.Development {
		services = append(services, guildhallv1connect.DevelopmentServiceName)
		mux.Handle(guildhallv1connect.NewDevelopmentServiceHandler(connectDevelopment{&development{kinds: f.config.Kinds}}, options))
		reflector := grpcreflect.NewStaticReflector(services...)
		mux.Handle(grpcreflect.NewHandlerV1(reflector))
		mux.Handle(grpcreflect.NewHandlerV1Alpha(reflector))
	}
	mux.Handle(grpchealth.NewHandler(grpchealth.NewStaticChecker(services...)))
	for prefix, handler := range f.config.Mounts {
		mux.Handle(prefix, handler)
	}
	return cors.New(cors.Options{
		AllowedOrigins: f.config.AllowOrigins,
		AllowedMethods: connectcors.AllowedMethods(),
		AllowedHeaders: append(connectcors.AllowedHeaders(), "Authorization"),
		ExposedHeaders: connectcors.ExposedHeaders(),
		// With no origin configured rs/cors would let all in; a frontend that nobody told of pages lets none.
		AllowOriginFunc: f.originFunc(),
	}).Handler(mux)
}

func (f *Frontend) originFunc() func(string) bool {
	if len(f.config.AllowOrigins) > 0 {
		return nil
	}
	return func(string) bool { return f.config.Development }
}
