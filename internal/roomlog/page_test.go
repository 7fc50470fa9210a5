package roomlog

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/guildhall-dev/guildhall"
)

// other is a group in the same stream as dragons.
var other = guildhall.Group{Kind: "guild", ID: "bears"}

func (b *bench) after(after, most int) Page {
	b.t.Helper()
	page, err := b.After(b.ctx, dragons, guildhall.Seq(after), most)
	if err != nil {
		b.t.Fatalf("After(%d, %d): %v", after, most, err)
	}
	return page
}

func (b *bench) before(before, most int) Page {
	b.t.Helper()
	page, err := b.Before(b.ctx, dragons, guildhall.Seq(before), most)
	if err != nil {
		b.t.Fatalf("Before(%d, %d): %v", before, most, err)
	}
	return page
}

// checkPages reads around many numbers of a log that retains those from first to last.
func (b *bench) checkPages(first, last int) {
	b.t.Helper()
	for _, number := range []int{0, first - 1, first, first + 1, (first + last) / 2, last - 1, last, last + 50} {
		if number < 0 {
			continue
		}
		for _, most := range []int{3, 100000} {
			from, what := max(first, number+1), fmt.Sprintf("After(%d, %d)", number, most)
			to := min(last, from+most-1)
			page := b.after(number, most)
			b.checkNumbers(what, page.Messages, from, to)
			truncated := 0
			if number < last && from > number+1 {
				truncated = from - 1
			}
			if int(page.Truncated) != truncated || page.More != (from <= last && to < last) {
				b.t.Errorf("%s: truncated %d, more %t; want %d, %t", what, page.Truncated, page.More, truncated, to < last)
			}
			what = fmt.Sprintf("Before(%d, %d)", number, most)
			to = min(last, number-1)
			if number == 0 {
				to = last
			}
			from = max(first, to-most+1)
			page = b.before(number, most)
			b.checkNumbers(what, page.Messages, from, to)
			if page.Truncated != 0 || page.More != (from > first && to >= from) {
				b.t.Errorf("%s: truncated %d, more %t; want 0, %t", what, page.Truncated, page.More, from > first && to >= from)
			}
		}
	}
}

func TestPages(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, b *bench) {
		rng := rand.New(rand.NewPCG(1, 1))
		w, _ := b.open(1)
		bears, _, err := b.Open(b.ctx, other, 1)
		if err != nil {
			t.Fatal(err)
		}
		for range 60 {
			b.sayMany(w, 1+rng.IntN(9), 1+rng.IntN(5), 5)
			b.sayMany(bears, 1+rng.IntN(20), 1, 5)
			if rng.IntN(5) == 0 {
				w, _ = b.open(2)
			}
		}
		b.checkPages(1, int(w.LastSeq()))
		if err := w.Trim(b.ctx, TrimTo{Messages: 77}); err != nil {
			t.Fatal(err)
		}
		b.checkPages(int(b.entries()[0].firstSeq()), int(w.LastSeq()))
		// A barrier alone is left: all that was said is gone, and it is told so.
		w, _ = b.open(3)
		b.trimToLast(w)
		if entries := b.entries(); len(entries) != 1 {
			t.Fatalf("%d entries are left, want the barrier", len(entries))
		}
		b.checkPages(int(w.LastSeq())+1, int(w.LastSeq()))
		b.sayMany(w, 5, 2, 5)
		b.checkPages(int(w.LastSeq())-4, int(w.LastSeq()))
	})
}

func TestPagesOfNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.checkPages(1, 0)
	b.open(1)
	b.checkPages(1, 0)
	for _, page := range []Page{b.after(0, 0), b.before(0, 0), b.before(5, -1)} {
		if page.Messages != nil || page.More {
			t.Errorf("a page of nothing is %+v", page)
		}
	}
}

// A page is bounded in bytes, and has a message at least.
func TestLargePages(t *testing.T) {
	t.Parallel()
	b := setup(t)
	w, _ := b.open(1)
	b.sayMany(w, 200, 16, 4<<10)
	page := b.after(20, 200)
	b.checkNumbers("After", page.Messages, 21, 20+64)
	if !page.More {
		t.Error("After a page that was bounded by bytes, more follow")
	}
	page = b.before(0, 200)
	b.checkNumbers("Before", page.Messages, 137, 200)
	if !page.More {
		t.Error("Before a page that was bounded by bytes, more are retained")
	}
	b.sayMany(w, 2, 2, 300<<10)
	b.checkNumbers("After", b.after(200, 200).Messages, 201, 201)
	b.checkNumbers("Before", b.before(0, 200).Messages, 202, 202)
	b.checkNumbers("Before", b.before(202, 200).Messages, 201, 201)
}

// Pages are read while the log grows at its end and is trimmed at its beginning. Whatever a page says holds.
func TestPagesWhileTheLogMoves(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, b *bench) {
		w, _ := b.open(1)
		b.sayMany(w, 100, 3, 5)
		var (
			known            atomic.Int64
			writing, reading sync.WaitGroup
			over             = make(chan struct{})
		)
		known.Store(int64(w.LastSeq()))
		writing.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-over:
					return
				default:
				}
				b.sayMany(w, 5, 1+n%4, 5)
				known.Store(int64(w.LastSeq()))
				if err := w.Trim(b.ctx, TrimTo{Messages: 40}); err != nil {
					t.Errorf("Trim: %v", err)
				}
			}
		})
		for reader := range 2 {
			reading.Go(func() {
				rng := rand.New(rand.NewPCG(uint64(reader), 1))
				for range 30 {
					last := int(known.Load())
					number, most := max(1, last-rng.IntN(120)), 1+rng.IntN(60)
					b.checkAfter(b.after(number, most), number, most, last)
					b.checkBefore(b.before(number, most), number, most)
				}
			})
		}
		reading.Wait()
		close(over)
		writing.Wait()
		b.checkEntries()
	})
}

// checkAfter sees that a page is true of a log of so many messages or more, of which some may be gone.
func (b *bench) checkAfter(page Page, after, most, last int) {
	b.t.Helper()
	from := max(after, int(page.Truncated)) + 1
	to := from + len(page.Messages) - 1
	b.checkNumbers(fmt.Sprintf("After(%d, %d)", after, most), page.Messages, from, to)
	if page.Truncated != 0 && int(page.Truncated) <= after || len(page.Messages) > most || !page.More && to < last {
		b.t.Errorf("After(%d, %d) of %d messages: to %d, truncated %d, more %t", after, most, last, to, page.Truncated, page.More)
	}
}

func (b *bench) checkBefore(page Page, before, most int) {
	b.t.Helper()
	if n := len(page.Messages); n > 0 {
		b.checkNumbers(fmt.Sprintf("Before(%d, %d)", before, most), page.Messages, before-n, before-1)
	}
	if len(page.Messages) > most {
		b.t.Errorf("Before(%d, %d) gives %d messages", before, most, len(page.Messages))
	}
}

// A page that is retention's in the midst of being read: what it has taken is gone, and it says so.
func TestGapInAPage(t *testing.T) {
	t.Parallel()
	s := span{next: 3, end: 21, most: 50, bytes: pageBytes}
	take := func(from, to uint64) {
		e := noEntry()
		e.LastSeq = to
		for n := from; n <= to; n++ {
			e.Messages = append(e.Messages, said(fmt.Sprint(n))...)
			e.Messages[len(e.Messages)-1].Seq = n
		}
		s.take(e)
	}
	take(1, 4)
	take(5, 8)
	if len(s.messages) != 6 || s.truncated != 0 {
		t.Fatalf("%d messages, truncated %d; want 6, 0", len(s.messages), s.truncated)
	}
	take(12, 14) // those between are gone, so all before are
	if len(s.messages) != 3 || s.truncated != 11 || s.next != 15 {
		t.Errorf("behind a gap: %d messages, truncated %d, next %d; want 3, 11, 15", len(s.messages), s.truncated, s.next)
	}
	take(31, 40)
	if len(s.messages) != 0 || s.truncated != 20 || !s.isDone() {
		t.Errorf("all is gone: %d messages, truncated %d; want 0, 20", len(s.messages), s.truncated)
	}
}
