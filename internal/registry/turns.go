package registry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// turnsBucket holds whose turn it is to do what one of many has to do now and then.
const turnsBucket = "guildhall_turns"

// Turn says whether it is the caller's turn to do something that one of all who ask has to do in each period. The next turn is a
// period later, whether or not it was done: what is done must bear to be left out, and to be done twice.
func (r *Registry) Turn(ctx context.Context, what string, period time.Duration) (bool, error) {
	bucket, err := openBucket(ctx, r.js, bucketConfig{
		name: turnsBucket, description: "whose turn it is", replicas: r.replicas,
	})
	if err != nil {
		return false, err
	}
	_, err = bucket.Create(ctx, what, nil, jetstream.KeyTTL(period))
	if errors.Is(err, jetstream.ErrKeyExists) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("taking the turn for %s: %w", what, err)
	}
	return true, nil
}
