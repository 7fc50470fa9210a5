package roomserver

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"agones.dev/agones/pkg/sdk"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
)

// pulse is a sidecar that notes when signs of life come.
type pulse struct {
	sdk.UnimplementedSDKServer

	mu    sync.Mutex
	beats []time.Time // guarded by mu
}

func (p *pulse) Health(stream sdk.SDK_HealthServer) error {
	for {
		if _, err := stream.Recv(); err != nil {
			return err
		}
		p.mu.Lock()
		p.beats = append(p.beats, time.Now())
		p.mu.Unlock()
	}
}

// Signs of life come by the period that the game server has, with one to spare in each; Agones gives a host up that
// misses some.
func TestSignsOfLifeComeByThePeriod(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		health *sdk.GameServer_Spec_Health
		period time.Duration
	}{
		{&sdk.GameServer_Spec_Health{PeriodSeconds: 2}, 2 * time.Second},
		{&sdk.GameServer_Spec_Health{PeriodSeconds: 30}, 30 * time.Second},
		{nil, defaultHealthPeriod},
		{&sdk.GameServer_Spec_Health{Disabled: true}, defaultHealthPeriod}, // who looks nevertheless sees them
	} {
		synctest.Test(t, func(t *testing.T) {
			car := &pulse{}
			l := &lifecycle{port: "room", logger: slog.New(slog.DiscardHandler)}
			stop := l.speakTo(t, car)
			defer stop()
			server := gameServer("Ready")
			server.Spec.Health = c.health
			if _, err := l.read(server); err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), 10*c.period)
			defer cancel()
			if err := l.keep(ctx, l.health); err != nil {
				t.Fatal(err)
			}
			car.mu.Lock()
			defer car.mu.Unlock()
			last := start
			for _, beat := range append(car.beats, time.Now()) {
				if rest := beat.Sub(last); rest > c.period/2 {
					t.Errorf("%v: no sign of life for %s", c.health, rest)
				}
				last = beat
			}
			if n := len(car.beats); n > 25 {
				t.Errorf("%v: %d signs of life in ten periods", c.health, n)
			}
		})
	}
}

// speakTo connects to a sidecar within a bubble of time.
func (l *lifecycle) speakTo(t *testing.T, car sdk.SDKServer) (stop func()) {
	t.Helper()
	listener := bufconn.Listen(1 << 16)
	g := grpc.NewServer()
	sdk.RegisterSDKServer(g, car)
	served := make(chan error, 1)
	go func() { served <- g.Serve(listener) }()
	conn, err := grpc.NewClient("passthrough:///sidecar", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	l.conn, l.sdk = conn, sdk.NewSDKClient(conn)
	return func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
		g.Stop()
		if err := <-served; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			t.Error(err)
		}
	}
}
