package transport

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
	"github.com/guildhall-dev/guildhall/api/guildhall/v1/guildhallv1connect"
)

// dialOptions dials with options of a gRPC client.
func dialOptions(t testing.TB, address string, options ...grpc.DialOption) guildhallv1.RoomServiceClient {
	t.Helper()
	conn, err := grpc.NewClient(address, append(options, grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return guildhallv1.NewRoomServiceClient(conn)
}

// roundTrips sends helloes of many sizes on a stream, some ahead, and wants them back.
func roundTrips(stream interface {
	Send(request *guildhallv1.JoinRequest) error
	Recv() (*guildhallv1.JoinResponse, error)
},
) error {
	sizes := []int{0, 1, 100, 1000, 8000, 4000, 3, 8000, 8000, 8000}
	var group errgroup.Group
	group.Go(func() error {
		for round := range 10 {
			for _, size := range sizes {
				if err := stream.Send(hello(size)); err != nil {
					return fmt.Errorf("sending in round %d: %w", round, err)
				}
			}
		}
		return nil
	})
	for round := range 10 {
		for _, size := range sizes {
			got, err := stream.Recv()
			if err != nil {
				return fmt.Errorf("receiving in round %d: %w", round, err)
			}
			if len(got.GetWelcome().GetGroup()) != size {
				return fmt.Errorf("%d bytes came back in round %d, want %d", len(got.GetWelcome().GetGroup()), round, size)
			}
		}
	}
	return group.Wait()
}

// TestGRPCClients has clients of gRPC-Go with windows of all kinds talk on several streams of one connection.
func TestGRPCClients(t *testing.T) {
	t.Parallel()
	for name, options := range map[string][]grpc.DialOption{
		"estimated windows": nil,
		"small windows":     {grpc.WithInitialWindowSize(64 << 10), grpc.WithInitialConnWindowSize(64 << 10)},
		"large windows":     {grpc.WithInitialWindowSize(1 << 24), grpc.WithInitialConnWindowSize(1 << 26)},
		"static windows":    {grpc.WithStaticStreamWindowSize(64 << 10), grpc.WithStaticConnWindowSize(64 << 10)},
		"keepalive":         {grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: time.Second, PermitWithoutStream: true})},
		"small headers":     {grpc.WithMaxHeaderListSize(1 << 10)},
		"small buffers":     {grpc.WithReadBufferSize(0), grpc.WithWriteBufferSize(0)},
		"larger answers":    {grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(1 << 20))},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := dialOptions(t, start(t, Config{Handle: echo}).address, options...)
			var group errgroup.Group
			for range 8 {
				group.Go(func() error {
					ctx, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(t.Context(), "x-some", "thing", "x-bin", "\x00\xff"), patience)
					defer cancel()
					stream, err := client.Join(ctx)
					if err != nil {
						return err
					}
					if err := roundTrips(stream); err != nil {
						return err
					}
					return endInOrder(stream)
				})
			}
			if err := group.Wait(); err != nil {
				t.Error(err)
			}
		})
	}
}

// endInOrder half-closes a stream to [echo], and wants the last message and the end.
func endInOrder(stream grpc.BidiStreamingClient[guildhallv1.JoinRequest, guildhallv1.JoinResponse]) error {
	if err := stream.CloseSend(); err != nil {
		return err
	}
	if _, err := stream.Recv(); err != nil {
		return fmt.Errorf("instead of the last message: %w", err)
	}
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("instead of the end: %w", err)
	}
	if len(stream.Trailer()) > 0 {
		return fmt.Errorf("the trailers are %v", stream.Trailer())
	}
	return nil
}

// TestGRPCRefusals checks the codes of what is not taken.
func TestGRPCRefusals(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Handle: echo})
	client := dialOptions(t, s.address)
	recv := func(t *testing.T, request *guildhallv1.JoinRequest, options ...grpc.CallOption) error {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		stream, err := client.Join(ctx, options...)
		if err != nil {
			t.Fatal(err)
		}
		_ = stream.Send(request) // what came of it, Recv says
		_, err = stream.Recv()
		return err
	}
	if err := recv(t, hello(9<<10)); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a message too large: %v", err)
	}
	if err := recv(t, hello(60<<10)); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a message far too large: %v", err)
	}
	if err := recv(t, hello(2000), grpc.UseCompressor(gzip.Name)); status.Code(err) != codes.Unimplemented {
		t.Errorf("compressed: %v", err)
	}
	if err := recv(t, hello(1), grpc.CallContentSubtype("proto")); err != nil {
		t.Errorf("application/grpc+proto: %v", err)
	}
	conn, err := grpc.NewClient(s.address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.Invoke(t.Context(), "/x.Y/Z", hello(0), hello(0)); status.Code(err) != codes.Unimplemented {
		t.Errorf("another method: %v", err)
	}
	ctx := metadata.AppendToOutgoingContext(t.Context(), "x-long", string(bytes.Repeat([]byte("x"), 15<<10)), "x-more", string(bytes.Repeat([]byte("x"), 15<<10)))
	if err := conn.Invoke(ctx, Path, hello(0), hello(0)); err == nil {
		t.Error("long headers are taken")
	}
	if err := recv(t, hello(1)); err != nil {
		t.Errorf("after all that: %v", err)
	}
}

// TestGRPCCompressionIsNamed checks gRPC's compression.md: who refuses a compression says which it takes.
func TestGRPCCompressionIsNamed(t *testing.T) {
	t.Parallel()
	c := newH2(t, start(t, Config{Handle: echo}).dial(t))
	c.call(1, false, "grpc-encoding", "snappy")
	got := c.await("trailers", isTrailers(1))
	if got.fields["grpc-status"] != "12" || got.fields["grpc-accept-encoding"] != "identity" {
		t.Errorf("it was refused by %v", got.fields)
	}
	c.call(3, false)
	c.data(3, false, []byte{1, 0, 0, 0, 0}) // compressed, and by nothing
	if got := c.await("trailers", isTrailers(3)); got.fields["grpc-status"] != "13" {
		t.Errorf("it was refused by %v", got.fields)
	}
	c.call(5, true, "content-type", "text/plain")
	if got := c.await("an answer", isTrailers(5)); got.fields[":status"] != "415" { // PROTOCOL-HTTP2.md
		t.Errorf("it was refused by %v", got.fields)
	}
	if f, found := c.find(isReset(5)); found {
		t.Errorf("the client had ended, and yet: %v", f)
	}
}

// TestGRPCCancel checks that a stream ends, on the server, when the client goes in any way, and that others go on.
func TestGRPCCancel(t *testing.T) {
	t.Parallel()
	ends := make(chan error, 1)
	s := start(t, Config{Handle: func(s Stream) {
		for {
			if _, err := s.Receive(); err != nil {
				ends <- err
				return
			}
			_ = s.Send([][]byte{{0x0a, 0}})
		}
	}})
	client := dialOptions(t, s.address)
	open := func(ctx context.Context) grpc.BidiStreamingClient[guildhallv1.JoinRequest, guildhallv1.JoinResponse] {
		stream, err := client.Join(ctx)
		if err != nil {
			t.Fatal(err)
		}
		_ = stream.Send(hello(0))
		if _, err := stream.Recv(); err != nil {
			t.Fatal(err)
		}
		return stream
	}
	other := open(t.Context())
	ctx, cancel := context.WithCancel(t.Context())
	open(ctx)
	cancel()
	if err := await(t, ends, "the end"); !errors.Is(err, ErrEnded) {
		t.Errorf("cancelled: %v", err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), 2*time.Second) // within which a busy machine opens a stream
	defer cancel()
	late := open(ctx)
	if _, err := late.Recv(); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("too late: %v", err)
	}
	if err := await(t, ends, "the end"); !errors.Is(err, ErrEnded) {
		t.Errorf("too late: %v", err)
	}
	half := open(t.Context())
	_ = half.CloseSend()
	if err := await(t, ends, "the end"); !errors.Is(err, io.EOF) {
		t.Errorf("half-closed: %v", err)
	}
	if _, err := half.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("half-closed: %v", err)
	}
	_ = other.Send(hello(0))
	if _, err := other.Recv(); err != nil {
		t.Errorf("the other stream: %v", err)
	}
}

// h2c gives net/http's client of HTTP/2 without encryption.
func h2c(t *testing.T) *http.Client {
	t.Helper()
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: &protocols}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// TestConnectClient has a client of connect-go speak gRPC, over net/http's HTTP/2.
func TestConnectClient(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Handle: echo})
	client := guildhallv1connect.NewRoomServiceClient(h2c(t), "http://"+s.address, connect.WithGRPC())
	var group errgroup.Group
	for range 3 {
		group.Go(func() error {
			stream := client.Join(t.Context())
			if err := roundTrips(connectStream{stream}); err != nil {
				return err
			}
			if err := stream.CloseRequest(); err != nil {
				return err
			}
			if _, err := stream.Receive(); err != nil {
				return fmt.Errorf("instead of the last message: %w", err)
			}
			if _, err := stream.Receive(); !errors.Is(err, io.EOF) {
				return fmt.Errorf("instead of the end: %w", err)
			}
			return stream.CloseResponse()
		})
	}
	if err := group.Wait(); err != nil {
		t.Error(err)
	}
}

type connectStream struct {
	*connect.BidiStreamForClient[guildhallv1.JoinRequest, guildhallv1.JoinResponse]
}

func (s connectStream) Recv() (*guildhallv1.JoinResponse, error) { return s.Receive() }

// TestHTTP2Client has net/http's client make a call by hand.
func TestHTTP2Client(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Handle: echo})
	client := h2c(t)
	for range 3 {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+s.address+Path,
			bytes.NewReader(inGRPC([]byte("one"), nil, make([]byte, 8<<10))))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", "application/grpc")
		answer, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(answer.Body)
		_ = answer.Body.Close()
		if want := inGRPC([]byte("one"), nil, make([]byte, 8<<10), []byte(overMessage)); err != nil || !bytes.Equal(body, want) {
			t.Errorf("%d bytes came and %v, want %d", len(body), err, len(want))
		}
		if answer.Trailer.Get("Grpc-Status") != "0" {
			t.Errorf("the trailers are %v", answer.Trailer)
		}
	}
}
