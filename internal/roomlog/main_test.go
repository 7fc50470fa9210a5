package roomlog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/guildhall-dev/guildhall"
	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
	"github.com/guildhall-dev/guildhall/internal/broker"
	"github.com/guildhall-dev/guildhall/internal/brokerlocal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for an event on a busy machine.
const patience = time.Minute

var dragons = guildhall.Group{Kind: "guild", ID: "dragons"}

// bench is a log on a NATS of its own: one node, or a cluster.
type bench struct {
	*Log
	t        *testing.T
	ctx      context.Context    // of the test
	nodes    *brokerlocal.Nodes // nil with one node
	replicas int
}

// setup opens a log on one node.
func setup(t *testing.T) *bench {
	t.Helper()
	return setupOf(t, 0)
}

// setupOf opens one of so many streams; 0 means the default.
func setupOf(t *testing.T, streams int) *bench {
	t.Helper()
	return newBench(t, startOne(t), Config{Replicas: 1, Streams: streams})
}

// startOne starts one node, in which there is nothing, and gives its URL.
func startOne(t *testing.T) string {
	t.Helper()
	server, err := brokerlocal.Start(brokerlocal.Config{Folder: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	return server.URL()
}

// oneCluster has clusters follow one another: two at once on a small machine elect for ever.
var oneCluster sync.Mutex

// setupNodes opens a log on three nodes.
func setupNodes(t *testing.T) *bench {
	t.Helper()
	return setupNodesOf(t, 0)
}

// setupNodesOf opens one of so many streams on three nodes; 0 means the default.
func setupNodesOf(t *testing.T, streams int) *bench {
	t.Helper()
	oneCluster.Lock()
	t.Cleanup(oneCluster.Unlock)
	nodes, err := brokerlocal.StartNodes(t.TempDir(), 3)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nodes.Stop)
	b := newBench(t, nodes.URL(), Config{Replicas: 3, Streams: streams})
	b.nodes = nodes
	return b
}

// onBoth runs a test on one node and on three.
func onBoth(t *testing.T, test func(t *testing.T, b *bench)) {
	t.Helper()
	onBothOf(t, 0, test)
}

// onBothOf does it with a log of so many streams; 0 means the default.
func onBothOf(t *testing.T, streams int, test func(t *testing.T, b *bench)) {
	t.Helper()
	t.Run("one node", func(t *testing.T) { t.Parallel(); test(t, setupOf(t, streams)) })
	t.Run("three nodes", func(t *testing.T) { t.Parallel(); test(t, setupNodesOf(t, streams)) })
}

func newBench(t *testing.T, url string, config Config) *bench {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*patience)
	t.Cleanup(cancel)
	log, err := Open(ctx, connect(t, url), config)
	if err != nil {
		t.Fatal(err)
	}
	return &bench{Log: log, t: t, ctx: ctx, replicas: config.Replicas}
}

// connect connects as a service does.
func connect(t *testing.T, url string) jetstream.JetStream {
	t.Helper()
	config := broker.Config{NATS: url, NATSTimeout: patience}
	conn, js, err := broker.Connect(config, "test", nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	return js
}

// stream is where dragons are.
func (b *bench) stream() jetstream.Stream { return b.place(dragons).stream }

// open opens the log of dragons for an epoch, which must succeed.
func (b *bench) open(epoch guildhall.Epoch) (*Writer, []*guildhallv1.Message) {
	b.t.Helper()
	writer, messages, err := b.Open(b.ctx, dragons, epoch)
	if err != nil {
		b.t.Fatalf("Open at epoch %d: %v", epoch, err)
	}
	return writer, messages
}

// say appends messages as one entry, which must succeed.
func (b *bench) say(w *Writer, ids ...string) {
	b.t.Helper()
	if err := w.Append(b.ctx, said(ids...)); err != nil {
		b.t.Fatalf("Append(%v) at epoch %d: %v", ids, w.epoch, err)
	}
}

// said makes messages; each id is its body too.
func said(ids ...string) []*guildhallv1.Message {
	var messages []*guildhallv1.Message
	for _, id := range ids {
		messages = append(messages, &guildhallv1.Message{Id: id, From: "p1", Body: []byte(id)})
	}
	return messages
}

// entries reads every entry of dragons straight from the stream, in order.
func (b *bench) entries() []entry {
	b.t.Helper()
	info, err := b.stream().Info(b.ctx)
	if err != nil {
		b.t.Fatal(err)
	}
	var list []entry
	for sequence := info.State.FirstSeq; sequence <= info.State.LastSeq; sequence++ {
		raw, err := b.stream().GetMsg(b.ctx, sequence)
		if errors.Is(err, jetstream.ErrMsgNotFound) || err == nil && raw.Subject != b.place(dragons).subject {
			continue
		}
		if err != nil {
			b.t.Fatal(err)
		}
		read, err := decodeRaw(raw)
		if err != nil {
			b.t.Fatal(err)
		}
		list = append(list, read)
	}
	return list
}

// checkEntries sees that epochs never fall and that numbers have no gaps, and gives the messages.
func (b *bench) checkEntries() []*guildhallv1.Message {
	b.t.Helper()
	var messages []*guildhallv1.Message
	epoch, number := uint64(0), uint64(0)
	for i, e := range b.entries() {
		if e.Epoch < epoch {
			b.t.Errorf("entry %d is of epoch %d, behind one of epoch %d", e.sequence, e.Epoch, epoch)
		}
		if i == 0 {
			number = e.LastSeq - uint64(len(e.Messages))
		}
		epoch = e.Epoch
		for _, m := range e.Messages {
			number++
			if m.Seq != number {
				b.t.Errorf("entry %d has number %d where %d is next", e.sequence, m.Seq, number)
			}
		}
		if e.LastSeq != number {
			b.t.Errorf("entry %d ends with number %d, and says %d", e.sequence, number, e.LastSeq)
		}
		messages = append(messages, e.Messages...)
	}
	return messages
}

// checkIDs compares messages with the ids that they should have.
func (b *bench) checkIDs(what string, messages []*guildhallv1.Message, want ...string) {
	b.t.Helper()
	var got []string
	for _, m := range messages {
		got = append(got, m.Id)
		if string(m.Body) != m.Id {
			b.t.Errorf("%s: message %s has body %q", what, m.Id, m.Body)
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		b.t.Errorf("%s: %v, want %v", what, got, want)
	}
}
