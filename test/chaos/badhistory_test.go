package chaos

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// draft is a history made by hand, a second for each event.
type draft struct {
	history
	clock time.Time
}

// goodDraft is what must pass: p1 and p2 talk in epoch 5; the host dies, they go on in epoch 9, p1 sends again what was
// not acked; p3 comes late and reads all.
func goodDraft() *draft {
	d := &draft{clock: time.Unix(1_000_000, 0)}
	d.Group = "guild:g"
	d.Log = []entry{
		{Sequence: 10, Epoch: 5},
		{Sequence: 11, Epoch: 5, LastSeq: 2, Messages: []said{d.said(1, "p1", "a"), d.said(2, "p2", "b")}},
		{Sequence: 15, Epoch: 5, LastSeq: 3, Messages: []said{d.said(3, "p1", "c")}},
		{Sequence: 21, Epoch: 9, LastSeq: 3},
		{Sequence: 22, Epoch: 9, LastSeq: 4, Messages: []said{d.said(4, "p2", "d")}},
	}
	p1, p2, p3 := d.visit("p1", nil), d.visit("p2", nil), d.visit("p3", new(uint64))
	d.add(p1, event{Deed: joined, Epoch: 5})
	d.add(p2, event{Deed: joined, Epoch: 5})
	d.say(p1, "a")
	d.say(p2, "b")
	d.add(p1, event{Deed: acked, ID: "a", Seq: 1})
	d.add(p2, event{Deed: acked, ID: "b", Seq: 2})
	d.see(p1, 1, 2)
	d.see(p2, 1, 2)
	d.say(p1, "c")
	d.add(p1, event{Deed: closed, Text: "connection_lost"})
	d.add(p2, event{Deed: closed, Text: "connection_lost"})
	d.add(p1, event{Deed: resumed, Epoch: 9, Seq: 2})
	d.add(p1, event{Deed: acked, ID: "c", Seq: 3})
	d.add(p2, event{Deed: resumed, Epoch: 9, Seq: 2})
	d.see(p1, 3)
	d.see(p2, 3)
	d.say(p2, "d")
	d.add(p2, event{Deed: acked, ID: "d", Seq: 4})
	d.see(p1, 4)
	d.see(p2, 4)
	d.add(p3, event{Deed: joined, Epoch: 9, Seq: 4})
	d.see(p3, 1, 2, 3, 4)
	for _, v := range d.Visits {
		v.Stayed = true
	}
	return d
}

func (d *draft) said(seq uint64, from, id string) said {
	return said{Seq: seq, From: from, ID: id, Hash: hashOf([]byte(id))}
}

func (d *draft) visit(player string, after *uint64) *visit {
	v := &visit{Group: d.Group, Player: player, After: after}
	d.Visits = append(d.Visits, v)
	return v
}

func (d *draft) add(v *visit, e event) {
	d.clock = d.clock.Add(time.Second)
	e.At = d.clock
	v.Events = append(v.Events, e)
}

func (d *draft) say(v *visit, id string) {
	d.add(v, event{Deed: sent, ID: id, Hash: hashOf([]byte(id))})
}

// see shows a client what the log has at some numbers.
func (d *draft) see(v *visit, numbers ...uint64) {
	for _, number := range numbers {
		for _, e := range d.Log {
			for _, m := range e.Messages {
				if m.Seq == number {
					d.add(v, event{Deed: seen, Seq: m.Seq, From: m.From, ID: m.ID, Hash: m.Hash})
				}
			}
		}
	}
}

// event gives a client's nth event of a deed.
func (d *draft) event(player int, deed deed, nth int) *event {
	v := d.Visits[player]
	for i := range v.Events {
		if v.Events[i].Deed == deed {
			if nth == 0 {
				return &v.Events[i]
			}
			nth--
		}
	}
	panic("there is no such event")
}

// forget takes a client's nth event of a deed away.
func (d *draft) forget(player int, deed deed, nth int) {
	v, e := d.Visits[player], d.event(player, deed, nth)
	v.Events = slices.DeleteFunc(v.Events, func(other event) bool { return other == *e })
}

func TestGoodHistory(t *testing.T) {
	t.Parallel()
	if found := check(goodDraft().history); len(found) > 0 {
		t.Errorf("a good history breaks %v", found)
	}
}

// Each promise, broken by hand: a check that finds nothing in these would find nothing in a run either.
func TestBadHistories(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spoil  func(*draft)
		breach breach
		says   string
	}{
		"an epoch falls": {func(d *draft) { d.Log[4].Epoch = 5 }, split, "epoch 5, behind one of epoch 9"},
		"an old writer appends behind the barrier": {func(d *draft) {
			d.Log = append(d.Log, entry{Sequence: 30, Epoch: 5, LastSeq: 5, Messages: []said{d.said(5, "p1", "a2")}})
		}, split, "epoch 5, behind one of epoch 9"},
		"two messages at one number": {func(d *draft) { d.event(1, seen, 1).ID = "x" }, split, "saw x of p2 as number 2"},
		"another body at a number":   {func(d *draft) { d.event(1, seen, 1).Hash++ }, split, "saw b of p2 as number 2"},
		"another sender at a number": {func(d *draft) { d.event(0, seen, 1).From = "p9" }, split, "saw b of p9 as number 2"},
		"acked at another number":    {func(d *draft) { d.event(0, acked, 0).Seq = 2 }, split, "acked a as 2, and the log has it as 1"},
		"acked twice, differently": {func(d *draft) {
			d.add(d.Visits[0], event{Deed: acked, ID: "a", Seq: 3})
		}, split, "acked a as 1 and as 3"},
		"acked by a room of an earlier epoch": {func(d *draft) { d.event(1, resumed, 0).Epoch = 6 }, split, "acked number 4 of epoch 9 in a session of epoch 6"},
		"shown by a room of an earlier epoch": {func(d *draft) { d.event(0, resumed, 0).Epoch = 6 }, split, "saw number 4 of epoch 9 in a session of epoch 6"},
		"the log has a number twice": {func(d *draft) {
			d.Log[4].Messages[0].Seq = 3
		}, split, "number 3 of the log is c of p1 and d of p2"},
		// Two rooms whose logs were merged: every number is right, and the times tell.
		"said after a greater number was known": {func(d *draft) {
			d.event(0, sent, 1).At = d.clock
		}, split, "said number 3 after somebody knew number"},

		"acked and not in the log": {func(d *draft) {
			d.Log = d.Log[:4]
		}, lost, "was acked d as 4, and it is not in the log"},
		"shown and not in the log": {func(d *draft) {
			d.Log = d.Log[:4]
		}, lost, "saw number 4, d of p2, and the log ends with 3"},
		"one who stayed has not seen the end": {func(d *draft) { d.forget(0, seen, 3) }, lost, "p1 stayed to the end and saw up to 3 of 4"},
		"a late joiner has not seen the end":  {func(d *draft) { d.forget(2, seen, 3) }, lost, "p3 stayed to the end and saw up to 3 of 4"},
		"told that it is gone, and it is not": {func(d *draft) {
			d.event(2, joined, 0).Truncated = 2
			d.forget(2, seen, 0)
			d.forget(2, seen, 0)
		}, lost, "told that all up to 2 is gone, and the log begins with 1"},
		"the log was forgotten": {func(d *draft) { d.event(0, resumed, 0).Truncated = 1 }, lost, "had seen up to 2 and was told that the log ends with 1"},

		"twice in the log": {func(d *draft) {
			d.Log[4].Messages[0] = d.said(4, "p1", "c")
		}, duplicate, "c of p1 is in the log as 3 and as 4"},
		"shown twice": {func(d *draft) {
			e := d.event(1, seen, 3)
			e.From, e.ID = "p1", "c"
		}, duplicate, "p2 saw c of p1 as 3 and as 4"},

		"a gap":                            {func(d *draft) { d.forget(1, seen, 0) }, disorder, "p2 saw number 2 where 1 should be"},
		"backwards":                        {func(d *draft) { d.event(1, seen, 2).Seq = 2 }, disorder, "p2 saw number 2 where 3 should be"},
		"a late joiner misses the first":   {func(d *draft) { d.forget(2, seen, 0) }, disorder, "p3 saw number 2 where 1 should be"},
		"a gap that the client had mended": {func(d *draft) { d.event(0, closed, 0).Text = "connection_lost: a message is missing" }, disorder, "shown a gap behind 2"},
		"resumed elsewhere":                {func(d *draft) { d.event(0, resumed, 0).Seq = 1 }, disorder, "resumed behind 1 and had seen up to 2"},
		"a gap in the log":                 {func(d *draft) { d.Log[2].LastSeq = 4 }, disorder, "entry 15 of the log goes on behind number 3"},
		"a number skipped in an entry":     {func(d *draft) { d.Log[1].Messages[1].Seq = 7 }, disorder, "number 7 where 2 should be"},

		"in the log and never said":    {func(d *draft) { d.forget(1, sent, 0) }, invented, "b of p2, who has never said it"},
		"in the log with another body": {func(d *draft) { d.event(1, sent, 0).Hash++ }, invented, "another body than was said"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := goodDraft()
			c.spoil(d)
			found := check(d.history)
			if !slices.ContainsFunc(found, func(v violation) bool {
				return v.Breach == c.breach && v.Group == d.Group && strings.Contains(v.Text, c.says)
			}) {
				t.Errorf("found %v, want %s: …%s…", found, c.breach, c.says)
			}
		})
	}
}

// What retention has dropped cannot be compared with the log, but the clients with one another.
func TestDroppedByRetention(t *testing.T) {
	t.Parallel()
	d := goodDraft()
	d.Log = d.Log[2:]
	d.event(2, joined, 0).Truncated = 2
	d.forget(2, seen, 0)
	d.forget(2, seen, 0)
	if found := check(d.history); len(found) > 0 {
		t.Errorf("a history whose beginning the log has dropped breaks %v", found)
	}
	d.event(1, seen, 0).ID = "x"
	if found := check(d.history); len(found) == 0 || found[0].Breach != split {
		t.Errorf("two clients saw two messages as number 1: found %v", found)
	}
}

// What was neither acked nor seen may be in the log or not.
func TestUnansweredMayBeEither(t *testing.T) {
	t.Parallel()
	d := goodDraft()
	d.say(d.Visits[0], "e") // and the player left
	if found := check(d.history); len(found) > 0 {
		t.Errorf("unanswered and not in the log: %v", found)
	}
	d.Log = append(d.Log, entry{Sequence: 30, Epoch: 9, LastSeq: 5, Messages: []said{d.said(5, "p1", "e")}})
	for _, v := range d.Visits {
		v.Stayed = false
	}
	if found := check(d.history); len(found) > 0 {
		t.Errorf("unanswered and in the log: %v", found)
	}
}

func TestRecoveries(t *testing.T) {
	t.Parallel()
	at := func(s int) time.Time { return time.Unix(int64(1000+s), 0) }
	h := history{Group: "guild:g", Visits: []*visit{{Events: []event{
		{At: at(0), Deed: joined, Host: "h1", Epoch: 1},
		{At: at(1), Deed: acked, Host: "h1", Seq: 1},
		{At: at(5), Deed: acked, Host: "h1", Seq: 2}, // was under way when the host died at 4
		{At: at(8), Deed: resumed, Host: "h2", Epoch: 2},
		{At: at(9), Deed: acked, Host: "h2", Seq: 3},
	}}}}
	kill := injected{Kind: "kill host", Target: "h1", Begin: at(4), End: at(4)}
	for name, c := range map[string]struct {
		faults []injected
		want   []recovery
	}{
		"alone":              {[]injected{kill}, []recovery{{Group: "guild:g", Host: "h1", Killed: at(4), Took: 5 * time.Second, Back: true, Clean: true}}},
		"disturbed":          {[]injected{kill, {Kind: "pause nats", Begin: at(2), End: at(6)}}, []recovery{{Group: "guild:g", Host: "h1", Killed: at(4), Took: 5 * time.Second, Back: true}}},
		"another host":       {[]injected{{Kind: "kill host", Target: "h2", Begin: at(4), End: at(4)}}, nil},
		"nobody speaks then": {[]injected{{Kind: "kill host", Target: "h2", Begin: at(20), End: at(20)}}, []recovery{{Group: "guild:g", Host: "h2", Killed: at(20)}}},
	} {
		if got := recoveries([]history{h}, c.faults); !slices.Equal(got, c.want) {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}
