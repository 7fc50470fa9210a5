package roomlog

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/guildhall-dev/guildhall"
)

// stored gives when an entry was stored.
func (b *bench) stored(sequence uint64) time.Time {
	b.t.Helper()
	raw, err := b.stream().GetMsg(b.ctx, sequence)
	if err != nil {
		b.t.Fatal(err)
	}
	return raw.Time
}

// trimToLast drops everything but the last entry.
func (b *bench) trimToLast(w *Writer) {
	b.t.Helper()
	if err := w.Trim(b.ctx, TrimTo{Since: b.stored(w.sequence).Add(time.Hour)}); err != nil {
		b.t.Fatal(err)
	}
}

func TestTrim(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, b *bench) {
		w, _ := b.open(1)
		bears, _, err := b.Open(b.ctx, other, 1)
		if err != nil {
			t.Fatal(err)
		}
		for range 20 {
			b.sayMany(w, 3, 3, 5)
			b.sayMany(bears, 1, 1, 5)
		}
		before := b.entries() // a barrier, and 20 of three
		for _, test := range []struct {
			to    TrimTo
			first int // which entry is left
		}{
			{TrimTo{}, 0},
			{TrimTo{Messages: 61}, 0},
			{TrimTo{Since: before[0].stored}, 0},
			{TrimTo{Messages: 60}, 1},
			{TrimTo{Messages: 50}, 4}, // which holds one too many
			{TrimTo{Since: before[6].stored}, 6},
			{TrimTo{Since: before[6].stored.Add(1)}, 7},
			{TrimTo{Since: before[8].stored, Messages: 50}, 8},
			{TrimTo{Since: before[8].stored, Messages: 30}, 11},
			{TrimTo{Messages: 1}, 20},
			{TrimTo{Since: before[20].stored.Add(time.Hour)}, 20},
			{TrimTo{Since: before[20].stored.Add(time.Hour), Messages: 1}, 20},
		} {
			if err := w.Trim(b.ctx, test.to); err != nil {
				t.Fatalf("Trim(%+v): %v", test.to, err)
			}
			if left := b.entries(); len(left) != len(before)-test.first || left[0].sequence != before[test.first].sequence {
				t.Fatalf("Trim(%+v) leaves %d entries from %d on, want %d", test.to, len(left), left[0].sequence, len(before)-test.first)
			}
		}
		b.sayMany(w, 1, 1, 5)
		b.checkEntries()
		if page, err := b.After(b.ctx, other, 0, 100); err != nil || len(page.Messages) != 20 {
			t.Errorf("trimming dragons left %d messages of the others, %v", len(page.Messages), err)
		}
	})
}

// Who has been fenced may still trim, and the last entry stays.
func TestTrimByWhoIsFenced(t *testing.T) {
	t.Parallel()
	b := setup(t)
	old, _ := b.open(1)
	b.sayMany(old, 10, 1, 5)
	young, _ := b.open(2)
	b.trimToLast(old)
	b.sayMany(young, 1, 1, 5)
	b.trimToLast(old)
	b.trimToLast(young)
	b.sayMany(young, 1, 1, 5)
	b.checkEntries()
	if young.LastSeq() != 12 {
		t.Errorf("numbers go on with %d, want 12", young.LastSeq())
	}
}

// Everybody drops at once, while writers append and take the log from one another: nobody finds the log broken, numbers go on,
// and no group is without its last entry.
func TestDroppingRacesAppends(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, b *bench) {
		ctx, stop := context.WithCancel(b.ctx)
		defer stop()
		var writing, dropping sync.WaitGroup
		kinds := guildhall.Kinds{"guild": {Keep: 1}}
		dropping.Go(func() {
			for ctx.Err() == nil {
				if _, err := b.Sweep(ctx, kinds); err != nil && ctx.Err() == nil {
					t.Errorf("Sweep: %v", err)
				}
			}
		})
		for g := range 3 {
			group := guildhall.Group{Kind: "guild", ID: fmt.Sprint(g)}
			writing.Go(func() {
				said := 0
				for epoch := range guildhall.Epoch(6) {
					w, _, err := b.Open(b.ctx, group, epoch+1)
					if err != nil || int(w.LastSeq()) != said {
						t.Errorf("Open at epoch %d: %v; number %d, want %d", epoch+1, err, w.LastSeq(), said)
						return
					}
					for range 20 {
						b.sayMany(w, 1, 1, 5)
						said++
						if err := w.Trim(b.ctx, TrimTo{Messages: 3}); err != nil {
							t.Errorf("Trim: %v", err)
						}
					}
				}
			})
		}
		writing.Wait()
		stop()
		dropping.Wait()
		if n, err := b.Sweep(b.ctx, kinds); err != nil || n > 9 {
			t.Errorf("the last sweep dropped %d entries, %v", n, err)
		}
		for g := range 3 {
			group := guildhall.Group{Kind: "guild", ID: fmt.Sprint(g)}
			if last, err := b.place(group).last(b.ctx); err != nil || last.LastSeq != 120 || last.Epoch != 6 {
				t.Errorf("the log of %s ends with %v, %v", group, last.LogEntry, err)
			}
			if n := b.count(group); n != 1 {
				t.Errorf("%d entries of %s are left, want the last", n, group)
			}
		}
	})
}

// count counts the entries of a group.
func (b *bench) count(group guildhall.Group) int {
	b.t.Helper()
	p := b.place(group)
	info, err := p.stream.Info(b.ctx, jetstream.WithSubjectFilter(p.subject))
	if err != nil {
		b.t.Fatal(err)
	}
	return int(info.State.Subjects[p.subject])
}

func TestSweep(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, b *bench) {
		groups := map[guildhall.Group]int{ // by how many entries they have, barriers included
			{Kind: "guild", ID: "silent"}: 1, {Kind: "guild", ID: "spoke"}: 8, {Kind: "party", ID: "1"}: 4,
			{Kind: "clan", ID: "for ever"}: 3, {Kind: "gone", ID: "not configured"}: 3,
		}
		for group, entries := range groups {
			w, _, err := b.Open(b.ctx, group, 1)
			if err != nil {
				t.Fatal(err)
			}
			b.sayMany(w, entries-1, 1, 5)
		}
		kinds := guildhall.Kinds{"guild": {Keep: time.Hour}, "party": {Keep: 1}, "clan": {}}
		if n, err := b.Sweep(b.ctx, kinds); n != 3 || err != nil {
			t.Errorf("Sweep dropped %d entries, %v; want 3 of the party", n, err)
		}
		kinds["guild"] = guildhall.KindRules{Keep: 1}
		for _, want := range []int{7, 0} {
			if n, err := b.Sweep(b.ctx, kinds); n != want || err != nil {
				t.Errorf("Sweep dropped %d entries, %v; want %d", n, err, want)
			}
		}
		for group, entries := range groups {
			if group.Kind == "guild" || group.Kind == "party" {
				entries = 1
			}
			if n := b.count(group); n != entries {
				t.Errorf("%s has %d entries, want %d", group, n, entries)
			}
		}
		if n, err := b.Sweep(b.ctx, guildhall.Kinds{}); n != 0 || err != nil {
			t.Errorf("Sweep without kinds dropped %d entries, %v", n, err)
		}
	})
}

// A sweep ends at the first entry that is young enough, and an old one is dropped only if it is not its group's last.
func TestSweepByAge(t *testing.T) {
	t.Parallel()
	b := setup(t)
	w, _ := b.open(1)
	bears, _, err := b.Open(b.ctx, other, 1)
	if err != nil {
		t.Fatal(err)
	}
	b.sayMany(w, 3, 1, 5)
	since := b.stored(w.sequence).Add(1)
	b.sayMany(bears, 2, 1, 5) // their barrier is old
	all := place{stream: b.stream(), subject: shardPrefix(0) + "guild.*"}
	if n, err := all.sweep(b.ctx, since); n != 4 || err != nil { // two barriers and two messages: the third is the last
		t.Errorf("sweep dropped %d entries, %v; want 4", n, err)
	}
	if n, m := b.count(dragons), b.count(other); n != 1 || m != 2 {
		t.Errorf("%d and %d entries are left, want 1 and 2", n, m)
	}
	b.sayMany(w, 1, 1, 5)
	if n, err := all.sweep(b.ctx, since); n != 1 || err != nil { // now it is not the last
		t.Errorf("sweep dropped %d entries, %v; want 1", n, err)
	}
	b.checkEntries()
}

func TestSweepThatIsStopped(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.open(1)
	ctx, cancel := context.WithCancel(b.ctx)
	cancel()
	if n, err := b.Sweep(ctx, guildhall.Kinds{"guild": {Keep: 1}}); n != 0 || err == nil {
		t.Errorf("Sweep that is stopped dropped %d entries, %v", n, err)
	}
}
