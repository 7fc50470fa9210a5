package director

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"sync"
	"time"

	"golang.org/x/mod/semver"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/guildhall-dev/guildhall"
	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
	"github.com/guildhall-dev/guildhall/internal/registry"
)

// wordFor is how long a host's own word of how full it is counts beside its lease: the lease says so at once, and at
// the latest with the next renewal.
const wordFor = 2 * time.Second

// hosts is what this director knows of the hosts beyond their leases: what it allocated a moment ago, where it is
// opening rooms, how full they said that they are, and the connections to them.
type hosts struct {
	dial func(address string) (HostConn, error)

	mu        sync.Mutex
	allocated map[guildhall.HostName]time.Time          // guarded by mu; until when our word stands
	kept      map[guildhall.HostName]map[*seat]struct{} // guarded by mu; rooms that are being opened
	words     map[guildhall.HostName]word               // guarded by mu
	conns     map[string]HostConn                       // guarded by mu; by internal address
}

// HostConn is a connection to a host's internal port.
type HostConn interface {
	grpc.ClientConnInterface
	io.Closer
}

func dialHost(address string) (HostConn, error) {
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, fmt.Errorf("host at %q: %w", address, err)
	}
	return conn, nil
}

// seat is one room's place that an attempt keeps on a host while it opens the room there. Two attempts at one group
// keep two.
type seat struct{ host guildhall.HostName }

// word is what a host has said of itself in an answer.
type word struct {
	rooms int
	until time.Time // when its lease says so, too
}

// allocatedFor is how long a director takes its own allocation for granted while the host's lease does not say
// so yet.
const allocatedFor = 10 * time.Second

func newHosts(dial func(address string) (HostConn, error)) *hosts {
	return &hosts{
		dial:      dial,
		allocated: map[guildhall.HostName]time.Time{},
		kept:      map[guildhall.HostName]map[*seat]struct{}{},
		words:     map[guildhall.HostName]word{},
		conns:     map[string]HostConn{},
	}
}

// choose gives the best host that has room, and a seat there, which the caller must settle: the newest version, then
// the fullest, so that few hosts carry what there is. The seat is nil if there is none.
func (h *hosts) choose(leases []registry.Lease, refused map[guildhall.HostName]bool) (registry.Lease, *seat) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var best registry.Lease
	bestRooms := -1
	for _, lease := range leases {
		if refused[lease.Host] || !h.takesRooms(lease) {
			continue
		}
		rooms := h.roomsOn(lease)
		if rooms >= lease.RoomsCapacity {
			continue
		}
		newer := semver.Compare(lease.Version, best.Version)
		if bestRooms < 0 || newer > 0 || newer == 0 && rooms > bestRooms {
			best, bestRooms = lease, rooms
		}
	}
	if bestRooms < 0 {
		return registry.Lease{}, nil
	}
	if h.kept[best.Host] == nil {
		h.kept[best.Host] = map[*seat]struct{}{}
	}
	kept := &seat{host: best.Host}
	h.kept[best.Host][kept] = struct{}{}
	return best, kept
}

// takesRooms says whether a host is allocated, by its lease or by our own allocation. The caller holds mu.
func (h *hosts) takesRooms(lease registry.Lease) bool {
	switch lease.State {
	case registry.HostAllocated:
		delete(h.allocated, lease.Host)
		return true
	case registry.HostReady:
		return time.Now().Before(h.allocated[lease.Host])
	}
	return false
}

// roomsOn counts the rooms on a host: those that it has told of, and those that are being opened there. One that is
// being opened and that the lease counts already is counted twice for that moment. The caller holds mu.
func (h *hosts) roomsOn(lease registry.Lease) int {
	rooms := lease.Rooms
	if said, ok := h.words[lease.Host]; ok && time.Now().Before(said.until) {
		rooms = max(rooms, said.rooms)
	}
	return rooms + len(h.kept[lease.Host])
}

// settle ends an attempt at a seat: what became of the room is the host's to tell.
func (h *hosts) settle(kept *seat) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.kept[kept.host], kept)
}

// told notes how many rooms a host said that it has. Answers overtake one another: the largest stands, for its time.
func (h *hosts) told(host guildhall.HostName, rooms int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	if said := h.words[host]; rooms >= said.rooms || now.After(said.until) {
		h.words[host] = word{rooms: rooms, until: now.Add(wordFor)}
	}
}

// free counts the rooms that could be opened at once, on the hosts that [current] leaves.
func (h *hosts) free(leases []registry.Lease) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	free := 0
	for _, lease := range current(leases) {
		if h.takesRooms(lease) {
			free += max(0, lease.RoomsCapacity-h.roomsOn(lease))
		}
	}
	return free
}

// current leaves out hosts of a version older than the newest that Agones could give: while a fleet is being replaced,
// new groups shall go to the new one. A version of which there is no host to be had replaces nothing, be it ever so
// new: it has been rolled back.
func current(leases []registry.Lease) []registry.Lease {
	newest := ""
	for _, lease := range leases {
		if lease.State == registry.HostReady && semver.Compare(lease.Version, newest) > 0 {
			newest = lease.Version
		}
	}
	var left []registry.Lease
	for _, lease := range leases {
		if semver.Compare(lease.Version, newest) >= 0 {
			left = append(left, lease)
		}
	}
	return left
}

// allocatedNow notes that Agones has just allocated a host.
func (h *hosts) allocatedNow(host guildhall.HostName) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.allocated[host] = time.Now().Add(allocatedFor)
}

// client gives a client for the host at an internal address.
func (h *hosts) client(address string) (guildhallv1.HostServiceClient, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	conn := h.conns[address]
	if conn == nil {
		var err error
		if conn, err = h.dial(address); err != nil {
			return nil, err
		}
		h.conns[address] = conn
	}
	return guildhallv1.NewHostServiceClient(conn), nil
}

// forget forgets hosts that have no lease any more, and closes the connections to them.
func (h *hosts) forget(alive []registry.Lease) error {
	addresses, names := map[string]bool{}, map[guildhall.HostName]bool{}
	for _, lease := range alive {
		addresses[lease.InternalAddress], names[lease.Host] = true, true
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	maps.DeleteFunc(h.kept, func(name guildhall.HostName, _ map[*seat]struct{}) bool { return !names[name] })
	maps.DeleteFunc(h.words, func(name guildhall.HostName, _ word) bool { return !names[name] })
	maps.DeleteFunc(h.allocated, func(name guildhall.HostName, until time.Time) bool {
		return !names[name] && time.Now().After(until) // one just allocated may show its lease yet
	})
	var errs []error
	for address, conn := range h.conns {
		if !addresses[address] {
			errs = append(errs, conn.Close())
			delete(h.conns, address)
		}
	}
	return errors.Join(errs...)
}
