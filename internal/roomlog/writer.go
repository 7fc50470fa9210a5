package roomlog

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"

	"github.com/guildhall-dev/guildhall"
	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
	"github.com/guildhall-dev/guildhall/internal/broker"
)

// Writer appends to one group's log for one epoch. It belongs to one goroutine at a time.
type Writer struct {
	log   *Log
	group guildhall.Group
	epoch guildhall.Epoch
	// The last entry that this writer knows: the next one goes right behind it, or nowhere.
	sequence   uint64
	lastSeq    guildhall.Seq
	shortSince time.Time // when the log was found to end before that entry; zero since it was last found in order
}

// Open makes the log of a group this epoch's: it appends the barrier behind which no writer of an earlier epoch
// can append, and reads back the last messages, at most so many, in order. [ErrFenced] if a later epoch has it.
func (l *Log) Open(ctx context.Context, group guildhall.Group, epoch guildhall.Epoch, history int) (*Writer, []*guildhallv1.Message, error) {
	w := &Writer{log: l, group: group, epoch: epoch}
	for {
		last, err := l.last(ctx, group)
		if err != nil {
			return nil, nil, err
		}
		if last.Epoch > uint64(epoch) {
			return nil, nil, ErrFenced
		}
		w.sequence, w.lastSeq = last.sequence, guildhall.Seq(last.LastSeq)
		barrier := &guildhallv1.LogEntry{Epoch: uint64(epoch), LastSeq: last.LastSeq}
		err = w.publish(ctx, barrier)
		if errors.Is(err, errBehind) {
			continue // the old writer appended between our look and our barrier: look again
		}
		if err != nil {
			return nil, nil, fmt.Errorf("opening the log of %s: %w", group, err)
		}
		l.forget(ctx, last)
		messages, err := l.read(ctx, group, last, history)
		return w, messages, err
	}
}

// LastSeq gives the number of the last message in the log.
func (w *Writer) LastSeq() guildhall.Seq { return w.lastSeq }

// Append numbers messages, which must not be empty, and appends them as one entry. After nil they are durable.
// [ErrFenced] and [ErrBroken] are final. After any other error they may or may not be in the log: call [Writer.Append] again
// with the very same messages until it says.
func (w *Writer) Append(ctx context.Context, messages []*guildhallv1.Message) error {
	for i, m := range messages {
		m.Seq = uint64(w.lastSeq) + uint64(i) + 1
	}
	next := &guildhallv1.LogEntry{
		Epoch: uint64(w.epoch), LastSeq: uint64(w.lastSeq) + uint64(len(messages)), Messages: messages,
	}
	err := w.publish(ctx, next)
	if errors.Is(err, errBehind) {
		err = w.catchUp(ctx, next)
	}
	if err != nil {
		return fmt.Errorf("appending to the log of %s: %w", w.group, err)
	}
	w.lastSeq = guildhall.Seq(next.GetLastSeq())
	return nil
}

// errBehind says that the subject's last entry is not the one that this writer knows.
var errBehind = errors.New("roomlog: the log has an entry behind the one expected")

// publish appends an entry right behind the last one that this writer knows.
func (w *Writer) publish(ctx context.Context, next *guildhallv1.LogEntry) error {
	data, err := proto.Marshal(next)
	if err != nil {
		return fmt.Errorf("encoding a log entry: %w", err)
	}
	message := nats.NewMsg(subject(w.group))
	message.Data = data
	message.Header.Set(jetstream.ExpectedLastSubjSeqHeader, strconv.FormatUint(w.sequence, 10))
	ack, err := broker.Write(ctx, func(ctx context.Context) (*jetstream.PubAck, error) { return w.log.js.PublishMsg(ctx, message) })
	if broker.IsWrongSequence(err) {
		return errBehind
	}
	if err != nil {
		return err
	}
	w.know(ack.Sequence)
	return nil
}

// know notes the last entry.
func (w *Writer) know(sequence uint64) {
	w.sequence, w.shortSince = sequence, time.Time{}
}

// How long a log that ends before this writer's last entry may be a leader that has been deposed and does not know.
const (
	// purgedAfter is for one that is not cut off: it hears of the other within a heartbeat of 1 s.
	purgedAfter = 2 * time.Second
	// shortMost is for one that is: it answers for at most 20 s (raft.go of nats-server: lostQuorumInterval, and as long
	// again until it looks).
	shortMost = 30 * time.Second
)

// catchUp finds out whether the unexpected last entry is this writer's own, from an attempt whose reply was
// lost. A writer makes one entry at a time and repeats it until it knows, so its own is the very same.
func (w *Writer) catchUp(ctx context.Context, next *guildhallv1.LogEntry) error {
	last, err := w.log.last(ctx, w.group)
	switch {
	case err != nil:
		return err
	case last.GetEpoch() > next.GetEpoch():
		return ErrFenced
	case last.sequence <= w.sequence:
		return w.short(ctx, last)
	case proto.Equal(last.LogEntry, next):
		w.know(last.sequence)
		return nil
	}
	return fmt.Errorf("%w: it ends with epoch %d number %d, want epoch %d before number %d",
		ErrBroken, last.GetEpoch(), last.GetLastSeq(), next.GetEpoch(), next.GetLastSeq())
}

// short says what it means that nothing is found behind this writer's last entry, or not even that. A leader that has been
// deposed answers so, and then it is no final answer. If it stays so, the log was purged, or restored as it was before.
func (w *Writer) short(ctx context.Context, last entry) error {
	info, err := broker.Read(ctx, func(ctx context.Context) (*jetstream.StreamInfo, error) { return w.log.stream.Info(ctx) })
	if err != nil {
		return fmt.Errorf("reading how far the log's stream has come: %w", err)
	}
	if w.shortSince.IsZero() {
		w.shortSince = time.Now()
	}
	purged := last.sequence < w.sequence && w.sequence <= info.State.LastSeq
	if short := time.Since(w.shortSince); short > shortMost || purged && short > purgedAfter {
		return fmt.Errorf("%w: it ends at entry %d, want %d", ErrBroken, last.sequence, w.sequence)
	}
	return fmt.Errorf("who answers knows the log up to entry %d, and this writer has appended %d: was it deposed?", last.sequence, w.sequence)
}
