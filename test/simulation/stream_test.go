package simulation

import (
	"context"
	"encoding/json"
	"reflect"
	"slices"

	"github.com/nats-io/nats.go/jetstream"
)

// streamClient is one of the log's streams, as a process sees it.
type streamClient struct {
	jetstream.Stream
	client *client
	stream *stream
}

func (s *streamClient) GetLastMsgForSubject(ctx context.Context, subject string) (*jetstream.RawStreamMsg, error) {
	m, err := ask(ctx, s.client, "last "+subject, func(b *broker) (message, error) { return b.read(s.stream, subject), nil })
	return m.raw(err)
}

// GetMsg reads the first message of a subject at or behind a sequence; of none, the message at the sequence.
func (s *streamClient) GetMsg(ctx context.Context, sequence uint64, options ...jetstream.GetMsgOpt) (*jetstream.RawStreamMsg, error) {
	subject := nextFor(options)
	m, err := ask(ctx, s.client, "next "+subject+" "+decimal(sequence), func(b *broker) (message, error) {
		return b.readNext(s.stream, subject, sequence), nil
	})
	return m.raw(err)
}

// nextFor gives the subject that options ask for. They are functions over a request that the client library keeps to
// itself, but for what it is on the wire.
func nextFor(options []jetstream.GetMsgOpt) string {
	request := reflect.New(reflect.TypeFor[jetstream.GetMsgOpt]().In(0).Elem())
	for _, option := range options {
		reflect.ValueOf(option).Call([]reflect.Value{request})
	}
	var asked struct {
		Subject string `json:"next_by_subj"`
	}
	wire, err := json.Marshal(request.Interface())
	if err == nil {
		err = json.Unmarshal(wire, &asked)
	}
	if err != nil {
		panic(err) // the library has another request now
	}
	return asked.Subject
}

// raw gives a message as a read does.
func (m message) raw(err error) (*jetstream.RawStreamMsg, error) {
	if err != nil {
		return nil, err
	}
	if m.sequence == 0 {
		return nil, jetstream.ErrMsgNotFound
	}
	return &jetstream.RawStreamMsg{Subject: m.subject, Sequence: m.sequence, Data: m.data, Time: m.stored}, nil
}

func (s *streamClient) OrderedConsumer(ctx context.Context, config jetstream.OrderedConsumerConfig) (jetstream.Consumer, error) {
	subject, from := config.FilterSubjects[0], config.OptStartSeq
	if config.DeliverPolicy != jetstream.DeliverByStartSequencePolicy {
		from = 0
	}
	messages, err := ask(ctx, s.client, "read "+subject+" "+decimal(from), func(b *broker) ([]message, error) {
		return slices.DeleteFunc(b.readAll(s.stream, subject), func(m message) bool { return m.sequence < from }), nil
	})
	if err != nil {
		return nil, err
	}
	p := s.client.process
	return &consumer{messages: p.world.variant.reads(p, messages), headersOnly: config.HeadersOnly}, nil
}

func (s *streamClient) Info(ctx context.Context, _ ...jetstream.StreamInfoOpt) (*jetstream.StreamInfo, error) {
	return ask(ctx, s.client, "info "+s.stream.name, func(*broker) (*jetstream.StreamInfo, error) {
		return &jetstream.StreamInfo{State: jetstream.StreamState{LastSeq: s.stream.last}}, nil
	})
}

func (s *streamClient) DeleteMsg(ctx context.Context, sequence uint64) error {
	_, err := ask(ctx, s.client, "delete "+decimal(sequence), func(*broker) (struct{}, error) {
		s.stream.drop(s.stream.owners[sequence], func(m message) bool { return m.sequence == sequence })
		return struct{}{}, nil
	})
	return err
}

// Purge drops what a subject has below a sequence. There is no purge of everything: nobody should.
func (s *streamClient) Purge(ctx context.Context, options ...jetstream.StreamPurgeOpt) error {
	var request jetstream.StreamPurgeRequest
	for _, option := range options {
		if err := option(&request); err != nil {
			return err
		}
	}
	if request.Subject == "" || request.Sequence == 0 || request.Keep > 0 {
		panic("a purge without a subject and a sequence")
	}
	_, err := ask(ctx, s.client, "purge "+request.Subject+" "+decimal(request.Sequence), func(*broker) (struct{}, error) {
		s.stream.drop(request.Subject, func(m message) bool { return m.sequence < request.Sequence })
		return struct{}{}, nil
	})
	return err
}

// consumer reads what was there when it was made.
type consumer struct {
	jetstream.Consumer
	messages    []message
	headersOnly bool
}

func (c *consumer) Messages(...jetstream.PullMessagesOpt) (jetstream.MessagesContext, error) {
	return &feed{messages: c.messages, headersOnly: c.headersOnly}, nil
}

// feed is a consumer that is being read.
type feed struct {
	jetstream.MessagesContext
	messages    []message
	headersOnly bool
}

func (f *feed) Stop() {}

func (f *feed) Next(...jetstream.NextOpt) (jetstream.Msg, error) {
	if len(f.messages) == 0 {
		return nil, jetstream.ErrMsgIteratorClosed
	}
	next := f.messages[0]
	f.messages = f.messages[1:]
	if f.headersOnly {
		next.data = nil
	}
	return &delivered{message: next}, nil
}

// delivered is a message that a consumer gives.
type delivered struct {
	jetstream.Msg
	message message
}

func (d *delivered) Data() []byte    { return d.message.data }
func (d *delivered) Subject() string { return d.message.subject }

func (d *delivered) Metadata() (*jetstream.MsgMetadata, error) {
	return &jetstream.MsgMetadata{Sequence: jetstream.SequencePair{Stream: d.message.sequence}, Timestamp: d.message.stored}, nil
}
