package roomlog

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/guildhall-dev/guildhall/internal/process"
)

const (
	// firstPatience is how long the first attempt at reading waits for the next message; each attempt after it waits twice as
	// long. Now and then, one time in a hundred on three nodes, a new reader's request gets to a node that has not heard of the
	// reader yet, and is lost without a word; so is a reader, with the node that feeds it. A room that opens waits for it.
	firstPatience = 150 * time.Millisecond
	// makeReaderWithin bounds making a reader, in the first attempts: where many are made, it takes long.
	makeReaderWithin = time.Second
	// readPause is the rest before the next attempt.
	readPause = 10 * time.Millisecond
	// readerLives is how long NATS keeps a reader that nobody feeds on.
	readerLives = 2 * time.Second
	// readAhead is how many entries a reader has on their way: enough for a tail, and not much more than a page.
	readAhead = TailMessages
)

// read takes the entries of a group from a sequence on, in order, until take is done with them. An attempt that fails is
// followed by another, which begins anew with a take of its own. It waits for entries that are not there yet: whoever reads
// knows of an entry with which it is done.
func (p place) read(ctx context.Context, from uint64, begin func() (take func(entry) (done bool))) error {
	for patience := firstPatience; ; patience *= 2 {
		err := p.readOnce(ctx, from, patience, begin())
		if err == nil || errors.Is(err, errNotDecoded) {
			return err
		}
		process.Sleep(ctx, readPause)
		if ctx.Err() != nil {
			return errors.Join(ctx.Err(), err)
		}
	}
}

func (p place) readOnce(ctx context.Context, from uint64, patience time.Duration, take func(entry) (done bool)) error {
	feed, err := feedFrom(ctx, p.stream, from, patience, jetstream.OrderedConsumerConfig{FilterSubjects: []string{p.subject}})
	if err != nil {
		return err
	}
	defer feed.Stop()
	for {
		next, meta, err := nextWithin(ctx, feed, patience)
		if err != nil {
			return err
		}
		read, err := decode(next.Data(), meta.Sequence.Stream)
		if err != nil {
			return err
		}
		if take(read) {
			return nil
		}
	}
}

// feedFrom begins to read a stream at the first message at or behind a sequence.
func feedFrom(
	ctx context.Context, stream jetstream.Stream, from uint64, patience time.Duration, config jetstream.OrderedConsumerConfig,
) (jetstream.MessagesContext, error) {
	config.DeliverPolicy, config.OptStartSeq = jetstream.DeliverByStartSequencePolicy, max(1, from)
	config.InactiveThreshold = readerLives
	ctx, cancel := context.WithTimeout(ctx, max(makeReaderWithin, patience))
	defer cancel()
	consumer, err := stream.OrderedConsumer(ctx, config)
	if err != nil {
		return nil, err
	}
	return consumer.Messages(jetstream.PullMaxMessages(readAhead))
}

func nextWithin(ctx context.Context, feed jetstream.MessagesContext, patience time.Duration) (jetstream.Msg, *jetstream.MsgMetadata, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	next, err := feed.Next(jetstream.NextContext(ctx))
	if err != nil {
		return nil, nil, err
	}
	meta, err := next.Metadata()
	return next, meta, err
}
