package chaos

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/guildhall-dev/guildhall"
	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
	"github.com/guildhall-dev/guildhall/client"
)

// stormTown is an installation with several of everything, and hosts enough.
func stormTown(t *testing.T, groups int) *town {
	t.Helper()
	s := asked()
	hosts := max(4, groups/50+1)
	// A storm on a small machine makes hosts late with their leases. That they lose rooms by it is not what is asked here.
	return setup(t, townConfig{
		Directors: s.Directors, Frontends: s.Frontends, ReadyHosts: hosts, MaxHosts: hosts, RoomsPerHost: 50,
		RoomIdle: time.Hour, HostIdle: time.Hour, LeaseTTL: time.Minute, Seed: s.Seed,
	})
}

// A group whose players all come at once, through all frontends and directors: one room, and everybody is in it.
func TestStormOneGroup(t *testing.T) {
	players := asked().StormOne
	w := stormTown(t, 1)
	b := &book{}
	group := guildhall.Group{Kind: "guild", ID: "storm"}
	crowd := make([]*player, players)
	for i := range crowd {
		p, err := newPlayer(w, b, group, fmt.Sprintf("p%d", i), time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		crowd[i] = p
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	start := time.Now()
	took := make([]time.Duration, players)
	for _, p := range crowd {
		if err := p.come(nil); err != nil {
			t.Fatal(err)
		}
	}
	if !eventually(ctx, func() bool { return b.seated() == players }) {
		t.Fatalf("%d of %d players are seated", b.seated(), players)
	}
	places := map[spot]int{}
	for i, v := range b.visits {
		v.mu.Lock()
		for _, e := range v.Events {
			if e.Deed == joined {
				took[i] = e.At.Sub(start)
				places[spot{e.Host, e.Epoch}]++
			}
		}
		v.mu.Unlock()
	}
	if len(places) != 1 {
		t.Errorf("%d players of one group were seated at %v, want one room", players, places)
	}
	t.Log(stormReport("seated", took))
	for _, err := range each(crowd, func(p *player) error { return p.goAway(t.Context()) }) {
		t.Error(err)
	}
}

// spot is where a room is.
type spot struct {
	host  string
	epoch uint64
}

// Many groups at once: one room each.
func TestStormManyGroups(t *testing.T) {
	s := asked()
	w := stormTown(t, s.StormOf)
	entrants := make([]*entrant, s.StormPlayers)
	for i := range entrants {
		group := guildhall.Group{Kind: "guild", ID: fmt.Sprintf("storm-%d", i%s.StormOf)}
		token, err := w.token(guildhall.PlayerID(fmt.Sprintf("p%d", i)), group)
		if err != nil {
			t.Fatal(err)
		}
		entrants[i] = &entrant{group: group, token: token}
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	enterAll(ctx, w, entrants)
	took := make([]time.Duration, len(entrants))
	for i, e := range entrants {
		took[i] = e.took
	}
	t.Log(stormReport("assigned", took))
	w.checkRooms(ctx, t, entrants, s.StormOf)
}

// entrant is a player who only wants to know where the room is.
type entrant struct {
	group    guildhall.Group
	token    string
	assigned *guildhallv1.Assignment
	took     time.Duration
	failures int
	err      error
}

// enter asks until there is an answer, as [client.Join] does.
func (e *entrant) enter(ctx context.Context, w *town) {
	for {
		e.assigned, e.err = client.Enter(ctx, client.Config{Server: gateURL, Token: e.token, HTTPClient: w.gate.http}, e.group)
		if e.err == nil || ctx.Err() != nil {
			return
		}
		e.failures++
		rest(ctx, moment/4)
	}
}

// checkRooms checks that each group has had one room, and that every player ends up there: the log has a barrier for each
// room that was ever opened. Who was sent where none was opened enters again, as [client.Join] does.
func (w *town) checkRooms(ctx context.Context, t *testing.T, entrants []*entrant, groups int) {
	t.Helper()
	conn, js, err := w.connect()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var log map[string][]entry
	sentAgain := 0
	for {
		if log, err = readLog(ctx, js); err != nil {
			t.Fatal(err)
		}
		astray := strays(entrants, log)
		if len(astray) == 0 {
			break
		}
		sentAgain += len(astray)
		if !rest(ctx, moment) {
			t.Fatalf("%d players have no assignment to a room that was opened", len(astray))
		}
		enterAll(ctx, w, astray)
	}
	for group, entries := range log {
		if epochs := epochsOf(entries); len(epochs) != 1 {
			t.Errorf("%s has had a room at each of the epochs %v, want one", group, epochs)
		}
	}
	claims, err := claimsLeft(ctx, js)
	if err != nil || len(claims) != groups || len(log) != groups {
		t.Errorf("the registry has %d claims, %v, and rooms of %d groups were opened; want %d", len(claims), err, len(log), groups)
	}
	failures := 0
	for _, e := range entrants {
		failures += e.failures
	}
	t.Logf("%d calls of Enter failed and were made again; %d were answered with a claim whose room was never opened", failures, sentAgain)
}

// strays gives those who were sent where no room was opened, or nowhere.
func strays(entrants []*entrant, log map[string][]entry) []*entrant {
	var astray []*entrant
	for _, e := range entrants {
		if e.err != nil || !slices.Contains(epochsOf(log[e.group.String()]), e.assigned.GetEpoch()) {
			astray = append(astray, e)
		}
	}
	return astray
}

// enterAll lets everybody enter at once.
func enterAll(ctx context.Context, w *town, entrants []*entrant) {
	var entering sync.WaitGroup
	start := time.Now()
	for _, e := range entrants {
		entering.Go(func() {
			e.enter(ctx, w)
			e.took = time.Since(start)
		})
	}
	entering.Wait()
}

// epochsOf gives the epochs by which a log was written: each is a room that was opened.
func epochsOf(entries []entry) []uint64 {
	var epochs []uint64
	for _, e := range entries {
		if !slices.Contains(epochs, e.Epoch) {
			epochs = append(epochs, e.Epoch)
		}
	}
	return epochs
}

// stormReport tells how fast it was.
func stormReport(what string, took []time.Duration) string {
	slices.Sort(took)
	at := func(p float64) time.Duration { return took[int(p*float64(len(took)-1))].Round(time.Millisecond) }
	return fmt.Sprintf("%d players %s in %s: %.0f/s; p50 %s, p95 %s, p99 %s", len(took), what, at(1),
		float64(len(took))/took[len(took)-1].Seconds(), at(0.5), at(0.95), at(0.99))
}
