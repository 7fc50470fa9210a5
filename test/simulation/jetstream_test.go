package simulation

import (
	"cmp"
	"context"
	"errors"
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

func (c *client) CreateStream(ctx context.Context, config jetstream.StreamConfig) (jetstream.Stream, error) {
	name, isBucket := strings.CutPrefix(config.Name, "KV_")
	s, err := ask(ctx, c, "stream "+config.Name, func(b *broker) (*stream, error) {
		prefix := strings.TrimSuffix(config.Subjects[0], ">")
		return b.open(name, prefix, isBucket, config.MaxAge), nil
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
	w, err := ask(ctx, b.client, "watch "+b.stream.name, func(broker *broker) (*watch, error) {
		return broker.watchAll(b.client.process, b.stream), nil
	})
	if err != nil {
		return nil, err
	}
	if len(options) == 0 {
		return &watcher{updates: w.updates}, nil
	}
	return &watcher{updates: withoutMarkers(w.updates)}, nil
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

type watcher struct{ updates chan jetstream.KeyValueEntry }

func (w *watcher) Updates() <-chan jetstream.KeyValueEntry { return w.updates }
func (w *watcher) Stop() error                             { return nil }

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

// streamClient is the log's stream.
type streamClient struct {
	jetstream.Stream
	client *client
	stream *stream
}

func (s *streamClient) GetLastMsgForSubject(ctx context.Context, subject string) (*jetstream.RawStreamMsg, error) {
	m, err := ask(ctx, s.client, "last "+subject, func(b *broker) (message, error) { return b.read(s.stream, subject), nil })
	if err != nil {
		return nil, err
	}
	if m.sequence == 0 {
		return nil, jetstream.ErrMsgNotFound
	}
	return &jetstream.RawStreamMsg{Subject: subject, Sequence: m.sequence, Data: m.data, Time: m.stored}, nil
}

func (s *streamClient) OrderedConsumer(ctx context.Context, config jetstream.OrderedConsumerConfig) (jetstream.Consumer, error) {
	subject := config.FilterSubjects[0]
	messages, err := ask(ctx, s.client, "read "+subject, func(*broker) ([]message, error) {
		return slices.Clone(s.stream.subjects[subject]), nil
	})
	if err != nil {
		return nil, err
	}
	return &consumer{messages: s.client.process.world.variant.reads(messages)}, nil
}

func (s *streamClient) Info(ctx context.Context, _ ...jetstream.StreamInfoOpt) (*jetstream.StreamInfo, error) {
	return ask(ctx, s.client, "info "+s.stream.name, func(*broker) (*jetstream.StreamInfo, error) {
		return &jetstream.StreamInfo{State: jetstream.StreamState{LastSeq: s.stream.last}}, nil
	})
}

func (s *streamClient) DeleteMsg(ctx context.Context, sequence uint64) error {
	_, err := ask(ctx, s.client, "delete "+decimal(sequence), func(*broker) (struct{}, error) {
		for subject, kept := range s.stream.subjects {
			s.stream.subjects[subject] = slices.DeleteFunc(kept, func(m message) bool { return m.sequence == sequence })
		}
		return struct{}{}, nil
	})
	return err
}

// consumer reads what was there when it was made.
type consumer struct {
	jetstream.Consumer
	messages []message
}

func (c *consumer) Messages(...jetstream.PullMessagesOpt) (jetstream.MessagesContext, error) {
	return &feed{messages: c.messages}, nil
}

// feed is a consumer that is being read.
type feed struct {
	jetstream.MessagesContext
	messages []message
}

func (f *feed) Stop() {}

func (f *feed) Next(...jetstream.NextOpt) (jetstream.Msg, error) {
	if len(f.messages) == 0 {
		return nil, jetstream.ErrMsgIteratorClosed
	}
	next := f.messages[0]
	f.messages = f.messages[1:]
	return &delivered{message: next}, nil
}

// delivered is a message that a consumer gives.
type delivered struct {
	jetstream.Msg
	message message
}

func (d *delivered) Data() []byte { return d.message.data }

func (d *delivered) Metadata() (*jetstream.MsgMetadata, error) {
	return &jetstream.MsgMetadata{Sequence: jetstream.SequencePair{Stream: d.message.sequence}}, nil
}

func sortBySequence(messages []message) {
	slices.SortFunc(messages, func(a, b message) int { return cmp.Compare(a.sequence, b.sequence) })
}
