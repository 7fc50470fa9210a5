package roomserver

import (
	"fmt"
	"testing"

	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
)

// perMember is what a round may allocate for each member: nothing. The rest is for the noise of what runs beside.
const perMember = 0.02

// What a round allocates does not depend on how many members it tells.
func TestTellingAllocatesNothingForEachMember(t *testing.T) {
	for name, tells := range roundsOf {
		t.Run(name, func(t *testing.T) {
			few, many := allocations(t, 10, tells), allocations(t, 1000, tells)
			if grown := (many - few) / 990; grown > perMember {
				t.Errorf("a round allocates %.0f times for 10 members and %.0f times for 1,000", few, many)
			}
		})
	}
}

// roundsOf has something to tell in each kind of round.
var roundsOf = map[string]func(*room, int){
	"message": func(r *room, n int) {
		m := message("p000", n)
		m.Seq = uint64(n)
		r.out.say(m)
	},
	"signal": func(r *room, n int) {
		(&signal{session: r.seats[0], signal: &guildhallv1.Signal{Topic: "at", Body: []byte(fmt.Sprint(n))}}).apply(r)
	},
	"ack beside a message": func(r *room, n int) {
		m := message("p000", n)
		m.Seq = uint64(n)
		r.out.say(m)
		r.ack(r.seats[0], m.GetId(), 1)
	},
}

// allocations gives how often a round over so many members allocates.
func allocations(t *testing.T, members int, tells func(*room, int)) float64 {
	t.Helper()
	r := unitRoom(t)
	for i, name := range players(members) {
		stream := newInjected(t)
		stream.quick, stream.json = true, i%2 == 1
		r.takesSeat(name, stream)
	}
	r.round()
	n := 0
	return testing.AllocsPerRun(100, func() {
		n++
		tells(r, n)
		r.round()
	})
}

// The same through real connections, whose members read.
func TestDeliveringAllocatesNothingForEachMember(t *testing.T) {
	if raceDetector {
		t.Skip("pools forget what they keep while the race detector is on")
	}
	for _, over := range []wire{overGRPC, overWebSocket} {
		for _, name := range []string{"message", "signal"} {
			t.Run(fmt.Sprint(over, " ", name), func(t *testing.T) {
				few, many := deliveries(t, over, 10, roundsOf[name]), deliveries(t, over, 210, roundsOf[name])
				if grown := (many - few) / 200; grown > perMember {
					t.Errorf("a round allocates %.0f times for 10 members and %.0f times for 210", few, many)
				}
			})
		}
	}
}

// deliveries gives how often a round allocates that so many connections take.
func deliveries(t *testing.T, over wire, members int, tells func(*room, int)) float64 {
	t.Helper()
	b := newBundle(t, never)
	h := b.host("h1")
	claim := h.openRoom(dragons)
	listeners := newAudience(t)
	listeners.join(b, h.address, claim, over, members)
	allocated := 0.0
	b.inside(h.room(dragons), func(r *room) { // the room stands still but for these rounds
		r.round()
		n := 0
		allocated = testing.AllocsPerRun(100, func() {
			n++
			listeners.start()
			tells(r, n)
			r.round()
			heard := len(r.seats)
			if r.out.signals != nil {
				heard-- // who signals is not told
			}
			listeners.await(int64(heard))
		})
	})
	return allocated
}
