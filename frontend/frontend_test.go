package frontend

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection/grpc_reflection_v1"

	"github.com/guildhall-dev/guildhall"
	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
	"github.com/guildhall-dev/guildhall/api/guildhall/v1/guildhallv1connect"
	"github.com/guildhall-dev/guildhall/internal/broker"
	"github.com/guildhall-dev/guildhall/internal/pass"
	"github.com/guildhall-dev/guildhall/internal/process"
	"github.com/guildhall-dev/guildhall/internal/registry"
)

func TestDoor(t *testing.T) {
	t.Parallel()
	var kinds guildhall.Kinds
	if err := kinds.Decode(guildhall.DefaultKinds); err != nil {
		t.Fatal(err)
	}
	outcast := guildhall.Group{Kind: "guild", ID: "outcast"}
	banned := func(group guildhall.Group, player guildhall.PlayerID) (registry.Ban, bool) {
		return registry.Ban{}, group == outcast && player == "p1"
	}
	d := &door{keys: pass.DevelopmentKeys, kinds: kinds, banned: banned, turns: new(turns), logger: slog.New(slog.DiscardHandler)}
	mine, err := pass.DevelopmentToken(pass.Token{Player: "p1", Groups: []guildhall.Group{dragons, outcast}})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		header, group string
		code          connect.Code // 0: let in
	}{
		{"Bearer " + mine, "guild:dragons", 0},
		{"bearer " + mine, "guild:dragons", 0},
		{"", "guild:dragons", connect.CodeUnauthenticated},
		{mine, "guild:dragons", connect.CodeUnauthenticated},
		{"Basic " + mine, "guild:dragons", connect.CodeUnauthenticated},
		{"Bearer x" + mine, "guild:dragons", connect.CodeUnauthenticated},
		{"Bearer " + mine, "guild:wolves", connect.CodePermissionDenied},
		{"Bearer " + mine, "guild:outcast", connect.CodePermissionDenied},
		{"Bearer " + mine, "party:dragons", connect.CodePermissionDenied},
		{"Bearer " + mine, "clan:dragons", connect.CodeInvalidArgument},
		{"Bearer " + mine, "guild:", connect.CodeInvalidArgument},
		{"Bearer " + mine, "", connect.CodeInvalidArgument},
	} {
		who, err := d.check(caller{authorization: c.header}, c.group)
		switch {
		case c.code == 0 && (err != nil || who != visitor{"p1", dragons}):
			t.Errorf("%.12q for %q: %v, %v", c.header, c.group, who, err)
		case c.code != 0 && connect.CodeOf(err) != c.code:
			t.Errorf("%.12q for %q: %v, want %v", c.header, c.group, err, c.code)
		}
	}
}

func TestDevelopmentTokensArePassedInDevelopmentOnly(t *testing.T) {
	onBothPorts(t, testDevelopmentTokensArePassedInDevelopmentOnly, func(c *Config) {
		c.Development = false
		c.TokenKeysFile = c.PassKeyFile + ".pub" // any key but the development key
	})
}

func testDevelopmentTokensArePassedInDevelopmentOnly(t *testing.T, w *world) {
	stream, err := w.lobby(w.frontend).Enter(w.ctx, as(t, &guildhallv1.EnterRequest{Group: dragons.String()}, "p1", dragons))
	if err == nil {
		stream.Receive()
		err = stream.Err()
	}
	if connect.CodeOf(err) != connect.CodeUnauthenticated {
		t.Errorf("a development token in production: %v", err)
	}
	if services := w.reflect(); services != nil {
		t.Errorf("reflection in production: %v", services)
	}
	if minted, err := w.mint("p1", dragons.String()); connect.CodeOf(err) != connect.CodeUnimplemented {
		t.Errorf("a token in production: %v, %v", minted, err)
	}
	response := w.options("https://game.example")
	if origin := response.Header.Get("Access-Control-Allow-Origin"); origin != "" {
		t.Errorf("a page of an origin that nobody allowed may call: %q", origin)
	}
}

func TestReflectionInDevelopment(t *testing.T) {
	onBothPorts(t, func(t *testing.T, w *world) {
		services := w.reflect()
		for _, name := range []string{guildhallv1connect.LobbyServiceName, guildhallv1connect.DevelopmentServiceName} {
			if !slices.ContainsFunc(services, func(s *grpc_reflection_v1.ServiceResponse) bool { return s.GetName() == name }) {
				t.Errorf("reflection lists %v, and not %s", services, name)
			}
		}
	})
}

func TestMintInDevelopment(t *testing.T) {
	onBothPorts(t, func(t *testing.T, w *world) {
		minted, err := w.mint("p1", dragons.String())
		if err != nil {
			t.Fatal(err)
		}
		if token, err := pass.ReadToken(pass.DevelopmentKeys(), minted); err != nil || token.Player != "p1" || !token.Names(dragons) {
			t.Errorf("the token says %v, %v", token, err)
		}
		for _, group := range []string{"dragons", "nokind:dragons"} {
			if minted, err := w.mint("p1", group); connect.CodeOf(err) != connect.CodeInvalidArgument || !strings.Contains(err.Error(), "dragons") {
				t.Errorf("a token for %s: %v, %v", group, minted, err)
			}
		}
	})
}

func (w *world) mint(player, group string) (string, error) {
	minted, err := guildhallv1connect.NewDevelopmentServiceClient(w.http(), "http://"+w.address(w.frontend), connect.WithGRPC()).
		MintToken(w.ctx, connect.NewRequest(&guildhallv1.MintTokenRequest{Player: player, Groups: []string{group}}))
	if err != nil {
		return "", err
	}
	return minted.Msg.GetToken(), nil
}

// A refusal says the same, whatever carries it.
func TestRefusals(t *testing.T) {
	onBothPorts(t, func(t *testing.T, w *world) {
		for name, c := range map[string]struct {
			request *connect.Request[guildhallv1.EnterRequest]
			code    connect.Code
			says    string
		}{
			"no token":        {connect.NewRequest(&guildhallv1.EnterRequest{Group: dragons.String()}), connect.CodeUnauthenticated, "Authorization: Bearer"},
			"another's group": {as(t, &guildhallv1.EnterRequest{Group: "guild:lions"}, "p1", dragons), connect.CodePermissionDenied, "player p1 does not name group guild:lions"},
			"no group":        {as(t, &guildhallv1.EnterRequest{Group: "dragons"}, "p1", dragons), connect.CodeInvalidArgument, "dragons"},
			"too long":        {as(t, &guildhallv1.EnterRequest{Group: strings.Repeat("x", maxRequestBytes)}, "p1", dragons), connect.CodeResourceExhausted, ""},
		} {
			stream, err := w.lobby(w.frontend).Enter(w.ctx, c.request)
			if err == nil {
				stream.Receive()
				err = stream.Err()
			}
			if connect.CodeOf(err) != c.code || err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%s: %v; want %v that says %q", name, err, c.code, c.says)
			}
		}
	})
}

func TestHealth(t *testing.T) {
	onBothPorts(t, func(t *testing.T, w *world) {
		health, err := grpc_health_v1.NewHealthClient(w.dial(w.address(w.frontend))).Check(w.ctx, &grpc_health_v1.HealthCheckRequest{})
		if err != nil || health.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING {
			t.Errorf("health is %v, %v", health, err)
		}
	})
}

// reflect lists the services by reflection; nil if there is none.
func (w *world) reflect() []*grpc_reflection_v1.ServiceResponse {
	w.t.Helper()
	var conn grpc.ClientConnInterface = w.dial(w.address(w.frontend))
	stream, err := grpc_reflection_v1.NewServerReflectionClient(conn).ServerReflectionInfo(w.ctx)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := stream.Send(&grpc_reflection_v1.ServerReflectionRequest{
		MessageRequest: &grpc_reflection_v1.ServerReflectionRequest_ListServices{},
	}); err != nil && err != io.EOF {
		w.t.Fatal(err)
	}
	response, err := stream.Recv()
	if err != nil {
		return nil
	}
	if err := stream.CloseSend(); err != nil {
		w.t.Fatal(err)
	}
	return response.GetListServicesResponse().GetService()
}

func (w *world) options(origin string) *http.Response {
	w.t.Helper()
	request, err := http.NewRequestWithContext(w.ctx, http.MethodOptions, "http://"+w.frontend.Addr()+"/guildhall.v1.LobbyService/Enter", nil)
	if err != nil {
		w.t.Fatal(err)
	}
	request.Header.Set("Origin", origin)
	request.Header.Set("Access-Control-Request-Method", "POST")
	request.Header.Set("Access-Control-Request-Headers", "authorization,content-type,x-grpc-web")
	transport := &http.Transport{}
	w.t.Cleanup(transport.CloseIdleConnections)
	response, err := transport.RoundTrip(request)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = response.Body.Close() }) // nothing in it
	return response
}

func TestPagesOfAllowedOriginsMayCall(t *testing.T) {
	w := setup(t, func(c *Config) { c.AllowOrigins = []string{"https://game.example"} })
	if got := w.options("https://game.example").Header.Get("Access-Control-Allow-Origin"); got != "https://game.example" {
		t.Errorf("the allowed origin is answered %q", got)
	}
	if got := w.options("https://other.example").Header.Get("Access-Control-Allow-Origin"); got != "" {
		t.Errorf("another origin is answered %q", got)
	}
}

func TestNewSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	used, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer used.Close()
	garbage := filepath.Join(t.TempDir(), "garbage")
	if err := os.WriteFile(garbage, []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	anyPort := process.Common{AdminListen: "127.0.0.1:0"}
	nobody := broker.Config{NATS: "nats://127.0.0.1:1"}
	for says, config := range map[string]Config{
		"GUILDHALL_PASS_KEY_FILE":   {Development: true},
		"GUILDHALL_TOKEN_KEYS_FILE": {PassKeyFile: garbage},
		"GUILDHALL_SHARDS":          {Shards: -1, PassKeyFile: garbage, Development: true},
		"GUILDHALL_TICKET_TTL":      {TicketTTL: 1, PassKeyFile: garbage, Development: true},
		"GUILDHALL_LISTEN":          {Common: anyPort, Listen: used.Addr().String(), PassKeyFile: garbage, Development: true},
		"GUILDHALL_GRPC_LISTEN":     {Common: anyPort, Listen: "127.0.0.1:0", GRPCListen: used.Addr().String(), PassKeyFile: garbage, Development: true},
		"GUILDHALL_NATS":            {Common: anyPort, Listen: "127.0.0.1:0", GRPCListen: "127.0.0.1:0", Config: nobody, PassKeyFile: garbage, Development: true},
	} {
		if f, err := New(config); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("New gave %v, %v; want an error that names %s", f, err, says)
		}
	}
}
