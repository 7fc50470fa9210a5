package roomlog

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
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
	js    jetstream.JetStream
	place place
	group guildhall.Group
	epoch guildhall.Epoch
	// The last entry that this writer knows: the next one goes right behind it, or nowhere.
	sequence   uint64
	lastSeq    guildhall.Seq
	tail       tail      // of the log up to that entry
	shortSince time.Time // when the log was found to end before that entry; zero since it was last found in order
}

// Open makes the log of a group this epoch's: it appends the barrier behind which no writer of an earlier epoch
// can append, and reads back the tail, in order: the last messages, at least [TailMessages] or [TailBytes] of them if so many
// are retained, and in all no more than the entry holds that goes beyond. Numbers have no gaps, so what is before the first
// of them is for [Log.Before] and [Log.After] to read. [ErrFenced] if a later epoch has the log; any other error says that it
// may be tried again.
func (l *Log) Open(ctx context.Context, group guildhall.Group, epoch guildhall.Epoch) (*Writer, []*guildhallv1.Message, error) {
	w := &Writer{js: l.js, place: l.place(group), group: group, epoch: epoch}
	last, err := w.fence(ctx)
	if errors.Is(err, ErrFenced) {
		return nil, nil, ErrFenced
	}
	if err != nil {
		return nil, nil, fmt.Errorf("opening the log of %s: %w", group, err)
	}
	w.forget(ctx, last)
	messages, err := w.readTail(ctx, last)
	if err != nil {
		return nil, nil, fmt.Errorf("reading back the log of %s: %w", group, err)
	}
	return w, messages, nil
}

// fence appends the barrier, and gives the entry before it.
func (w *Writer) fence(ctx context.Context) (last entry, err error) {
	for {
		last, err := w.place.last(ctx)
		if err != nil {
			return entry{}, err
		}
		if last.Epoch > uint64(w.epoch) {
			return entry{}, ErrFenced
		}
		w.sequence, w.lastSeq = last.sequence, guildhall.Seq(last.LastSeq)
		// Nothing is said by a barrier, so the tail begins where it began.
		err = w.publish(ctx, &guildhallv1.LogEntry{Epoch: uint64(w.epoch), LastSeq: last.LastSeq, Tail: last.tail()})
		if !errors.Is(err, errBehind) {
			return last, err
		}
		// The old writer appended between our look and our barrier: look again.
	}
}

// readTail reads the last messages up to the entry before the barrier.
func (w *Writer) readTail(ctx context.Context, last entry) ([]*guildhallv1.Message, error) {
	if last.LastSeq == 0 {
		return nil, nil
	}
	var reader *tailReader
	err := w.place.read(ctx, last.tail(), func() func(entry) bool {
		reader = &tailReader{}
		return func(e entry) bool {
			if e.sequence <= last.sequence { // what is behind the barrier is a later writer's
				reader.take(e)
			}
			return e.sequence >= last.sequence
		}
	})
	if err != nil {
		return nil, err
	}
	w.tail = reader.tail
	return slices.Concat(reader.said...), nil
}

// forgetTimeout bounds forgetting a barrier.
const forgetTimeout = time.Second

// forget removes a barrier that is not the last entry any more, if nothing was said behind it: a group that is visited often
// and speaks seldom would lose what was said to the barriers. If it fails, the next one costs one entry more.
func (w *Writer) forget(ctx context.Context, barrier entry) {
	if barrier.sequence == 0 || len(barrier.Messages) > 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, forgetTimeout)
	defer cancel()
	_ = w.place.stream.DeleteMsg(ctx, barrier.sequence)
}

// LastSeq gives the number of the last message in the log.
func (w *Writer) LastSeq() guildhall.Seq { return w.lastSeq }

// Append numbers messages, which must not be empty, and appends them as one entry. After nil they are durable.
// [ErrFenced] and [ErrBroken] are final. After any other error they may or may not be in the log: call [Writer.Append] again
// with the very same messages until it says.
func (w *Writer) Append(ctx context.Context, messages []*guildhallv1.Message) error {
	next := w.next(messages)
	err := w.publish(ctx, next)
	if errors.Is(err, errBehind) {
		err = w.catchUp(ctx, next)
	}
	if err != nil {
		return fmt.Errorf("appending to the log of %s: %w", w.group, err)
	}
	w.appended(next)
	return nil
}

// next makes the entry that appends messages. All of it is the same when it is made again: what the writer knows does not
// change before it is appended.
func (w *Writer) next(messages []*guildhallv1.Message) *guildhallv1.LogEntry {
	for i, m := range messages {
		m.Seq = uint64(w.lastSeq) + uint64(i) + 1
	}
	return &guildhallv1.LogEntry{
		Epoch: uint64(w.epoch), LastSeq: uint64(w.lastSeq) + uint64(len(messages)), Messages: messages,
		Tail: cmp.Or(w.tail.begins(), w.sequence),
	}
}

// appended notes that an entry has been appended, as the last one that this writer knows.
func (w *Writer) appended(next *guildhallv1.LogEntry) {
	w.lastSeq = guildhall.Seq(next.GetLastSeq())
	w.tail.add(entry{LogEntry: next, sequence: w.sequence, size: proto.Size(next)}.mark())
}

// Pending is an append under way.
type Pending struct {
	entry  *guildhallv1.LogEntry
	answer jetstream.PubAckFuture
}

// Stored gives a channel that holds the answer once the messages are durable: call [Writer.End] with it.
func (p *Pending) Stored() <-chan *jetstream.PubAck { return p.answer.Ok() }

// Failed gives a channel that holds an error once it is not known whether the messages are: call [Writer.Append] with the very
// same messages until it says.
func (p *Pending) Failed() <-chan error { return p.answer.Err() }

// Begin begins what [Writer.Append] does and does not wait, so that nobody has to be woken but who waits for the answer. The
// error is as of [Pending.Failed].
func (w *Writer) Begin(messages []*guildhallv1.Message) (*Pending, error) {
	next := w.next(messages)
	message, err := w.message(next)
	if err != nil {
		return nil, err
	}
	answer, err := w.js.PublishMsgAsync(message)
	if err != nil {
		return nil, fmt.Errorf("appending to the log of %s: %w", w.group, err)
	}
	return &Pending{entry: next, answer: answer}, nil
}

// End ends an append that was stored.
func (w *Writer) End(p *Pending, ack *jetstream.PubAck) {
	w.know(ack.Sequence)
	w.appended(p.entry)
}

// errBehind says that the subject's last entry is not the one that this writer knows.
var errBehind = errors.New("roomlog: the log has an entry behind the one expected")

// publish appends an entry right behind the last one that this writer knows.
func (w *Writer) publish(ctx context.Context, next *guildhallv1.LogEntry) error {
	message, err := w.message(next)
	if err != nil {
		return err
	}
	ack, err := broker.Write(ctx, func(ctx context.Context) (*jetstream.PubAck, error) { return w.js.PublishMsg(ctx, message) })
	if broker.IsWrongSequence(err) {
		return errBehind
	}
	if err != nil {
		return err
	}
	w.know(ack.Sequence)
	return nil
}

// message makes the message of an entry that goes right behind the last one that this writer knows.
func (w *Writer) message(next *guildhallv1.LogEntry) (*nats.Msg, error) {
	data, err := proto.Marshal(next)
	if err != nil {
		return nil, fmt.Errorf("encoding a log entry: %w", err)
	}
	message := nats.NewMsg(w.place.subject)
	message.Data = data
	message.Header.Set(jetstream.ExpectedLastSubjSeqHeader, strconv.FormatUint(w.sequence, 10))
	return message, nil
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
	last, err := w.place.last(ctx)
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
	info, err := broker.Read(ctx, func(ctx context.Context) (*jetstream.StreamInfo, error) { return w.place.stream.Info(ctx) })
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
