// Package roomlog is a group's durable, totally ordered record of what was said, on streams of NATS JetStream:
// one subject for each group, one stream message for each batch of messages.
//
// The log itself refuses a second writer. Every append names the sequence that the subject's last entry must
// have (compare-and-append), and opening appends a barrier that carries the writer's epoch: from then on the
// appends of an older writer name a sequence that is no longer the last. docs/designs/log.md has the argument.
package roomlog

import (
	"context"
	"errors"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/guildhall-dev/guildhall"
	"github.com/guildhall-dev/guildhall/internal/broker"
)

// ErrFenced says that the log has a writer of a later epoch. It is final: the room is somebody else's.
var ErrFenced = errors.New("roomlog: a writer of a later epoch has the log")

// ErrBroken says that the log does not end where this writer left it, and nobody of a later epoch has written: it was
// purged or restored. It is final for the writer; opening anew begins with what is there.
var ErrBroken = errors.New("roomlog: the log does not end where its writer left it")

// Log is the logs of all groups. It is safe for use by any number of goroutines.
type Log struct {
	js      jetstream.JetStream
	streams []jetstream.Stream // by shard
}

// place is where the entries of one group are: a subject of one of the streams.
type place struct {
	stream  jetstream.Stream
	subject string
}

func (l *Log) place(group guildhall.Group) place {
	shard := group.Shard(len(l.streams))
	return place{stream: l.streams[shard], subject: shardPrefix(shard) + group.Key()}
}

// lastRaw reads the last message, whatever it holds. [jetstream.ErrMsgNotFound] if there is none.
func (p place) lastRaw(ctx context.Context) (*jetstream.RawStreamMsg, error) {
	return broker.Read(ctx, func(ctx context.Context) (*jetstream.RawStreamMsg, error) {
		return p.stream.GetLastMsgForSubject(ctx, p.subject)
	})
}

// last reads the last entry; one of sequence 0 if there is none.
func (p place) last(ctx context.Context) (entry, error) {
	raw, err := p.lastRaw(ctx)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return noEntry(), nil
	}
	if err != nil {
		return entry{}, err
	}
	return decodeRaw(raw)
}

// nextRaw reads the first message at or behind a sequence of the stream. [jetstream.ErrMsgNotFound] if there is none.
func (p place) nextRaw(ctx context.Context, sequence uint64) (*jetstream.RawStreamMsg, error) {
	return broker.Read(ctx, func(ctx context.Context) (*jetstream.RawStreamMsg, error) {
		return p.stream.GetMsg(ctx, sequence, jetstream.WithGetMsgSubject(p.subject))
	})
}

// next is nextRaw for who wants to know what it holds.
func (p place) next(ctx context.Context, sequence uint64) (entry, error) {
	raw, err := p.nextRaw(ctx, sequence)
	if err != nil {
		return entry{}, err
	}
	return decodeRaw(raw)
}

// first reads the first entry that is retained.
func (p place) first(ctx context.Context) (entry, error) { return p.next(ctx, 1) }

// find gives the first entry for which a condition holds, by bisection over the stream's sequences, since nothing is kept but
// the entries. What holds for an entry must hold for those behind it. If it holds for none before the last, that is the one.
//
// It may run while others append and drop. An entry that was not there when its place was looked at does not come to be
// there; one that is dropped afterwards is for the caller to miss.
func (p place) find(ctx context.Context, first, last entry, holds func(entry) bool) (entry, error) {
	if first.sequence >= last.sequence || holds(first) {
		return first, nil
	}
	found := last
	for low, high := first.sequence+1, last.sequence; low < high; {
		middle := low + (high-low)/2
		e, err := p.next(ctx, middle)
		if err != nil {
			return entry{}, err
		}
		if holds(e) || e.sequence >= last.sequence {
			high = middle
			found = e
		} else {
			low = e.sequence + 1
		}
	}
	return found, nil
}

// dropBelow drops the entries of the group below a sequence at which one of its entries has been stored. That one, or a
// later one, is the last whatever is appended meanwhile, so the last entry is never dropped.
func (p place) dropBelow(ctx context.Context, sequence uint64) error {
	if sequence < 2 { // 0 would be all
		return nil
	}
	// Sent again while nobody answers: twice drops the same as once.
	_, err := broker.Read(ctx, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, p.stream.Purge(ctx, jetstream.WithPurgeSubject(p.subject), jetstream.WithPurgeSequence(sequence))
	})
	return err
}
