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
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"

	"github.com/guildhall-dev/guildhall"
	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
	"github.com/guildhall-dev/guildhall/internal/broker"
	"github.com/guildhall-dev/guildhall/internal/process"
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

// errNotDecoded is no passing trouble.
var errNotDecoded = errors.New("does not decode")

func decode(data []byte, sequence uint64) (entry, error) {
	decoded := entry{LogEntry: &guildhallv1.LogEntry{}, sequence: sequence}
	if err := proto.Unmarshal(data, decoded.LogEntry); err != nil {
		return entry{}, fmt.Errorf("log entry %d %w: %w", sequence, errNotDecoded, err)
	}
	if n := uint64(len(decoded.Messages)); n > decoded.LastSeq {
		return entry{}, fmt.Errorf("log entry %d %w: it has %d messages up to number %d", sequence, errNotDecoded, n, decoded.LastSeq)
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

// forgetTimeout bounds forgetting a barrier.
const forgetTimeout = time.Second

// forget removes a barrier that is not the last entry any more, if nothing was said behind it: a group that is visited often
// and speaks seldom would lose what was said to the barriers. If it fails, the next one costs one entry more.
func (l *Log) forget(ctx context.Context, barrier entry) {
	if barrier.sequence == 0 || len(barrier.Messages) > 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, forgetTimeout)
	defer cancel()
	_ = l.stream.DeleteMsg(ctx, barrier.sequence)
}

const (
	// firstReadAttempt is how long the first attempt at reading a log may take; the next may take twice as long, for the log
	// may be long. A reader that NATS loses, with the node that fed it, would otherwise be waited for by a room that opens.
	firstReadAttempt = time.Second
	// readPause is the rest before the next attempt.
	readPause = 50 * time.Millisecond
	// readerLives is how long NATS keeps a reader that nobody feeds on.
	readerLives = 2 * time.Second
)

// read gives the last messages of a group up to an entry, at most so many, in order.
func (l *Log) read(ctx context.Context, group guildhall.Group, upTo entry, most int) ([]*guildhallv1.Message, error) {
	if upTo.LastSeq == 0 {
		return nil, nil
	}
	for attempt := firstReadAttempt; ; attempt *= 2 {
		attemptCtx, cancel := context.WithTimeout(ctx, attempt)
		messages, err := l.readOnce(attemptCtx, group, upTo, most)
		cancel()
		if err == nil || errors.Is(err, errNotDecoded) {
			return messages, err
		}
		process.Sleep(ctx, readPause)
		if ctx.Err() != nil {
			return nil, fmt.Errorf("reading the log of %s: %w", group, err)
		}
	}
}

func (l *Log) readOnce(ctx context.Context, group guildhall.Group, upTo entry, most int) ([]*guildhallv1.Message, error) {
	consumer, err := l.stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{subject(group)}, InactiveThreshold: readerLives,
	})
	if err != nil {
		return nil, err
	}
	feed, err := consumer.Messages()
	if err != nil {
		return nil, err
	}
	defer feed.Stop()
	var messages []*guildhallv1.Message
	for {
		next, err := feed.Next(jetstream.NextContext(ctx))
		if err != nil {
			return nil, err
		}
		meta, err := next.Metadata()
		if err != nil {
			return nil, err
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
