package registry

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/guildhall-dev/guildhall"
)

// A bucket is what the client library makes, but for direct gets: what reads and watches it relies on that.
func TestBucketIsAsTheClientLibraryMakesIt(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for bucket, config := range map[string]jetstream.KeyValueConfig{
		claimsBucket: {LimitMarkerTTL: markerTTL, Description: "which host owns a group's room"},
		leasesBucket: {LimitMarkerTTL: markerTTL, Description: "which hosts are alive", TTL: b.leaseTTL},
	} {
		ours := b.streamOf(bucket)
		if ours.AllowDirect {
			t.Errorf("every replica may answer for bucket %s", bucket)
		}
		if err := b.js.DeleteKeyValue(b.ctx, bucket); err != nil {
			t.Fatal(err)
		}
		config.Bucket = bucket
		if _, err := b.js.CreateKeyValue(b.ctx, config); err != nil {
			t.Fatal(err)
		}
		theirs := b.streamOf(bucket)
		theirs.AllowDirect = false
		if _, err := b.js.UpdateStream(b.ctx, theirs); err != nil {
			t.Fatal(err)
		}
		if _, err := b.js.CreateStream(b.ctx, ours); err != nil {
			t.Errorf("bucket %s differs from what the client library makes: %v", bucket, err)
		}
	}
}

// A bucket of the days when every replica answered is put right, with what is in it.
func TestOpenEndsDirectGets(t *testing.T) {
	t.Parallel()
	b := setup(t)
	taken := b.take(dragons, "h", 0)
	config := b.streamOf(claimsBucket)
	config.AllowDirect = true
	if _, err := b.js.UpdateStream(b.ctx, config); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		r, err := Open(b.ctx, b.js, b.config())
		if err != nil {
			t.Fatal(err)
		}
		if got, err := r.Claim(b.ctx, dragons); err != nil || got.Epoch != taken.Epoch {
			t.Errorf("Claim = %+v, %v; want %+v", got, err, taken)
		}
		if b.streamOf(claimsBucket).AllowDirect {
			t.Error("every replica may still answer")
		}
	}
}

// What a client is told is never older than what was acked, whichever node it asks: the point of reads from the leader.
// With direct gets some hundred of these reads are.
func TestReadsAreNotOlderThanAcks(t *testing.T) {
	t.Parallel()
	b := setupNodes(t)
	readers := make([]*Registry, 3)
	for i := range readers { // one on each node
		readers[i] = b.openOn(b.nodes.Servers[i].URL())
	}
	var all sync.WaitGroup
	for n := range 100 { // the load under which replicas lag
		all.Go(func() {
			group := guildhall.Group{Kind: "guild", ID: fmt.Sprint(n)}
			claim := Claim{}
			for range 30 {
				var err error
				if claim, err = readers[n%3].Take(b.ctx, group, host(n), claim.Epoch); err != nil {
					t.Error(err)
					return
				}
				for _, r := range readers {
					got, err := r.Claim(b.ctx, group)
					if err != nil || got.Epoch != claim.Epoch {
						t.Errorf("the claim is of epoch %d, %v; epoch %d was acked before", got.Epoch, err, claim.Epoch)
						return
					}
				}
			}
		})
	}
	all.Wait()
}

// openOn opens a registry by one node.
func (b *bench) openOn(url string) *Registry {
	b.t.Helper()
	r, err := Open(b.ctx, connect(b.t, url), b.config())
	if err != nil {
		b.t.Fatal(err)
	}
	return r
}

func (b *bench) streamOf(bucket string) jetstream.StreamConfig {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, time.Minute)
	defer cancel()
	stream, err := b.js.Stream(ctx, "KV_"+bucket)
	if err != nil {
		b.t.Fatal(err)
	}
	return stream.CachedInfo().Config
}
