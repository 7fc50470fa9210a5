package registry

import (
	"context"
	"strconv"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// purge removes a key at a revision, or not at all, and leaves a marker for those who watch. It is the message that the
// key-value client would send, with the options in plain sight: a simulation of JetStream can read them.
func (r *Registry) purge(ctx context.Context, bucket, key string, revision uint64) error {
	message := nats.NewMsg("$KV." + bucket + "." + key)
	message.Header.Set("KV-Operation", "PURGE")
	message.Header.Set(jetstream.MsgRollup, jetstream.MsgRollupSubject)
	message.Header.Set(jetstream.ExpectedLastSubjSeqHeader, strconv.FormatUint(revision, 10))
	message.Header.Set(jetstream.MsgTTLHeader, markerTTL.String())
	_, err := r.js.PublishMsg(ctx, message)
	return err
}
