package load

import (
	"testing"
	"time"

	"github.com/guildhall-dev/guildhall"
	"github.com/guildhall-dev/guildhall/client"
)

// band is a fan-out whose members hear what the test says.
func band(signal bool) *fanout {
	r := &run{id: "test", base: time.Now()}
	return newFanout(r, FanoutConfig{Rooms: 2, Members: 3, Rate: 12, Warmup: 1, Seconds: 1, Size: 120, Signal: signal})
}

func (f *fanout) body(k uint32) []byte {
	return stamp{run: tag(f.id), number: k, due: f.elapsed()}.body(f.Size)
}

// hears lets a member of the first room hear its messages, by number; those of the first room are even.
func (f *fanout) hears(m *member, first guildhall.Seq, ks ...uint32) {
	for i, k := range ks {
		m.happened(client.Message{Seq: first + guildhall.Seq(i), Body: f.body(k)})
	}
}

var allOfThem = []uint32{0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22}

// Each promise is broken by hand: of a room of three, which hears 12 messages, of which the last 6 are measured.
func TestMembersFindWhatIsBroken(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		hear func(*fanout, *member)
		want FanoutResult
	}{
		"good":     {func(f *fanout, m *member) { f.hears(m, 1, allOfThem...) }, FanoutResult{Delivered: 6}},
		"lost":     {func(f *fanout, m *member) { f.hears(m, 1, allOfThem[:9]...) }, FanoutResult{Delivered: 3, Missing: 3}},
		"a hole":   {func(f *fanout, m *member) { f.hears(m, 1, allOfThem[:9]...); f.hears(m, 11, allOfThem[10:]...) }, FanoutResult{Delivered: 5, Missing: 1, OutOfOrder: 1}},
		"again":    {func(f *fanout, m *member) { f.hears(m, 1, allOfThem...); f.hears(m, 12, 22) }, FanoutResult{Delivered: 6, Duplicated: 1}},
		"anew":     {func(f *fanout, m *member) { f.hears(m, 1, allOfThem[:11]...); f.hears(m, 12, 20) }, FanoutResult{Delivered: 5, Missing: 1, OutOfOrder: 1, Duplicated: 1}},
		"disorder": {func(f *fanout, m *member) { f.hears(m, 1, allOfThem[:10]...); f.hears(m, 11, 22, 20) }, FanoutResult{Delivered: 6, OutOfOrder: 2}},
		"stray": {func(f *fanout, m *member) {
			f.hears(m, 1, allOfThem...)
			m.happened(client.Message{Seq: 13, Body: []byte("hello")})
		}, FanoutResult{Delivered: 6, Strays: 1}},
		"of another room": {func(f *fanout, m *member) {
			f.hears(m, 1, allOfThem...)
			f.hears(m, 13, 1)
		}, FanoutResult{Delivered: 6, Strays: 1}},
		"told that it is gone": {func(f *fanout, m *member) {
			f.hears(m, 1, allOfThem[:5]...)
			m.happened(client.Resumed{After: 5, TruncatedTo: 9})
			f.hears(m, 10, allOfThem[9:]...)
		}, FanoutResult{Delivered: 3, Truncated: 3, Resumes: 1}},
		"a gap that was filled": {func(f *fanout, m *member) {
			m.happened(client.Closed{Code: client.ConnectionLost, Reason: "a message is missing: number 2", Reconnect: true})
			m.happened(client.Resumed{})
			f.hears(m, 1, allOfThem...)
		}, FanoutResult{Delivered: 6, OutOfOrder: 1, Resumes: 1}},
	} {
		f := band(false)
		h := f.rooms[0]
		for _, m := range h.members[:2] {
			f.hears(m, 1, allOfThem...)
		}
		c.hear(f, h.members[2])
		var got FanoutResult
		h.tally(&got, f.messages)
		c.want.Published, c.want.Delivered = 6, c.want.Delivered+12
		if !sameCounts(got, c.want) {
			t.Errorf("%s: it counted %+v, want %+v", name, got, c.want)
		}
		if bad := len(got.Breaches()) > 0; bad != (got.Missing+got.Duplicated+got.OutOfOrder+got.Strays > 0) {
			t.Errorf("%s: it says %v", name, got.Breaches())
		}
	}
}

func sameCounts(a, b FanoutResult) bool {
	return a.Published == b.Published && a.Delivered == b.Delivered && a.Missing == b.Missing && a.Truncated == b.Truncated &&
		a.Duplicated == b.Duplicated && a.OutOfOrder == b.OutOfOrder && a.Strays == b.Strays && a.Resumes == b.Resumes
}

// What was refused or could not be sent is not published, and nobody misses it.
func TestRefusedIsNotMissing(t *testing.T) {
	t.Parallel()
	f := band(false)
	h := f.rooms[0]
	h.members[0].happened(client.Refused{ID: "22"})
	h.members[1].unsent = append(h.members[1].unsent, 20)
	h.members[1].unheard.Add(1)
	for _, m := range h.members {
		f.hears(m, 1, allOfThem[:10]...)
	}
	h.members[2].happened(client.Acked{ID: "18", Seq: 10})
	h.members[2].happened(client.Acked{ID: "2", Seq: 2}) // of the warm-up
	var got FanoutResult
	h.tally(&got, f.messages)
	if got.Published != 4 || got.Refused != 1 || got.Unsent != 1 || got.Acked != 1 || got.Missing != 0 || got.Delivered != 12 {
		t.Errorf("it counted %+v", got)
	}
	if want := f.expected(24, 3); want != 22*3 {
		t.Errorf("%d are waited for", want)
	}
}

func TestSignals(t *testing.T) {
	t.Parallel()
	f := band(true)
	h := f.rooms[0]
	m := h.members[0] // whose own are 0, 6, 12, 18
	for _, k := range []uint32{2, 4, 8, 10, 14, 16, 20, 22} {
		m.happened(client.Signal{Body: f.body(k)})
	}
	var got FanoutResult
	h.tally(&got, f.messages)
	if got.Delivered != 4 || got.Missing != 8 || got.Duplicated+got.OutOfOrder != 0 { // the two others have heard nothing
		t.Errorf("it counted %+v", got)
	}
	m.happened(client.Signal{Body: f.body(14)})
	got = FanoutResult{Signals: true}
	h.tally(&got, f.messages)
	if got.Duplicated != 1 || got.OutOfOrder != 1 || len(got.Breaches()) != 2 {
		t.Errorf("of an old signal it counted %+v", got)
	}
}

func TestADeliveryAllocatesNothing(t *testing.T) {
	f := newFanout(&run{id: "test", base: time.Now()}, FanoutConfig{Rooms: 1, Members: 1, Rate: 1000, Seconds: 100, Size: 120})
	m := f.members[0]
	var events []client.Event
	for k := range uint32(2000) {
		events = append(events, client.Message{Seq: guildhall.Seq(k + 1), Body: f.body(k)})
	}
	next := 0
	if n := testing.AllocsPerRun(len(events)-1, func() { m.happened(events[next]); next++ }); n != 0 {
		t.Errorf("%v allocations for each delivery", n)
	}
	if m.arrived.Load() != int64(len(events)) || m.disorder+m.strays != 0 {
		t.Errorf("%d of %d arrived", m.arrived.Load(), len(events))
	}
}

func BenchmarkDelivery(b *testing.B) {
	f := newFanout(&run{id: "test", base: time.Now()}, FanoutConfig{Rooms: 1, Members: 1, Rate: float64(b.N + 1), Seconds: 1, Size: 120})
	m := f.members[0]
	bodies := make([][]byte, 1024)
	for k := range bodies {
		bodies[k] = f.body(uint32(k))
	}
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		m.message(guildhall.Seq(n+1), bodies[n%len(bodies)])
	}
}
