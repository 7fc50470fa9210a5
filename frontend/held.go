package frontend

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect"
	"github.com/rs/xid"

	"github.com/guildhall-dev/guildhall"
)

// ticketID names a player's ticket. It tells the group, so that a frontend that has never seen the ticket can
// take it up: the player token says whether it may.
type ticketID struct {
	nonce string
	group guildhall.Group
}

func newTicketID(group guildhall.Group) ticketID {
	return ticketID{nonce: xid.New().String(), group: group}
}

// String gives the form that a player sees.
func (t ticketID) String() string {
	return t.nonce + "." + base64.RawURLEncoding.EncodeToString([]byte(t.group.String()))
}

func parseTicketID(text string) (ticketID, error) {
	nonce, encoded, _ := strings.Cut(text, ".")
	if _, err := xid.FromString(nonce); err != nil {
		return ticketID{}, errors.New("not a ticket id: take it from FileTicket's answer as it is")
	}
	decoded, err := base64.RawURLEncoding.DecodeString(encoded)
	if err != nil {
		return ticketID{}, errors.New("not a ticket id: take it from FileTicket's answer as it is")
	}
	group, err := guildhall.ParseGroup(string(decoded))
	if err != nil {
		return ticketID{}, fmt.Errorf("not a ticket id: %w", err)
	}
	return ticketID{nonce: nonce, group: group}, nil
}

var errCancelled = errors.New("the ticket was cancelled: file a new one")

// held holds the tickets that were filed without a stream. One that nobody watches is dropped after its time to
// live; one that was cancelled is remembered as long.
type held struct {
	ttl time.Duration

	mu      sync.Mutex
	tickets map[ticketID]*heldTicket // guarded by mu
}

// heldTicket is one ticket; its fields are guarded by held.mu.
type heldTicket struct {
	player   guildhall.PlayerID
	seat     *seat
	watchers int
	cancel   chan struct{} // closed when the player cancels
	expiry   *time.Timer
}

func newHeld(ttl time.Duration) *held {
	return &held{ttl: ttl, tickets: map[ticketID]*heldTicket{}}
}

// hold takes a ticket in.
func (h *held) hold(id ticketID, who visitor, seat *seat) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.tickets[id] = &heldTicket{
		player: who.player, seat: seat, cancel: make(chan struct{}),
		expiry: time.AfterFunc(h.ttl, func() { h.drop(id) }),
	}
}

// drop forgets a ticket that nobody watches.
func (h *held) drop(id ticketID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if t := h.tickets[id]; t != nil && t.watchers == 0 {
		t.seat.leave()
		delete(h.tickets, id)
	}
}

// watch keeps a ticket from being dropped until unwatch, and gives its seat; nil if it is not here.
func (h *held) watch(id ticketID, who visitor) (*seat, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	t := h.tickets[id]
	switch {
	case t == nil:
		return nil, nil
	case t.player != who.player:
		return nil, errNotYours(who)
	case t.isCancelled():
		return nil, connect.NewError(connect.CodeNotFound, errCancelled)
	}
	t.watchers++
	t.expiry.Stop()
	return t.seat, nil
}

// unwatch ends what watch began.
func (h *held) unwatch(id ticketID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if t := h.tickets[id]; t != nil && t.watchers > 0 {
		if t.watchers--; t.watchers == 0 {
			t.expiry.Reset(h.ttl)
		}
	}
}

// cancel withdraws a ticket.
func (h *held) cancel(id ticketID, who visitor) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	t := h.tickets[id]
	if t == nil {
		return nil
	}
	if t.player != who.player {
		return errNotYours(who)
	}
	if !t.isCancelled() {
		close(t.cancel)
		t.seat.leave()
		t.expiry.Reset(h.ttl)
	}
	return nil
}

// cancelled gives a channel that is closed when the ticket is cancelled; nil, which never is, if it is not here.
func (h *held) cancelled(id ticketID) <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	if t := h.tickets[id]; t != nil {
		return t.cancel
	}
	return nil
}

// dropAll forgets every ticket.
func (h *held) dropAll() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for id, t := range h.tickets {
		t.expiry.Stop()
		t.seat.leave()
		delete(h.tickets, id)
	}
}

func (t *heldTicket) isCancelled() bool {
	select {
	case <-t.cancel:
		return true
	default:
		return false
	}
}

func errNotYours(who visitor) error {
	return connect.NewError(connect.CodePermissionDenied, fmt.Errorf("the ticket is not player %s's", who.player))
}
