package registry

import (
	"context"
	"strconv"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/guildhall-dev/guildhall/internal/broker"
)

// purge removes a key at a revision, or not at all, and leaves a marker for those who watch. It is the message that the
// key-value client would send, with the options in plain sight: a simulation of JetStream can read them.
func (r *Registry) purge(ctx context.Context, bucket, key string, revision uint64) error {
	message := &nats.Msg{Subject: "$KV." + bucket + "." + key, Header: purgeHeader()}
	message.Header.Set(jetstream.ExpectedLastSubjSeqHeader, strconv.FormatUint(revision, 10))
	_, err := broker.Write(ctx, func(ctx context.Context) (*jetstream.PubAck, error) { return r.js.PublishMsg(ctx, message) })
	return err
}

// purgeHeader makes a message the marker of a key that is gone.
func purgeHeader() nats.Header {
	header := nats.Header{}
	header.Set("KV-Operation", "PURGE")
	header.Set(jetstream.MsgRollup, jetstream.MsgRollupSubject)
	header.Set(jetstream.MsgTTLHeader, markerTTL.String())
	return header
}
