package roomserver

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/guildhall-dev/guildhall"
	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
	"github.com/guildhall-dev/guildhall/internal/roomlog"
)

const (
	// batchMessages and batchBytes bound one entry of the log; NATS takes 1 MiB.
	batchMessages = 256
	batchBytes    = 128 << 10
	// appendTimeout bounds one append, appendPause is the rest before it is tried again.
	appendTimeout = 5 * time.Second
	appendPause   = 50 * time.Millisecond
	// flushTimeout bounds how long a room that ends goes on trying to append what was said.
	flushTimeout = 10 * time.Second
)

// appending is the append under way. Most are answered to the room itself; one whose outcome is not known is made again, with
// care, by a goroutine of its own.
type appending struct {
	busy     bool // there is one
	began    time.Time
	pending  *roomlog.Pending
	stored   <-chan *jetstream.PubAck // not nil: it is answered here,
	failed   <-chan error             // or here
	careful  bool                     // the last one failed: the next is made with care
	answered chan error               // how one made with care ended; holds one
}

// advance starts the next append: group commit. All that arrived while the last one was under way goes into one
// entry. It does nothing while one is under way, while a failed one rests, or when there is nothing to say; and
// while the lease may have run out it waits, for then another host may be opening this room.
func (r *room) advance() {
	if r.append.busy || r.retry != nil {
		return
	}
	if len(r.inFlight) == 0 {
		r.inFlight, r.pending = r.nextBatch()
	}
	if len(r.inFlight) == 0 {
		return
	}
	if !r.host.mayServe() {
		r.retry = time.After(appendPause)
		return
	}
	r.append.busy, r.append.began = true, time.Now()
	if !r.append.careful {
		if pending, err := r.writer.Begin(r.batch()); err == nil {
			r.append.pending, r.append.stored, r.append.failed = pending, pending.Stored(), pending.Failed()
			return
		}
	}
	r.appendWithCare()
}

// batch gives the messages in flight.
func (r *room) batch() []*guildhallv1.Message {
	messages := make([]*guildhallv1.Message, len(r.inFlight))
	for i, waiting := range r.inFlight {
		messages[i] = waiting.message
	}
	return messages
}

// appendWithCare appends what is in flight, of which it may not be known whether it is in the log already.
func (r *room) appendWithCare() {
	messages := r.batch()
	go func() { // ends with the append, and run waits for that
		ctx, cancel := context.WithTimeout(r.host.work, appendTimeout)
		defer cancel()
		r.append.answered <- r.writer.Append(ctx, messages)
	}()
}

func (r *room) nextBatch() (batch, rest []*saying) {
	n, size := 0, 0
	for n < len(r.pending) && n < batchMessages && size < batchBytes {
		size += r.pending[n].size
		n++
	}
	return r.pending[:n:n], r.pending[n:]
}

// afterStored ends an append that was answered to the room itself.
func (r *room) afterStored(ack *jetstream.PubAck) end {
	r.writer.End(r.append.pending, ack)
	r.append.pending, r.append.stored, r.append.failed = nil, nil, nil
	return r.afterAppend(nil)
}

// afterFailed ends an append whose outcome is not known. It is made again with care, if the host may still serve then.
func (r *room) afterFailed(err error) end {
	r.append.pending, r.append.stored, r.append.failed = nil, nil, nil
	return r.afterAppend(fmt.Errorf("asking whether an append was stored: %w", err))
}

// afterAppend acks what is durable and has everybody told. It gives a reason to end if the log has refused this
// host for good, else 0. After any other error the same batch is tried again: it may be in the log already.
func (r *room) afterAppend(err error) end {
	r.host.metrics.appended(time.Since(r.append.began), len(r.inFlight), err)
	r.append.busy, r.append.careful = false, err != nil
	if errors.Is(err, roomlog.ErrFenced) {
		return endFenced
	}
	if errors.Is(err, roomlog.ErrBroken) {
		r.host.logger.Error("the log is not as this host left it; the room opens anew", "group", r.group, "error", err)
		return endBroken
	}
	if err != nil {
		r.host.logger.Warn("an append failed; trying again", "group", r.group, "error", err)
		r.retry = time.After(appendPause)
		return 0
	}
	for _, waiting := range r.inFlight {
		key := keyOf(waiting.message)
		delete(r.unsaid, key)
		r.remember(waiting.message)
		r.ack(waiting.session, key.id, guildhall.Seq(waiting.message.GetSeq()))
		r.out.say(waiting.message)
	}
	r.inFlight = nil
	return 0
}

// flush appends what was said before the end, as far as the log answers and the host has time. It gives why the room ends: another reason
// if the log has refused this host.
func (r *room) flush(why end) end {
	ctx, cancel := context.WithTimeout(r.host.work, flushTimeout)
	defer cancel()
	for {
		r.advance()
		if !r.append.busy && len(r.inFlight) == 0 && len(r.pending) == 0 {
			return why
		}
		var refused end
		select {
		case ack := <-r.append.stored:
			refused = r.afterStored(ack)
		case err := <-r.append.failed:
			refused = r.afterFailed(err)
		case err := <-r.append.answered:
			refused = r.afterAppend(err)
		case <-r.retry:
			r.retry = nil
		case <-ctx.Done():
			// What is left was not acked: its senders say it again, wherever the room is then.
			if refused = r.awaitAppend(); refused == 0 {
				return why
			}
		}
		if refused != 0 {
			return refused
		}
	}
}

// awaitAppend waits for the end of the append under way, if there is one.
func (r *room) awaitAppend() end {
	if !r.append.busy {
		return 0
	}
	select {
	case ack := <-r.append.stored:
		return r.afterStored(ack)
	case err := <-r.append.failed:
		return r.afterFailed(err)
	case err := <-r.append.answered:
		return r.afterAppend(err)
	}
}
