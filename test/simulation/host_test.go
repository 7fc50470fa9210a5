package simulation

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/guildhall-dev/guildhall"
	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
	"github.com/guildhall-dev/guildhall/internal/pass"
	"github.com/guildhall-dev/guildhall/internal/registry"
	"github.com/guildhall-dev/guildhall/internal/roomlog"
	"github.com/guildhall-dev/guildhall/internal/transport"
	"github.com/guildhall-dev/guildhall/roomserver"
)

const (
	leaseTTL      = 3 * time.Second
	roomIdleGrace = 2 * time.Second
	hostIdleGrace = 3 * time.Second
)

// passKey signs all passes; the runs share it, for making one costs more than the rest of a start.
var passKey = ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))

// host is a game server: the real host over the real registry and log.
type host struct {
	*process
	host *roomserver.Host
	// What Agones knows of it. Owned by the world, as is the rest.
	ready, allocated, leaving bool

	streams []*joined
	calls   int

	// life ends with SIGTERM, the process's own context with its death.
	life context.Context
	term context.CancelFunc
}

// startHost starts a host.
func (w *world) startHost(name string) {
	if w.over {
		return
	}
	h := &host{process: w.newProcess(name)}
	h.life, h.term = context.WithCancel(h.ctx)
	w.hosts = append(w.hosts, h)
	w.named[name] = h
	w.after(w.between(1, 50*time.Millisecond), func() { go h.main() })
}

// die is kill -9: its connections are reset.
func (h *host) die() {
	h.crash()
	for _, s := range h.streams {
		s.reset()
	}
	h.world.fleet.exited(h)
}

// main is the life of a host. One that cannot begin exits, and the fleet starts another.
func (h *host) main() {
	w := h.world
	bare, err := h.open()
	if err != nil {
		w.issue(h.process, "could not start", func() {
			if !h.dead {
				h.die()
			}
		})
		return
	}
	w.issue(h.process, "serves", func() { h.host = bare })
	ended := make(chan error, 1)
	go func() { ended <- bare.Run(h.life) }()
	select {
	case <-bare.Leased():
		w.issue(h.process, "ready", func() { h.ready = true })
	case <-h.life.Done():
	}
	select {
	case <-bare.Closing():
		w.issue(h.process, "shutdown", func() { w.send(h.process, w.agones, h.terminate) })
	case <-h.life.Done():
	}
	<-ended // it says if the lease could not be returned; it expires
	w.issue(h.process, "exits", func() {
		if !h.dead {
			h.die()
		}
	})
}

// terminate is Agones ending a host.
func (h *host) terminate() {
	h.leaving = true
	h.world.after(h.world.between(0, time.Second), h.term)
}

func (h *host) open() (*roomserver.Host, error) {
	client := newClient(h.process)
	r, err := registry.Open(h.ctx, client, registry.Config{LeaseTTL: h.world.variant.hostLeaseTTL(), Bans: true})
	if err != nil {
		return nil, err
	}
	log, err := roomlog.Open(h.ctx, client, roomlog.Config{Streams: logStreams})
	if err != nil {
		return nil, err
	}
	return roomserver.NewHost(roomserver.HostConfig{
		Name: guildhall.HostName(h.name), Address: h.name, InternalAddress: h.name, Capacity: h.world.plan.roomsPerHost(),
		Kinds:     guildhall.Kinds{"guild": {Capacity: 100, IdleGrace: roomIdleGrace, History: 500}},
		IdleGrace: h.world.variant.hostIdleGrace(), BodyBytes: 4096, Registry: r, Log: log,
		PassKeys: func() pass.PublicKeys { return pass.PublicKeys{passKey.Public().(ed25519.PublicKey)} },
	}), nil
}

// find gives a host by its name.
func (w *world) find(name string) *host { return w.named[name] }

// serveInternal calls a method of HostService.
func (w *world) serveInternal(name, method string, in proto.Message, answer func(any, error)) {
	h := w.find(name)
	if h.host == nil {
		answer(nil, status.Error(codes.Unavailable, "not listening yet"))
		return
	}
	h.calls++
	what := fmt.Sprintf("%s %d", method, h.calls)
	service := h.host.HostService()
	go func() {
		ctx, cancel := context.WithTimeout(h.ctx, time.Minute)
		defer cancel()
		out, err := serve(ctx, service, in)
		w.issue(h.process, what, func() { answer(out, err) })
	}()
}

func serve(ctx context.Context, service guildhallv1.HostServiceServer, in proto.Message) (proto.Message, error) {
	switch request := in.(type) {
	case *guildhallv1.OpenRoomRequest:
		return service.OpenRoom(ctx, request)
	case *guildhallv1.KeepRequest:
		return service.Keep(ctx, request)
	case *guildhallv1.DisownRequest:
		return service.Disown(ctx, request)
	}
	return nil, status.Errorf(codes.Unimplemented, "%T", in)
}

// joined is a player's stream at a host, as a transport gives it to the host. Frames arrive in order both ways.
type joined struct {
	host   *host
	player *player
	number int // of the player's connections
	ctx    context.Context
	cancel context.CancelFunc
	frames chan *guildhallv1.JoinRequest

	mu     sync.Mutex
	sent   int           // guarded by mu; frames, by the host
	closed chan struct{} // closed when the host has ended the stream
	ending sync.Once

	// Owned by the world.
	broken           bool
	toHost, toPlayer time.Duration // when the last frame arrives
}

var _ transport.Stream = (*joined)(nil)

// join opens a stream at a host.
func (h *host) join(s *joined) {
	h.streams = append(h.streams, s)
	serving := h.host
	go func() {
		serving.Serve(s)
		s.cancel() // as a transport does when the handler returns
		h.world.issue(h.process, s.name("frame end"), func() {
			h.world.sendInOrder(h.process, s.player.process, &s.toPlayer, func() { s.player.streamEnded(s) })
		})
	}()
}

func (s *joined) name(what string) string {
	return fmt.Sprintf("%s/%d %s", s.player.name, s.number, what)
}

func (s *joined) IsJSON() bool { return false }

func (s *joined) Receive() ([]byte, error) {
	select {
	case <-s.closed:
		return nil, transport.ErrEnded
	default:
	}
	select {
	case frame := <-s.frames:
		return proto.Marshal(frame)
	case <-s.closed:
	case <-s.ctx.Done():
	}
	return nil, transport.ErrEnded
}

func (s *joined) Send(frames [][]byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx.Err() != nil {
		return transport.ErrEnded
	}
	for _, b := range frames {
		frame := &guildhallv1.JoinResponse{}
		if err := proto.Unmarshal(b, frame); err != nil {
			return fmt.Errorf("a frame of the host: %w", err)
		}
		s.sent++
		w := s.host.world
		w.issue(s.host.process, s.name(fmt.Sprintf("frame %06d", s.sent)), func() {
			w.judge.sent(s, frame)
			if !s.broken {
				w.sendInOrder(s.host.process, s.player.process, &s.toPlayer, func() { s.player.received(s, frame) })
			}
		})
	}
	return nil
}

func (s *joined) IsBehind() bool { return false }

func (s *joined) Drained() <-chan struct{} { return nil }

func (s *joined) Close(last []byte, _ bool) {
	s.ending.Do(func() {
		if last != nil {
			_ = s.Send([][]byte{last}) // nobody may be there any more
		}
		close(s.closed)
	})
}

func (s *joined) Abort() { s.cancel() }

// reset breaks the connection: both sides find out, each in its own time.
func (s *joined) reset() {
	if s.broken {
		return
	}
	s.broken = true
	w := s.host.world
	w.after(w.between(time.Millisecond, 2*time.Second), func() { s.player.streamEnded(s) })
	w.after(w.between(time.Millisecond, 5*time.Second), s.cancel)
}
