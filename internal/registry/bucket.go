package registry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/guildhall-dev/guildhall/internal/broker"
)

// bucketConfig is what our buckets differ in.
type bucketConfig struct {
	name, description string
	ttl               time.Duration // of every key; 0 for ever
	markerTTL         time.Duration // of the marker that NATS leaves where a key has expired; 0 for none
	replicas          int
}

// streamConfig is the stream of a key-value bucket, as the client library makes it, but for one thing: it does not allow
// direct gets, so that its leader alone answers (broker.OpenStream).
func (c bucketConfig) streamConfig() jetstream.StreamConfig {
	duplicates := 2 * time.Minute
	if c.ttl > 0 {
		duplicates = min(duplicates, c.ttl) // NATS wants it no longer
	}
	return jetstream.StreamConfig{
		Name: "KV_" + c.name, Description: c.description, Subjects: []string{"$KV." + c.name + ".>"},
		// In files all of them: a lease that a restart of NATS forgets is over before the host knows.
		Storage: jetstream.FileStorage, Replicas: c.replicas, Discard: jetstream.DiscardNew,
		MaxMsgsPerSubject: 1, MaxMsgs: -1, MaxBytes: -1, MaxMsgSize: -1, MaxConsumers: -1,
		MaxAge: c.ttl, Duplicates: duplicates, AllowMsgTTL: true, SubjectDeleteMarkerTTL: c.markerTTL,
		AllowRollup: true, DenyDelete: true,
	}
}

func openBucket(ctx context.Context, js jetstream.JetStream, config bucketConfig) (jetstream.KeyValue, error) {
	_, err := broker.OpenStream(ctx, js, config.streamConfig())
	if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
		// Made with other settings. Whoever starts last must not change them under the others.
		return nil, fmt.Errorf("registry bucket %s exists with another lease TTL or number of replicas: set "+
			"GUILDHALL_LEASE_TTL and GUILDHALL_NATS_REPLICAS to what all services have", config.name)
	}
	if err != nil {
		return nil, fmt.Errorf("registry bucket %s: %w", config.name, err)
	}
	bucket, err := js.KeyValue(ctx, config.name)
	if err != nil {
		return nil, fmt.Errorf("registry bucket %s: %w", config.name, err)
	}
	return bucket, nil
}

// get reads a key from the leader of its bucket.
func get(ctx context.Context, bucket jetstream.KeyValue, key string) (jetstream.KeyValueEntry, error) {
	return broker.Read(ctx, func(ctx context.Context) (jetstream.KeyValueEntry, error) { return bucket.Get(ctx, key) })
}

// list calls see for every key of a bucket. It may be told by a replica that lags.
func (r *Registry) list(ctx context.Context, bucket jetstream.KeyValue, see func(jetstream.KeyValueEntry)) error {
	watcher, err := bucket.WatchAll(ctx, jetstream.IgnoreDeletes())
	if err != nil {
		return err
	}
	defer func() { _ = watcher.Stop() }() // it only ends the subscription
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case entry, open := <-watcher.Updates():
			switch {
			case !open:
				return errors.New("the watch broke")
			case entry == nil: // all that was there has been told
				return nil
			}
			see(entry)
		}
	}
}
