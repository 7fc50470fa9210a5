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
	logStreams   = "guildhall_log_" // and a number
	logSubjects  = "guildhall.log." // the number, a dot, the group
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
	log := map[string][]entry{}
	names := js.StreamNames(ctx)
	for name := range names.Name() {
		if !strings.HasPrefix(name, logStreams) {
			continue
		}
		if err := readLogStream(ctx, js, name, log); err != nil {
			return nil, err
		}
	}
	if err := names.Err(); err != nil {
		return nil, fmt.Errorf("listing the streams of the log: %w", err)
	}
	return log, nil
}

// readLogStream reads the groups of one stream into log.
func readLogStream(ctx context.Context, js jetstream.JetStream, name string, log map[string][]entry) error {
	stream, err := js.Stream(ctx, name)
	if err != nil {
		return fmt.Errorf("the log: %w", err)
	}
	want := stream.CachedInfo().State
	if want.Msgs == 0 {
		return nil
	}
	consumer, err := stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{})
	if err != nil {
		return fmt.Errorf("reading the log: %w", err)
	}
	feed, err := consumer.Messages()
	if err != nil {
		return fmt.Errorf("reading the log: %w", err)
	}
	defer feed.Stop()
	for read := uint64(1); ; read++ {
		message, err := feed.Next(jetstream.NextContext(ctx))
		if err != nil {
			return fmt.Errorf("reading the log, %d entries of %d: %w", read-1, want.Msgs, err)
		}
		group, e, err := decodeEntry(message)
		if err != nil {
			return err
		}
		log[group] = append(log[group], e)
		if e.Sequence >= want.LastSeq {
			if read != want.Msgs {
				return fmt.Errorf("the log has %d entries and gives %d", want.Msgs, read)
			}
			return nil
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
	_, key, _ := strings.Cut(strings.TrimPrefix(message.Subject(), logSubjects), ".")
	named, err := guildhall.ParseGroupKey(key)
	if err != nil {
		return "", entry{}, fmt.Errorf("entry %d of the log: %w", meta.Sequence.Stream, err)
	}
	e = entry{Sequence: meta.Sequence.Stream, Epoch: decoded.GetEpoch(), LastSeq: decoded.GetLastSeq(), At: meta.Timestamp}
	for _, m := range decoded.GetMessages() {
		e.Messages = append(e.Messages, said{Seq: m.GetSeq(), From: m.GetFrom(), ID: m.GetId(), Hash: hashOf(m.GetBody())})
	}
	return named.String(), e, nil
}
