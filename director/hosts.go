package director

import (
	"errors"
	"fmt"
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
	mu        sync.Mutex
	allocated map[guildhall.HostName]time.Time                     // guarded by mu; until when our word stands
	kept      map[guildhall.HostName]map[guildhall.Group]time.Time // guarded by mu; zero time: being opened
	conns     map[string]*grpc.ClientConn                          // guarded by mu; by internal address
}

// allocatedFor is how long a director takes its own allocation for granted while the host's lease does not say
// so yet.
const allocatedFor = 10 * time.Second

func newHosts() *hosts {
	return &hosts{
		allocated: map[guildhall.HostName]time.Time{},
		kept:      map[guildhall.HostName]map[guildhall.Group]time.Time{},
		conns:     map[string]*grpc.ClientConn{},
	}
}

// choose gives the best host that has room and keeps a seat for the group there: the newest version, then the
// fullest, so that few hosts carry what there is.
func (h *hosts) choose(leases []registry.Lease, group guildhall.Group, refused map[guildhall.HostName]bool) (registry.Lease, bool) {
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
		return registry.Lease{}, false
	}
	if h.kept[best.Host] == nil {
		h.kept[best.Host] = map[guildhall.Group]time.Time{}
	}
	h.kept[best.Host][group] = time.Time{}
	return best, true
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
	for group, since := range h.kept[host] {
		if !since.IsZero() && time.Since(since) > seenAfter {
			delete(h.kept[host], group)
		}
	}
	if len(h.kept[host]) == 0 {
		delete(h.kept, host)
	}
	return len(h.kept[host])
}

// settle ends a seat that choose kept: the room was opened, or it was not.
func (h *hosts) settle(host guildhall.HostName, group guildhall.Group, opened bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !opened {
		delete(h.kept[host], group)
		return
	}
	h.kept[host][group] = time.Now()
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
		conn, err = grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return nil, fmt.Errorf("host at %q: %w", address, err)
		}
		h.conns[address] = conn
	}
	return guildhallv1.NewHostServiceClient(conn), nil
}

// forget closes the connections to hosts that have no lease any more.
func (h *hosts) forget(alive []registry.Lease) error {
	addresses := map[string]bool{}
	for _, lease := range alive {
		addresses[lease.InternalAddress] = true
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	var errs []error
	for address, conn := range h.conns {
		if !addresses[address] {
			errs = append(errs, conn.Close())
			delete(h.conns, address)
		}
	}
	return errors.Join(errs...)
}
