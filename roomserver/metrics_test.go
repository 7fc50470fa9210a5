package roomserver

import (
	"testing"
	"time"
)

// counted gives a metric, of those with a label of a value if it is not empty; of a histogram, how often.
func (h *running) counted(name, value string) (sum float64) {
	h.b.t.Helper()
	families, err := h.gatherer.Gather()
	if err != nil {
		h.b.t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, m := range family.GetMetric() {
			if value == "" || m.GetLabel()[0].GetValue() == value {
				sum += m.GetGauge().GetValue() + m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	return sum
}

// A join is measured from the hello to the seat, and only if there is one.
func TestAJoinIsMeasured(t *testing.T) {
	b := setup(t)
	h := b.host("h1")
	claim := h.openRoom(dragons)
	h.join("p1", claim, nil)
	b.eventually("a join is counted", func() bool { return h.counted("guildhall_host_join_seconds", "") == 1 })
	b.claim(dragons, "h2")
	h.room(dragons).stop(endFenced)
	h.await("the room is gone", func() bool { return h.room(dragons) == nil })
	m := h.show(b.pass("p2", claim), nil)
	m.ends()
	if n := h.counted("guildhall_host_join_seconds", ""); n != 1 {
		t.Errorf("%v joins are counted, and one was refused", n)
	}
}

// A room that loses its group while its host's lease stands is told apart from one that was taken over as it should be.
func TestAFencedRoomIsToldByItsLease(t *testing.T) {
	b := setup(t)
	h1, h2 := b.host("h1"), b.host("h2")
	for name, lost := range map[string]func(){
		"held": func() {},
		"lost": func() { h1.extend(time.Now().Add(-2 * never)) },
	} {
		m := h1.join("p1", h1.openRoom(dragons), nil)
		h2.openRoom(dragons)
		before := h1.counted("guildhall_host_fenced_rooms_total", name)
		lost()
		if err := h1.verifyRooms(b.ctx); err != nil {
			t.Fatal(err)
		}
		m.ends()
		h1.await("the room is gone", func() bool { return h1.room(dragons) == nil })
		if n := h1.counted("guildhall_host_fenced_rooms_total", name) - before; n != 1 {
			t.Errorf("%s: counted %v times, want once", name, n)
		}
		h1.extend(time.Now())
	}
	if n := h1.counted("guildhall_host_ended_rooms_total", "fenced"); n != 2 {
		t.Errorf("%v rooms ended fenced, want 2", n)
	}
}
