package frontend

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/grpc"
	"google.golang.org/grpc/reflection/grpc_reflection_v1"

	"github.com/guildhall-dev/guildhall"
	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
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
	d := &door{keys: pass.DevelopmentKeys, kinds: kinds, banned: banned, turns: newTurns(), logger: slog.New(slog.DiscardHandler)}
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
		who, err := d.check(http.Header{"Authorization": {c.header}}, c.group)
		switch {
		case c.code == 0 && (err != nil || who != visitor{"p1", dragons}):
			t.Errorf("%.12q for %q: %v, %v", c.header, c.group, who, err)
		case c.code != 0 && connect.CodeOf(err) != c.code:
			t.Errorf("%.12q for %q: %v, want %v", c.header, c.group, err, c.code)
		}
	}
}

func TestDevelopmentTokensArePassedInDevelopmentOnly(t *testing.T) {
	w := setup(t, func(c *Config) {
		c.Development = false
		c.TokenKeysFile = c.PassKeyFile + ".pub" // any key but the development key
	})
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
	response := w.options("https://game.example")
	if origin := response.Header.Get("Access-Control-Allow-Origin"); origin != "" {
		t.Errorf("a page of an origin that nobody allowed may call: %q", origin)
	}
}

func TestReflectionInDevelopment(t *testing.T) {
	w := setup(t)
	services := w.reflect()
	if len(services) < 2 || services[0].GetName() == "" {
		t.Errorf("reflection lists %v", services)
	}
}

// reflect lists the services by reflection; nil if there is none.
func (w *world) reflect() []*grpc_reflection_v1.ServiceResponse {
	w.t.Helper()
	var conn grpc.ClientConnInterface = w.dial(w.frontend.Addr())
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
		"GUILDHALL_NATS":            {Common: anyPort, Listen: "127.0.0.1:0", Config: nobody, PassKeyFile: garbage, Development: true},
	} {
		if f, err := New(config); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("New gave %v, %v; want an error that names %s", f, err, says)
		}
	}
}
