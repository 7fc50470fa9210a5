package chaos

import (
	"context"
	"math/rand/v2"
	"strings"
	"syscall"
	"time"

	"github.com/guildhall-dev/guildhall/internal/agoneslocal"
)

// fault is one thing that is broken for a while.
type fault struct {
	kind   string
	target string
	// locks are what no other fault may touch meanwhile.
	locks []string
	// alone says that a host is cut off from the registry, or stands still, and may be believed dead.
	alone bool
	// apply breaks it, and mends it after the fault's time or when ctx ends.
	apply func(ctx context.Context)
}

// The shortest and the longest that something is broken: some are longer than a host's lease, some shorter.
const (
	shortest = time.Second
	longest  = 8 * time.Second
)

// healWithin bounds how long what was killed may take to be back; what is not then is found by what comes after.
const healWithin = time.Minute

// natsLock is held by the fault that has taken a node of NATS: a majority must live.
const natsLock = "a node of NATS"

// kinds maps each kind of fault to what makes one: nil if there is nothing to break just now.
type kinds map[string]func(w *town, random *rand.Rand) *fault

// faultKinds are all kinds.
var faultKinds = kinds{
	"kill host":          func(w *town, r *rand.Rand) *fault { return endHost(w, r, "kill host", syscall.SIGKILL) },
	"drain host":         func(w *town, r *rand.Rand) *fault { return endHost(w, r, "drain host", syscall.SIGTERM) },
	"kill director":      func(w *town, r *rand.Rand) *fault { return killService("kill director", pick(r, w.directors), moment) },
	"kill frontend":      func(w *town, r *rand.Rand) *fault { return killService("kill frontend", pick(r, w.frontends), moment) },
	"kill matchfunction": func(w *town, _ *rand.Rand) *fault { return killService("kill matchfunction", w.function, moment) },
	"kill nats": func(w *town, r *rand.Rand) *fault {
		f := killService("kill nats", pick(r, w.brokers.nodes), 2*time.Second+rand.N(8*time.Second))
		f.locks = append(f.locks, natsLock)
		return f
	},

	"pause host": pauseHost,
	"pause director": func(w *town, r *rand.Rand) *fault {
		return pauseService("pause director", pick(r, w.directors), howLong(r))
	},
	"pause frontend": func(w *town, r *rand.Rand) *fault {
		return pauseService("pause frontend", pick(r, w.frontends), howLong(r))
	},
	"pause matchfunction": func(w *town, r *rand.Rand) *fault { return pauseService("pause matchfunction", w.function, howLong(r)) },
	"pause openmatch":     pauseOpenMatch,
	"pause nats": func(w *town, r *rand.Rand) *fault {
		f := pauseService("pause nats", pick(r, w.brokers.nodes), howLong(r))
		f.locks = append(f.locks, natsLock)
		return f
	},

	"cut process-nats":         breakNATS("cut process-nats", cut),
	"freeze process-nats":      breakNATS("freeze process-nats", frozen),
	"deafen process-nats":      breakNATS("deafen process-nats", deaf),
	"cut host-nats":            breakHost("cut host-nats", cut, (*host).natsCables),
	"freeze host-nats":         breakHost("freeze host-nats", frozen, (*host).natsCables),
	"deafen host-nats":         breakHost("deafen host-nats", deaf, (*host).natsCables),
	"cut player-host":          breakHost("cut player-host", cut, (*host).playerCables),
	"freeze player-host":       breakHost("freeze player-host", frozen, (*host).playerCables),
	"deafen player-host":       breakHost("deafen player-host", deaf, (*host).playerCables),
	"cut director-host":        breakHost("cut director-host", cut, (*host).insideCables),
	"freeze director-host":     breakHost("freeze director-host", frozen, (*host).insideCables),
	"deafen director-host":     breakHost("deafen director-host", deaf, (*host).insideCables),
	"cut process-openmatch":    breakPath("cut process-openmatch", cut, func(w *town) map[string][]*cable { return w.openpaths }),
	"freeze process-openmatch": breakPath("freeze process-openmatch", frozen, func(w *town) map[string][]*cable { return w.openpaths }),
	"deafen process-openmatch": breakPath("deafen process-openmatch", deaf, func(w *town) map[string][]*cable { return w.openpaths }),
	"cut director-agones":      breakPath("cut director-agones", cut, func(w *town) map[string][]*cable { return w.allocator }),
	"freeze director-agones":   breakPath("freeze director-agones", frozen, func(w *town) map[string][]*cable { return w.allocator }),
	"deafen director-agones":   breakPath("deafen director-agones", deaf, func(w *town) map[string][]*cable { return w.allocator }),
}

func howLong(r *rand.Rand) time.Duration {
	return shortest + time.Duration(r.Int64N(int64(longest-shortest)))
}

func pick[T any](r *rand.Rand, from []T) T { return from[r.IntN(len(from))] }

// killService kills a process that is started again, and goes on until it takes work.
func killService(kind string, s *service, downFor time.Duration) *fault {
	return &fault{kind: kind, target: s.name, locks: []string{s.name}, apply: func(ctx context.Context) {
		s.kill(downFor)
		heal, cancel := context.WithTimeout(context.WithoutCancel(ctx), healWithin)
		defer cancel()
		if rest(heal, downFor) {
			_ = s.awaitReady(heal)
		}
	}}
}

// pauseService stops a process in its tracks; it goes on as if nothing had happened.
func pauseService(kind string, s *service, d time.Duration) *fault {
	return &fault{kind: kind, target: s.name, locks: []string{s.name}, apply: func(ctx context.Context) {
		s.pause()
		rest(ctx, d)
		s.resume()
		heal, cancel := context.WithTimeout(context.WithoutCancel(ctx), healWithin)
		defer cancel()
		_ = s.awaitReady(heal)
	}}
}

// pickHost gives a host that has been given to somebody, now and then one that has not.
func pickHost(w *town, r *rand.Rand) *host {
	allocated := w.fleet.among(agoneslocal.Allocated)
	if ready := w.fleet.among(agoneslocal.Ready); len(allocated) == 0 || len(ready) > 0 && r.IntN(8) == 0 {
		allocated = ready
	}
	if len(allocated) == 0 {
		return nil
	}
	return pick(r, allocated)
}

// endHost ends a host by a signal; the fleet replaces it.
func endHost(w *town, r *rand.Rand, kind string, signal syscall.Signal) *fault {
	h := pickHost(w, r)
	if h == nil {
		return nil
	}
	return &fault{kind: kind, target: h.name, locks: []string{h.name}, apply: func(ctx context.Context) {
		h.signal(signal)
		heal, cancel := context.WithTimeout(context.WithoutCancel(ctx), healWithin)
		defer cancel()
		_ = w.fleet.awaitGone(heal, h)
	}}
}

func pauseHost(w *town, r *rand.Rand) *fault {
	h := pickHost(w, r)
	if h == nil {
		return nil
	}
	d := howLong(r)
	return &fault{kind: "pause host", target: h.name, locks: []string{h.name}, alone: true, apply: func(ctx context.Context) {
		h.signal(syscall.SIGSTOP)
		rest(ctx, d)
		h.signal(syscall.SIGCONT)
	}}
}

func (h *host) natsCables() []*cable   { return h.nats }
func (h *host) playerCables() []*cable { return []*cable{h.players} }
func (h *host) insideCables() []*cable { return []*cable{h.inside} }

// breakHost breaks a path of a host.
func breakHost(kind string, to state, path func(*host) []*cable) func(*town, *rand.Rand) *fault {
	return func(w *town, r *rand.Rand) *fault {
		h := pickHost(w, r)
		if h == nil {
			return nil
		}
		f := breakCables(kind, h.name, some(r, path(h)), to, howLong(r))
		f.alone = strings.HasSuffix(kind, "host-nats")
		return f
	}
}

// breakNATS cuts a frontend or a director off from NATS alone.
func breakNATS(kind string, to state) func(*town, *rand.Rand) *fault {
	return breakPath(kind, to, func(w *town) map[string][]*cable { return w.nats })
}

// breakPath breaks the cables of one process.
func breakPath(kind string, to state, paths func(*town) map[string][]*cable) func(*town, *rand.Rand) *fault {
	return func(w *town, r *rand.Rand) *fault {
		cables := paths(w)
		name := pick(r, sortedKeys(cables))
		return breakCables(kind, name, some(r, cables[name]), to, howLong(r))
	}
}

// some gives all cables, now and then only one of them.
func some(r *rand.Rand, cables []*cable) []*cable {
	if r.IntN(4) == 0 {
		return []*cable{pick(r, cables)}
	}
	return cables
}

// breakCables breaks cables for a while. What was held back arrives late when a cable is mended; a deaf one is cut
// first, so that what was answered meanwhile is lost although it was done.
func breakCables(kind, target string, cables []*cable, to state, d time.Duration) *fault {
	return &fault{kind: kind, target: target, locks: []string{target}, apply: func(ctx context.Context) {
		setAll(cables, to)
		rest(ctx, d)
		if to == deaf {
			setAll(cables, cut)
		}
		setAll(cables, whole)
	}}
}

func setAll(cables []*cable, to state) {
	for _, c := range cables {
		c.set(to)
	}
}
