package roomlog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// TrimTo says what [Writer.Trim] leaves. The zero value leaves everything.
type TrimTo struct {
	// Since drops what was stored before this instant, by NATS's clock; zero drops nothing.
	Since time.Time
	// Messages drops all but so many of the last messages, as far as an entry that holds one of these does not hold others
	// too; 0 drops nothing. A resend is recognised among what is left: fewer than [TailMessages] are for who knows why.
	Messages int
}

// Trim drops what is old, but never the last entry, which holds the group's number and epoch. A writer that has been
// fenced may do it too: it does no harm. An error says that nothing, or not yet, was dropped; it is no sign that the
// writer may not append.
func (w *Writer) Trim(ctx context.Context, to TrimTo) error {
	first, err := w.place.first(ctx)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil // who answers lags: the barrier is there
	}
	if err != nil {
		return fmt.Errorf("reading the first entry of the log of %s: %w", w.group, err)
	}
	// The entry that this writer appended last is the end, or something later is.
	kept, err := w.place.find(ctx, first, entry{sequence: w.sequence}, w.isKept(to))
	if err != nil {
		return fmt.Errorf("looking for what is old in the log of %s: %w", w.group, err)
	}
	if kept.sequence == first.sequence {
		return nil
	}
	if err := w.place.dropBelow(ctx, kept.sequence); err != nil {
		return fmt.Errorf("trimming the log of %s: %w", w.group, err)
	}
	return nil
}

// isKept says which entries are left. What holds for one holds for those behind it, but for clocks that differ: nodes of NATS
// that follow one another as leaders stamp by their own.
func (w *Writer) isKept(to TrimTo) func(entry) bool {
	return func(e entry) bool {
		return !e.stored.Before(to.Since) && (to.Messages == 0 || e.LastSeq+uint64(to.Messages) > uint64(w.lastSeq))
	}
}
