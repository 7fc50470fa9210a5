package simulation

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	connecting "github.com/guildhall-dev/guildhall/internal/broker"
)

// reads is what the log relies on when it reads back, and when it drops what is old.
var reads = []assumption{
	{"a message is found by its subject at a sequence or behind it", func(s *subjectOfTest) error {
		at, err := s.publishMany("find", "0", "1", "2")
		if err != nil {
			return err
		}
		between, err := s.publish("find-between", "another subject's", 0)
		if err != nil {
			return err
		}
		more, err := s.publish("find", "3", at[2])
		if err != nil {
			return err
		}
		errs := []error{s.finds("find", 1, at[0]), s.finds("find", between, more), s.finds("find", more, more), s.finds("find", more+1, 0), s.finds("find-none", 1, 0)}
		for _, sequence := range at {
			errs = append(errs, s.finds("find", sequence, sequence))
		}
		if err := s.log.DeleteMsg(s.ctx, at[1]); err != nil {
			return err
		}
		return errors.Join(append(errs, s.finds("find", at[1], at[2]))...)
	}},
	{"a message says when it was stored, and later ones say later", func(s *subjectOfTest) error {
		at, err := s.publishMany("when", "0", "1")
		if err != nil {
			return err
		}
		var stored []time.Time
		for _, sequence := range at {
			m, err := s.log.GetMsg(s.ctx, sequence, jetstream.WithGetMsgSubject(testLog+"when"))
			if err != nil {
				return err
			}
			stored = append(stored, m.Time)
		}
		last, err := s.log.GetLastMsgForSubject(s.ctx, testLog+"when")
		if err != nil || !last.Time.Equal(stored[1]) || stored[1].Before(stored[0]) || stored[0].IsZero() {
			return fmt.Errorf("stored at %v, the last at %v; %w", stored, last, err)
		}
		return nil
	}},
	{"a reader begins at a sequence or behind it, also where something was deleted", func(s *subjectOfTest) error {
		at, err := s.publishMany("begin", "0", "1", "2", "3")
		if err != nil {
			return err
		}
		errs := []error{s.reads("begin", 1, "0", "1", "2", "3"), s.reads("begin", at[0], "0", "1", "2", "3"), s.reads("begin", at[2], "2", "3")}
		if err := s.log.DeleteMsg(s.ctx, at[2]); err != nil {
			return err
		}
		return errors.Join(append(errs, s.reads("begin", at[2], "3"), s.reads("begin", at[1], "1", "3"))...)
	}},
	{"a purge drops what a subject has below a sequence, and nothing else", func(s *subjectOfTest) error {
		at, err := s.publishMany("purge", "0", "1", "2", "3")
		if err != nil {
			return err
		}
		neighbour, err := s.publishMany("purge-not", "a", "b")
		if err != nil {
			return err
		}
		for _, step := range []struct {
			below uint64
			left  []string
		}{
			{1, []string{"0", "1", "2", "3"}},
			{at[0], []string{"0", "1", "2", "3"}},
			{at[2], []string{"2", "3"}},
			{at[1], []string{"2", "3"}}, // what is gone already
			{at[3], []string{"3"}},
			{at[3], []string{"3"}},
		} {
			if err := s.drop("purge", step.below); err != nil {
				return fmt.Errorf("below %d: %w", step.below, err)
			}
			if err := s.reads("purge", 1, step.left...); err != nil {
				return fmt.Errorf("behind a purge below %d: %w", step.below, err)
			}
		}
		return errors.Join(s.finds("purge", 1, at[3]), s.finds("purge-not", 1, neighbour[0]), s.reads("purge-not", 1, "a", "b"))
	}},
	{"the end of a log is what it was when all before it was dropped", func(s *subjectOfTest) error {
		at, err := s.publishMany("dropped", "0", "1", "2")
		if err != nil {
			return err
		}
		if err := s.drop("dropped", at[2]); err != nil {
			return err
		}
		last, err := s.log.GetLastMsgForSubject(s.ctx, testLog+"dropped")
		if err != nil || last.Sequence != at[2] {
			return fmt.Errorf("the end is %+v, %w", last, err)
		}
		_, none := s.publish("dropped", "over none", 0)
		_, gone := s.publish("dropped", "over what is gone", at[1])
		next, err := s.publish("dropped", "3", at[2])
		if err != nil || next <= at[2] {
			return fmt.Errorf("behind the end: %d, %w", next, err)
		}
		return errors.Join(refused("over none", none), refused("over what is gone", gone), s.reads("dropped", 1, "2", "3"))
	}},
	{"headers alone are read of all subjects that begin alike, in order", func(s *subjectOfTest) error {
		at, err := s.publishMany("kind.a", "0", "1")
		if err != nil {
			return err
		}
		b, err := s.publishMany("kind.b", "2")
		if err != nil {
			return err
		}
		if _, err := s.publish("other.c", "3", 0); err != nil {
			return err
		}
		last, err := s.log.GetLastMsgForSubject(s.ctx, testLog+"kind.*")
		if err != nil || last.Sequence != b[0] {
			return fmt.Errorf("the last of all is %+v, %w", last, err)
		}
		read, err := s.read(1, 3, jetstream.OrderedConsumerConfig{FilterSubjects: []string{testLog + "kind.*"}, HeadersOnly: true})
		if err != nil {
			return err
		}
		for i, m := range read {
			want, subject := append(at, b...)[i], testLog+[]string{"kind.a", "kind.a", "kind.b"}[i]
			if m.sequence != want || m.subject != subject || len(m.data) > 0 || m.stored.IsZero() {
				return fmt.Errorf("read %+v, want %d of %s without its data", m, want, subject)
			}
		}
		return nil
	}},
	{"a stream is opened again by who has its metadata, and by nobody else", func(s *subjectOfTest) error {
		config := jetstream.StreamConfig{
			Name: "conformance_meta", Subjects: []string{"conformance-meta.>"}, Replicas: s.replicas, Metadata: map[string]string{"streams": "4"},
		}
		for range 2 {
			if _, err := connecting.OpenStream(s.ctx, s.js, config); err != nil {
				return err
			}
		}
		for _, other := range []map[string]string{nil, {"streams": "2"}, {"streams": "4", "more": "1"}} {
			config.Metadata = other
			if _, err := connecting.OpenStream(s.ctx, s.js, config); !errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
				return fmt.Errorf("with %v: %w, want ErrStreamNameAlreadyInUse", other, err)
			}
		}
		return nil
	}},
}

// publishMany appends to a subject that is new.
func (s *subjectOfTest) publishMany(subject string, data ...string) (sequences []uint64, err error) {
	last := uint64(0)
	for _, d := range data {
		if last, err = s.publish(subject, d, last); err != nil {
			return nil, err
		}
		sequences = append(sequences, last)
	}
	return sequences, nil
}

// finds sees that the first message of a subject at or behind a sequence is the one it should be; 0 is none.
func (s *subjectOfTest) finds(subject string, from, want uint64) error {
	m, err := s.log.GetMsg(s.ctx, from, jetstream.WithGetMsgSubject(testLog+subject))
	if want == 0 && errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil
	}
	if err != nil || m.Sequence != want || m.Subject != testLog+subject {
		return fmt.Errorf("from %d on the first of %s is %+v, want %d; %w", from, subject, m, want, err)
	}
	return nil
}

func (s *subjectOfTest) drop(subject string, below uint64) error {
	return s.log.Purge(s.ctx, jetstream.WithPurgeSubject(testLog+subject), jetstream.WithPurgeSequence(below))
}

// reads sees that the log of a subject reads as it should from a sequence on; 0 is its beginning. NATS gives a reader to any
// node that has the stream: what was dropped just now may still be there, so it is read again.
func (s *subjectOfTest) reads(subject string, from uint64, want ...string) error {
	for {
		read, err := s.read(from, len(want), jetstream.OrderedConsumerConfig{FilterSubjects: []string{testLog + subject}})
		if err != nil {
			return err
		}
		var data []string
		for _, m := range read {
			data = append(data, string(m.data))
		}
		if !slices.IsSortedFunc(read, func(a, b message) int { return cmp.Compare(a.sequence, b.sequence) }) {
			return fmt.Errorf("%s reads %q from %d on, not in order", subject, data, from)
		}
		if slices.Equal(data, want) {
			return nil
		}
		if s.replicas == 1 || s.ctx.Err() != nil {
			return fmt.Errorf("%s reads %q from %d on, want %q", subject, data, from, want)
		}
	}
}

// read reads so many messages.
func (s *subjectOfTest) read(from uint64, n int, config jetstream.OrderedConsumerConfig) (read []message, err error) {
	if from > 0 {
		config.DeliverPolicy, config.OptStartSeq = jetstream.DeliverByStartSequencePolicy, from
	}
	consumer, err := s.log.OrderedConsumer(s.ctx, config)
	if err != nil {
		return nil, err
	}
	feed, err := consumer.Messages()
	if err != nil {
		return nil, err
	}
	defer feed.Stop()
	for range n {
		m, err := feed.Next(jetstream.NextContext(s.ctx))
		if err != nil {
			return nil, err
		}
		meta, err := m.Metadata()
		if err != nil {
			return nil, err
		}
		read = append(read, message{subject: m.Subject(), sequence: meta.Sequence.Stream, data: m.Data(), stored: meta.Timestamp})
	}
	return read, nil
}
