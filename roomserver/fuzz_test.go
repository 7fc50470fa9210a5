package roomserver

import (
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
	"github.com/guildhall-dev/guildhall/internal/registry"
)

// A script is what a client sends: for each frame a byte that says what it is, one that says how long, and the bytes.
const (
	scriptBytes      = iota // the bytes themselves
	scriptHello             // a good hello, which wants the last so many messages
	scriptHelloAfter        // a good hello, which has seen so many messages
	scriptKinds
)

// frames reads a script. It says whether the first frame is a good hello.
func frames(b *bundle, claim registry.Claim, script []byte, asJSON bool) (frames [][]byte, good bool) {
	for len(script) >= 2 {
		kind, n := script[0]%scriptKinds, int(script[1])
		script = script[2:]
		hello := &guildhallv1.Hello{Pass: b.pass("p1", claim), Last: uint32(n)}
		switch kind {
		case scriptBytes:
			frames = append(frames, script[:min(n, len(script))])
			script = script[min(n, len(script)):]
			continue
		case scriptHelloAfter:
			hello.Last, hello.After = 0, behind(uint64(n))
		}
		encoded, err := encodeRequest(&guildhallv1.JoinRequest{Frame: &guildhallv1.JoinRequest_Hello{Hello: hello}}, asJSON)
		if err != nil {
			b.t.Fatal(err)
		}
		good = good || len(frames) == 0
		frames = append(frames, encoded)
	}
	return frames, good
}

// Whatever a client sends: nobody is seated without a valid pass, and a session ends with exactly one closed frame.
func FuzzSession(f *testing.F) {
	b := newBundle(f, never)
	h := b.host("h1")
	claim := h.openRoom(dragons)
	f.Add([]byte{}, false)
	f.Add([]byte{scriptHello, 3, scriptBytes, 2, '{', '}'}, true)
	f.Fuzz(func(t *testing.T, script []byte, asJSON bool) {
		stream := newInjected(t)
		own := *b
		own.t = t
		said, good := frames(&own, claim, script, asJSON)
		stream.json, stream.frames = asJSON, make(chan []byte, len(said))
		for _, frame := range said {
			stream.frames <- frame
		}
		close(stream.frames)
		h.door.serve(stream)
		got := stream.got()
		if len(got) == 0 || stream.ends != 1 || got[len(got)-1].GetClosed().GetCode() == 0 {
			t.Fatalf("the session ended with %v, want closed, and a reason", got)
		}
		for i, frame := range got[:len(got)-1] {
			if welcome := frame.GetWelcome(); (welcome != nil) != (good && i == 0) {
				t.Fatalf("frame %d is %v; a good hello came first: %t", i, frame, good)
			}
			if frame.GetClosed() != nil || frame.GetFrame() == nil {
				t.Fatalf("frame %d of %d is %v", i, len(got), frame)
			}
		}
	})
}

// Whatever decodes encodes again as the same, and what is said of it can be told in both encodings.
func FuzzDecode(f *testing.F) {
	for _, frame := range []*guildhallv1.JoinRequest{
		{Frame: &guildhallv1.JoinRequest_Say{Say: &guildhallv1.Say{Id: "1", Text: "hé", To: []string{"p2"}}}},
		{Frame: &guildhallv1.JoinRequest_Hello{Hello: &guildhallv1.Hello{Pass: "x.y.z", After: behind(7)}}},
		leaveFrame(),
	} {
		for _, asJSON := range []bool{false, true} {
			encoded, err := encodeRequest(frame, asJSON)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(encoded)
		}
	}
	f.Fuzz(func(t *testing.T, encoded []byte) {
		for _, asJSON := range []bool{false, true} {
			request, err := decode(encoded, asJSON)
			if err != nil {
				continue
			}
			again, err := encodeRequest(request, asJSON)
			if err != nil {
				t.Fatalf("%v was decoded and does not encode: %v", request, err)
			}
			if twice, err := decode(again, asJSON); err != nil || !proto.Equal(request, twice) {
				t.Fatalf("%v became %v, %v", request, twice, err)
			}
			tellable(t, request)
		}
	})
}

// tellable checks that what was decoded can be told.
func tellable(t *testing.T, request *guildhallv1.JoinRequest) {
	t.Helper()
	said, signalled := request.GetSay(), request.GetSignal()
	events := eventsFrame([]*guildhallv1.Event{
		messageEvent(&guildhallv1.Message{Id: said.GetId(), Body: said.GetBody(), ContentType: said.GetContentType(), To: said.GetTo()}),
		messageEvent(&guildhallv1.Message{Id: said.GetId(), Body: []byte(said.GetText()), ContentType: said.GetContentType()}),
		signalEvent(&guildhallv1.Signal{Topic: signalled.GetTopic(), Body: signalled.GetBody(), ContentType: signalled.GetContentType()}),
	})
	told := &guildhallv1.JoinResponse{}
	if err := protojson.Unmarshal(events.bytes(true), told); err != nil {
		t.Fatalf("%v is told as %s: %v", request, events.json, err)
	}
	for _, event := range told.GetEvents().GetEvents()[:1] {
		if m := event.GetMessage(); bodyOf(m) != string(said.GetBody()) {
			t.Fatalf("%q was said and %q told", said.GetBody(), bodyOf(m))
		}
	}
	if _, err := decodeResponse(events.bytes(false), false); err != nil {
		t.Fatal(err)
	}
}
