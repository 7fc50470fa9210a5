package roomlog

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"

	"github.com/guildhall-dev/guildhall"
	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
)

// pageBytes is how many bytes of messages are enough for a page, however few they are.
const pageBytes = 256 << 10

// Page is some messages of a group's log.
type Page struct {
	// Messages in the order of their numbers, which have no gaps.
	Messages []*guildhallv1.Message
	// Truncated is set by [Log.After]: the messages after the number that was asked for, up to this one, are gone for good.
	// 0 if none are.
	Truncated guildhall.Seq
	// More says of [Log.After] that later messages follow, of [Log.Before] that older ones are retained.
	More bool
}

// After gives the messages with numbers greater than after, in order: at most so many, and about 256 KiB of them, but one at
// least if there is one. It may be called by any goroutine, also while the group's writer appends and others drop what is old.
//
// A node of NATS that has been deposed and does not know answers for a while as the log was before. Whoever knows of a later
// message than the page has, and is told that there are no more, asks again.
func (l *Log) After(ctx context.Context, group guildhall.Group, after guildhall.Seq, most int) (Page, error) {
	p := l.place(group)
	first, last, err := p.ends(ctx)
	if err != nil {
		return Page{}, fmt.Errorf("reading the ends of the log of %s: %w", group, err)
	}
	if uint64(after) >= last.LastSeq || most < 1 {
		return Page{More: uint64(after) < last.LastSeq}, nil
	}
	wanted := span{next: uint64(after) + 1, end: last.LastSeq + 1, most: most, bytes: pageBytes}
	read, err := p.readSpan(ctx, first, last, wanted)
	if err != nil {
		return Page{}, fmt.Errorf("reading the log of %s after number %d: %w", group, after, err)
	}
	return Page{Messages: read.messages, Truncated: guildhall.Seq(read.truncated), More: read.next < read.end}, nil
}

// Before gives the last messages with numbers lower than before, or the latest if that is 0, in order: at most so many, and
// about 256 KiB of them, but one at least if there is one. Otherwise it is as [Log.After].
func (l *Log) Before(ctx context.Context, group guildhall.Group, before guildhall.Seq, most int) (Page, error) {
	p := l.place(group)
	first, last, err := p.ends(ctx)
	if err != nil {
		return Page{}, fmt.Errorf("reading the ends of the log of %s: %w", group, err)
	}
	end := last.LastSeq + 1
	if before != 0 {
		end = min(end, uint64(before))
	}
	if end <= first.firstSeq() || most < 1 {
		return Page{More: end > first.firstSeq()}, nil
	}
	begin := end - min(end-1, uint64(most))
	read, err := p.readSpan(ctx, first, last, span{next: begin, end: end, most: most, bytes: math.MaxInt})
	if err != nil {
		return Page{}, fmt.Errorf("reading the log of %s before number %d: %w", group, before, err)
	}
	messages := lastBytes(read.messages, pageBytes)
	// What is not here although it is not before the first entry is older, or was dropped just now.
	return Page{Messages: messages, More: len(messages) > 0 && messages[0].GetSeq() > first.firstSeq()}, nil
}

// ends reads the first and the last entry; both are of sequence 0 if there is none.
func (p place) ends(ctx context.Context) (first, last entry, err error) {
	if last, err = p.last(ctx); err != nil || last.sequence == 0 {
		return noEntry(), noEntry(), err
	}
	first, err = p.first(ctx)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		err = errors.New("who answers knows of no entry, and there is one") // a node that lags; it may be asked again
	}
	return first, last, err
}

// span is a range of numbers that is being read, and what has been read of it.
type span struct {
	next, end   uint64 // the number to be read next, and the first one that is not wanted
	most, bytes int    // when it is enough
	messages    []*guildhallv1.Message
	size        int
	truncated   uint64 // what was wanted up to this number is gone
}

// readSpan reads the messages of a span that is not empty.
func (p place) readSpan(ctx context.Context, first, last entry, wanted span) (span, error) {
	from, err := p.find(ctx, first, last, func(e entry) bool { return e.LastSeq >= wanted.next })
	if err != nil {
		return span{}, err
	}
	var s span
	err = p.read(ctx, from.sequence, func() func(entry) bool {
		s = wanted
		return func(e entry) bool {
			s.take(e)
			return s.isDone() || e.sequence >= last.sequence
		}
	})
	return s, err
}

func (s *span) isDone() bool { return s.next >= s.end || s.isFull() }

func (s *span) isFull() bool { return len(s.messages) >= s.most || s.size >= s.bytes }

// take takes what is wanted of the next entry. If that does not begin where the one before it ended, all before it is gone,
// for what is dropped are always the oldest: then also what has been taken is gone by now, and the span begins here.
func (s *span) take(e entry) {
	if first := min(e.firstSeq(), s.end); first > s.next {
		s.messages, s.size = nil, 0
		s.truncated, s.next = first-1, first
	}
	for _, m := range e.Messages {
		if s.isDone() {
			return
		}
		if m.GetSeq() >= s.next {
			s.messages = append(s.messages, m)
			s.size += proto.Size(m)
			s.next++
		}
	}
}

// lastBytes gives the last messages that have so many bytes, or all.
func lastBytes(messages []*guildhallv1.Message, enough int) []*guildhallv1.Message {
	n, size := len(messages), 0
	for n > 0 && size < enough {
		n--
		size += proto.Size(messages[n])
	}
	return messages[n:]
}
