// Package registry is the one place that knows which host owns a group's room, which hosts are alive, and who is banned
// from where. It keeps claims, leases and bans in three key-value buckets of NATS JetStream.
//
// A claim is taken by compare-and-swap: of any number of directors that want to place one group, one wins, and
// the others learn where it is. The revision of the winning write is the claim's epoch. A lease is a host's
// sign of life; JetStream drops it when it has not been renewed for [Config.LeaseTTL]. A claim whose host has no
// lease may be taken over, by compare-and-swap again.
package registry

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/guildhall-dev/guildhall"
)

// The buckets, and how long what was deleted is remembered there.
const (
	claimsBucket = "guildhall_claims"
	leasesBucket = "guildhall_leases"
	bansBucket   = "guildhall_bans"
	markerTTL    = time.Minute
)

// Config says how the registry keeps what it knows.
type Config struct {
	// LeaseTTL is how long a lease lives without renewal; at least [MinLeaseTTL]. All parts of an installation
	// must have the same.
	LeaseTTL time.Duration
	// Replicas is how many copies JetStream keeps; 0 means 1.
	Replicas int
	// Leases has Run keep a view of the leases: what Hosts, HostInView and AwaitHost need. A host leaves it out: a thousand
	// hosts that are told each second of a thousand hosts would be a million messages a second.
	Leases bool
	// Bans has Run keep a view of the bans, every one in memory: what BanInView and WatchBans need.
	Bans bool
	// Logger is told of records that do not decode; nil means nobody is.
	Logger *slog.Logger
}

// The lease's time to live: what is usual, and the least that JetStream can count.
const (
	DefaultLeaseTTL = 3 * time.Second
	MinLeaseTTL     = time.Second
)

// Registry reads and writes claims, leases and bans. It is safe for use by any number of goroutines. Its views of the
// leases and the bans are live only while Run runs.
//
// What it reads by itself, rather than from a view, it reads from the leader of the bucket: the answer is as new as the
// last write that was acknowledged. The exception is a leader that has been deposed and is cut off from the others: it
// answers with what it had, for at most 20 s. Nothing that must hold depends on it: every write is compared by a majority,
// and the log is fenced.
type Registry struct {
	// Static after construction.
	conn       *nats.Conn
	js         jetstream.JetStream
	claims     jetstream.KeyValue
	leases     jetstream.KeyValue
	bans       jetstream.KeyValue
	leaseTTL   time.Duration
	replicas   int
	logger     *slog.Logger
	seenLeases *view[guildhall.HostName, Lease] // nil without Config.Leases
	seenBans   *view[banned, seenBan]           // nil without Config.Bans
	synced     chan struct{}                    // closed once the views are
}

// Open opens the registry, and makes its buckets if they are not there.
func Open(ctx context.Context, js jetstream.JetStream, config Config) (*Registry, error) {
	if config.LeaseTTL == 0 {
		config.LeaseTTL = DefaultLeaseTTL
	}
	if config.LeaseTTL < MinLeaseTTL {
		return nil, fmt.Errorf("GUILDHALL_LEASE_TTL=%s is too short: want at least %s", config.LeaseTTL, MinLeaseTTL)
	}
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	r := &Registry{conn: js.Conn(), js: js, leaseTTL: config.LeaseTTL, replicas: max(1, config.Replicas), logger: config.Logger, synced: make(chan struct{})}
	if err := r.openBuckets(ctx, r.replicas); err != nil {
		return nil, err
	}
	if config.Leases {
		r.seenLeases = newView(r.leases, r.leaseTTL, applyLease)
	}
	if config.Bans {
		r.seenBans = newView(r.bans, bansSilence, r.applyBan())
	}
	return r, nil
}

func (r *Registry) openBuckets(ctx context.Context, replicas int) (err error) {
	r.claims, err = openBucket(ctx, r.js, bucketConfig{
		name: claimsBucket, description: "which host owns a group's room", markerTTL: markerTTL, replicas: replicas,
	})
	if err != nil {
		return err
	}
	r.leases, err = openBucket(ctx, r.js, bucketConfig{
		name: leasesBucket, description: "which hosts are alive", ttl: r.leaseTTL, markerTTL: markerTTL, replicas: replicas,
	})
	if err != nil {
		return err
	}
	// Without markers where a ban has expired: NATS writes them over whatever is there, also over a ban that was made longer
	// at that very moment. The view knows when a ban is over.
	r.bans, err = openBucket(ctx, r.js, bucketConfig{
		name: bansBucket, description: "who may not be in a group's room", replicas: replicas,
	})
	return err
}

// LeaseTTL gives how long a lease lives without renewal.
func (r *Registry) LeaseTTL() time.Duration { return r.leaseTTL }
