package roomlog

import (
	"fmt"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/guildhall-dev/guildhall"
)

// Groups are spread over the streams, by a number that every service has.
func TestStreams(t *testing.T) {
	t.Parallel()
	onBothOf(t, 4, func(t *testing.T, b *bench) {
		js := b.js
		config := Config{Replicas: b.replicas, Streams: 4}
		log, err := Open(b.ctx, js, config) // they are opened again
		if err != nil {
			t.Fatal(err)
		}
		used := map[int]bool{}
		for n := range 20 {
			group := guildhall.Group{Kind: "guild", ID: fmt.Sprint(n)}
			w, _, err := log.Open(b.ctx, group, 1)
			if err != nil {
				t.Fatal(err)
			}
			b.sayMany(w, 3, 1, 5)
			stream, err := js.Stream(b.ctx, streamName(group.Shard(4)))
			if err != nil {
				t.Fatal(err)
			}
			subject := fmt.Sprintf("guildhall.log.%d.%s", group.Shard(4), group.Key())
			if _, err := stream.GetLastMsgForSubject(b.ctx, subject); err != nil {
				t.Errorf("%s is not at %s: %v", group, subject, err)
			}
			used[group.Shard(4)] = true
		}
		if len(used) != 4 {
			t.Errorf("twenty groups are in %d streams", len(used))
		}
		if n, err := log.Sweep(b.ctx, guildhall.Kinds{"guild": {Keep: 1}}); n != 60 || err != nil {
			t.Errorf("Sweep of all streams dropped %d entries, %v; want 60", n, err)
		}
		for _, streams := range []int{0, 1, 3, 5, 100} {
			other := config
			other.Streams = streams
			if _, err := Open(b.ctx, js, other); err == nil || !strings.Contains(err.Error(), "GUILDHALL_LOG_STREAMS=4") {
				t.Errorf("opening with %d streams: %v, want an error that says to set GUILDHALL_LOG_STREAMS=4", streams, err)
			}
		}
		if _, err := js.Stream(b.ctx, streamName(4)); err == nil {
			t.Error("who was refused has made a stream")
		}
		if b.replicas > 1 {
			if _, err := Open(b.ctx, js, Config{Streams: 4}); err == nil || !strings.Contains(err.Error(), "GUILDHALL_NATS_REPLICAS") {
				t.Errorf("opening with one replica: %v, want an error that names GUILDHALL_NATS_REPLICAS", err)
			}
		}
		if _, err := Open(b.ctx, js, config); err != nil {
			t.Errorf("opening again: %v", err)
		}
	})
}

// A stream that differs is left alone, and the error says what to do.
func TestStreamWithOtherSettings(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		change func(*jetstream.StreamConfig)
		says   string
	}{
		{"storage", func(c *jetstream.StreamConfig) { c.Storage = jetstream.MemoryStorage }, "left alone"},
		{"retention", func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject = 5 }, "left alone"},
		{"no number", func(c *jetstream.StreamConfig) { c.Metadata = nil }, "left alone"},
		{"number", func(c *jetstream.StreamConfig) { c.Metadata[streamsKey] = "8" }, "GUILDHALL_LOG_STREAMS=8"},
		{"former", func(c *jetstream.StreamConfig) {
			*c = jetstream.StreamConfig{Name: formerStream, Subjects: []string{"guildhall.log.>"}}
		}, "nats stream rm guildhall_log"},
		{"foreign", func(c *jetstream.StreamConfig) {
			*c = jetstream.StreamConfig{Name: "foreign", Subjects: []string{"guildhall.>"}}
		}, "overlap"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			ctx, js := t.Context(), connect(t, startOne(t))
			there := Config{}.stream(0)
			test.change(&there)
			if _, err := js.CreateStream(ctx, there); err != nil {
				t.Fatal(err)
			}
			if _, err := Open(ctx, js, Config{}); err == nil || !strings.Contains(err.Error(), test.says) {
				t.Errorf("Open: %v, want an error that says %q", err, test.says)
			}
			left, err := js.Stream(ctx, there.Name)
			if err != nil || left.CachedInfo().Config.MaxMsgsPerSubject != max(-1, there.MaxMsgsPerSubject) && there.MaxMsgsPerSubject != 0 ||
				left.CachedInfo().Config.Storage != there.Storage {
				t.Errorf("the stream that was there is not as it was: %v", err)
			}
		})
	}
}
