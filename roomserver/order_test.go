package roomserver

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/guildhall-dev/guildhall"
	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
)

// One order: fifty members, half of them talking at once, and all of them see the same.
func TestFiftyMembersSeeOneOrder(t *testing.T) {
	const talkers, each = 25, 20
	b := setup(t)
	h := b.host("h1")
	claim := h.openRoom(dragons)
	var members []*member
	for _, name := range players(50) {
		members = append(members, h.join(name, claim, nil))
	}
	var all sync.WaitGroup
	for i, m := range members {
		if i < talkers {
			all.Go(func() {
				for n := range each {
					m.say(fmt.Sprint(n), fmt.Sprintf("%d of %s", n, m.player))
				}
			})
		}
		all.Go(func() {
			err := m.until(func() bool {
				return m.lastSeen() == talkers*each && (i >= talkers || len(m.acks) == each)
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	want := members[0].bodies()
	if len(want) != talkers*each || members[0].messages[0].GetSeq() != 1 {
		t.Fatalf("%s saw %d messages, want %d from number 1", members[0].player, len(want), talkers*each)
	}
	for _, m := range members {
		if got := m.bodies(); !slices.Equal(got, want) {
			t.Errorf("%s saw another order than %s:\n%v\n%v", m.player, members[0].player, got, want)
		}
		m.checkAcks()
	}
	checkOwnOrder(t, members[0].messages)
	if end := b.logEnd(dragons); end.GetLastSeq() != talkers*each {
		t.Errorf("the log ends with number %d, want %d", end.GetLastSeq(), talkers*each)
	}
}

// checkAcks checks that each ack named the number at which the message was seen.
func (m *member) checkAcks() {
	m.t.Helper()
	for _, said := range m.messages {
		if said.GetFrom() != string(m.player) {
			continue
		}
		if acked := m.acks[said.GetId()]; acked != guildhall.Seq(said.GetSeq()) {
			m.t.Errorf("%s was acked %s at %d and saw it at %d", m.player, said.GetId(), acked, said.GetSeq())
		}
	}
}

// checkOwnOrder checks that nobody's own messages have overtaken one another.
func checkOwnOrder(t *testing.T, messages []*guildhallv1.Message) {
	t.Helper()
	next := map[string]int{}
	for _, said := range messages {
		if want := fmt.Sprint(next[said.GetFrom()]); said.GetId() != want {
			t.Errorf("number %d is message %s of %s, want message %s before", said.GetSeq(), said.GetId(), said.GetFrom(), want)
		}
		next[said.GetFrom()]++
	}
}

// Members who come in the midst of a conversation see it from one number on, without a hole at the seam.
func TestJoiningInTheMidst(t *testing.T) {
	const total = 120
	b := setup(t)
	h := b.host("h1")
	claim := h.openRoom(dragons)
	talker := h.join("talker", claim, nil)
	var talking sync.WaitGroup
	talking.Go(func() {
		for n := range total {
			talker.say(fmt.Sprint(n), "on and on")
			if err := talker.until(func() bool { return len(talker.acks) > n }); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for i, name := range players(20) {
		var after *uint64
		if i%2 == 0 {
			after = behind(0)
		}
		m := h.join(name, claim, after)
		first := m.welcome.GetLastSeq() + 1
		if after != nil {
			first = 1
		}
		talking.Go(func() {
			if err := m.until(func() bool { return m.lastSeen() == total || first > total }); err != nil {
				t.Error(err)
			}
			if first <= total && m.messages[0].GetSeq() != first {
				t.Errorf("%s saw number %d first, want %d", name, m.messages[0].GetSeq(), first)
			}
		})
	}
	talking.Wait()
}

// Rooms of one host have nothing to do with one another, not even when their names are close.
func TestRoomsDoNotMix(t *testing.T) {
	b := setup(t)
	h := b.host("h1")
	var members []*member
	groups := []guildhall.Group{
		dragons, {Kind: "party", ID: "dragons"}, {Kind: "guild", ID: "Dragons"}, {Kind: "guild", ID: "dragons.>"}, {Kind: "guild", ID: "龍"},
	}
	for _, group := range groups {
		members = append(members, h.join("p1", h.openRoom(group), nil))
	}
	for i, m := range members {
		m.say("same id", groups[i].String())
	}
	for i, m := range members {
		if seq := m.acked("same id"); seq != 1 {
			t.Errorf("the first message of %s got number %d", groups[i], seq)
		}
		m.seen(1)
		if got := string(m.messages[0].GetBody()); got != groups[i].String() {
			t.Errorf("%s heard %q", groups[i], got)
		}
	}
}

// Presence: two sessions of one player are one presence, which ends with the second.
func TestTwoSessionsAreOnePresence(t *testing.T) { onEachWire(t, testTwoSessionsAreOnePresence) }

func testTwoSessionsAreOnePresence(t *testing.T, b *bundle) {
	h := b.host("h1")
	claim := h.openRoom(dragons)
	witness := h.join("witness", claim, nil)
	phone := h.join("p1", claim, nil)
	laptop := h.join("p1", claim, nil)
	if got := laptop.welcome.GetMembers(); !slices.Equal(got, []string{"p1", "witness"}) {
		t.Errorf("the second session was told of %v", got)
	}
	phone.say("1", "hi")
	phone.acked("1")
	phone.leave()
	phone.endsWith(guildhallv1.CloseCode_CLOSE_CODE_LEFT, false)
	laptop.seen(1)
	laptop.say("2", "still here")
	laptop.acked("2")
	witness.seen(2)
	if here, gone := witness.count("p1", guildhallv1.MemberState_MEMBER_STATE_HERE), witness.count("p1", guildhallv1.MemberState_MEMBER_STATE_GONE); here != 1 || gone != 0 {
		t.Errorf("p1 came %d times and went %d times, want 1 and 0", here, gone)
	}
	if n := h.room(dragons).members.Load(); n != 2 {
		t.Errorf("the room counts %d members, want 2", n)
	}
	laptop.leave()
	witness.told(1, "p1", guildhallv1.MemberState_MEMBER_STATE_GONE)
	if len(laptop.members)+len(phone.members) != 0 {
		t.Errorf("p1 was told of its own coming and going: %v %v", phone.members, laptop.members)
	}
}

// Capacity counts players, not sessions.
func TestAFullRoom(t *testing.T) { onEachWire(t, testAFullRoom) }

func testAFullRoom(t *testing.T, b *bundle) {
	b.rules.Capacity = 2
	h := b.host("h1")
	claim := h.openRoom(dragons)
	first := h.join("p1", claim, nil)
	second := h.join("p2", claim, nil)
	h.join("p2", claim, nil).leave() // p2 is here already
	late := h.show(b.pass("p3", claim), nil)
	if late.welcome != nil {
		t.Fatal("a third player got one of two seats")
	}
	if got := late.ends(); got.GetCode() != guildhallv1.CloseCode_CLOSE_CODE_FULL || got.GetReconnect() {
		t.Errorf("the third player was closed with %v, want FULL and not to come back", got)
	}
	second.leave()
	first.told(1, "p2", guildhallv1.MemberState_MEMBER_STATE_GONE)
	h.join("p3", claim, nil)
	if n := first.count("p3", guildhallv1.MemberState_MEMBER_STATE_HERE); n != 0 {
		t.Error("a player who was refused was told of as here")
	}
}
