package roomserver

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/guildhall-dev/guildhall"
	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
)

// crowd fills a room with more seats than a small one has.
func crowd(t testing.TB, r *room) []*injected {
	t.Helper()
	var streams []*injected
	for _, name := range players(fewSeats + 1) {
		streams = append(streams, newInjected(t))
		r.takesSeat(name, streams[len(streams)-1])
	}
	r.round()
	return streams
}

// presenceOf tells of whom a stream was told, as a text.
func presenceOf(events []*guildhallv1.Event) (told []string) {
	for _, event := range events {
		if member := event.GetMember(); member != nil {
			told = append(told, map[bool]string{true: "+", false: "-"}[member.GetState() == guildhallv1.MemberState_MEMBER_STATE_HERE]+member.GetPlayer())
		}
	}
	return told
}

// In a large room, who comes and goes is told together, after a rest; who does both within one is not mentioned.
func TestPresenceInALargeRoomRests(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := unitRoom(t)
		witness := crowd(t, r)[0]
		defer r.lives()()
		before := len(presenceOf(witness.events()))
		told := func() []string { return presenceOf(witness.events())[before:] }
		r.does(func(r *room) { r.takesSeat("comes", newInjected(t)) })
		r.does(func(r *room) { r.forget(r.present["p007"].sessions[0]) })
		passer := &session{}
		r.does(func(r *room) { passer = r.takesSeat("passes", newInjected(t)) })
		<-time.After(presenceRest / 2)
		r.does(func(r *room) { r.forget(passer) })
		var back *session
		r.does(func(r *room) { back = r.takesSeat("p007", newInjected(t)) })
		if got := told(); len(got) != 0 {
			t.Errorf("before the rest is over, the witness was told %v", got)
		}
		<-time.After(presenceRest/2 + time.Nanosecond)
		synctest.Wait()
		if got := told(); !slices.Equal(got, []string{"+comes"}) {
			t.Errorf("after the rest, the witness was told %v, want who came and stayed", got)
		}
		r.does(func(r *room) { r.forget(back) })
		r.does(func(r *room) { r.hears(message("p000", 1)) }) // what is said does not wait, and takes the rest along
		synctest.Wait()
		if got := told(); !slices.Equal(got, []string{"+comes", "-p007"}) {
			t.Errorf("with a message, the witness was told %v", got)
		}
	})
}

// A small room tells at once.
func TestPresenceInASmallRoomIsToldAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := unitRoom(t)
		witness := newInjected(t)
		r.takesSeat("witness", witness)
		defer r.lives()()
		r.does(func(r *room) { r.takesSeat("p1", newInjected(t)) })
		synctest.Wait()
		if got := presenceOf(witness.events()); !slices.Equal(got, []string{"+p1"}) {
			t.Errorf("the witness was told %v", got)
		}
	})
}

// What is said while presence rests is told when it is due, not when the rest of presence is over.
func TestWhatIsSaidDoesNotWaitForPresence(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := unitRoom(t)
		witness := crowd(t, r)[0]
		defer r.lives()()
		r.does(func(r *room) { r.takesSeat("comes", newInjected(t)) }) // from here on presence rests
		r.does(func(r *room) { r.nextRound = time.Now().Add(restMost) })
		r.does(func(r *room) { r.hears(message("p000", 1)) })
		said := time.Now()
		for count(witness.events())[0] == 0 {
			<-time.After(time.Millisecond)
			if time.Since(said) > presenceRest*2 {
				t.Fatal("the message never came")
			}
		}
		if took := time.Since(said); took > restMost+time.Millisecond {
			t.Errorf("a message that was due after %s came after %s", restMost, took)
		}
	})
}

// follower knows who is here, by its welcome and the events behind it.
type follower struct {
	session *session
	stream  *injected
	player  guildhall.PlayerID
}

// knows adds up what a follower was told. What contradicts what it knew is an error.
func (f follower) knows(t *testing.T, welcomed []string) []string {
	t.Helper()
	here := map[string]bool{}
	for _, name := range welcomed {
		here[name] = true
	}
	for _, event := range f.stream.events() {
		member := event.GetMember()
		if member == nil {
			continue
		}
		comes := member.GetState() == guildhallv1.MemberState_MEMBER_STATE_HERE
		if here[member.GetPlayer()] == comes {
			t.Errorf("%s was told that %s is %s, and knew", f.player, member.GetPlayer(), member.GetState())
		}
		here[member.GetPlayer()] = comes
	}
	maps.DeleteFunc(here, func(_ string, is bool) bool { return !is })
	return slices.Sorted(maps.Keys(here))
}

// Whatever comes and goes, and whenever it is told: the welcome and the events behind it add up to who is here, for each.
func TestPresenceAddsUp(t *testing.T) {
	t.Parallel()
	for seed := range uint64(40) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			random := rand.New(rand.NewPCG(seed, 0))
			r := unitRoom(t)
			var followers []follower
			welcomes := map[*session][]string{}
			for step := range 150 {
				switch n := random.IntN(10); {
				case n < 4: // comes, perhaps with a session more
					f := follower{player: players(20)[random.IntN(20)], stream: newInjected(t)}
					f.session = r.takesSeat(f.player, f.stream)
					f.session.live = random.IntN(4) > 0 // or it catches up
					welcomes[f.session] = f.session.welcomed
					followers = append(followers, f)
				case n < 8 && len(followers) > 0:
					r.forget(followers[random.IntN(len(followers))].session)
				case n == 8:
					r.hears(message("somebody", step))
				default:
					r.round()
				}
			}
			r.round()
			for _, f := range followers {
				if !f.session.seated {
					continue
				}
				if got := f.knows(t, welcomes[f.session]); !slices.Equal(got, r.names()) {
					t.Errorf("%s believes that %v are here, and it is %v", f.player, got, r.names())
				}
			}
		})
	}
}

// The same on the wire, in a room that is large enough to rest.
func TestPresenceAddsUpOnTheWire(t *testing.T) { onEachWire(t, testPresenceAddsUpOnTheWire) }

func testPresenceAddsUpOnTheWire(t *testing.T, b *bundle) {
	h := b.host("h1")
	claim := h.openRoom(dragons)
	random := rand.New(rand.NewPCG(1, 2))
	here := map[guildhall.PlayerID]*member{}
	for _, name := range players(fewSeats + 10) {
		here[name] = h.join(name, claim, nil)
	}
	for n := range 60 {
		name := players(fewSeats + 10)[random.IntN(fewSeats+10)]
		if m := here[name]; m != nil {
			m.leave()
			m.endsWith(guildhallv1.CloseCode_CLOSE_CODE_LEFT, false)
			delete(here, name)
		} else {
			here[name] = h.join(name, claim, nil)
		}
		if n%20 == 0 {
			r := h.room(dragons)
			b.eventually("all is told", func() bool {
				told := false
				b.inside(r, func(r *room) { told = len(r.out.presence) == 0 })
				return told
			})
		}
	}
	last := h.join("last", claim, nil)
	last.say("1", "who is here?")
	seq := last.acked("1")
	var want []string
	for name := range here {
		want = append(want, string(name))
	}
	want = append(want, "last")
	slices.Sort(want)
	here["last"] = last
	for _, m := range here {
		m.seen(uint64(seq))
		is := map[string]bool{}
		for _, name := range m.welcome.GetMembers() {
			is[name] = true
		}
		for _, change := range m.members {
			is[change.GetPlayer()] = change.GetState() == guildhallv1.MemberState_MEMBER_STATE_HERE
		}
		maps.DeleteFunc(is, func(_ string, here bool) bool { return !here })
		if got := slices.Sorted(maps.Keys(is)); !slices.Equal(got, want) {
			t.Errorf("%s believes that %v are here, and it is %v", m.player, got, want)
		}
	}
}
