package frontend

import (
	"context"
	"errors"
	"net/http"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
	"github.com/guildhall-dev/guildhall/internal/process"
	"github.com/guildhall-dev/guildhall/internal/tracing"
)

const (
	// connectionAge is when a client of the gRPC port is told to connect anew, while its calls go on: otherwise a gateway that has been
	// there for days would never call a frontend that has been added since.
	connectionAge = 5 * time.Minute
	// A client that has been silent for quietFor is asked whether it is there, and is gone if it does not answer within answerWithin;
	// clients may ask as often as leastPing.
	quietFor     = 20 * time.Second
	answerWithin = 10 * time.Second
	leastPing    = 5 * time.Second
)

// grpcLobby is the lobby by grpc-go, on a port of its own: the call itself costs half of what it does over net/http, where gRPC
// shares a port with everything else, and a player two thirds.
type grpcLobby struct {
	guildhallv1.UnimplementedLobbyServiceServer
	lobby *lobby
}

func (g grpcLobby) FileTicket(ctx context.Context, request *guildhallv1.FileTicketRequest) (*guildhallv1.FileTicketResponse, error) {
	response, err := g.lobby.fileTicket(ctx, callerByMetadata(ctx), request)
	return response, grpcError(err)
}

func (g grpcLobby) WatchAssignment(request *guildhallv1.WatchAssignmentRequest, stream grpc.ServerStreamingServer[guildhallv1.WatchAssignmentResponse]) error {
	return grpcError(g.lobby.watchAssignment(stream.Context(), callerByMetadata(stream.Context()), request, sendInConnectsTerms(stream.Send)))
}

func (g grpcLobby) CancelTicket(ctx context.Context, request *guildhallv1.CancelTicketRequest) (*guildhallv1.CancelTicketResponse, error) {
	response, err := g.lobby.cancelTicket(callerByMetadata(ctx), request)
	return response, grpcError(err)
}

func (g grpcLobby) Enter(request *guildhallv1.EnterRequest, stream grpc.ServerStreamingServer[guildhallv1.EnterResponse]) error {
	return grpcError(g.lobby.enter(stream.Context(), callerByMetadata(stream.Context()), request, sendInConnectsTerms(stream.Send)))
}

// grpcDevelopment is development mode by grpc-go.
type grpcDevelopment struct {
	guildhallv1.UnimplementedDevelopmentServiceServer
	*development
}

func (g grpcDevelopment) MintToken(_ context.Context, request *guildhallv1.MintTokenRequest) (*guildhallv1.MintTokenResponse, error) {
	response, err := g.mintToken(request)
	return response, grpcError(err)
}

func callerByMetadata(ctx context.Context) caller {
	first := func(name string) string {
		if values := metadata.ValueFromIncomingContext(ctx, name); len(values) > 0 {
			return values[0]
		}
		return ""
	}
	return caller{authorization: first("authorization"), traceparent: first(tracing.Header)}
}

// grpcError gives an error of connect's in the terms of grpc-go.
func grpcError(err error) error {
	if err == nil {
		return nil
	}
	message := err.Error()
	if refused, is := errors.AsType[*connect.Error](err); is {
		message = refused.Message() // without its code
	}
	return status.Error(codes.Code(connect.CodeOf(err)), message)
}

// sendInConnectsTerms has a stream of grpc-go say in connect's terms, which are the lobby's, why it does not send.
func sendInConnectsTerms[T any](send func(*T) error) func(*T) error {
	return func(message *T) error {
		err := send(message)
		if err == nil {
			return nil
		}
		told := status.Convert(err)
		return connect.NewError(connect.Code(told.Code()), errors.New(told.Message()))
	}
}

// grpcServer serves the port of gRPC alone.
func (f *Frontend) grpcServer() *process.GRPC {
	server := process.NewGRPC(f.config.Development,
		grpc.MaxRecvMsgSize(maxRequestBytes), grpc.MaxHeaderListSize(http.DefaultMaxHeaderBytes), grpc.MaxConcurrentStreams(maxCalls),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: quietFor, Timeout: answerWithin, MaxConnectionAge: connectionAge}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: leastPing, PermitWithoutStream: true}))
	guildhallv1.RegisterLobbyServiceServer(server, grpcLobby{lobby: f.lobby})
	if f.config.Development {
		guildhallv1.RegisterDevelopmentServiceServer(server, grpcDevelopment{development: &development{kinds: f.config.Kinds}})
	}
	return server
}
