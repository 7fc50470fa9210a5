package simulation

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// client is a process's connection to the broker: what production code sees of JetStream. What it does not use is not
// there, and panics.
type client struct {
	jetstream.JetStream
	process *process
	conn    *nats.Conn
}

func newClient(p *process) *client { return &client{process: p, conn: &nats.Conn{}} }

// natsTimeout is how long a call that has no deadline waits.
const natsTimeout = 5 * time.Second

// ask asks the broker. The world's goroutine calls f, when the question has arrived.
func ask[T any](ctx context.Context, c *client, what string, f func(*broker) (T, error)) (T, error) {
	return askAfter(ctx, c, what, func() {}, f)
}

// askAfter is ask, with something for the world's goroutine to do when the question is asked.
func askAfter[T any](ctx context.Context, c *client, what string, first func(), f func(*broker) (T, error)) (T, error) {
	if _, bounded := ctx.Deadline(); !bounded {
		bounded, cancel := context.WithTimeout(ctx, natsTimeout)
		defer cancel()
		ctx = bounded
	}
	w := c.process.world
	to := func() *process {
		first()
		return w.nats
	}
	value, err := c.process.call(ctx, what, to, func(answer func(any, error)) { answer(f(w.broker)) })
	if err != nil {
		var none T
		return none, err
	}
	return value.(T), nil
}

func (c *client) Conn() *nats.Conn { return c.conn }

func (c *client) PublishMsg(ctx context.Context, m *nats.Msg, _ ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	w := c.process.world
	sending := func() { w.judge.publishing(c.process, m) }
	ack, err := askAfter(ctx, c, "publish "+m.Subject, sending, func(b *broker) (*jetstream.PubAck, error) {
		sequence, err := b.publish(c.process, m)
		if err != nil {
			return nil, err
		}
		return &jetstream.PubAck{Sequence: sequence}, nil
	})
	if err != nil && w.variant.afterAppend != nil && strings.HasPrefix(m.Subject, logPrefix) {
		return w.variant.afterAppend(ctx, c, m, err)
	}
	return ack, err
}

// PublishMsgAsync publishes, and gives the answer when it is there.
func (c *client) PublishMsgAsync(m *nats.Msg, _ ...jetstream.PublishOpt) (jetstream.PubAckFuture, error) {
	f := &future{message: m, stored: make(chan *jetstream.PubAck, 1), failed: make(chan error, 1)}
	go func() { // ends with the answer, or after natsTimeout
		ack, err := c.PublishMsg(c.process.ctx, m)
		if err != nil {
			f.failed <- err
			return
		}
		f.stored <- ack
	}()
	return f, nil
}

// future is the answer to a message that was published.
type future struct {
	message *nats.Msg
	stored  chan *jetstream.PubAck
	failed  chan error
}

func (f *future) Ok() <-chan *jetstream.PubAck { return f.stored }
func (f *future) Err() <-chan error            { return f.failed }
func (f *future) Msg() *nats.Msg               { return f.message }

func (c *client) CreateStream(ctx context.Context, config jetstream.StreamConfig) (jetstream.Stream, error) {
	name, isBucket := strings.CutPrefix(config.Name, "KV_")
	s, err := ask(ctx, c, "stream "+config.Name, func(b *broker) (*stream, error) {
		prefix := strings.TrimSuffix(config.Subjects[0], ">")
		s := b.open(name, prefix, isBucket, config.MaxAge)
		if s.metadata == nil {
			s.metadata = maps.Clone(config.Metadata)
		}
		if !maps.Equal(s.metadata, config.Metadata) {
			return nil, jetstream.ErrStreamNameAlreadyInUse
		}
		return s, nil
	})
	if err != nil {
		return nil, err
	}
	return &streamClient{client: c, stream: s}, nil
}

func (c *client) CreateKeyValue(ctx context.Context, config jetstream.KeyValueConfig) (jetstream.KeyValue, error) {
	s, err := ask(ctx, c, "bucket "+config.Bucket, func(b *broker) (*stream, error) {
		return b.open(config.Bucket, "$KV."+config.Bucket+".", true, config.TTL), nil
	})
	if err != nil {
		return nil, err
	}
	return &bucketClient{client: c, stream: s}, nil
}

func (c *client) KeyValue(ctx context.Context, bucket string) (jetstream.KeyValue, error) {
	return c.CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: bucket})
}

// bucketClient is a key-value bucket.
type bucketClient struct {
	jetstream.KeyValue
	client *client
	stream *stream
}

func (b *bucketClient) Bucket() string { return b.stream.name }

func (b *bucketClient) get(ctx context.Context, key string) (message, error) {
	return ask(ctx, b.client, "get "+b.stream.name+" "+key, func(broker *broker) (message, error) {
		m := broker.read(b.stream, b.stream.prefix+key)
		return broker.world.variant.sees(b.client.process, b.stream, m), nil
	})
}

func (b *bucketClient) Get(ctx context.Context, key string) (jetstream.KeyValueEntry, error) {
	m, err := b.get(ctx, key)
	if err != nil {
		return nil, err
	}
	if m.sequence == 0 || m.op != jetstream.KeyValuePut {
		return nil, jetstream.ErrKeyNotFound
	}
	return m.entry(b.stream), nil
}

// Create writes a key that is not there. As the real client does, it writes over a marker in a second step.
func (b *bucketClient) Create(ctx context.Context, key string, value []byte, _ ...jetstream.KVCreateOpt) (uint64, error) {
	revision, err := b.Update(ctx, key, value, 0)
	if !errors.Is(err, errWrongSequence) {
		return revision, err
	}
	m, readErr := b.get(ctx, key)
	if readErr == nil && m.sequence != 0 && m.op != jetstream.KeyValuePut {
		return b.Update(ctx, key, value, m.sequence)
	}
	return 0, jetstream.ErrKeyExists
}

func (b *bucketClient) Update(ctx context.Context, key string, value []byte, revision uint64) (uint64, error) {
	m := nats.NewMsg(b.stream.prefix + key)
	m.Data = value
	m.Header.Set(jetstream.ExpectedLastSubjSeqHeader, decimal(revision))
	ack, err := b.client.PublishMsg(ctx, m)
	if err != nil {
		return 0, err
	}
	return ack.Sequence, nil
}

// WatchAll watches; the one option that is in use is the one to leave deletions out.
func (b *bucketClient) WatchAll(ctx context.Context, options ...jetstream.WatchOpt) (jetstream.KeyWatcher, error) {
	once := len(options) > 0 // whoever leaves deletions out reads what is there, and stops
	w, err := ask(ctx, b.client, "watch "+b.stream.name, func(broker *broker) (*watch, error) {
		if once {
			return broker.readBucket(b.client.process, b.stream), nil
		}
		return broker.watchAll(b.client.process, b.stream), nil
	})
	if err != nil {
		return nil, err
	}
	if once {
		return &watcher{updates: withoutMarkers(w.updates)}, nil
	}
	return &watcher{updates: w.updates, watch: w}, nil
}

// withoutMarkers gives what is there already, but for markers.
func withoutMarkers(updates chan jetstream.KeyValueEntry) chan jetstream.KeyValueEntry {
	left := make(chan jetstream.KeyValueEntry, cap(updates))
	for entry := range updates {
		if entry == nil || entry.Operation() == jetstream.KeyValuePut {
			left <- entry
		}
		if entry == nil {
			break
		}
	}
	return left
}

type watcher struct {
	updates chan jetstream.KeyValueEntry
	watch   *watch // nil for one that has been told everything
}

func (w *watcher) Updates() <-chan jetstream.KeyValueEntry { return w.updates }

// Stop ends a watch: it is told nothing more.
func (w *watcher) Stop() error {
	if w.watch != nil {
		p := w.watch.process
		p.world.issue(p, "stop watching "+w.watch.stream.name, func() { w.watch.broken = true })
	}
	return nil
}

// keyValue is a message of a bucket.
type keyValue struct {
	message
	stream *stream
}

func (m message) entry(s *stream) jetstream.KeyValueEntry { return keyValue{m, s} }

func (k keyValue) Bucket() string                  { return k.stream.name }
func (k keyValue) Key() string                     { return strings.TrimPrefix(k.subject, k.stream.prefix) }
func (k keyValue) Value() []byte                   { return k.data }
func (k keyValue) Revision() uint64                { return k.sequence }
func (k keyValue) Created() time.Time              { return k.stored }
func (k keyValue) Delta() uint64                   { return 0 }
func (k keyValue) Operation() jetstream.KeyValueOp { return k.op }

func sortBySequence(messages []message) {
	slices.SortFunc(messages, func(a, b message) int { return cmp.Compare(a.sequence, b.sequence) })
}
