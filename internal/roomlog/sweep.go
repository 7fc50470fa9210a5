package roomlog

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/guildhall-dev/guildhall"
)

// sweepPatienceMost is how long Sweep waits for the next message in its last attempt to go on.
const sweepPatienceMost = 20 * time.Second

// Sweep drops what is older than its kind's [guildhall.KindRules.Keep], also of groups that nobody opens any more, but never
// a group's last entry. Kinds without one, and kinds that are not configured, are kept. It gives how many entries it has
// dropped, also with an error; what is left then is for the next time. Several may run at once, also while writers append.
//
// It reads the headers of all that is older, kind by kind: that is what there is to drop, and one entry of each group that
// is silent.
func (l *Log) Sweep(ctx context.Context, kinds guildhall.Kinds) (dropped int, err error) {
	for shard, stream := range l.streams {
		for _, kind := range kinds.Names() {
			if kinds[kind].Keep <= 0 {
				continue
			}
			all := place{stream: stream, subject: shardPrefix(shard) + string(kind) + ".*"}
			n, err := all.sweep(ctx, time.Now().Add(-kinds[kind].Keep))
			dropped += n
			if err != nil {
				return dropped, fmt.Errorf("sweeping the log of kind %s in stream %s: %w", kind, streamName(shard), err)
			}
		}
	}
	return dropped, nil
}

// sweep sweeps all groups of a kind in a stream.
func (p place) sweep(ctx context.Context, since time.Time) (dropped int, err error) {
	groups, err := p.old(ctx, since)
	if err != nil {
		return 0, err
	}
	for _, subject := range slices.Sorted(maps.Keys(groups)) {
		n, err := place{stream: p.stream, subject: subject}.dropOld(ctx, groups[subject])
		dropped += n
		if err != nil {
			return dropped, err
		}
	}
	return dropped, nil
}

// aged is the old entries of a group.
type aged struct {
	entries int
	last    uint64 // the sequence of the last of them
}

// old finds the entries that were stored before an instant, by subject.
func (p place) old(ctx context.Context, since time.Time) (map[string]aged, error) {
	end, err := p.lastRaw(ctx)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	// It ends: this is the last entry of its group, and is dropped by nobody before there is another one behind it.
	walk := walk{since: since, end: end.Sequence, from: 1, groups: map[string]aged{}}
	for patience := firstPatience; ; patience *= 2 {
		err := p.walk(ctx, &walk, patience)
		if err == nil {
			return walk.groups, nil
		}
		if patience >= sweepPatienceMost || ctx.Err() != nil {
			return nil, err
		}
	}
}

// walk is how far the old entries have been read.
type walk struct {
	since     time.Time
	end, from uint64
	groups    map[string]aged
}

// take takes the next entry; done if it is the last of those that are old.
func (w *walk) take(sequence uint64, subject string, stored time.Time) (done bool) {
	if !stored.Before(w.since) {
		return true
	}
	w.groups[subject] = aged{entries: w.groups[subject].entries + 1, last: sequence}
	w.from = sequence + 1
	return sequence >= w.end
}

// walk reads on.
func (p place) walk(ctx context.Context, w *walk, patience time.Duration) error {
	feed, err := feedFrom(ctx, p.stream, w.from, patience, jetstream.OrderedConsumerConfig{FilterSubjects: []string{p.subject}, HeadersOnly: true})
	if err != nil {
		return err
	}
	defer feed.Stop()
	for {
		next, meta, err := nextWithin(ctx, feed, patience)
		if err != nil {
			return err
		}
		if w.take(meta.Sequence.Stream, next.Subject(), meta.Timestamp) {
			return nil
		}
	}
}

// dropOld drops the old entries of one group: all of them if something is behind them, else all but the last. Whatever is
// appended or dropped meanwhile, both are below an entry that has been there.
func (p place) dropOld(ctx context.Context, old aged) (dropped int, err error) {
	below, dropped := old.last, old.entries-1
	behind, err := p.nextRaw(ctx, old.last+1)
	switch {
	case err == nil:
		below, dropped = behind.Sequence, old.entries
	case !errors.Is(err, jetstream.ErrMsgNotFound):
		return 0, err
	case dropped == 0:
		return 0, nil
	}
	if err := p.dropBelow(ctx, below); err != nil {
		return 0, err
	}
	return dropped, nil
}
