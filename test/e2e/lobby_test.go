package e2e

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"connectrpc.com/connect"

	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
	"github.com/guildhall-dev/guildhall/api/guildhall/v1/guildhallv1connect"
)

// post calls a method of LobbyService as curl does: JSON over HTTP/1.1.
func (b *bundle) post(method, token, body string) (status int, answer map[string]any) {
	b.t.Helper()
	request, err := http.NewRequestWithContext(b.ctx, http.MethodPost, b.server+"/guildhall.v1.LobbyService/"+method, strings.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		b.t.Fatal(err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	if err := json.NewDecoder(bytes.NewReader(data)).Decode(&answer); err != nil {
		b.t.Fatalf("%s answered %q: %v", method, data, err)
	}
	return response.StatusCode, answer
}

func TestTicketByJSON(t *testing.T) {
	b := setup(t)
	group := b.group("guild")
	token := b.token("p1", group)
	file := `{"group": "` + group.String() + `"}`
	status, filed := b.post("FileTicket", token, file)
	id, _ := filed["ticketId"].(string)
	if status != http.StatusOK || id == "" || filed["expiresAt"] == nil {
		t.Fatalf("FileTicket: %d %v", status, filed)
	}
	// Filed again, it is assigned as soon as the room is live.
	b.eventually("a ticket is assigned", func() bool {
		_, filed := b.post("FileTicket", token, file)
		assignment, _ := filed["assignment"].(map[string]any)
		return assignment["group"] == group.String() && assignment["pass"] != "" && assignment["address"] != ""
	})
	if status, answer := b.post("CancelTicket", token, `{"ticketId": "`+id+`"}`); status != http.StatusOK {
		t.Errorf("CancelTicket: %d %v", status, answer)
	}
}

func TestCancelledTicketIsNotAssigned(t *testing.T) {
	b := setup(t)
	group := b.group("guild")
	token := b.token("p1", group)
	lobby := guildhallv1connect.NewLobbyServiceClient(players, b.server, connect.WithGRPCWeb())
	filed, err := lobby.FileTicket(b.ctx, withToken(&guildhallv1.FileTicketRequest{Group: group.String()}, token))
	if err != nil {
		t.Fatal(err)
	}
	id := filed.Msg.GetTicketId()
	other := b.token("p2", group)
	_, err = lobby.CancelTicket(b.ctx, withToken(&guildhallv1.CancelTicketRequest{TicketId: id}, other))
	if connect.CodeOf(err) != connect.CodePermissionDenied {
		t.Errorf("p2 cancelled the ticket of p1: %v", err)
	}
	if _, err := lobby.CancelTicket(b.ctx, withToken(&guildhallv1.CancelTicketRequest{TicketId: id}, token)); err != nil {
		t.Fatal(err)
	}
	stream, err := lobby.WatchAssignment(b.ctx, withToken(&guildhallv1.WatchAssignmentRequest{TicketId: id}, token))
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	for stream.Receive() {
		t.Errorf("a cancelled ticket says %v", stream.Msg())
	}
	if connect.CodeOf(stream.Err()) != connect.CodeNotFound {
		t.Errorf("watching a cancelled ticket ended with %v, want NotFound", stream.Err())
	}
}

func TestWatchAssignment(t *testing.T) {
	b := setup(t)
	group := b.group("party")
	token := b.token("p1", group)
	lobby := guildhallv1connect.NewLobbyServiceClient(players, b.server, connect.WithGRPC())
	filed, err := lobby.FileTicket(b.ctx, withToken(&guildhallv1.FileTicketRequest{Group: group.String()}, token))
	if err != nil {
		t.Fatal(err)
	}
	stream, err := lobby.WatchAssignment(b.ctx, withToken(&guildhallv1.WatchAssignmentRequest{TicketId: filed.Msg.GetTicketId()}, token))
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	var last *guildhallv1.WatchAssignmentResponse
	for stream.Receive() {
		last = stream.Msg()
	}
	if err := stream.Err(); err != nil || last.GetAssignment().GetGroup() != group.String() {
		t.Errorf("the watch ended with %v, %v, want an assignment", last, err)
	}
}

func withToken[T any](message *T, token string) *connect.Request[T] {
	request := connect.NewRequest(message)
	request.Header().Set("Authorization", "Bearer "+token)
	return request
}

func TestBadTicketsGetClearErrors(t *testing.T) {
	b := setup(t)
	mine := b.group("guild")
	token := b.token("p1", mine)
	for _, c := range []struct {
		name, token, group string
		status             int
		says               string
	}{
		{"no token", "", mine.String(), http.StatusUnauthorized, "no player token"},
		{"not a token", "garbage", mine.String(), http.StatusUnauthorized, "not valid"},
		{"a cut token", token[:len(token)-4], mine.String(), http.StatusUnauthorized, "not valid"},
		{"somebody else's group", token, b.group("guild").String(), http.StatusForbidden, "does not name group"},
		{"unknown kind", token, "clan:1", http.StatusBadRequest, "unknown kind"},
		{"no kind", token, "dragons", http.StatusBadRequest, "want kind:id"},
		{"empty id", token, "guild:", http.StatusBadRequest, "the id is empty"},
		{"10 kB of id", token, "guild:" + strings.Repeat("x", 10_000), http.StatusBadRequest, "at most 128"},
		{"spaces", token, "guild:a b", http.StatusBadRequest, "no spaces"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := setupAt(t, b.server)
			body, err := json.Marshal(map[string]string{"group": c.group})
			if err != nil {
				t.Fatal(err)
			}
			status, answer := b.post("FileTicket", c.token, string(body))
			says, _ := answer["message"].(string)
			if status != c.status || !strings.Contains(says, c.says) {
				t.Errorf("answered %d %q, want %d and %q", status, says, c.status, c.says)
			}
			if strings.Contains(says, strings.Repeat("x", 200)) {
				t.Errorf("the error repeats all that was sent: %d bytes", len(says))
			}
		})
	}
}
