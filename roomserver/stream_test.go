package roomserver

import (
	"io"
	"sync"
	"testing"
	"time"

	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
	"github.com/guildhall-dev/guildhall/internal/transport"
)

// injected is a stream without a connection. Its client says what the test gives it, and what it is sent is kept.
type injected struct {
	t      testing.TB
	json   bool
	frames chan []byte // what the client says; closed: it says no more
	over   chan struct{}
	takes  time.Duration // how long one Send takes
	quick  bool          // what is sent is not kept

	mu     sync.Mutex
	sent   [][]byte // guarded by mu
	sends  int      // guarded by mu
	ended  bool     // guarded by mu
	ends   int      // guarded by mu; how many last messages there were
	behind bool     // guarded by mu
	slow   bool     // guarded by mu
}

var _ transport.Stream = (*injected)(nil)

func newInjected(t testing.TB) *injected {
	return &injected{t: t, frames: make(chan []byte, 64), over: make(chan struct{})}
}

func (i *injected) IsJSON() bool { return i.json }

func (i *injected) Receive() ([]byte, error) {
	select {
	case <-i.over:
		return nil, transport.ErrEnded
	default:
	}
	select {
	case frame, open := <-i.frames:
		if !open {
			return nil, io.EOF
		}
		return frame, nil
	case <-i.over:
		return nil, transport.ErrEnded
	}
}

func (i *injected) Send(messages [][]byte) error {
	if i.takes > 0 {
		<-time.After(i.takes)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	switch {
	case i.ended:
		return transport.ErrEnded
	case i.slow:
		return transport.ErrSlow
	}
	i.sends++
	if !i.quick {
		i.sent = append(i.sent, messages...)
	}
	return nil
}

func (i *injected) IsBehind() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.behind
}

func (i *injected) Drained() <-chan struct{} { return nil }

func (i *injected) Close(last []byte, _ bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.ended {
		return
	}
	i.ended = true
	if last != nil {
		i.sent = append(i.sent, last)
		i.ends++
	}
	close(i.over)
}

func (i *injected) Abort() { i.Close(nil, true) }

// says gives the client's next frame to the host.
func (i *injected) says(frame *guildhallv1.JoinRequest) {
	i.t.Helper()
	encoded, err := encodeRequest(frame, i.json)
	if err != nil {
		i.t.Fatal(err)
	}
	i.frames <- encoded
}

// got gives what was sent so far.
func (i *injected) got() []*guildhallv1.JoinResponse {
	i.t.Helper()
	i.mu.Lock()
	defer i.mu.Unlock()
	var frames []*guildhallv1.JoinResponse
	for _, encoded := range i.sent {
		frame, err := decodeResponse(encoded, i.json)
		if err != nil {
			i.t.Fatalf("%q was sent: %v", encoded, err)
		}
		frames = append(frames, frame)
	}
	return frames
}

// events gives the events that were sent so far.
func (i *injected) events() []*guildhallv1.Event {
	i.t.Helper()
	var events []*guildhallv1.Event
	for _, frame := range i.got() {
		events = append(events, frame.GetEvents().GetEvents()...)
	}
	return events
}
