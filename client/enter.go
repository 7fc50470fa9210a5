package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"connectrpc.com/connect"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/guildhall-dev/guildhall"
	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
	"github.com/guildhall-dev/guildhall/api/guildhall/v1/guildhallv1connect"
	"github.com/guildhall-dev/guildhall/internal/tracing"
)

// Enter files a ticket for a group and waits for the assignment. If ctx has a span of OpenTelemetry, the server goes on with
// its trace, up to the welcome in the room; so it does for each way in of [Join]. Its errors are those of LobbyService, as
// [connect.CodeOf] reads them; a caller who only wants to be in the room uses [Join].
func Enter(ctx context.Context, config Config, group guildhall.Group) (*guildhallv1.Assignment, error) {
	if err := config.fill(); err != nil {
		return nil, err
	}
	return enter(ctx, config, group, func(*guildhallv1.Waiting) error { return nil })
}

// states is a stream of Enter. It ends with its context.
type states interface {
	// next waits for the next state. Its errors are connect's; io.EOF is the end.
	next() (*guildhallv1.EnterResponse, error)
	// close is for who has heard enough.
	close()
}

// enter is [Enter], and tells each time what the ticket waits for.
func enter(ctx context.Context, config Config, group guildhall.Group, waiting func(*guildhallv1.Waiting) error) (*guildhallv1.Assignment, error) {
	ctx, cancel := context.WithCancel(ctx) // ends the stream in every case
	defer cancel()
	call := callConnect
	if config.Conn != nil {
		call = callGRPC
	}
	stream, err := call(ctx, config, &guildhallv1.EnterRequest{Group: group.String()})
	if err != nil {
		return nil, fmt.Errorf("entering %s: %w", group, err)
	}
	defer stream.close()
	for {
		state, err := stream.next()
		if errors.Is(err, io.EOF) {
			err = connect.NewError(connect.CodeUnavailable, io.ErrUnexpectedEOF)
		}
		if err != nil {
			return nil, fmt.Errorf("entering %s: %w", group, err)
		}
		if assignment := state.GetAssignment(); assignment != nil {
			return assignment, nil
		}
		if err := waiting(state.GetWaiting()); err != nil {
			return nil, err
		}
	}
}

// callConnect calls by HTTP, in gRPC's terms.
func callConnect(ctx context.Context, config Config, message *guildhallv1.EnterRequest) (states, error) {
	lobby := connect.NewClient[guildhallv1.EnterRequest, guildhallv1.EnterResponse](
		config.HTTPClient, strings.TrimRight(config.Server, "/")+guildhallv1connect.LobbyServiceEnterProcedure, connect.WithGRPC())
	request := connect.NewRequest(message)
	request.Header().Set("Authorization", "Bearer "+config.Token)
	if parent := tracing.Parent(ctx); parent != "" {
		request.Header().Set(tracing.Header, parent)
	}
	stream, err := lobby.CallServerStream(ctx, request)
	if err != nil {
		return nil, err
	}
	return connectStates{stream}, nil
}

// connectStates is a stream of connect's.
type connectStates struct {
	stream *connect.ServerStreamForClient[guildhallv1.EnterResponse]
}

func (s connectStates) next() (*guildhallv1.EnterResponse, error) {
	if s.stream.Receive() {
		return s.stream.Msg(), nil
	}
	if err := s.stream.Err(); err != nil {
		return nil, err
	}
	return nil, io.EOF
}

func (s connectStates) close() { _ = s.stream.Close() } // it only ends the stream, which has ended

// callGRPC calls by grpc-go.
func callGRPC(ctx context.Context, config Config, message *guildhallv1.EnterRequest) (states, error) {
	ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+config.Token)
	if parent := tracing.Parent(ctx); parent != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, tracing.Header, parent)
	}
	stream, err := guildhallv1.NewLobbyServiceClient(config.Conn).Enter(ctx, message)
	if err != nil {
		return nil, connectError(err)
	}
	return grpcStates{stream}, nil
}

// grpcStates is a stream of grpc-go's.
type grpcStates struct {
	stream grpc.ServerStreamingClient[guildhallv1.EnterResponse]
}

func (s grpcStates) next() (*guildhallv1.EnterResponse, error) {
	state, err := s.stream.Recv()
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, connectError(err)
	}
	return state, err
}

func (grpcStates) close() {}

// connectError gives an error of grpc-go's as one of connect's, whose codes are the same by number.
func connectError(err error) error {
	told := status.Convert(err)
	return connect.NewError(connect.Code(told.Code()), errors.New(told.Message()))
}

// isFinal says whether an error of Enter would be the same the next time.
func isFinal(err error) bool {
	switch connect.CodeOf(err) {
	case connect.CodeInvalidArgument, connect.CodeUnauthenticated, connect.CodePermissionDenied, connect.CodeUnimplemented:
		return true
	}
	return false
}
