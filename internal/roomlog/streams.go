package roomlog

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/guildhall-dev/guildhall"
	"github.com/guildhall-dev/guildhall/internal/broker"
)

const (
	streamPrefix  = "guildhall_log_"
	subjectPrefix = "guildhall.log."

	// entriesPerGroup bounds what a stream keeps of one group. An entry holds at least one message but for
	// barriers, so it is also about how many messages history can reach back.
	entriesPerGroup = guildhall.MaxHistory

	// streamsKey is where a stream says, in its metadata, one of how many it is. A group's stream is found by that number,
	// so whoever has another one would open a second log of the same group.
	streamsKey = "guildhall_log_streams"

	// formerStream had all groups before there were several streams.
	formerStream = "guildhall_log"
	// errCodeSubjectsOverlap is NATS's code for a stream whose subjects belong to another one; the client library has no name for it.
	errCodeSubjectsOverlap jetstream.ErrorCode = 10065
)

// Config says how the log is kept.
type Config struct {
	// Replicas is how many copies JetStream keeps; 0 means 1.
	Replicas int
	// Streams is how many streams the groups are spread over; 0 means 1. It cannot be changed once the streams are there.
	Streams int
}

func streamName(shard int) string { return streamPrefix + strconv.Itoa(shard) }

// shardPrefix is what the subjects of a stream begin with.
func shardPrefix(shard int) string { return subjectPrefix + strconv.Itoa(shard) + "." }

// Open opens the log, and makes its streams if they are not there. It fails if they are there with other settings, with an
// error that names the variable to set.
func Open(ctx context.Context, js jetstream.JetStream, config Config) (*Log, error) {
	l := &Log{js: js}
	// One after the other: of two services with different numbers, one is refused at the first stream.
	for shard := range max(1, config.Streams) {
		wanted := config.stream(shard)
		stream, err := broker.OpenStream(ctx, js, wanted)
		if err != nil {
			return nil, fmt.Errorf("log stream %s: %w", wanted.Name, explain(ctx, js, wanted, err))
		}
		l.streams = append(l.streams, stream)
	}
	return l, nil
}

func (c Config) stream(shard int) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:        streamName(shard),
		Description: "what was said, a subject for each group",
		Subjects:    []string{shardPrefix(shard) + ">"},
		// Never by age: the last entry of a group that is silent for a year still says where its numbers and
		// its epochs stand. Trim and Sweep drop by age what is before it.
		MaxMsgsPerSubject: entriesPerGroup,
		Replicas:          max(1, c.Replicas),
		Metadata:          map[string]string{streamsKey: strconv.Itoa(max(1, c.Streams))},
	}
}

// explain says what to do about a stream that does not open.
func explain(ctx context.Context, js jetstream.JetStream, wanted jetstream.StreamConfig, err error) error {
	var api *jetstream.APIError
	switch {
	case errors.As(err, &api) && api.ErrorCode == errCodeSubjectsOverlap:
		if _, notThere := js.Stream(ctx, formerStream); notThere != nil {
			return err
		}
		return fmt.Errorf("stream %s of an earlier version has its subjects, and what it holds cannot be taken over: "+
			"stop every service, remove it (nats stream rm %s), and start again", formerStream, formerStream)
	case errors.Is(err, jetstream.ErrStreamNameAlreadyInUse):
		stream, failed := js.Stream(ctx, wanted.Name)
		if failed != nil {
			return errors.Join(err, failed)
		}
		return difference(stream.CachedInfo().Config, wanted)
	}
	return err
}

// difference says how a stream differs from the one that is wanted.
func difference(there, wanted jetstream.StreamConfig) error {
	if was, want := there.Metadata[streamsKey], wanted.Metadata[streamsKey]; was != want && was != "" {
		return fmt.Errorf("it is one of %s, and %s are configured: set GUILDHALL_LOG_STREAMS=%s, the number cannot be changed", was, want, was)
	}
	if there.Replicas != wanted.Replicas {
		return fmt.Errorf("it has %d replicas, and %d are configured: set GUILDHALL_NATS_REPLICAS to what all services have",
			there.Replicas, wanted.Replicas)
	}
	return errors.New("it exists with settings that are not Guildhall's, and is left alone: put them right, or remove it if it holds nothing")
}
