package roomserver

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"sync"
	"time"

	"agones.dev/agones/pkg/sdk"
	"agones.dev/agones/pkg/sdk/beta"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/guildhall-dev/guildhall"
	"github.com/guildhall-dev/guildhall/internal/process"
)

const (
	// stateAllocated is Agones' word for a game server that somebody has been given.
	stateAllocated = "Allocated"
	// sdkTimeout bounds one call to the sidecar.
	sdkTimeout = 5 * time.Second
	// sdkPause is how long a broken stream to the sidecar rests before it is begun anew.
	sdkPause = 250 * time.Millisecond
	// sdkLook is how often the host looks at its game server beside the watch: an update that comes in the very moment in
	// which a watch begins is told to nobody, and Agones 1.56 does not repeat it.
	sdkLook = 30 * time.Second
	// sdkBackoff is the longest that a connection to the sidecar rests between two attempts: gRPC's own two minutes are
	// more signs of life than Agones lets a host miss.
	sdkBackoff = time.Second
	// sdkLastWord bounds asking for Shutdown when the process stops.
	sdkLastWord = 2 * time.Second
	// defaultSDKPort is where the sidecar listens unless AGONES_SDK_GRPC_PORT says otherwise.
	defaultSDKPort = "9357"
	// defaultHealthPeriod is used if the game server does not say how often a sign of life is due.
	defaultHealthPeriod = 5 * time.Second
)

// lifecycle is the host's life as Agones sees it, through the SDK sidecar.
type lifecycle struct {
	// Static after construction.
	conn     *grpc.ClientConn
	sdk      sdk.SDKClient
	counters beta.SDKClient
	port     string
	overflow mark
	wait     time.Duration // how long the sidecar may be away at the start
	gone     time.Duration // and later
	look     time.Duration
	lastWord time.Duration
	logger   *slog.Logger
	shown    chan *sdk.GameServer_Status_CounterStatus // holds one: the counter as Agones has it
	marked   chan struct{}                             // closed once the fleet has too many allocated game servers
	marking  sync.Once

	// Set by identify.
	healthPeriod time.Duration
	taken        bool // somebody was given this game server before we began

	// Set by shutdown, which ends before depart is called.
	asked bool
}

// identity is what Agones says that we are.
type identity struct {
	name    guildhall.HostName
	address string // where players dial, host:port
	podIP   string
}

// newLifecycle makes the lifecycle of a host; it does not dial yet.
func newLifecycle(config Config) (*lifecycle, error) {
	address := config.AgonesSDK
	if address == "" {
		address = net.JoinHostPort("127.0.0.1", cmp.Or(os.Getenv("AGONES_SDK_GRPC_PORT"), defaultSDKPort))
	}
	overflow, err := parseMark(config.AgonesOverflow)
	if err != nil {
		return nil, err
	}
	pace := backoff.DefaultConfig
	pace.BaseDelay, pace.MaxDelay = sdkPause, sdkBackoff
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: pace, MinConnectTimeout: sdkTimeout}))
	if err != nil {
		return nil, fmt.Errorf("GUILDHALL_AGONES_SDK=%q: %w", address, err)
	}
	return &lifecycle{
		conn: conn, sdk: sdk.NewSDKClient(conn), counters: beta.NewSDKClient(conn), port: config.AgonesPort, overflow: overflow,
		wait: config.AgonesWait, gone: config.AgonesWait, look: sdkLook, lastWord: sdkLastWord, logger: config.Logger,
		shown: make(chan *sdk.GameServer_Status_CounterStatus, 1), marked: make(chan struct{}),
	}, nil
}

func (l *lifecycle) close() error { return l.conn.Close() }

// identify waits until the sidecar answers and the game server has its address. The sidecar may begin behind us, and
// answer with errors until it has heard of the game server itself.
func (l *lifecycle) identify(ctx context.Context) (identity, error) {
	waitCtx, cancel := context.WithTimeout(ctx, l.wait)
	defer cancel()
	var last error
	for {
		server, err := l.sdk.GetGameServer(waitCtx, &sdk.Empty{}, grpc.WaitForReady(true))
		switch {
		case err == nil && server.GetStatus().GetAddress() != "":
			return l.read(server)
		case err == nil:
			last = fmt.Errorf("game server %s has no address yet", server.GetObjectMeta().GetName())
		case waitCtx.Err() == nil || last == nil:
			last = err
		}
		process.Sleep(waitCtx, sdkPause)
		switch {
		case ctx.Err() != nil:
			return identity{}, ctx.Err()
		case waitCtx.Err() != nil:
			return identity{}, fmt.Errorf("the Agones sidecar at %s did not tell within GUILDHALL_AGONES_WAIT=%s who this host is "+
				"(GUILDHALL_AGONES_SDK says where it is, else AGONES_SDK_GRPC_PORT): %w", l.conn.Target(), l.wait, last)
		}
	}
}

// read takes from the game server who and where this host is. An address may be a name, or of IPv6.
func (l *lifecycle) read(server *sdk.GameServer) (identity, error) {
	l.healthPeriod = time.Duration(server.GetSpec().GetHealth().GetPeriodSeconds()) * time.Second
	if l.healthPeriod <= 0 {
		l.healthPeriod = defaultHealthPeriod
	}
	l.taken = server.GetStatus().GetState() == stateAllocated
	self := identity{name: guildhall.HostName(server.GetObjectMeta().GetName())}
	for _, address := range server.GetStatus().GetAddresses() {
		if address.GetType() == "PodIP" && self.podIP == "" {
			self.podIP = address.GetAddress()
		}
	}
	var names []string
	for _, port := range server.GetStatus().GetPorts() {
		names = append(names, port.GetName())
		if port.GetName() != l.port {
			continue
		}
		if port.GetPort() <= 0 {
			return identity{}, fmt.Errorf("GUILDHALL_AGONES_PORT=%q: that port of game server %s is not one of its node; want another portPolicy than None", l.port, self.name)
		}
		self.address = net.JoinHostPort(server.GetStatus().GetAddress(), strconv.Itoa(int(port.GetPort())))
		return self, nil
	}
	return identity{}, fmt.Errorf("GUILDHALL_AGONES_PORT=%q: game server %s has no port of that name; it has %q", l.port, self.name, names)
}

// live gives signs of life and keeps the counter true, from the start until the last room has been moved away: Agones
// would give a host up that is silent while it waits for NATS, or while it moves its rooms.
func (l *lifecycle) live(ctx context.Context, host *host) error {
	return process.RunAll(ctx,
		process.Func(func(ctx context.Context) error { return l.keep(ctx, l.health) }),
		process.Func(func(ctx context.Context) error { return l.count(ctx, host) }),
	)
}

// run is the rest of the life: Ready once the lease is held, what Agones says of us, and Shutdown once the host is of no
// use to anybody. After that it waits to be stopped: a game server that exits before Agones has taken note may be left
// Allocated for ever.
func (l *lifecycle) run(ctx context.Context, host *host, admin *process.Admin) error {
	for _, known := range []<-chan struct{}{host.leased, host.registry.Synced()} { // its own lease, and who is banned
		select {
		case <-known:
		case <-ctx.Done():
			return nil
		}
	}
	if !l.taken { // Ready would take it away from whoever it was given to, and let Agones give it to somebody else
		if err := l.insist(ctx, "Ready", l.sdk.Ready, isAway); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return nil
	}
	admin.SetReady()
	l.logger.Info("host is ready", "host", host.name, "address", host.address, "metrics", "http://"+admin.Addr()+"/metrics")
	return process.RunAll(ctx,
		process.Func(func(ctx context.Context) error {
			return l.keep(ctx, func(ctx context.Context) error { return l.watch(ctx, host) })
		}),
		process.Func(func(ctx context.Context) error {
			process.Every(ctx, l.look, func() { l.glance(ctx, host) })
			return nil
		}),
		process.Func(func(ctx context.Context) error { return l.giveWay(ctx, host) }),
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
		if time.Since(lost) > l.gone {
			return fmt.Errorf("the Agones sidecar has been gone for %s: %w", l.gone, err)
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

// watch sees what becomes of the game server.
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
		l.see(server, host)
	}
}

// glance looks at the game server once. Whether the sidecar is there is for the watch to say.
func (l *lifecycle) glance(ctx context.Context, host *host) {
	ctx, cancel := context.WithTimeout(ctx, sdkTimeout)
	defer cancel()
	if server, err := l.sdk.GetGameServer(ctx, &sdk.Empty{}); err == nil {
		l.see(server, host)
	}
}

// see takes from the game server that somebody has been given it, that the fleet has too many that are, and how many rooms
// Agones believes that it has.
func (l *lifecycle) see(server *sdk.GameServer, host *host) {
	if server.GetStatus().GetState() == stateAllocated {
		host.allocated()
		if l.overflow.on(server.GetObjectMeta()) {
			l.marking.Do(func() { close(l.marked) })
		}
	}
	if counter := server.GetStatus().GetCounters()[roomsCounter]; counter != nil {
		skip(l.shown)
		select {
		case l.shown <- counter:
		default: // the watch and the glance came at once; the next one comes
		}
	}
}

// giveWay drains the host for good once the fleet says that it has too many allocated game servers.
func (l *lifecycle) giveWay(ctx context.Context, host *host) error {
	select {
	case <-l.marked:
	case <-ctx.Done():
		return nil
	}
	l.logger.Info("the fleet has more allocated game servers than it wants, and this one gives way: the host drains", "host", host.name, "mark", l.overflow.String())
	_ = host.drain(ctx) // it fails only if ctx ends: then the host is stopped, and drained by that
	<-ctx.Done()
	return nil
}

// shutdown asks Agones to end this game server once it is closing.
func (l *lifecycle) shutdown(ctx context.Context, host *host) error {
	select {
	case <-host.closing:
	case <-ctx.Done():
		return nil
	}
	l.logger.Info("host has no rooms and asks Agones to shut it down", "host", host.name)
	always := func(error) bool { return true }
	if err := l.insist(ctx, "Shutdown", l.sdk.Shutdown, always); err == nil {
		l.asked = ctx.Err() == nil
	}
	<-ctx.Done()
	return nil
}

// depart tells Agones that a host which has been stopped is done. Without it, the sidecar of a pod that is evicted waits for
// this word until the pod's grace is over, and the fleet waits for the pod before it replaces the host.
func (l *lifecycle) depart(ctx context.Context) {
	if l.asked {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, l.lastWord)
	defer cancel()
	if err := l.call(ctx, "Shutdown", l.sdk.Shutdown); err != nil {
		l.logger.Info("Agones could not be told that the host is done", "error", err)
	}
}

type sdkMethod = func(context.Context, *sdk.Empty, ...grpc.CallOption) (*sdk.Empty, error)

// insist calls until it is heard, for as long as errors are worth another try. It is nil, too, if ctx ends. That the sidecar
// stays away is for keep to find out.
func (l *lifecycle) insist(ctx context.Context, what string, method sdkMethod, again func(error) bool) error {
	for {
		err := l.call(ctx, what, method)
		if err == nil || ctx.Err() != nil {
			return nil
		}
		if !again(err) {
			return err
		}
		l.logger.Warn("the Agones sidecar did not take a call; trying again", "error", err)
		process.Sleep(ctx, sdkPause)
	}
}

// isAway says whether an error means that the sidecar is not there, and may be in a moment.
func isAway(err error) bool {
	code := status.Code(err)
	return code == codes.Unavailable || code == codes.DeadlineExceeded
}

func (l *lifecycle) call(ctx context.Context, what string, method sdkMethod) error {
	ctx, cancel := context.WithTimeout(ctx, sdkTimeout)
	defer cancel()
	if _, err := method(ctx, &sdk.Empty{}); err != nil {
		return fmt.Errorf("calling %s at the Agones sidecar: %w", what, err)
	}
	return nil
}
