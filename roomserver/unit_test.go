package roomserver

import (
	"fmt"
	"testing"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/guildhall-dev/guildhall"
	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
	"github.com/guildhall-dev/guildhall/internal/registry"
	"github.com/guildhall-dev/guildhall/internal/roomlog"
)

// unitRoom is a room without a log and a registry, of a host whose lease stands. Nobody runs it but the test.
func unitRoom(t testing.TB) *room {
	t.Helper()
	h := lonelyDoor().host
	h.bodyBytes, h.limits = 4096, unlimited
	h.kinds = guildhall.Kinds{"guild": {Capacity: 5000, IdleGrace: never, History: 1000}}
	h.serveUntil.Store(int64(never))
	return newRoom(h, registry.Claim{Group: dragons, Host: "h1", Epoch: 1}, &roomlog.Writer{}, nil)
}

// takesSeat gives a player a place behind all that was said, as if the welcome had just been sent.
func (r *room) takesSeat(player guildhall.PlayerID, stream *injected) *session {
	s := newSession(stream)
	s.player = player
	r.seat(s)
	s.welcomed, s.live = r.names(), true
	return s
}

// remembers has a message in the log.
func (r *room) remembers(m *guildhallv1.Message) {
	m.Seq = r.lastSeq.Load() + 1
	r.remember(m)
}

// hears has a message in the log, to be told with the next round.
func (r *room) hears(m *guildhallv1.Message) {
	r.remembers(m)
	r.out.say(m)
}

// message is one that somebody says.
func message(from guildhall.PlayerID, n int) *guildhallv1.Message {
	return &guildhallv1.Message{From: string(from), Id: fmt.Sprint(n), Body: []byte(fmt.Sprint("message ", n)), SaidAt: timestamppb.Now()}
}

// lives has a room live, as far as it can without a log, until the returned function is called.
func (r *room) lives() (stop func()) {
	over := make(chan end)
	go func() { over <- r.serve() }()
	return func() {
		r.stop(endMoved)
		<-over
	}
}

// does has something happen to a room that lives, and waits until it has.
func (r *room) does(what func(*room)) {
	e := &probe{look: what, looked: make(chan struct{})}
	r.post(nil, e)
	<-e.looked
}
