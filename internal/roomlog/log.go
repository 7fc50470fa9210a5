// Package roomlog is a group's durable, totally ordered record of what was said, on a stream of NATS JetStream:
// one subject for each group, one stream message for each batch of messages.
//
// The log itself refuses a second writer. Every append names the sequence that the subject's last entry must
// have (compare-and-append), and opening appends a barrier that carries the writer's epoch: from then on the
// appends of an older writer name a sequence that is no longer the last. docs/designs/log.md has the argument.
package roomlog

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"

	"github.com/guildhall-dev/guildhall"
	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
	"github.com/guildhall-dev/guildhall/internal/broker"
)

// ErrFenced says that the log has a writer of a later epoch. It is final: the room is somebody else's.
var ErrFenced = errors.New("roomlog: a writer of a later epoch has the log")

// ErrBroken says that the log does not end where this writer left it, and nobody of a later epoch has written: it was
// purged or restored. It is final for the writer; opening anew begins with what is there.
var ErrBroken = errors.New("roomlog: the log does not end where its writer left it")

const (
	streamName    = "guildhall_log"
	subjectPrefix = "guildhall.log."

	// entriesPerGroup bounds what the stream keeps of one group. An entry holds at least one message but for
	// barriers, so it is also about how many messages history can reach back.
	entriesPerGroup = guildhall.MaxHistory
)

// Config says how the log is kept.
type Config struct {
	// Replicas is how many copies JetStream keeps; 0 means 1.
	Replicas int
}

// Log is the logs of all groups. It is safe for use by any number of goroutines.
type Log struct {
	js     jetstream.JetStream
	stream jetstream.Stream
}

// Open opens the log, and makes its stream if it is not there.
func Open(ctx context.Context, js jetstream.JetStream, config Config) (*Log, error) {
	stream, err := broker.OpenStream(ctx, js, jetstream.StreamConfig{
		Name:        streamName,
		Description: "what was said, a subject for each group",
		Subjects:    []string{subjectPrefix + ">"},
		// Never by age: the last entry of a group that is silent for a year still says where its numbers and
		// its epochs stand.
		MaxMsgsPerSubject: entriesPerGroup,
		Replicas:          max(1, config.Replicas),
	})
	if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
		return nil, fmt.Errorf("log stream %s exists with other settings: set GUILDHALL_NATS_REPLICAS to what all services have", streamName)
	}
	if err != nil {
		return nil, fmt.Errorf("log stream %s: %w", streamName, err)
	}
	return &Log{js: js, stream: stream}, nil
}

func subject(group guildhall.Group) string { return subjectPrefix + group.Key() }

// entry is one stream message of a group.
type entry struct {
	*guildhallv1.LogEntry
	sequence uint64 // of the stream
}

func decode(data []byte, sequence uint64) (entry, error) {
	decoded := entry{LogEntry: &guildhallv1.LogEntry{}, sequence: sequence}
	if err := proto.Unmarshal(data, decoded.LogEntry); err != nil {
		return entry{}, fmt.Errorf("log entry %d does not decode: %w", sequence, err)
	}
	if n := uint64(len(decoded.Messages)); n > decoded.LastSeq {
		return entry{}, fmt.Errorf("log entry %d has %d messages up to number %d", sequence, n, decoded.LastSeq)
	}
	return decoded, nil
}

// last reads the last entry of a group; one of sequence 0 if there is none.
func (l *Log) last(ctx context.Context, group guildhall.Group) (entry, error) {
	raw, err := broker.Read(ctx, func(ctx context.Context) (*jetstream.RawStreamMsg, error) {
		return l.stream.GetLastMsgForSubject(ctx, subject(group))
	})
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return entry{LogEntry: &guildhallv1.LogEntry{}}, nil
	}
	if err != nil {
		return entry{}, fmt.Errorf("reading the end of the log of %s: %w", group, err)
	}
	return decode(raw.Data, raw.Sequence)
}

// read gives the last messages of a group up to an entry, at most so many, in order.
func (l *Log) read(ctx context.Context, group guildhall.Group, upTo entry, most int) ([]*guildhallv1.Message, error) {
	if upTo.LastSeq == 0 {
		return nil, nil
	}
	consumer, err := l.stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{FilterSubjects: []string{subject(group)}})
	if err != nil {
		return nil, fmt.Errorf("reading the log of %s: %w", group, err)
	}
	feed, err := consumer.Messages()
	if err != nil {
		return nil, fmt.Errorf("reading the log of %s: %w", group, err)
	}
	defer l.endReading(ctx, consumer, feed)
	var messages []*guildhallv1.Message
	for {
		next, err := feed.Next(jetstream.NextContext(ctx))
		if err != nil {
			return nil, fmt.Errorf("reading the log of %s: %w", group, err)
		}
		meta, err := next.Metadata()
		if err != nil {
			return nil, fmt.Errorf("reading the log of %s: %w", group, err)
		}
		read, err := decode(next.Data(), meta.Sequence.Stream)
		if err != nil {
			return nil, err
		}
		messages = append(messages, read.Messages...)
		messages = slices.Delete(messages, 0, max(0, len(messages)-most))
		if read.sequence >= upTo.sequence {
			return messages, nil
		}
	}
}

// endReading removes the consumer from NATS, which would keep it for minutes: every room that opens makes one.
func (l *Log) endReading(ctx context.Context, consumer jetstream.Consumer, feed jetstream.MessagesContext) {
	feed.Stop()
	if info := consumer.CachedInfo(); info != nil { // nil while a lost consumer is made anew
		_ = l.stream.DeleteConsumer(ctx, info.Name) // if that is not answered, the minutes pass
	}
}
