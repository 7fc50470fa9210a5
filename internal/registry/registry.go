// Package registry is the one place that knows which host owns a group's room, and which hosts are alive. It
// keeps claims and leases in two key-value buckets of NATS JetStream.
//
// A claim is taken by compare-and-swap: of any number of directors that want to place one group, one wins, and
// the others learn where it is. The revision of the winning write is the claim's epoch. A lease is a host's
// sign of life; JetStream drops it when it has not been renewed for [Config.LeaseTTL]. A claim whose host has no
// lease may be taken over, by compare-and-swap again.
package registry

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/guildhall-dev/guildhall"
)

// The buckets, and how long what was deleted is remembered there.
const (
	claimsBucket = "guildhall_claims"
	leasesBucket = "guildhall_leases"
	markerTTL    = time.Minute
)

// Config says how the registry keeps what it knows.
type Config struct {
	// LeaseTTL is how long a lease lives without renewal; at least [MinLeaseTTL]. All parts of an installation
	// must have the same.
	LeaseTTL time.Duration
	// Replicas is how many copies JetStream keeps; 0 means 1.
	Replicas int
}

// The lease's time to live: what is usual, and the least that JetStream can count.
const (
	DefaultLeaseTTL = 3 * time.Second
	MinLeaseTTL     = time.Second
)

// Registry reads and writes claims and leases. It is safe for use by any number of goroutines. Its view of the
// leases is live only while Run runs.
type Registry struct {
	// Static after construction.
	conn     *nats.Conn
	js       jetstream.JetStream
	claims   jetstream.KeyValue
	leases   jetstream.KeyValue
	leaseTTL time.Duration
	synced   chan struct{}

	mu      sync.RWMutex
	view    map[guildhall.HostName]Lease // guarded by mu
	changed chan struct{}                // guarded by mu; closed and replaced when view changes
}

// Open opens the registry, and makes its buckets if they are not there.
func Open(ctx context.Context, js jetstream.JetStream, config Config) (*Registry, error) {
	if config.LeaseTTL == 0 {
		config.LeaseTTL = DefaultLeaseTTL
	}
	if config.LeaseTTL < MinLeaseTTL {
		return nil, fmt.Errorf("GUILDHALL_LEASE_TTL=%s is too short: want at least %s", config.LeaseTTL, MinLeaseTTL)
	}
	claims, err := openBucket(ctx, js, jetstream.KeyValueConfig{
		Bucket: claimsBucket, Description: "which host owns a group's room",
		LimitMarkerTTL: markerTTL, Replicas: max(1, config.Replicas),
	})
	if err != nil {
		return nil, err
	}
	// In files as well: a lease that a restart of NATS forgets is over before the host knows.
	leases, err := openBucket(ctx, js, jetstream.KeyValueConfig{
		Bucket: leasesBucket, Description: "which hosts are alive", TTL: config.LeaseTTL,
		LimitMarkerTTL: markerTTL, Replicas: max(1, config.Replicas),
	})
	if err != nil {
		return nil, err
	}
	return &Registry{
		conn: js.Conn(), js: js, claims: claims, leases: leases, leaseTTL: config.LeaseTTL,
		synced: make(chan struct{}), view: map[guildhall.HostName]Lease{}, changed: make(chan struct{}),
	}, nil
}

func openBucket(ctx context.Context, js jetstream.JetStream, config jetstream.KeyValueConfig) (jetstream.KeyValue, error) {
	bucket, err := js.CreateKeyValue(ctx, config)
	if errors.Is(err, jetstream.ErrBucketExists) {
		// Made with other settings. Whoever starts last must not change them under the others.
		return nil, fmt.Errorf("registry bucket %s exists with another lease TTL or number of replicas: set "+
			"GUILDHALL_LEASE_TTL and GUILDHALL_NATS_REPLICAS to what all services have", config.Bucket)
	}
	if err != nil {
		return nil, fmt.Errorf("registry bucket %s: %w", config.Bucket, err)
	}
	return bucket, nil
}

// LeaseTTL gives how long a lease lives without renewal.
func (r *Registry) LeaseTTL() time.Duration { return r.leaseTTL }
