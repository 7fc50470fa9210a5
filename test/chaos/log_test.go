package chaos

import (
	"context"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"

	"github.com/guildhall-dev/guildhall"
	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
)

// What the product calls things in NATS. They are written out here, for the check shares no code with what it checks.
const (
	logStream    = "guildhall_log"
	logSubjects  = "guildhall.log."
	claimsBucket = "guildhall_claims"
)

// connect connects the test itself to NATS.
func (w *town) connect() (*nats.Conn, jetstream.JetStream, error) {
	conn, err := nats.Connect(w.brokers.url(), nats.MaxReconnects(-1))
	if err != nil {
		return nil, nil, fmt.Errorf("connecting to NATS: %w", err)
	}
	js, err := jetstream.New(conn)
	return conn, js, err
}

// readLog reads back what NATS has of every group, entry by entry.
func readLog(ctx context.Context, js jetstream.JetStream) (map[string][]entry, error) {
	stream, err := js.Stream(ctx, logStream)
	if err != nil {
		return nil, fmt.Errorf("the log: %w", err)
	}
	want := stream.CachedInfo().State
	log := map[string][]entry{}
	if want.Msgs == 0 {
		return log, nil
	}
	consumer, err := stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{})
	if err != nil {
		return nil, fmt.Errorf("reading the log: %w", err)
	}
	feed, err := consumer.Messages()
	if err != nil {
		return nil, fmt.Errorf("reading the log: %w", err)
	}
	defer feed.Stop()
	for read := uint64(1); ; read++ {
		message, err := feed.Next(jetstream.NextContext(ctx))
		if err != nil {
			return nil, fmt.Errorf("reading the log, %d entries of %d: %w", read-1, want.Msgs, err)
		}
		group, e, err := decodeEntry(message)
		if err != nil {
			return nil, err
		}
		log[group] = append(log[group], e)
		if e.Sequence >= want.LastSeq {
			if read != want.Msgs {
				return nil, fmt.Errorf("the log has %d entries and gives %d", want.Msgs, read)
			}
			return log, nil
		}
	}
}

func decodeEntry(message jetstream.Msg) (group string, e entry, err error) {
	meta, err := message.Metadata()
	if err != nil {
		return "", entry{}, fmt.Errorf("reading the log: %w", err)
	}
	var decoded guildhallv1.LogEntry
	if err := proto.Unmarshal(message.Data(), &decoded); err != nil {
		return "", entry{}, fmt.Errorf("entry %d of the log: %w", meta.Sequence.Stream, err)
	}
	named, err := guildhall.ParseGroupKey(strings.TrimPrefix(message.Subject(), logSubjects))
	if err != nil {
		return "", entry{}, fmt.Errorf("entry %d of the log: %w", meta.Sequence.Stream, err)
	}
	e = entry{Sequence: meta.Sequence.Stream, Epoch: decoded.GetEpoch(), LastSeq: decoded.GetLastSeq(), At: meta.Timestamp}
	for _, m := range decoded.GetMessages() {
		e.Messages = append(e.Messages, said{Seq: m.GetSeq(), From: m.GetFrom(), ID: m.GetId(), Hash: hashOf(m.GetBody())})
	}
	return named.String(), e, nil
}
