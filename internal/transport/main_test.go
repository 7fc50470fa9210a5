package transport

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve serves streams on loopback until the test is over, and gives the address.
func serve(t *testing.T, handle func(Stream)) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := NewServer(Config{Handle: handle, MaxMessage: 8 << 10})
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- server.Serve(ctx, listener, time.Second) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Errorf("serving ended with %v", err)
		}
	})
	return listener.Addr().String()
}

// overMessage is a welcome to the group "ov", in protobuf.
const overMessage = "\n\x04\n\x02ov"

// echo sends back what it receives, and says when the client has ended.
func echo(s Stream) {
	for {
		message, err := s.Receive()
		if err != nil {
			s.Close([]byte(overMessage), false)
			return
		}
		if err := s.Send([][]byte{append([]byte(nil), message...)}); err != nil {
			return
		}
	}
}

func dialGRPC(t *testing.T, address string) guildhallv1.RoomServiceClient {
	t.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return guildhallv1.NewRoomServiceClient(conn)
}

func TestGRPC(t *testing.T) {
	t.Parallel()
	client := dialGRPC(t, serve(t, echo))
	stream, err := client.Join(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// A hello's first field is a string, as a welcome's: what comes back decodes.
	for _, pass := range []string{"a", "", string(make([]byte, 8000))} {
		if err := stream.Send(&guildhallv1.JoinRequest{Frame: &guildhallv1.JoinRequest_Hello{Hello: &guildhallv1.Hello{Pass: pass}}}); err != nil {
			t.Fatal(err)
		}
		got, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if got.GetWelcome().GetGroup() != pass {
			t.Fatalf("%d bytes came back, want %d", len(got.GetWelcome().GetGroup()), len(pass))
		}
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if got, err := stream.Recv(); err != nil || got.GetWelcome().GetGroup() != "ov" {
		t.Errorf("the last message is %v, %v", got, err)
	}
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		t.Fatalf("the end is %v, want EOF", err)
	}
}

func TestWebSocket(t *testing.T) {
	t.Parallel()
	address := serve(t, echo)
	conn, _, _, err := ws.Dialer{Protocols: []string{"x", subprotocolProto}}.Dial(t.Context(), "ws://"+address+Path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	for _, text := range []string{"a", "", string(make([]byte, 8000))} {
		if err := wsutil.WriteClientBinary(conn, []byte(text)); err != nil {
			t.Fatal(err)
		}
		got, err := wsutil.ReadServerBinary(conn)
		if err != nil || string(got) != text {
			t.Fatalf("%d bytes came back and %v, want %d", len(got), err, len(text))
		}
	}
}
