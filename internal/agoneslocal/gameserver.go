package agoneslocal

import (
	"crypto/rand"
	"fmt"
	"maps"
	mathrand "math/rand/v2"
	"time"
)

// State is the state of a game server, in Agones' words.
type State string

// The states of a game server, in the order in which it goes through them.
const (
	Starting     State = "Starting"     // its process is being started
	Scheduled    State = "Scheduled"    // its process runs
	RequestReady State = "RequestReady" // it has asked to be Ready
	Ready        State = "Ready"        // it may be allocated
	Reserved     State = "Reserved"     // it has asked not to be allocated for a while
	Allocated    State = "Allocated"    // it has been given to somebody, or has taken itself
	Shutdown     State = "Shutdown"     // it has asked to be stopped, or the fleet stops
	Unhealthy    State = "Unhealthy"    // it gave no sign of life, or its process died
)

// ending tells whether no way leads back from the state.
func (s State) ending() bool { return s == Shutdown || s == Unhealthy }

// GameServer is a game server at one moment. The receiver must not change its maps.
type GameServer struct {
	// Name is unique for ever; Namespace is the fleet's.
	Name, Namespace string
	// Address is where its ports are: 127.0.0.1.
	Address string
	// Ports are by the names that the Fleet gives them.
	Ports map[string]int
	// SDKAddress is where its SDK server listens.
	SDKAddress string
	State      State
	// PID is the process, 0 before it runs.
	PID         int
	Labels      map[string]string
	Annotations map[string]string
	Counters    map[string]Counter
	Lists       map[string]List
	// Created is when the fleet made it.
	Created time.Time
}

// clone gives a copy that shares no map.
func (g GameServer) clone() GameServer {
	g.Ports = maps.Clone(g.Ports)
	g.Labels = maps.Clone(g.Labels)
	g.Annotations = maps.Clone(g.Annotations)
	g.Counters = maps.Clone(g.Counters)
	g.Lists = maps.Clone(g.Lists)
	return g
}

// gameServer is a game server as the store keeps it.
type gameServer struct {
	// Static after construction.
	portNames []string // in the fleet's order
	uid       string
	process   *process
	ended     chan struct{} // closed when the state becomes Shutdown or Unhealthy

	// Guarded by the store's lock.
	GameServer
	useful     bool // has been Ready or Allocated
	generation int64
	version    uint64 // of the store, at the last change
	endedAt    time.Time
	life       heartbeat
	reserve    *time.Timer // set while Reserved for a time
	watchers   map[*watcher]struct{}
}

// Metadata that Agones itself sets.
const (
	labelFleet              = "agones.dev/fleet"
	labelGameServerSet      = "agones.dev/gameserverset"
	annotationSDKVersion    = "agones.dev/sdk-version"
	annotationLastAllocated = "agones.dev/last-allocated"
	sdkMetadataPrefix       = "agones.dev/sdk-"
)

// sdkVersion is the version of Agones whose SDK is served.
const sdkVersion = "1.56.0"

// newGameServer makes a game server of the fleet; set is the name of its GameServerSet.
func newGameServer(fleet *Fleet, set string, ports map[string]int, now time.Time) *gameServer {
	gs := &gameServer{
		portNames: fleet.Ports,
		uid:       newUID(),
		process:   newProcess(),
		ended:     make(chan struct{}),
		life:      newHeartbeat(fleet.Health, now),
		watchers:  map[*watcher]struct{}{},
		GameServer: GameServer{
			Name:        set + "-" + nameSuffix(),
			Namespace:   fleet.Namespace,
			Address:     loopback,
			Ports:       ports,
			State:       Starting,
			Labels:      map[string]string{},
			Annotations: map[string]string{annotationSDKVersion: sdkVersion},
			Counters:    maps.Clone(fleet.Counters),
			Lists:       maps.Clone(fleet.Lists),
			Created:     now,
		},
	}
	maps.Copy(gs.Labels, fleet.Labels)
	maps.Copy(gs.Annotations, fleet.Annotations)
	gs.Labels[labelFleet] = fleet.Name
	gs.Labels[labelGameServerSet] = set
	return gs
}

// move changes the state, unless the game server is ending: from there the SDK leads nowhere.
func (g *gameServer) move(to State, now time.Time) {
	if g.State.ending() {
		return
	}
	if g.reserve != nil {
		g.reserve.Stop()
		g.reserve = nil
	}
	g.State = to
	switch {
	case to == Ready:
		g.useful = true
	case to == Allocated:
		g.useful = true
		g.Annotations[annotationLastAllocated] = now.Format(time.RFC3339Nano)
	case to.ending():
		g.endedAt = now
		close(g.ended)
	}
}

// nameSuffix gives what Kubernetes appends to a generated name: five characters that spell no word and
// cannot be mistaken for one another.
func nameSuffix() string {
	const alphabet = "bcdfghjklmnpqrstvwxz2456789"
	suffix := make([]byte, 5)
	for i := range suffix {
		suffix[i] = alphabet[mathrand.IntN(len(alphabet))]
	}
	return string(suffix)
}

func newUID() string {
	var b [16]byte
	rand.Read(b[:])
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
