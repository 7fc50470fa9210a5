package roomserver

import (
	"bytes"
	"fmt"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
	"github.com/guildhall-dev/guildhall/internal/registry"
)

// benchBody is what is said in benchmarks: a line of chat.
var benchBody = bytes.Repeat([]byte("x"), 100)

var crowds = []int{1, 10, 100, 1000}

// reportDeliveries says what one delivery to one member cost.
func reportDeliveries(b *testing.B, members int) {
	n := float64(b.N) * float64(members)
	b.ReportMetric(n/b.Elapsed().Seconds(), "deliveries/s")
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/n, "ns/delivery")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkBroadcast is messages, which go through the log, and signals, from one player to all others, until all have read
// them. Signals are sent in bursts that fit into the kernel's buffers, for who is behind misses them.
func BenchmarkBroadcast(b *testing.B) {
	for _, over := range []wire{overGRPC, overWebSocket} {
		for _, members := range crowds {
			b.Run(fmt.Sprintf("durable/%s/members=%d", over, members), func(b *testing.B) { benchDurable(b, over, members) })
		}
		for _, members := range crowds {
			b.Run(fmt.Sprintf("signal/%s/members=%d", over, members), func(b *testing.B) { benchSignal(b, over, members) })
		}
	}
}

// stage is a room with a talker and an audience.
func stage(b *testing.B, over wire, members int) (*member, *audience) {
	b.Helper()
	bundle := newBundle(b, never)
	bundle.limits, bundle.wire = unlimited, overWebSocket
	bundle.rules.Capacity = 2 * members
	h := bundle.host("h1")
	claim := h.openRoom(dragons)
	listeners := newAudience(b)
	listeners.join(bundle, h.address, claim, over, members)
	return h.join("talker", claim, nil), listeners
}

func benchDurable(b *testing.B, over wire, members int) {
	talker, listeners := stage(b, over, members)
	listeners.start()
	b.ResetTimer()
	var talking sync.WaitGroup
	talking.Go(func() { sayAll(talker, b.N) })
	if err := talker.until(func() bool { return len(talker.acks) == b.N && talker.lastSeen() == uint64(b.N) }); err != nil {
		b.Error(err)
		return
	}
	listeners.await(int64(b.N) * int64(members))
	b.StopTimer()
	talking.Wait()
	reportDeliveries(b, members)
}

func sayAll(m *member, n int) {
	for i := range n {
		m.send(&guildhallv1.JoinRequest{Frame: &guildhallv1.JoinRequest_Say{Say: &guildhallv1.Say{Id: fmt.Sprint(i), Body: benchBody}}})
	}
}

// signalBurst is how many signals are under way at most.
const signalBurst = 32

func benchSignal(b *testing.B, over wire, members int) {
	talker, listeners := stage(b, over, members)
	listeners.start()
	b.ResetTimer()
	for sent := 0; sent < b.N; {
		for range min(signalBurst, b.N-sent) {
			sent++
			talker.signal(&guildhallv1.Signal{Topic: fmt.Sprint(sent % signalBurst), Body: benchBody})
		}
		listeners.await(int64(sent) * int64(members))
	}
	b.StopTimer()
	reportDeliveries(b, members)
}

// naive is what one writes first: a stream of grpc-go, a goroutine and a channel for each member, and every message is
// encoded for each. It has no log, no numbers and no limits.
type naive struct {
	guildhallv1.UnimplementedRoomServiceServer

	mu      sync.RWMutex
	members map[chan *guildhallv1.JoinResponse]struct{} // guarded by mu
}

func (n *naive) Join(stream guildhallv1.RoomService_JoinServer) error {
	queue := make(chan *guildhallv1.JoinResponse, 512)
	var writing sync.WaitGroup
	defer writing.Wait()
	defer close(queue)
	writing.Go(func() {
		for frame := range queue {
			_ = stream.SendMsg(frame) // a stream that broke ends by its Recv
		}
	})
	n.mu.Lock()
	n.members[queue] = struct{}{}
	n.mu.Unlock()
	defer func() {
		n.mu.Lock()
		delete(n.members, queue)
		n.mu.Unlock()
	}()
	seq := uint64(0)
	for {
		frame, err := stream.Recv()
		if err != nil {
			return nil
		}
		if frame.GetHello() != nil {
			queue <- &guildhallv1.JoinResponse{Frame: &guildhallv1.JoinResponse_Welcome{Welcome: &guildhallv1.Welcome{}}}
			continue
		}
		seq++
		n.tell(&guildhallv1.Message{Seq: seq, From: "talker", Id: frame.GetSay().GetId(), Body: frame.GetSay().GetBody()})
	}
}

// tell waits for whoever is slow: nothing is lost, as in the other benchmarks.
func (n *naive) tell(m *guildhallv1.Message) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	for queue := range n.members {
		queue <- eventsFrame([]*guildhallv1.Event{messageEvent(m)}).response
	}
}

// BenchmarkNaiveGRPC is the yardstick: the same members, messages and readers.
func BenchmarkNaiveGRPC(b *testing.B) {
	for _, members := range crowds {
		b.Run(fmt.Sprintf("members=%d", members), func(b *testing.B) {
			bundle := newBundle(b, never)
			server := grpc.NewServer(grpc.WaitForHandlers(true))
			guildhallv1.RegisterRoomServiceServer(server, &naive{members: map[chan *guildhallv1.JoinResponse]struct{}{}})
			address, stop := serve(b, server)
			b.Cleanup(stop)
			listeners := newAudience(b)
			listeners.join(bundle, address, registry.Claim{Group: dragons, Host: "h1", Epoch: 1}, overGRPC, members)
			talker := bundle.callOver(dial(b, address), "talker")
			talker.hello("", nil)
			talker.must("the welcome", func() bool { return talker.welcome != nil })
			listeners.start()
			b.ResetTimer()
			var talking sync.WaitGroup
			talking.Go(func() { sayAll(talker, b.N) })
			if err := talker.until(func() bool { return talker.lastSeen() == uint64(b.N) }); err != nil {
				b.Error(err)
				return
			}
			listeners.await(int64(b.N) * int64(members))
			b.StopTimer()
			talking.Wait()
			reportDeliveries(b, members)
		})
	}
}

// BenchmarkEncode is a frame of events, as a round encodes it once for all.
func BenchmarkEncode(b *testing.B) {
	for _, messages := range []int{1, 64} {
		var events []*guildhallv1.Event
		for n := range messages {
			m := message("player", n)
			m.Seq, m.Body = uint64(n+1), benchBody
			events = append(events, messageEvent(m))
		}
		for _, asJSON := range []bool{false, true} {
			b.Run(fmt.Sprintf("messages=%d/json=%t", messages, asJSON), func(b *testing.B) {
				b.ReportAllocs()
				size := 0
				for b.Loop() {
					size = len(eventsFrame(events).bytes(asJSON))
				}
				b.SetBytes(int64(size))
			})
		}
	}
}

// BenchmarkResume is a player who comes back and has missed so much: from the connection to the last message.
func BenchmarkResume(b *testing.B) {
	for _, missed := range []int{0, 100, 1000} {
		b.Run(fmt.Sprintf("missed=%d", missed), func(b *testing.B) {
			bundle := newBundle(b, never)
			bundle.limits, bundle.wire = unlimited, overWebSocket
			h := bundle.host("h1")
			claim := h.openRoom(dragons)
			talker := h.join("talker", claim, nil)
			talker.sayMany(1, 1000)
			hello, err := proto.Marshal(&guildhallv1.JoinRequest{Frame: &guildhallv1.JoinRequest_Hello{Hello: &guildhallv1.Hello{
				Pass: bundle.pass("p1", claim), After: behind(uint64(1000 - missed)),
			}}})
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				m := bundle.member("p1", bundle.dialWebSocket(h.address, false), false)
				if err := m.link.send(hello); err != nil {
					b.Fatal(err)
				}
				m.must("all that was missed", func() bool { return m.welcome != nil && len(m.messages) >= missed })
				m.cut()
			}
		})
	}
}
