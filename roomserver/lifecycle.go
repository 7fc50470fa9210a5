package roomserver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"time"

	"agones.dev/agones/pkg/sdk"
	"agones.dev/agones/pkg/sdk/beta"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/guildhall-dev/guildhall"
	"github.com/guildhall-dev/guildhall/internal/process"
)

const (
	// stateAllocated is Agones' word for a game server that somebody has been given.
	stateAllocated = "Allocated"
	// roomsCounter is the Agones counter that autoscalers and dashboards see.
	roomsCounter = "rooms"
	// sdkTimeout bounds one call to the sidecar.
	sdkTimeout = 5 * time.Second
	// sdkPause is how long a broken stream to the sidecar rests before it is begun anew.
	sdkPause = 250 * time.Millisecond
	// defaultSDKPort is where the sidecar listens unless AGONES_SDK_GRPC_PORT says otherwise.
	defaultSDKPort = "9357"
	// defaultHealthPeriod is used if the game server does not say how often a sign of life is due.
	defaultHealthPeriod = 5 * time.Second
)

// lifecycle is the host's life as Agones sees it, through the SDK sidecar.
type lifecycle struct {
	conn     *grpc.ClientConn
	sdk      sdk.SDKClient
	counters beta.SDKClient
	port     string
	logger   *slog.Logger

	wait         time.Duration // set by identify, as is healthPeriod
	healthPeriod time.Duration
}

// identity is what Agones says that we are.
type identity struct {
	name    guildhall.HostName
	address string // where players dial, host:port
	podIP   string
}

func newLifecycle(address, port string, logger *slog.Logger) (*lifecycle, error) {
	if address == "" {
		address = net.JoinHostPort("127.0.0.1", cmp.Or(os.Getenv("AGONES_SDK_GRPC_PORT"), defaultSDKPort))
	}
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, fmt.Errorf("GUILDHALL_AGONES_SDK=%q: %w", address, err)
	}
	return &lifecycle{conn: conn, sdk: sdk.NewSDKClient(conn), counters: beta.NewSDKClient(conn), port: port, logger: logger}, nil
}

func (l *lifecycle) close() error { return l.conn.Close() }

// identify waits until the sidecar answers and the game server has its address.
func (l *lifecycle) identify(ctx context.Context, wait time.Duration) (identity, error) {
	l.wait = wait
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	for {
		server, err := l.sdk.GetGameServer(ctx, &sdk.Empty{}, grpc.WaitForReady(true))
		if err != nil {
			return identity{}, fmt.Errorf("the Agones sidecar at %s did not answer within %s: %w", l.conn.Target(), wait, err)
		}
		if server.GetStatus().GetAddress() != "" {
			return l.read(server)
		}
		select {
		case <-time.After(sdkPause):
		case <-ctx.Done():
			return identity{}, fmt.Errorf("game server %s got no address within %s", server.GetObjectMeta().GetName(), wait)
		}
	}
}

func (l *lifecycle) read(server *sdk.GameServer) (identity, error) {
	l.healthPeriod = time.Duration(server.GetSpec().GetHealth().GetPeriodSeconds()) * time.Second
	if l.healthPeriod <= 0 {
		l.healthPeriod = defaultHealthPeriod
	}
	self := identity{name: guildhall.HostName(server.GetObjectMeta().GetName())}
	for _, address := range server.GetStatus().GetAddresses() {
		if address.GetType() == "PodIP" && self.podIP == "" {
			self.podIP = address.GetAddress()
		}
	}
	for _, port := range server.GetStatus().GetPorts() {
		if port.GetName() == l.port {
			self.address = net.JoinHostPort(server.GetStatus().GetAddress(), strconv.Itoa(int(port.GetPort())))
			return self, nil
		}
	}
	return identity{}, fmt.Errorf("GUILDHALL_AGONES_PORT=%q: game server %s has no port of that name", l.port, self.name)
}

// run lives: Ready once the lease is held, signs of life, what Agones says of us, how many rooms we carry, and
// Shutdown once the host is of no use to anybody. After that it waits to be stopped: a game server that exits
// before Agones has taken note may be left Allocated for ever.
func (l *lifecycle) run(ctx context.Context, host *host, admin *process.Admin) error {
	for _, known := range []<-chan struct{}{host.leased, host.registry.Synced()} { // its own lease, and who is banned
		select {
		case <-known:
		case <-ctx.Done():
			return nil
		}
	}
	if err := l.call(ctx, "Ready", l.sdk.Ready); err != nil {
		return err
	}
	admin.SetReady()
	l.logger.Info("host is ready", "host", host.name, "address", host.address, "metrics", "http://"+admin.Addr()+"/metrics")
	return process.RunAll(ctx,
		process.Func(func(ctx context.Context) error { return l.keep(ctx, l.health) }),
		process.Func(func(ctx context.Context) error {
			return l.keep(ctx, func(ctx context.Context) error { return l.watch(ctx, host) })
		}),
		process.Func(func(ctx context.Context) error { return l.count(ctx, host) }),
		process.Func(func(ctx context.Context) error { return l.shutdown(ctx, host) }),
	)
}

// keep runs a stream again and again until ctx ends. A sidecar that is gone for longer than the start may wait for it
// does not come back: whoever runs this host has died, and it goes too.
func (l *lifecycle) keep(ctx context.Context, stream func(context.Context) error) error {
	var lost time.Time
	for {
		start := time.Now()
		err := stream(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if lost.IsZero() || time.Since(start) > sdkTimeout { // it was there meanwhile
			lost = time.Now()
		}
		if time.Since(lost) > l.wait {
			return fmt.Errorf("the Agones sidecar has been gone for %s: %w", l.wait, err)
		}
		l.logger.Warn("a stream to the Agones sidecar broke", "error", err)
		process.Sleep(ctx, sdkPause)
	}
}

// health sends signs of life, two in each period.
func (l *lifecycle) health(ctx context.Context) error {
	stream, err := l.sdk.Health(ctx)
	if err != nil {
		return fmt.Errorf("opening the health stream: %w", err)
	}
	ticker := time.NewTicker(l.healthPeriod / 2)
	defer ticker.Stop()
	for {
		if err := stream.Send(&sdk.Empty{}); err != nil {
			_, err := stream.CloseAndRecv() // Send says only EOF; this says why
			return fmt.Errorf("sending a sign of life: %w", err)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// watch sees that somebody has been given this game server.
func (l *lifecycle) watch(ctx context.Context, host *host) error {
	stream, err := l.sdk.WatchGameServer(ctx, &sdk.Empty{})
	if err != nil {
		return fmt.Errorf("opening the watch: %w", err)
	}
	for {
		server, err := stream.Recv()
		if err != nil {
			return fmt.Errorf("watching the game server: %w", err)
		}
		if server.GetStatus().GetState() == stateAllocated {
			host.allocated()
		}
	}
}

// count keeps the Agones counter true. While the sidecar is away it tries again; a fleet that has no such counter is
// not asked twice for the same number.
func (l *lifecycle) count(ctx context.Context, host *host) error {
	told := -1
	for {
		rooms, changed := host.countRooms()
		var again <-chan time.Time
		if rooms != told {
			err := l.updateCounter(ctx, rooms, host.capacity)
			if err != nil && ctx.Err() == nil {
				l.logger.Warn("the Agones counter could not be updated", "counter", roomsCounter, "error", err)
			}
			told = rooms
			if code := status.Code(err); code == codes.Unavailable || code == codes.DeadlineExceeded {
				told, again = -1, time.After(sdkPause)
			}
		}
		select {
		case <-changed:
		case <-again:
		case <-ctx.Done():
			return nil
		}
	}
}

func (l *lifecycle) updateCounter(ctx context.Context, rooms, capacity int) error {
	ctx, cancel := context.WithTimeout(ctx, sdkTimeout)
	defer cancel()
	_, err := l.counters.UpdateCounter(ctx, &beta.UpdateCounterRequest{CounterUpdateRequest: &beta.CounterUpdateRequest{
		Name: roomsCounter, Count: wrapperspb.Int64(int64(rooms)), Capacity: wrapperspb.Int64(int64(capacity)),
	}})
	return err
}

// shutdown asks Agones to end this game server once it is closing.
func (l *lifecycle) shutdown(ctx context.Context, host *host) error {
	select {
	case <-host.closing:
	case <-ctx.Done():
		return nil
	}
	l.logger.Info("host is idle and asks Agones to shut it down", "host", host.name)
	for {
		err := l.call(ctx, "Shutdown", l.sdk.Shutdown)
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			return nil
		}
		l.logger.Warn("asking Agones to shut down failed; trying again", "error", err)
		process.Sleep(ctx, sdkPause)
	}
	<-ctx.Done()
	return nil
}

func (l *lifecycle) call(ctx context.Context, what string, method func(context.Context, *sdk.Empty, ...grpc.CallOption) (*sdk.Empty, error)) error {
	callCtx, cancel := context.WithTimeout(ctx, sdkTimeout)
	defer cancel()
	if _, err := method(callCtx, &sdk.Empty{}); err != nil && !errors.Is(ctx.Err(), context.Canceled) {
		return fmt.Errorf("calling %s at the Agones sidecar: %w", what, err)
	}
	return nil
}
