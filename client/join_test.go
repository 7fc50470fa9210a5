package client_test

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/guildhall-dev/guildhall"
	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
	"github.com/guildhall-dev/guildhall/client"
)

// canceled gives a context that has ended.
func canceled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

func TestASessionFromJoinToLeave(t *testing.T) {
	both(t, func(t *testing.T, b *bundle) {
		p := b.joins()
		v := b.visited()
		if v.hello.GetPass() != "pass 1" || v.hello.After != nil {
			t.Errorf("the hello is %v, want the pass of the assignment and nothing from before", v.hello)
		}
		v.welcome(&guildhallv1.Welcome{Epoch: 7, Members: []string{"p1", "p2"}, LastSeq: 41})
		if a := until[client.Assigned](p); a.Host != "h1" || a.Epoch != 7 {
			t.Errorf("told %+v", a)
		}
		want := client.Joined{Group: dragons, Epoch: 7, Members: []guildhall.PlayerID{"p1", "p2"}, LastSeq: 41}
		if got := until[client.Joined](p); !reflect.DeepEqual(got, want) {
			t.Errorf("told %+v, want %+v", got, want)
		}
		ack := p.says("a")
		if said := v.hears("a"); string(said.GetBody()) != "body of a" {
			t.Errorf("the host heard %v", said)
		}
		v.ack("a", 42)
		b.acked(ack, 42)
		if got := until[client.Acked](p); got != (client.Acked{ID: "a", Seq: 42}) {
			t.Errorf("told %+v", got)
		}
		at := time.Unix(1700000000, 0).UTC()
		v.send(&guildhallv1.JoinResponse{Frame: &guildhallv1.JoinResponse_Events{Events: &guildhallv1.Events{Events: []*guildhallv1.Event{
			{Event: &guildhallv1.Event_Message{Message: &guildhallv1.Message{
				Seq: 42, From: "p1", Id: "a", Body: []byte("hi"), ContentType: "text/html", SaidAt: timestamppb.New(at),
			}}},
			{}, // of a later version
			{Event: &guildhallv1.Event_Member{Member: &guildhallv1.Member{Player: "p2", State: guildhallv1.MemberState_MEMBER_STATE_GONE}}},
			{Event: &guildhallv1.Event_Member{Member: &guildhallv1.Member{Player: "p3", State: guildhallv1.MemberState_MEMBER_STATE_HERE}}},
		}}}})
		message := client.Message{Seq: 42, From: "p1", ID: "a", Body: []byte("hi"), ContentType: "text/html", SaidAt: at}
		if got := until[client.Message](p); !reflect.DeepEqual(got, message) {
			t.Errorf("told %+v, want %+v", got, message)
		}
		for _, want := range []client.Member{{Player: "p2"}, {Player: "p3", Here: true}} {
			if got := until[client.Member](p); got != want {
				t.Errorf("told %+v, want %+v", got, want)
			}
		}
		left := make(chan error, 1)
		go func() { left <- p.Leave(b.ctx) }()
		v.left()
		if got := until[client.Closed](p); got != (client.Closed{Code: "left", Reason: "because"}) {
			t.Errorf("told %+v", got)
		}
		if err := p.ends(); err != nil {
			t.Errorf("the room ended with %v", err)
		}
		if err := <-left; err != nil {
			t.Errorf("Leave: %v", err)
		}
		if got := b.lobby.shown(); !slices.Equal(got, []string{"Bearer token of p1"}) {
			t.Errorf("the lobby was shown %q", got)
		}
	})
}

func TestJoinBehindANumber(t *testing.T) {
	both(t, func(t *testing.T, b *bundle) {
		after := guildhall.Seq(3)
		b.config.After = &after
		p := b.joins()
		v := b.visited()
		if v.hello.After == nil || v.hello.GetAfter() != 3 {
			t.Errorf("the hello is %v, want after 3", v.hello)
		}
		gone := uint64(5)
		v.welcome(&guildhallv1.Welcome{LastSeq: 8, HistoryTruncated: &gone})
		if got := until[client.Joined](p); got.TruncatedTo != 5 || got.LastSeq != 8 {
			t.Errorf("told %+v, want that messages up to 5 are gone", got)
		}
		v.shows(6, 7, 8)
		for want := guildhall.Seq(6); want <= 8; want++ {
			if got := until[client.Message](p); got.Seq != want {
				t.Errorf("told number %d, want %d", got.Seq, want)
			}
		}
	})
}

// All from the beginning is not the same as nothing from before.
func TestJoinBehindZero(t *testing.T) {
	both(t, func(t *testing.T, b *bundle) {
		b.config.After = new(guildhall.Seq)
		b.joins()
		if v := b.visited(); v.hello.After == nil || v.hello.GetAfter() != 0 {
			t.Errorf("the hello is %v, want after 0", v.hello)
		}
	})
}

func TestAConfigurationThatLacksSomething(t *testing.T) {
	t.Parallel()
	for _, config := range []client.Config{{}, {Server: "http://127.0.0.1:1"}, {Token: "t"}, {Conn: new(grpc.ClientConn)}} {
		if room, err := client.Join(t.Context(), config, dragons); err == nil || room != nil || !strings.Contains(err.Error(), "Server, or Conn, and Token") {
			t.Errorf("Join with %+v: %v", config, err)
		}
		if _, err := client.Enter(t.Context(), config, dragons); err == nil {
			t.Errorf("Enter with %+v succeeded", config)
		}
	}
}

// onBothPorts runs a test that enters at the port of all protocols, and one that enters at the port of gRPC alone.
func onBothPorts(t *testing.T, test func(t *testing.T, b *bundle)) {
	t.Helper()
	t.Run("Server", func(t *testing.T) { test(t, setup(t, client.GRPC)) })
	t.Run("Conn", func(t *testing.T) {
		b := setup(t, client.GRPC)
		b.callByGRPC(strings.TrimPrefix(b.lobby.url, "http://"))
		test(t, b)
	})
}

// callByGRPC has the player call the frontend by grpc-go.
func (b *bundle) callByGRPC(address string) {
	b.t.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = conn.Close() }) // nothing is under way
	b.config.Conn, b.config.Server = conn, ""
}

func TestEnterGivesTheAssignment(t *testing.T) {
	onBothPorts(t, func(t *testing.T, b *bundle) {
		got, err := client.Enter(b.ctx, b.config, dragons)
		if err != nil || got.GetHost() != "h1" || got.GetEpoch() != 7 || got.GetPass() != "pass 1" {
			t.Errorf("Enter: %v, %v", got, err)
		}
		if got := b.lobby.shown(); !slices.Equal(got, []string{"Bearer token of p1"}) {
			t.Errorf("the tokens shown are %q", got)
		}
		b.lobby.answers(connect.NewError(connect.CodePermissionDenied, errors.New("not your group")))
		if _, err := client.Enter(b.ctx, b.config, dragons); connect.CodeOf(err) != connect.CodePermissionDenied || !strings.Contains(err.Error(), "guild:dragons") {
			t.Errorf("Enter: %v, want PermissionDenied and the group", err)
		}
		b.lobby.answers(errBreakOff)
		if _, err := client.Enter(b.ctx, b.config, dragons); connect.CodeOf(err) != connect.CodeUnavailable {
			t.Errorf("Enter: %v, want Unavailable of a stream that ends without an assignment", err)
		}
		b.lobby.waits()
		ctx, cancel := context.WithCancel(b.ctx)
		entered := make(chan error, 1)
		go func() {
			_, err := client.Enter(ctx, b.config, dragons)
			entered <- err
		}()
		cancel()
		if err := <-entered; connect.CodeOf(err) != connect.CodeCanceled && !errors.Is(err, context.Canceled) {
			t.Errorf("a canceled Enter: %v", err)
		}
	})
}

// What Enter says for good ends the room; what it says for now is tried again.
func TestErrorsOfEnter(t *testing.T) {
	final := map[connect.Code]bool{
		connect.CodeUnauthenticated: true, connect.CodePermissionDenied: true, connect.CodeInvalidArgument: true, connect.CodeUnimplemented: true,
	}
	for code := connect.CodeCanceled; code <= connect.CodeUnauthenticated; code++ {
		onBothPorts(t, func(t *testing.T, b *bundle) {
			b.lobby.answers(connect.NewError(code, errors.New("no")), connect.NewError(code, errors.New("still no")))
			p := b.joins()
			if !final[code] {
				b.seats(0)
				until[client.Joined](p)
				if n := b.lobby.entered(); n != 3 {
					t.Errorf("it entered %d times, want 3", n)
				}
				never[client.Closed](t, p)
				return
			}
			ack, err := p.Say(b.ctx, []byte("hi"))
			if err == nil {
				b.unanswered(ack)
			} else if !errors.Is(err, client.ErrLeft) {
				t.Errorf("Say: %v", err)
			}
			if err := p.ends(); connect.CodeOf(err) != code || !strings.HasSuffix(err.Error(), ": no") {
				t.Errorf("the room ended with %v, want %s: no", err, code)
			}
			if n := b.lobby.entered(); n != 1 {
				t.Errorf("it entered %d times, want once", n)
			}
		})
	}
}

// A frontend that is not there is waited for, until the caller has enough.
func TestNoFrontend(t *testing.T) {
	onBothPorts(t, func(t *testing.T, b *bundle) {
		if b.config.Conn != nil {
			b.callByGRPC("127.0.0.1:1")
		} else {
			b.config.Server = "http://127.0.0.1:1"
		}
		ctx, cancel := context.WithCancel(b.ctx)
		room, err := client.Join(ctx, b.config, dragons)
		if err != nil {
			t.Fatal(err)
		}
		ack, err := room.Say(b.ctx, []byte("anybody?"))
		if err != nil {
			t.Fatal(err)
		}
		cancel()
		if err := room.Err(); !errors.Is(err, context.Canceled) {
			t.Errorf("the room ended with %v", err)
		}
		b.unanswered(ack)
	})
}
