package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/xid"

	"github.com/guildhall-dev/guildhall"
	"github.com/guildhall-dev/guildhall/internal/agoneslocal"
)

// calmKill is the kind of the kills that are without any other fault.
const calmKill = "calm kill host"

// run is one run of the chaos test.
type run struct {
	t         *testing.T
	size      size
	town      *town
	crowd     *crowd
	injector  *injector
	began     time.Time
	histories []history

	mu    sync.Mutex
	found []violation // guarded by mu while there are several who find
}

// TestChaos breaks everything that can be broken while players talk, and checks what they saw.
func TestChaos(t *testing.T) {
	s := asked()
	w := setup(t, townConfig{
		Directors: s.Directors, Frontends: s.Frontends, ReadyHosts: 2, MaxHosts: 3*s.Hosts + 4,
		RoomsPerHost: s.RoomsPerHost, RoomIdle: s.RoomIdle, HostIdle: s.HostIdle, Seed: s.Seed,
	})
	c, err := newCrowd(w, s)
	if err != nil {
		t.Fatal(err)
	}
	r := &run{t: t, size: s, town: w, crowd: c, began: time.Now()}
	r.injector = newInjector(w, faultKinds, s.Seed, *onlyFaults, t.Logf)
	r.injector.provoke = r.visit
	t.Logf("seed %d, folder %s", s.Seed, w.folder)
	conn, js, err := w.connect()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	r.talk()
	r.settle(js)
	r.leave(js)
	r.conclude()
}

// talk has players talk while things break, and then while hosts are killed one by one.
func (r *run) talk() {
	ctx, cancel := context.WithCancel(r.t.Context())
	talked := make(chan []error, 1)
	go func() { talked <- each(r.crowd.players, func(p *player) error { return p.play(ctx) }) }()
	r.fill()
	breaking, stop := context.WithTimeout(ctx, r.size.For)
	r.injector.run(breaking, r.size.Every)
	stop()
	r.heal()
	for range r.size.Kills {
		r.killCalmly()
	}
	cancel()
	r.stuck(<-talked)
}

func (r *run) stuck(errs []error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, err := range errs {
		r.found = append(r.found, violation{Breach: stuck, Text: err.Error()})
	}
}

// fill waits until every player has been seated once: so far everything is well.
func (r *run) fill() {
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	all := len(r.crowd.players)
	if !eventually(ctx, func() bool { return r.crowd.book.seated() >= all }) {
		r.t.Fatalf("%d of %d players are seated, and nothing has been broken yet", r.crowd.book.seated(), all)
	}
	r.t.Logf("%d players are seated after %s", all, time.Since(r.began).Round(time.Millisecond))
}

// visitorsMost bounds the groups that are visited at one host.
const visitorsMost = 8

// visit has somebody new come to groups of a host that may be believed dead, speak, and leave: their rooms are opened
// elsewhere, while the host and the members who sit there know of nothing. Without a visitor nobody would ask.
func (r *run) visit(ctx context.Context, host string) {
	var visitors []*player
	for group := range r.crowd.book.groupsAt(host) {
		p, err := newPlayer(r.town, r.crowd.book, group, "visitor-"+xid.New().String(), time.Hour)
		if err != nil || len(visitors) == visitorsMost {
			break
		}
		visitors = append(visitors, p)
	}
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWordsWithin)
	defer cancel()
	r.stuck(each(visitors, func(p *player) error {
		if err := p.come(new(guildhall.Seq)); err != nil {
			return err
		}
		_, err := p.sayLast(bounded)
		return errors.Join(err, p.goAway(bounded))
	}))
}

// heal waits until every process that was broken takes work again.
func (r *run) heal() {
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	for _, s := range r.town.services() {
		if err := s.awaitReady(ctx); err != nil {
			r.stuck([]error{err})
		}
	}
	if err := r.town.fleet.awaitReady(ctx, 1); err != nil {
		r.stuck([]error{err})
	}
}

const (
	// calmFor is how long nothing else happens after a kill that is to be measured.
	calmFor = 12 * time.Second
	// calmWithin bounds it.
	calmWithin = time.Minute
)

// killCalmly kills the host with the most players, and waits until its groups surely speak elsewhere.
func (r *run) killCalmly() {
	ctx, cancel := context.WithTimeout(r.t.Context(), calmWithin)
	defer cancel()
	var h *host
	if !eventually(ctx, func() bool { h = r.busiest(); return h != nil }) {
		r.stuck([]error{errors.New("nobody has a seat at any host")})
		return
	}
	r.injector.begin(ctx, killHost(r.town, calmKill, h))
	rest(ctx, calmFor)
	r.injector.running.Wait()
}

// killHost kills a host; the fleet replaces it.
func killHost(w *town, kind string, h *host) *fault {
	return &fault{kind: kind, target: h.name, apply: func(ctx context.Context) {
		h.signal(syscall.SIGKILL)
		_ = w.fleet.awaitGone(ctx, h)
	}}
}

// busiest gives the host with the most players; nil if there is none.
func (r *run) busiest() *host {
	players := r.crowd.book.byHost()
	var most *host
	for _, h := range r.town.fleet.among(agoneslocal.Allocated) {
		if players[h.name] > 0 && (most == nil || players[h.name] > players[most.name]) {
			most = h
		}
	}
	return most
}

// The bounds of what must come about once everything is mended.
const (
	lastWordsWithin = time.Minute
	lateWithin      = time.Minute
	emptyWithin     = 3 * time.Minute
)

// settle has everybody say a last message and see all others', lets somebody new read the whole history of each group,
// and checks everything.
func (r *run) settle(js jetstream.JetStream) {
	ctx, cancel := context.WithTimeout(r.t.Context(), lastWordsWithin)
	defer cancel()
	ends, silent := r.crowd.lastWords(ctx)
	r.stuck(silent)
	r.stuck(each(r.crowd.players, func(p *player) error { return p.awaitSeen(ctx, ends[p.group]) }))
	r.t.Logf("everybody has said and seen the last message after %s", time.Since(r.began).Round(time.Millisecond))
	r.late(ends)
	readCtx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	log, err := readLog(readCtx, js)
	if err != nil {
		r.t.Fatal(err)
	}
	r.histories = r.crowd.book.histories(log)
}

func (r *run) late(ends map[guildhall.Group]guildhall.Seq) {
	ctx, cancel := context.WithTimeout(r.t.Context(), lateWithin)
	defer cancel()
	late, behind := r.crowd.lateJoiners(ctx, r.town, ends)
	r.stuck(behind)
	r.crowd.players = append(r.crowd.players, late...)
}

// leave has everybody leave, checks the histories, for they are complete then, and that nothing is left. One host dies
// with the rooms that have just become empty: nobody comes back for those.
func (r *run) leave(js jetstream.JetStream) {
	last := r.busiest()
	r.stuck(each(r.crowd.players, func(p *player) error { return p.goAway(r.t.Context()) }))
	ctx, cancel := context.WithTimeout(r.t.Context(), emptyWithin)
	defer cancel()
	if last != nil {
		r.injector.begin(ctx, killHost(r.town, "kill emptied host", last))
	}
	r.found = append(r.found, r.town.awaitEmpty(ctx, js)...)
	for _, h := range r.histories {
		r.found = append(r.found, check(h)...)
	}
	r.injector.running.Wait()
	r.t.Logf("everybody has left and nothing is left after %s", time.Since(r.began).Round(time.Millisecond))
}

// conclude reports, and keeps the evidence of what was found.
func (r *run) conclude() {
	r.found = append(r.found, r.town.panics()...)
	report := newReport(r.size, time.Since(r.began), r.histories, r.injector.all(), r.found)
	for _, s := range r.town.services() {
		if n := len(s.crashed()); n > 0 {
			report.Restarts[s.name] = n
		}
	}
	r.t.Log(report)
	if *reportFile != "" {
		if err := report.write(*reportFile); err != nil {
			r.t.Error(err)
		}
	}
	for i, v := range r.found {
		if i < 50 {
			r.t.Errorf("%s %s: %s", v.Breach, v.Group, v.Text)
		}
	}
	if len(r.found) > 0 || *keepFolder != "" {
		r.keep()
	}
}

// keep writes down every history that something was found in; all of them if a folder was given for that.
func (r *run) keep() {
	guilty := map[string]bool{}
	for _, v := range r.found {
		guilty[v.Group] = true
	}
	for _, h := range r.histories {
		if !guilty[h.Group] && *keepFolder == "" {
			continue
		}
		if encoded, err := json.MarshalIndent(h, "", " "); err == nil {
			_ = os.WriteFile(filepath.Join(r.town.folder, "history-"+strings.ReplaceAll(h.Group, ":", "-")+".json"), encoded, 0o644)
		}
	}
	if encoded, err := json.MarshalIndent(r.injector.all(), "", " "); err == nil {
		_ = os.WriteFile(filepath.Join(r.town.folder, "faults.json"), encoded, 0o644)
	}
}

// panics finds processes that panicked, or raced, by what they wrote.
func (w *town) panics() []violation {
	var found []violation
	files, _ := filepath.Glob(filepath.Join(w.folder, "logs", "*.log"))
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		for _, word := range []string{"\npanic: ", "\nfatal error: ", "WARNING: DATA RACE"} {
			if at := strings.Index("\n"+string(data), word); at >= 0 {
				text := string(data)[at:min(len(data), at+300)]
				found = append(found, violation{Breach: crashed, Text: fmt.Sprintf("%s: %s", filepath.Base(file), text)})
			}
		}
	}
	return found
}

// seated counts the clients that have had a seat.
func (b *book) seated() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for _, v := range b.visits {
		if v.wasSeated.Load() {
			n++
		}
	}
	return n
}

// byHost counts the clients that have a seat, by their host.
func (b *book) byHost() map[string]int {
	b.mu.Lock()
	defer b.mu.Unlock()
	players := map[string]int{}
	for _, v := range b.visits {
		if v.seated.Load() {
			players[v.at()]++
		}
	}
	return players
}

// groupsAt gives the groups of which somebody has a seat at a host.
func (b *book) groupsAt(host string) map[guildhall.Group]bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	groups := map[guildhall.Group]bool{}
	for _, v := range b.visits {
		if v.seated.Load() && v.at() == host {
			if group, err := guildhall.ParseGroup(v.Group); err == nil {
				groups[group] = true
			}
		}
	}
	return groups
}
