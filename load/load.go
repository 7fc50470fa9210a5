// Package load puts players into rooms, lets them talk, and measures: [Storm] seats them all at once, [Fanout] lets them
// talk at a steady rate, [Churn] lets them come, go and be cut off while hosts are killed, and [Idle] asks what a quiet
// connection costs.
//
// The players are those of package client, as games have them. Messages are sent by the clock and not when the last one
// has arrived, and times count from when a message was due: a server that stands still for a second is seen to, by every
// message of that second. Everything that is delivered is checked: that it is the message of its number, once, in order, and
// that nothing is missing in the end. A run that finds otherwise says so in its [Report]; the numbers beside it are worth
// nothing then.
//
// What the server's processes use is read from /proc if they are on this machine, and left out if not. The same two
// cores may have to carry the players, so look at the client's CPU seconds before you believe that the server was the limit.
//
// Each run returns when it is over, when ctx ends, or when its time is up; it gives what was measured until then.
package load

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/rs/xid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/guildhall-dev/guildhall"
	"github.com/guildhall-dev/guildhall/client"
)

// The most that is taken: what is beyond belongs on several machines.
const (
	MaxPlayers = 50_000
	MaxRate    = 100_000
	MaxSeconds = 24 * 3600
)

// Config is what all runs share.
type Config struct {
	// Server is the base URL of the frontend. Required.
	Server string
	// GRPC is the address of the frontend's gRPC port, host:port: players enter there, over TLS if Server is an https URL. "" means that
	// they enter at Server.
	GRPC string
	// Tokens gives players their tokens; nil means that a development server mints them.
	Tokens Tokens
	// Transport is how hosts are spoken to.
	Transport client.Transport
	// Capacity is how many players a room of a guild seats; 0 means as many as by default.
	Capacity int
	// Progress is told how far a stage is, now and then, by one goroutine at a time; nil means nobody is.
	Progress func(stage string, done, total int)
}

// run is one run.
type run struct {
	// Static after construction.
	config Config
	id     string // in the names of groups: two runs do not meet
	base   time.Time
	calls  []*http.Client
	conns  []*grpc.ClientConn // to the gRPC port, if there is one
	meter  *meter
}

// newRun begins a run. The caller closes it.
func newRun(config Config) (*run, error) {
	if config.Server == "" {
		return nil, errors.New("load: Server must be set")
	}
	if config.Progress == nil {
		config.Progress = func(string, int, int) {}
	}
	// One connection carries some hundred calls at once, and there are more players than that.
	const connections = 8
	r := &run{config: config, id: xid.New().String(), base: time.Now()}
	for range connections {
		r.calls = append(r.calls, client.NewHTTPClient())
	}
	if err := r.dial(connections); err != nil {
		return nil, err
	}
	if r.config.Tokens == nil {
		r.config.Tokens = mint(config.Server, r.calls)
	}
	r.meter = newMeter(config.Server, r.calls[0])
	return r, nil
}

// dial makes connections to the gRPC port, if one is given; they come about with the first call.
func (r *run) dial(connections int) error {
	if r.config.GRPC == "" {
		return nil
	}
	if _, _, err := net.SplitHostPort(r.config.GRPC); err != nil {
		return fmt.Errorf("--grpc %q: want host:port, such as 127.0.0.1:7778: %w", r.config.GRPC, err)
	}
	creds := insecure.NewCredentials()
	if strings.HasPrefix(r.config.Server, "https:") {
		creds = credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS12})
	}
	for range connections {
		conn, err := grpc.NewClient(r.config.GRPC, grpc.WithTransportCredentials(creds))
		if err != nil {
			r.close()
			return fmt.Errorf("--grpc %q: %w", r.config.GRPC, err)
		}
		r.conns = append(r.conns, conn)
	}
	return nil
}

func (r *run) close() {
	for _, calls := range r.calls {
		calls.CloseIdleConnections()
	}
	for _, conn := range r.conns {
		_ = conn.Close() // it fails if it was closed
	}
}

// client gives what a player's client is configured with: players share connections to the frontend.
func (r *run) client(player int, token string) client.Config {
	c := client.Config{Server: r.config.Server, HTTPClient: r.calls[player%len(r.calls)], Token: token, Transport: r.config.Transport}
	if len(r.conns) > 0 {
		c.Conn = r.conns[player%len(r.conns)]
	}
	return c
}

// group names a group of this run.
func (r *run) group(n int) guildhall.Group {
	return guildhall.Group{Kind: "guild", ID: fmt.Sprintf("load-%s-%d", r.id, n)}
}

// player names a player of this run.
func (r *run) player(n int) guildhall.PlayerID {
	return guildhall.PlayerID(fmt.Sprintf("p%d", n))
}

// elapsed is the time since the run began, by a clock that nobody sets.
func (r *run) elapsed() time.Duration { return time.Since(r.base) }

// capacity is how many players a room seats.
func (c *Config) capacity() int {
	if c.Capacity > 0 {
		return c.Capacity
	}
	var kinds guildhall.Kinds
	if err := kinds.Decode(guildhall.DefaultKinds); err != nil {
		return MaxPlayers
	}
	return kinds["guild"].Capacity
}

// between says what is wrong with a number.
func between[N cmp.Ordered](flag string, n, least, most N) error {
	if n < least || n > most {
		return fmt.Errorf("--%s %v: want %v to %v", flag, n, least, most)
	}
	return nil
}

// checkRooms says what is wrong with so many players in so many rooms, on so many connections.
func (c *Config) checkRooms(players, rooms, connections int) error {
	if most, capacity := (players+rooms-1)/rooms, c.capacity(); most > capacity {
		return fmt.Errorf("%d players in a room: a room of this kind seats %d (--capacity says otherwise if your server does); take more rooms", most, capacity)
	}
	return checkFiles(connections)
}

// rest waits; it is false if ctx ends first.
func rest(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// eventually asks until it is so; it is false if ctx ends before.
func eventually(ctx context.Context, ok func() bool) bool {
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for !ok() {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return ok()
		}
	}
	return true
}
