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

// seenAfter is when a host's lease surely counts a room that it opened: it says so at once, and at the latest
// with the next renewal.
const seenAfter = 2 * time.Second

// hosts is what this director knows of the hosts beyond their leases: what it allocated a moment ago, what it
// placed that no lease counts yet, and the connections to them.
type hosts struct {
	dial func(address string) (HostConn, error)

	mu        sync.Mutex
	allocated map[guildhall.HostName]time.Time          // guarded by mu; until when our word stands
	kept      map[guildhall.HostName]map[*seat]struct{} // guarded by mu
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

// seat is one room's place that an attempt keeps on a host. Two attempts at one group keep two.
type seat struct {
	host  guildhall.HostName
	taken time.Time // when the room was opened; zero while that is under way. Guarded by hosts.mu
}

// allocatedFor is how long a director takes its own allocation for granted while the host's lease does not say
// so yet.
const allocatedFor = 10 * time.Second

func newHosts(dial func(address string) (HostConn, error)) *hosts {
	return &hosts{
		dial:      dial,
		allocated: map[guildhall.HostName]time.Time{},
		kept:      map[guildhall.HostName]map[*seat]struct{}{},
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
		rooms := lease.Rooms + h.keptOn(lease.Host)
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

// keptOn counts the rooms on a host that its lease does not count yet. The caller holds mu.
func (h *hosts) keptOn(host guildhall.HostName) int {
	for kept := range h.kept[host] {
		if !kept.taken.IsZero() && time.Since(kept.taken) > seenAfter {
			delete(h.kept[host], kept)
		}
	}
	return len(h.kept[host])
}

// settle ends an attempt at a seat: the room was opened, and the seat counts until the host's lease counts the room;
// or it was not.
func (h *hosts) settle(kept *seat, opened bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !opened {
		delete(h.kept[kept.host], kept)
		return
	}
	kept.taken = time.Now()
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
