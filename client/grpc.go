package client

import (
	"context"
	"fmt"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/mem"

	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
	"github.com/guildhall-dev/guildhall/internal/socket"
)

const (
	// grpcWindow is how much a host may send ahead. It is set so that it does not move: grpc-go's estimator of bandwidth
	// answers messages, one after the other, with a PING and a WINDOW_UPDATE, which the host has to read, and to answer,
	// for a stream that carries a few kilobytes a second. With many members that doubles the host's work. Measured with
	// 2,000 connections and 20 messages a second on each: 40,000 writes of the client for 80,000 messages, and none with
	// windows that stand; about a quarter less CPU at either end.
	grpcWindow = 256 << 10
	// grpcBuffer is how much is read at once, and written: frames are small. Both buffers are lent for as long as there is
	// something in them, which is grpc-go's default by now; an idle connection has neither.
	grpcBuffer = 4 << 10
)

// grpcStream is a Join stream on a connection of its own.
type grpcStream struct {
	conn   *grpc.ClientConn
	join   guildhallv1.RoomService_JoinClient
	cancel context.CancelFunc
}

var _ stream = (*grpcStream)(nil)

func dialGRPC(ctx context.Context, address string, within time.Duration, dial dialFunc) (stream, error) {
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.DefaultConfig, MinConnectTimeout: within}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: quietFor, Timeout: answerWithin}),
		grpc.WithInitialWindowSize(grpcWindow), grpc.WithInitialConnWindowSize(grpcWindow),
		grpc.WithReadBufferSize(grpcBuffer), grpc.WithWriteBufferSize(grpcBuffer),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(frameMost), grpc.ForceCodecV2(frameCodec{encoding.GetCodecV2(proto.Name)})),
		// A session that breaks is resumed, not retried; a stream that may be retried keeps what it has sent.
		grpc.WithDisableRetry(), grpc.WithDisableServiceConfig(),
	}
	if dial == nil {
		dial = dialQuietly
	}
	options = append(options, grpc.WithContextDialer(dial))
	conn, err := grpc.NewClient(address, options...)
	if err != nil {
		return nil, fmt.Errorf("the host's address %q: %w: %w", address, errNoAddress, err)
	}
	ctx, cancel := context.WithCancel(ctx)
	join, err := guildhallv1.NewRoomServiceClient(conn).Join(ctx)
	if err != nil {
		cancel()
		conn.Close()
		return nil, err
	}
	return &grpcStream{conn: conn, join: join, cancel: cancel}, nil
}

func dialQuietly(ctx context.Context, address string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return socket.Quiet(conn), nil
}

func (s *grpcStream) send(frame *guildhallv1.JoinRequest) error { return s.join.Send(frame) }

func (s *grpcStream) receive() (frame, error) {
	var f frame
	err := s.join.RecvMsg(&f)
	return f, err
}

func (s *grpcStream) close() {
	s.cancel()
	s.conn.Close()
}

// frameCodec is that of protobuf, which reads a frame by [decodeFrame].
type frameCodec struct{ encoding.CodecV2 }

// Unmarshal reads a frame, or what another codec knows.
func (c frameCodec) Unmarshal(data mem.BufferSlice, into any) error {
	f, isFrame := into.(*frame)
	if !isFrame {
		return c.CodecV2.Unmarshal(data, into)
	}
	encoded := data.MaterializeToBuffer(mem.DefaultBufferPool())
	defer encoded.Free()
	var err error
	*f, err = decodeFrame(encoded.ReadOnlyData())
	return err
}
