package simulation

import (
	"context"
	"fmt"
	"time"

	"github.com/guildhall-dev/guildhall"
	"github.com/guildhall-dev/guildhall/internal/roomlog"
)

const (
	// readEvery is the rest between two pages of each group.
	readEvery = 5 * time.Second
	// readWithin bounds reading a page.
	readWithin = 10 * time.Second
	pageLength = 7
)

// startReader starts somebody who reads the logs of all groups, page by page, whatever happens to them.
func (w *world) startReader() {
	w.reader = w.newProcess("reader")
	go func() {
		ctx := w.reader.ctx
		log, err := roomlog.Open(ctx, newClient(w.reader), roomlog.Config{Streams: logStreams})
		for err != nil && ctx.Err() == nil {
			log, err = roomlog.Open(ctx, newClient(w.reader), roomlog.Config{Streams: logStreams})
		}
		read := make([]guildhall.Seq, w.plan.Groups)
		for ctx.Err() == nil {
			for g := range read {
				read[g] = w.readPages(log, guildhall.Group{Kind: "guild", ID: fmt.Sprint("g", g)}, read[g])
			}
			select {
			case <-time.After(readEvery):
			case <-ctx.Done():
			}
		}
	}()
}

// readPages reads the page after a number, and the last page, and gives the number up to which all has been read.
func (w *world) readPages(log *roomlog.Log, group guildhall.Group, after guildhall.Seq) guildhall.Seq {
	ctx, cancel := context.WithTimeout(w.reader.ctx, readWithin)
	defer cancel()
	if page, err := log.Before(ctx, group, 0, pageLength); err == nil && len(page.Messages) > 0 {
		before := guildhall.Seq(page.Messages[0].GetSeq()) - 1
		w.issue(w.reader, "last page of "+group.String(), func() { w.judge.paged(group, before, page) })
	}
	page, err := log.After(ctx, group, after, pageLength)
	if err != nil {
		return after // NATS did not answer, or not well
	}
	w.issue(w.reader, "page of "+group.String(), func() { w.judge.paged(group, after, page) })
	return after + guildhall.Seq(len(page.Messages))
}

// paged sees a page: what is in the log after a number, in order and without a gap.
func (j *judge) paged(group guildhall.Group, after guildhall.Seq, page roomlog.Page) {
	if page.Truncated != 0 || len(page.Messages) > pageLength {
		j.failf("page: %d messages of %s after %d, truncated at %d; nothing is dropped here", len(page.Messages), group, after, page.Truncated)
	}
	for i, m := range page.Messages {
		if want := uint64(after) + uint64(i) + 1; m.GetSeq() != want {
			j.failf("page: message %d of %s after %d has number %d", i, group, after, m.GetSeq())
		}
		j.isLogged("a page", group, m.GetSeq(), string(m.GetBody()))
	}
}
