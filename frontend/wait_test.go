package frontend

import (
	"fmt"
	"net"
	"net/url"
	"strconv"
	"testing"
	"time"

	"connectrpc.com/connect"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"open-match.dev/open-match/pkg/pb"

	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
	"github.com/guildhall-dev/guildhall/internal/brokerlocal"
	"github.com/guildhall-dev/guildhall/internal/openmatchlocal"
	"github.com/guildhall-dev/guildhall/internal/ticket"
	"github.com/guildhall-dev/guildhall/internal/tracing"
)

func TestLiveRoomCostsNoTicket(t *testing.T) { onBothPorts(t, testLiveRoomCostsNoTicket) }

func testLiveRoomCostsNoTicket(t *testing.T, w *world) {
	claim := w.live(dragons)
	w.frontend.lobby.live.told(dragons, claim.Epoch)
	got := w.enter(w.frontend, "p1", dragons).assigned()
	if got.GetHost() != "h" || got.GetEpoch() != uint64(claim.Epoch) || got.GetAddress() != "127.0.0.1:1" ||
		got.GetWebsocketUrl() != "ws://127.0.0.1:1/guildhall.v1.RoomService/Join" {
		t.Errorf("assigned %v", got)
	}
	if filed := w.filed(); len(filed) != 0 {
		t.Errorf("tickets were filed for a live room: %v", filed)
	}
}

// Where a browser dials is a URL, also for hosts with an address of IPv6 or a name.
func TestWebSocketURL(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ host, port string }{{"192.0.2.7", "7654"}, {"2001:db8::7", "7654"}, {"node-7.example.com", "7654"}} {
		got, err := url.Parse(websocketURL(net.JoinHostPort(c.host, c.port)))
		if err != nil || got.Scheme != "ws" || got.Hostname() != c.host || got.Port() != c.port || got.Path != "/guildhall.v1.RoomService/Join" {
			t.Errorf("%+v: %v, %v", c, got, err)
		}
	}
}

// A waiting player costs Open Match nothing: players of one group share a ticket, and one answer is for all.
func TestPlayersShareATicket(t *testing.T) { onBothPorts(t, testPlayersShareATicket) }

func testPlayersShareATicket(t *testing.T, w *world) {
	var players []*entering
	for i := range 20 {
		p := w.enter(w.frontend, fmt.Sprint("p", i), dragons)
		if waiting := p.waiting(); waiting.GetPlayers() != uint32(i+1) {
			t.Errorf("p%d waits with %d", i, waiting.GetPlayers())
		}
		players = append(players, p)
	}
	if longest := w.frontend.waits.longest(); longest <= 0 {
		t.Errorf("twenty wait, and the longest wait is %s", longest)
	}
	filed := w.awaitFiled("there is one ticket", oneTicket)[0]
	details, err := ticket.Read(filed)
	if err != nil || details.Group != dragons || details.ExpiresAt.Before(time.Now()) {
		t.Errorf("the ticket says %+v, %v", details, err)
	}
	w.tell(filed, 7)
	for _, p := range players {
		if got := p.assigned(); got.GetEpoch() != 7 {
			t.Errorf("assigned %v", got)
		}
	}
	if longest := w.frontend.waits.longest(); longest != 0 {
		t.Errorf("nobody waits, and the longest wait is %s", longest)
	}
	w.awaitFiled("the answered ticket is withdrawn", noTicket)
}

// Whoever comes behind the first waits with them, and nobody asks the registry again for each: what the wait finds out, or is
// told, is for all of them.
func TestWhoComesLaterWaitsWithTheOthers(t *testing.T) {
	w := setup(t, func(c *Config) { c.LookAgain = time.Hour })
	p1 := w.enter(w.frontend, "p1", dragons)
	p1.waiting()
	filed := w.awaitFiled("there is a ticket", oneTicket)[0]
	claim := w.live(dragons)
	w.frontend.lobby.live.told(dragons, claim.Epoch)
	p2 := w.enter(w.frontend, "p2", dragons)
	if waiting := p2.waiting(); waiting.GetPlayers() != 2 {
		t.Errorf("p2 waits with %d", waiting.GetPlayers())
	}
	w.tell(filed, uint64(claim.Epoch))
	p1.assigned()
	p2.assigned()
	w.awaitFiled("the ticket is withdrawn", noTicket)
}

// The one ticket of several players is in the trace of who came first, and is placed there; the others' refer to it.
func TestPlayersReferToOneTicket(t *testing.T) {
	recorder := tracetest.NewSpanRecorder()
	w := setup(t, func(c *Config) {
		c.Tracer = tracing.New(sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder)), "frontend")
	})
	first := w.enter(w.frontend, "p1", dragons)
	first.waiting()
	second := w.enter(w.frontend, "p2", dragons)
	second.waiting()
	filed := w.awaitFiled("there is one ticket", oneTicket)[0]
	details, err := ticket.Read(filed)
	if err != nil {
		t.Fatal(err)
	}
	w.tell(filed, 7)
	first.assigned()
	second.assigned()
	w.stop() // every call has ended, and every span
	var enters, tickets []sdktrace.ReadOnlySpan
	for _, span := range recorder.Ended() {
		if span.Name() == "ticket" {
			tickets = append(tickets, span)
		} else {
			enters = append(enters, span)
		}
	}
	if len(tickets) != 1 || len(enters) != 2 {
		t.Fatalf("there are %d spans of tickets and %d of players, want 1 and 2", len(tickets), len(enters))
	}
	shared := tickets[0].SpanContext()
	if want := "00-" + shared.TraceID().String() + "-" + shared.SpanID().String() + "-01"; details.Traceparent != want {
		t.Errorf("the ticket carries %q, want %q", details.Traceparent, want)
	}
	own, other := enters[0], enters[1]
	if own.SpanContext().SpanID() != tickets[0].Parent().SpanID() {
		own, other = other, own
	}
	if own.SpanContext().SpanID() != tickets[0].Parent().SpanID() || len(own.Links()) != 0 {
		t.Errorf("the ticket is below %v; that refers to %v", tickets[0].Parent(), own.Links())
	}
	if len(other.Links()) != 1 || other.Links()[0].SpanContext.SpanID() != shared.SpanID() || other.SpanContext().TraceID() == shared.TraceID() {
		t.Errorf("who came second, in trace %v, refers to %v", other.SpanContext().TraceID(), other.Links())
	}
}

// Nothing leaks: the stream breaks, and the ticket goes with the last player.
func TestBrokenStreamsWithdrawTheTicket(t *testing.T) {
	onBothPorts(t, testBrokenStreamsWithdrawTheTicket)
}

func testBrokenStreamsWithdrawTheTicket(t *testing.T, w *world) {
	p1, p2 := w.enter(w.frontend, "p1", dragons), w.enter(w.frontend, "p2", dragons)
	p1.waiting()
	p2.waiting()
	w.awaitFiled("there is a ticket", oneTicket)
	p1.cancel()
	p2.cancel()
	w.awaitFiled("the ticket is withdrawn", noTicket)
}

// A claim that has just been written is no room yet, for the host may refuse it: players wait for a director's word, and
// those who come behind it do not.
func TestYoungClaimIsNotLiveYet(t *testing.T) {
	w := setup(t)
	claim := w.live(dragons)
	p1 := w.enter(w.frontend, "p1", dragons)
	p1.waiting()
	filed := w.awaitFiled("there is a ticket", oneTicket)
	w.tell(filed[0], uint64(claim.Epoch))
	if got := p1.assigned(); got.GetEpoch() != uint64(claim.Epoch) {
		t.Errorf("p1 was sent to %v", got)
	}
	w.awaitFiled("the ticket is withdrawn", noTicket)
	if got := w.enter(w.frontend, "p2", dragons).assigned(); got.GetEpoch() != uint64(claim.Epoch) {
		t.Errorf("p2 was sent to %v", got)
	}
	if filed := w.filed(); len(filed) != 0 {
		t.Errorf("tickets were filed for a live room: %v", filed)
	}
}

// The word of an assignment is lost: the frontend looks for itself.
func TestLostAnswerIsFound(t *testing.T) {
	w := setup(t, func(c *Config) { c.LookAgain = 20 * time.Millisecond })
	p := w.enter(w.frontend, "p1", dragons)
	p.waiting()
	w.awaitFiled("there is a ticket", oneTicket)
	claim := w.live(dragons)
	if got := p.assigned(); got.GetEpoch() != uint64(claim.Epoch) {
		t.Errorf("assigned %v", got)
	}
}

// Open Match loses tickets: it keeps them in a Redis without persistence.
func TestLostTicketIsFiledAgain(t *testing.T) {
	w := setup(t, func(c *Config) { c.LookAgain = 20 * time.Millisecond })
	p := w.enter(w.frontend, "p1", dragons)
	p.waiting()
	lost := w.awaitFiled("there is a ticket", oneTicket)[0]
	if _, err := w.tickets.DeleteTicket(w.ctx, &pb.DeleteTicketRequest{TicketId: lost.GetId()}); err != nil {
		t.Fatal(err)
	}
	again := w.awaitFiled("there is another ticket", func(filed []*pb.Ticket) bool {
		return len(filed) == 1 && filed[0].GetId() != lost.GetId()
	})[0]
	w.tell(again, 9)
	if got := p.assigned(); got.GetEpoch() != 9 {
		t.Errorf("assigned %v", got)
	}
}

// A ticket that is still wanted is renewed before it expires, and the old one goes.
func TestWantedTicketIsRenewed(t *testing.T) {
	w := setup(t, func(c *Config) { c.TicketTTL = time.Second })
	p := w.enter(w.frontend, "p1", dragons)
	p.waiting()
	first := w.awaitFiled("there is a ticket", oneTicket)[0]
	second := w.awaitFiled("there is a later ticket alone", func(filed []*pb.Ticket) bool {
		return len(filed) == 1 && filed[0].GetId() != first.GetId()
	})[0]
	old, err1 := ticket.Read(first)
	renewed, err2 := ticket.Read(second)
	if err1 != nil || err2 != nil || !renewed.ExpiresAt.After(old.ExpiresAt) {
		t.Errorf("renewed from %+v to %+v; %v, %v", old, renewed, err1, err2)
	}
	w.tell(second, 5)
	p.assigned()
}

// Players who wait when the frontend stops are told to go elsewhere, and leave no ticket.
func TestStopSendsWaitingPlayersElsewhere(t *testing.T) {
	onBothPorts(t, testStopSendsWaitingPlayersElsewhere)
}

func testStopSendsWaitingPlayersElsewhere(t *testing.T, w *world) {
	p := w.enter(w.frontend, "p1", dragons)
	p.waiting()
	w.awaitFiled("there is a ticket", oneTicket)
	w.stop()
	if p.stream.Receive() || connect.CodeOf(p.stream.Err()) != connect.CodeUnavailable {
		t.Errorf("the stream ended with %v, %v", p.stream.Msg(), p.stream.Err())
	}
	w.awaitFiled("the ticket is withdrawn", noTicket)
}

func TestTwoGroupsHaveTwoTickets(t *testing.T) {
	w := setup(t)
	wolves := dragons
	wolves.ID = "wolves"
	d, v := w.enter(w.frontend, "p1", dragons), w.enter(w.frontend, "p2", wolves)
	filed := w.awaitFiled("there are two tickets", func(filed []*pb.Ticket) bool { return len(filed) == 2 })
	for _, f := range filed {
		w.tell(f, 3)
	}
	d.waiting()
	v.waiting()
	if got := d.assigned(); got.GetGroup() != dragons.String() {
		t.Errorf("the dragon was sent to %v", got)
	}
	if got := v.assigned(); got.GetGroup() != wolves.String() {
		t.Errorf("the wolf was sent to %v", got)
	}
}

// While Open Match does not answer, players who wait are told of a room that has become live all the same.
func TestRoomIsFoundWhileOpenMatchIsAway(t *testing.T) {
	w := setup(t, func(c *Config) {
		c.LookAgain = 20 * time.Millisecond
		c.OpenmatchFrontend = "127.0.0.1:1" // nobody is there
	})
	p := w.enter(w.frontend, "p1", dragons)
	p.waiting()
	claim := w.live(dragons)
	if got := p.assignedAtLast(); got.GetEpoch() != uint64(claim.Epoch) {
		t.Errorf("assigned %v", got)
	}
}

// Open Match is away and comes back: players are told what they wait for, and nobody has to call again.
func TestPlayersAreToldThatOpenMatchIsAway(t *testing.T) {
	ports, err := brokerlocal.FreePorts(1)
	if err != nil {
		t.Fatal(err)
	}
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(ports[0]))
	w := setup(t, func(c *Config) { c.OpenmatchFrontend = address })
	p := w.enter(w.frontend, "p1", dragons)
	states := []guildhallv1.WaitingState{
		guildhallv1.WaitingState_WAITING_STATE_QUEUED, guildhallv1.WaitingState_WAITING_STATE_NO_MATCHMAKER,
	}
	for _, want := range states {
		if got := p.waiting().GetState(); got != want {
			t.Fatalf("p1 is told %s, want %s", got, want)
		}
	}
	if got := w.enter(w.frontend, "p2", dragons).waiting().GetState(); got != states[1] {
		t.Errorf("p2 is told %s, want %s", got, states[1])
	}

	back, err := openmatchlocal.New(openmatchlocal.Config{FrontendListen: address})
	if err != nil {
		t.Fatal(err)
	}
	w.background(back)
	if got := p.waiting().GetState(); got != states[0] {
		t.Errorf("Open Match is back, and p1 is told %s", got)
	}
}

// A director has died with the match in its hands: the ticket is pending in Open Match, and nobody looks after it. A new
// one is filed in its place, and is matched at once.
func TestTicketWithoutAnAnswerIsFiledAnew(t *testing.T) {
	w := setup(t, func(c *Config) { c.RefileAfter = 50 * time.Millisecond })
	p := w.enter(w.frontend, "p1", dragons)
	p.waiting()
	first := w.awaitFiled("there is a ticket", oneTicket)[0]
	second := w.awaitFiled("there is another in its place", func(filed []*pb.Ticket) bool {
		return len(filed) == 1 && filed[0].GetId() != first.GetId()
	})[0]
	w.tell(second, 4)
	if got := p.assigned(); got.GetEpoch() != 4 {
		t.Errorf("assigned %v", got)
	}
	w.awaitFiled("no ticket is left", noTicket)
	if n := w.counter("guildhall_frontend_tickets_refiled_total"); n < 1 {
		t.Errorf("%v tickets are counted as filed anew", n)
	}
	if n := w.counter("guildhall_frontend_wait_seconds"); n != 1 {
		t.Errorf("%v waits are counted, want 1", n)
	}
}

// The director was only slow: its answer to the ticket that has been replaced is as good.
func TestAnswerToAReplacedTicket(t *testing.T) {
	w := setup(t, func(c *Config) { c.RefileAfter = 50 * time.Millisecond })
	p := w.enter(w.frontend, "p1", dragons)
	p.waiting()
	first := w.awaitFiled("there is a ticket", oneTicket)[0]
	w.awaitFiled("it has been replaced", func(filed []*pb.Ticket) bool {
		return len(filed) == 1 && filed[0].GetId() != first.GetId()
	})
	w.tell(first, 6)
	if got := p.assigned(); got.GetEpoch() != 6 {
		t.Errorf("assigned %v", got)
	}
	w.awaitFiled("no ticket is left", noTicket)
}

// A fleet without room is not asked more and more often.
func TestTicketsStayLongerEachTime(t *testing.T) {
	t.Parallel()
	w := &waits{waitsConfig: waitsConfig{ticketTTL: 30 * time.Second, refileAfter: 5 * time.Second}}
	for n, want := range map[int]time.Duration{1: 5 * time.Second, 2: 10 * time.Second, 3: 20 * time.Second, 4: 20 * time.Second, 1000: 20 * time.Second} {
		stays, renewal := w.stays(n)
		if stays != want || renewal != (want == 20*time.Second) {
			t.Errorf("ticket %d stays %s, and renewal is %v; want %s", n, stays, renewal, want)
		}
	}
	w.refileAfter = time.Hour
	if stays, renewal := w.stays(1); stays != 20*time.Second || !renewal {
		t.Errorf("a ticket stays %s and expires after 30s", stays)
	}
}
