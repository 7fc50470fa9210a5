package frontend

import (
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/guildhall-dev/guildhall"
	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
)

// file files a ticket and gives its id.
func (w *world) file(f *Frontend, player string, group guildhall.Group) string {
	w.t.Helper()
	filed, err := w.lobby(f).FileTicket(w.ctx, as(w.t, &guildhallv1.FileTicketRequest{Group: group.String()}, player, group))
	if err != nil {
		w.t.Fatal(err)
	}
	return filed.Msg.GetTicketId()
}

// watch watches a ticket to the end.
func (w *world) watch(f *Frontend, id, player string, group guildhall.Group) (states []*guildhallv1.WatchAssignmentResponse, err error) {
	w.t.Helper()
	stream, err := w.lobby(f).WatchAssignment(w.ctx, as(w.t, &guildhallv1.WatchAssignmentRequest{TicketId: id}, player, group))
	if err != nil {
		w.t.Fatal(err)
	}
	for stream.Receive() {
		states = append(states, stream.Msg())
		if stream.Msg().GetWaiting() != nil {
			w.tell(w.awaitFiled("there is a ticket", oneTicket)[0], 4)
		}
	}
	return states, stream.Err()
}

func TestFileThenWatch(t *testing.T) { onBothPorts(t, testFileThenWatch) }

func testFileThenWatch(t *testing.T, w *world) {
	id := w.file(w.frontend, "p1", dragons)
	states, err := w.watch(w.frontend, id, "p1", dragons)
	if err != nil || len(states) != 2 || states[1].GetAssignment().GetEpoch() != 4 {
		t.Errorf("the watch told %v, %v", states, err)
	}
}

// A ticket names its group: a frontend that has never seen it takes it up.
func TestWatchAtAnotherFrontend(t *testing.T) {
	w := setup(t)
	other, _ := w.startFrontend(w.config)
	id := w.file(w.frontend, "p1", dragons)
	if err := w.cancel(w.frontend, id, "p1"); err != nil { // so that the only ticket is the other's
		t.Fatal(err)
	}
	w.awaitFiled("the ticket is withdrawn", noTicket)
	states, err := w.watch(other, id, "p1", dragons)
	if err != nil || len(states) != 2 || states[1].GetAssignment() == nil {
		t.Errorf("the watch told %v, %v", states, err)
	}
}

func (w *world) cancel(f *Frontend, id, player string) error {
	_, err := w.lobby(f).CancelTicket(w.ctx, as(w.t, &guildhallv1.CancelTicketRequest{TicketId: id}, player, dragons))
	return err
}

func TestCancel(t *testing.T) { onBothPorts(t, testCancel) }

func testCancel(t *testing.T, w *world) {
	id := w.file(w.frontend, "p1", dragons)
	w.awaitFiled("there is a ticket", oneTicket)
	if err := w.cancel(w.frontend, id, "p2"); connect.CodeOf(err) != connect.CodePermissionDenied {
		t.Errorf("somebody else cancelled it: %v", err)
	}
	for range 2 { // again is no error
		if err := w.cancel(w.frontend, id, "p1"); err != nil {
			t.Error(err)
		}
	}
	w.awaitFiled("the ticket is withdrawn", noTicket)
	if states, err := w.watch(w.frontend, id, "p1", dragons); connect.CodeOf(err) != connect.CodeNotFound || len(states) > 0 {
		t.Errorf("a cancelled ticket told %v, %v", states, err)
	}
}

func TestUnwatchedTicketIsDropped(t *testing.T) {
	w := setup(t, func(c *Config) { c.TicketTTL = time.Second })
	w.file(w.frontend, "p1", dragons)
	w.awaitFiled("there is a ticket", oneTicket)
	w.awaitFiled("the ticket is withdrawn", noTicket)
	w.frontend.lobby.held.mu.Lock()
	defer w.frontend.lobby.held.mu.Unlock()
	if n := len(w.frontend.lobby.held.tickets); n != 0 {
		t.Errorf("%d tickets are still held", n)
	}
}

func TestCancelWhileWatched(t *testing.T) { onBothPorts(t, testCancelWhileWatched) }

func testCancelWhileWatched(t *testing.T, w *world) {
	id := w.file(w.frontend, "p1", dragons)
	stream, err := w.lobby(w.frontend).WatchAssignment(w.ctx, as(t, &guildhallv1.WatchAssignmentRequest{TicketId: id}, "p1", dragons))
	if err != nil {
		t.Fatal(err)
	}
	if !stream.Receive() {
		t.Fatal(stream.Err())
	}
	if err := w.cancel(w.frontend, id, "p1"); err != nil {
		t.Fatal(err)
	}
	if stream.Receive() || connect.CodeOf(stream.Err()) != connect.CodeNotFound {
		t.Errorf("the watch went on with %v, %v", stream.Msg(), stream.Err())
	}
}

func TestTicketIDs(t *testing.T) {
	t.Parallel()
	id := newTicketID(dragons)
	if back, err := parseTicketID(id.String()); err != nil || back != id {
		t.Errorf("%v came back as %v, %v", id, back, err)
	}
	for _, bad := range []string{"", "x", "." + strings.SplitN(id.String(), ".", 2)[1], id.nonce, id.nonce + ".!!", id.nonce + ".YQ"} {
		if got, err := parseTicketID(bad); err == nil {
			t.Errorf("%q was read as %v", bad, got)
		}
	}
}

func FuzzParseTicketID(f *testing.F) {
	f.Add(newTicketID(dragons).String())
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		id, err := parseTicketID(text)
		if err != nil {
			return
		}
		if again, err := parseTicketID(id.String()); err != nil || again != id {
			t.Errorf("%q was read as %v, which is read as %v, %v", text, id, again, err)
		}
	})
}

// A ticket that was placed, and whose room has gone again before anybody watched, is placed anew.
func TestWatchAfterTheRoomHasGone(t *testing.T) {
	w := setup(t)
	id := w.file(w.frontend, "p1", dragons)
	first := w.awaitFiled("there is a ticket", oneTicket)[0]
	w.tell(first, 3) // of a room that is in no registry: it has gone
	w.awaitFiled("the answered ticket is withdrawn", noTicket)
	for range 2 {
		states, err := w.watch(w.frontend, id, "p1", dragons)
		if err != nil || len(states) != 2 || states[1].GetAssignment().GetEpoch() != 4 {
			t.Errorf("the watch told %v, %v; want a wait and the place after it", states, err)
		}
		w.awaitFiled("the ticket is withdrawn", noTicket)
	}
}
