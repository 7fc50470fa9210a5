package load

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/guildhall-dev/guildhall"
	"github.com/guildhall-dev/guildhall/client"
)

func TestStormSeatsEverybody(t *testing.T) {
	ctx, config := setup(t)
	r, err := Storm(ctx, StormConfig{Config: config, Groups: 4, Players: 40})
	if err != nil {
		t.Fatal(err)
	}
	checkKept(t, r)
	if r.Seated != 40 || r.Failed != 0 || r.Rooms != 4 || r.SplitGroups != 0 || r.Hosts < 1 {
		t.Errorf("it gave %+v", r)
	}
	object := checkShown(t, r, "players", "groups", "seated", "failed", "seconds", "players_per_second", "seat_ms", "rooms", "hosts", "split_groups")
	checkTimes(t, object["seat_ms"])
	checkTimes(t, object["assign_ms"])
}

func TestStormToTheAssignment(t *testing.T) {
	ctx, config := setup(t)
	for _, address := range []string{"", server.stack.GRPCAddr()} {
		config.GRPC = address
		r, err := Storm(ctx, StormConfig{Config: config, Groups: 2, Players: 20, Assign: true})
		if err != nil {
			t.Fatal(err)
		}
		checkKept(t, r)
		if r.Seated != 20 || r.Rooms != 2 {
			t.Errorf("it gave %+v", r)
		}
		checkTimes(t, checkShown(t, r)["assign_ms"])
	}
}

func TestNobodyAtTheGRPCPort(t *testing.T) {
	ctx, config := setup(t)
	config.GRPC = "127.0.0.1:1"
	r, err := Storm(ctx, StormConfig{Config: config, Groups: 2, Players: 4, Assign: true})
	if err != nil {
		t.Fatal(err)
	}
	if r.Failed != 4 || !strings.Contains(r.FirstError, "127.0.0.1:1") || len(r.Breaches()) == 0 {
		t.Errorf("it gave %+v", r)
	}
	for _, address := range []string{"\x00:1", "nonsense", "http://127.0.0.1:7778"} {
		config.GRPC = address
		if _, err := Storm(ctx, StormConfig{Config: config, Groups: 1, Players: 1}); err == nil || !strings.Contains(err.Error(), "--grpc") {
			t.Errorf("entering at %q: %v", address, err)
		}
	}
}

// The gRPC port of an https server speaks TLS.
func TestTheGRPCPortIsAsSafeAsTheServer(t *testing.T) {
	ctx, config := setup(t)
	config.Server, config.GRPC = "https://127.0.0.1:1", server.stack.GRPCAddr() // which does not
	config.Tokens = func(context.Context, guildhall.PlayerID, guildhall.Group) (string, error) { return "x", nil }
	r, err := Storm(ctx, StormConfig{Config: config, Groups: 1, Players: 1, Assign: true})
	if err != nil {
		t.Fatal(err)
	}
	if r.Failed != 1 || !strings.Contains(r.FirstError, "TLS handshake") {
		t.Errorf("it gave %+v", r)
	}
}

func TestFanoutCountsAddUp(t *testing.T) {
	ctx, config := setup(t)
	var stages []string // told by one goroutine at a time
	config.Progress = func(stage string, done, total int) {
		if done > total {
			t.Errorf("%s: %d of %d", stage, done, total)
		}
		stages = append(stages, stage)
	}
	r, err := Fanout(ctx, FanoutConfig{Config: config, Rooms: 2, Members: 5, Rate: 50, Seconds: 1, Warmup: 0.3})
	if err != nil {
		t.Fatal(err)
	}
	checkKept(t, r)
	if r.Published != 50 || r.Acked != r.Published || r.Delivered != r.Published*5 || r.Missing != 0 || r.DeliveredInSeconds == 0 {
		t.Errorf("it gave %+v", r)
	}
	if got := r.LatencyMS.histogram.TotalCount(); got != r.Delivered {
		t.Errorf("%d latencies of %d deliveries", got, r.Delivered)
	}
	if r.WhyNot != "" || *r.ServerRSSBytes < 1<<20 {
		t.Errorf("of the hosts, which are here, was read: %+v", r.Usage)
	}
	if r.StackCPUSeconds != nil {
		t.Error("this process, which is the players', was counted as the server's")
	}
	object := checkShown(t, r, "published", "delivered", "missing", "duplicated", "out_of_order", "seconds", "deliveries_per_second",
		"server_cpu_seconds", "deliveries_per_cpu_second", "latency_ms", "server_rss_bytes")
	checkTimes(t, object["latency_ms"])
	for _, stage := range []string{"tokens", "seating", "talking", "leaving"} {
		if !slices.Contains(stages, stage) {
			t.Errorf("nobody was told of %q", stage)
		}
	}
}

// Ctrl-C: what was said until then is counted, and complete.
func TestFanoutEndsEarly(t *testing.T) {
	ctx, config := setup(t)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	config.Progress = func(stage string, done, _ int) {
		if stage == "talking" && done > 300 {
			cancel()
		}
	}
	r, err := Fanout(ctx, FanoutConfig{Config: config, Rooms: 1, Members: 4, Rate: 100, Seconds: 3600})
	if err != nil {
		t.Fatal(err)
	}
	checkKept(t, r)
	if !r.Interrupted || r.Seconds > 60 || r.Published == 0 || r.Delivered != 4*r.Published {
		t.Errorf("it gave %+v", r)
	}
	checkShown(t, r)
}

func TestEndedBeforeTheSeats(t *testing.T) {
	ctx, config := setup(t)
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := Fanout(ctx, FanoutConfig{Config: config, Rooms: 1, Members: 4, Rate: 100, Seconds: 10}); err == nil {
		t.Error("it measured without anybody there")
	}
}

func TestChurnWithoutKills(t *testing.T) {
	ctx, config := setup(t)
	r, err := Churn(ctx, ChurnConfig{Config: config, Seconds: 4, Groups: 2, Players: 12, Rate: 60})
	if err != nil {
		t.Fatal(err)
	}
	checkKept(t, r)
	if r.Sent == 0 || r.Acked != r.Sent || r.Delivered < r.Acked || r.Joins <= 12 || r.HostsKilled != 0 {
		t.Errorf("it gave %+v", r)
	}
	object := checkShown(t, r, "sent", "acked", "lost", "duplicated", "out_of_order", "resumes", "hosts_killed", "recovery_seconds")
	if object["recovery_seconds"] != nil {
		t.Errorf("recovered from nothing in %v", object["recovery_seconds"])
	}
}

func TestIdleGivesBytesPerConnection(t *testing.T) {
	ctx, config := setup(t)
	r, err := Idle(ctx, IdleConfig{Config: config, Connections: 100, Groups: 2, Settle: 3})
	if err != nil {
		t.Fatal(err)
	}
	checkKept(t, r)
	if r.Connections != 100 || r.RSSBytesPerConnection == nil || *r.RSSBefore < 1<<20 {
		t.Errorf("it gave %+v", r)
	}
	checkShown(t, r, "connections", "rss_bytes_per_connection")
}

func TestSizesThatMakeNoSense(t *testing.T) {
	t.Parallel()
	config := Config{Server: "http://127.0.0.1:1"}
	fanout := func(change func(*FanoutConfig)) func() error {
		c := FanoutConfig{Config: config, Rooms: 1, Members: 2, Rate: 1, Seconds: 1}
		change(&c)
		return func() error { _, err := Fanout(t.Context(), c); return err }
	}
	storm := func(groups, players int) func() error {
		return func() error {
			_, err := Storm(t.Context(), StormConfig{Config: config, Groups: groups, Players: players})
			return err
		}
	}
	churn := func(c ChurnConfig) func() error {
		c.Config = config
		return func() error { _, err := Churn(t.Context(), c); return err }
	}
	idle := func(connections, groups int) func() error {
		return func() error {
			_, err := Idle(t.Context(), IdleConfig{Config: config, Connections: connections, Groups: groups})
			return err
		}
	}
	for says, run := range map[string]func() error{
		"--rooms 0":                   fanout(func(c *FanoutConfig) { c.Rooms = 0 }),
		"--members -1":                fanout(func(c *FanoutConfig) { c.Members = -1 }),
		"--rate 0":                    fanout(func(c *FanoutConfig) { c.Rate = 0 }),
		"--seconds 0":                 fanout(func(c *FanoutConfig) { c.Seconds = 0 }),
		"--warmup -1":                 fanout(func(c *FanoutConfig) { c.Warmup = -1 }),
		"--size 3":                    fanout(func(c *FanoutConfig) { c.Size = 3 }),
		"seats 1000":                  fanout(func(c *FanoutConfig) { c.Members = 1001 }),
		"at most 50000":               fanout(func(c *FanoutConfig) { c.Rooms, c.Members = 100, 1000 }),
		"can be checked":              fanout(func(c *FanoutConfig) { c.Members, c.Rate, c.Seconds = 1000, MaxRate, MaxSeconds }),
		"not one message":             fanout(func(c *FanoutConfig) { c.Rate, c.Seconds = 0.1, 1 }),
		"their own signals":           fanout(func(c *FanoutConfig) { c.Signal, c.Members = true, 1 }),
		"without players":             storm(10, 5),
		"--groups 0":                  storm(0, 5),
		"--players 50001":             storm(1000, MaxPlayers+1),
		"1001 players in a room":      storm(1, 1001),
		"less than --seconds":         churn(ChurnConfig{Seconds: 5, KillEvery: 5}),
		"--seconds 0.5":               churn(ChurnConfig{Seconds: 0.5}),
		"11 groups of 10 players":     churn(ChurnConfig{Seconds: 5, Groups: 11, Players: 10}),
		"deliveries can be checked: ": churn(ChurnConfig{Seconds: 80000, Groups: 1, Players: 1000, Rate: 1000}),
		"--connections 0":             idle(0, 0),
		"--groups 9":                  idle(8, 9),
	} {
		if err := run(); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("it said %v, want %q", err, says)
		}
	}
	if _, err := Idle(t.Context(), IdleConfig{Connections: 1}); err == nil || !strings.Contains(err.Error(), "Server") {
		t.Errorf("without a server: %v", err)
	}
}

// More of them fit if the server's kinds say so.
func TestCapacity(t *testing.T) {
	t.Parallel()
	c := Config{Capacity: 2000}
	if err := c.checkRooms(2000, 1, 1); err != nil {
		t.Error(err)
	}
	if err := c.checkRooms(2001, 1, 1); err == nil {
		t.Error("one too many was taken")
	}
}

func TestNobodyThere(t *testing.T) {
	t.Parallel()
	if _, err := Storm(t.Context(), StormConfig{Config: Config{Server: "http://127.0.0.1:1"}, Groups: 1, Players: 1}); err == nil {
		t.Error("nobody was there, and it measured")
	}
	config := Config{Server: "http://127.0.0.1:1", Tokens: func(context.Context, guildhall.PlayerID, guildhall.Group) (string, error) { return "x", nil }}
	if _, err := Churn(t.Context(), ChurnConfig{Config: config, Seconds: 5, KillEvery: 2}); err == nil || !strings.Contains(err.Error(), "--kill-every") {
		t.Errorf("killing hosts of nobody: %v", err)
	}
}

// hasWebSocket says whether the server's hosts speak WebSocket, which they have learnt together with signals.
func hasWebSocket(ctx context.Context, t *testing.T, config Config) bool {
	t.Helper()
	r, err := newRun(config)
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	token, err := r.config.Tokens(ctx, "p0", r.group(0))
	if err != nil {
		t.Fatal(err)
	}
	assignment, err := client.Enter(ctx, client.Config{Server: config.Server, Token: token, HTTPClient: r.calls[0]}, r.group(0))
	if err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.Replace(assignment.GetWebsocketUrl(), "ws://", "http://", 1), nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header = http.Header{
		"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"},
		"Sec-Websocket-Key": {"AAAAAAAAAAAAAAAAAAAAAA=="}, "Sec-Websocket-Protocol": {"guildhall.v1.proto"},
	}
	calls := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := calls.Do(request)
	if err != nil {
		return false
	}
	defer response.Body.Close()
	return response.StatusCode == http.StatusSwitchingProtocols
}

func TestOverWebSocket(t *testing.T) {
	ctx, config := setup(t)
	if !hasWebSocket(ctx, t, config) {
		t.Skip("hosts do not speak WebSocket yet")
	}
	config.Transport = client.WebSocket
	r, err := Fanout(ctx, FanoutConfig{Config: config, Rooms: 1, Members: 4, Rate: 40, Seconds: 1})
	if err != nil {
		t.Fatal(err)
	}
	checkKept(t, r)
	if r.Published != 40 || r.Delivered != 160 || r.Transport != "websocket" {
		t.Errorf("it gave %+v", r)
	}
}

func TestFanoutOfSignals(t *testing.T) {
	ctx, config := setup(t)
	if !hasWebSocket(ctx, t, config) {
		t.Skip("hosts do not know signals yet")
	}
	r, err := Fanout(ctx, FanoutConfig{Config: config, Rooms: 2, Members: 4, Rate: 20, Seconds: 1, Signal: true})
	if err != nil {
		t.Fatal(err)
	}
	checkKept(t, r)
	if r.Published != 20 || r.Delivered == 0 || r.Delivered+r.Missing != r.Published*3 {
		t.Errorf("it gave %+v", r)
	}
}
