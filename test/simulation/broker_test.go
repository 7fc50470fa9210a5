package simulation

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// broker is JetStream as Guildhall relies on it, and no more: streams whose sequences only grow, appends that may name
// the sequence that their subject must end with, expiry, markers of what was deleted, and watches. The conformance suite
// holds the real one to the same. The world's goroutine owns it.
type broker struct {
	world   *world
	streams map[string]*stream
}

// stream is one stream. Of a bucket it keeps one message for each subject.
type stream struct {
	name     string
	prefix   string // of its subjects
	isBucket bool
	ttl      time.Duration // of messages; 0 is for ever
	metadata map[string]string
	last     uint64
	subjects map[string][]message
	past     map[string][]message // all that ever was, for reads that lag
	owners   map[uint64]string    // the subject of each sequence, of what is no bucket
	watches  []*watch
}

// message is one message of a stream.
type message struct {
	subject  string
	sequence uint64
	data     []byte
	op       jetstream.KeyValueOp
	stored   time.Time
	said     int // how many messages an entry of the log has
}

// watch is somebody watching a bucket.
type watch struct {
	process *process
	stream  *stream
	updates chan jetstream.KeyValueEntry
	last    time.Duration // when the last update arrives
	broken  bool
}

// watchAhead is how many updates may arrive that a watcher has not read yet.
const watchAhead = 4096

// markerTTL is how long it is remembered that a key was deleted.
const markerTTL = 20 * time.Second

func newBroker(w *world) *broker { return &broker{world: w, streams: map[string]*stream{}} }

// open gives a stream, and makes it if it is not there.
func (b *broker) open(name, prefix string, isBucket bool, ttl time.Duration) *stream {
	s := b.streams[name]
	if s == nil {
		s = &stream{
			name: name, prefix: prefix, isBucket: isBucket, ttl: ttl,
			subjects: map[string][]message{}, past: map[string][]message{}, owners: map[uint64]string{},
		}
		b.streams[name] = s
	}
	return s
}

// find gives the stream that a subject belongs to.
func (b *broker) find(subject string) *stream {
	for _, s := range b.streams {
		if strings.HasPrefix(subject, s.prefix) {
			return s
		}
	}
	return nil
}

// end gives the last message of a subject, a marker included.
func (s *stream) end(subject string) message {
	if strings.HasSuffix(subject, "*") {
		return lastOf(s.matching(subject))
	}
	return lastOf(s.subjects[subject])
}

// endBefore gives what end gave at an instant.
func (s *stream) endBefore(subject string, then time.Time) message {
	return lastOf(before(s.past[subject], then))
}

func lastOf(messages []message) message {
	if len(messages) == 0 {
		return message{}
	}
	return messages[len(messages)-1]
}

// before gives those of messages that were stored before an instant.
func before(messages []message, then time.Time) []message {
	n := 0
	for n < len(messages) && messages[n].stored.Before(then) {
		n++
	}
	return messages[:n]
}

// matching gives what is kept of a subject, or of all that begin as it does before a final star.
func (s *stream) matching(subject string) []message {
	prefix, isWild := strings.CutSuffix(subject, "*")
	if !isWild {
		return slices.Clone(s.subjects[subject])
	}
	var found []message
	for each, kept := range s.subjects {
		if strings.HasPrefix(each, prefix) {
			found = append(found, kept...)
		}
	}
	sortBySequence(found)
	return found
}

// drop drops messages of a subject.
func (s *stream) drop(subject string, is func(message) bool) {
	s.subjects[subject] = slices.DeleteFunc(slices.Clone(s.subjects[subject]), is)
}

var errWrongSequence = &jetstream.APIError{Code: 400, ErrorCode: jetstream.JSErrCodeStreamWrongLastSequence, Description: "wrong last sequence"}

// publish stores a message, if its subject ends as it says.
func (b *broker) publish(from *process, m *nats.Msg) (uint64, error) {
	s := b.find(m.Subject)
	if s == nil {
		return 0, jetstream.ErrNoStreamResponse
	}
	if text := m.Header.Get(jetstream.ExpectedLastSubjSeqHeader); text != "" && !b.world.variant.ignoresExpectation(m.Subject) {
		expected, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return 0, err
		}
		if s.end(m.Subject).sequence != expected {
			return 0, errWrongSequence
		}
	}
	op := jetstream.KeyValuePut
	if m.Header.Get("KV-Operation") == "PURGE" {
		op = jetstream.KeyValuePurge
	}
	if n := b.world.variant.losesAppends; n > 0 && !s.isBucket && b.world.rng.IntN(n) == 0 {
		return s.last + 1, nil
	}
	entry, isEntry := entryOf(m)
	if isEntry && b.world.variant.noBarrier && len(entry.GetMessages()) == 0 {
		return s.end(m.Subject).sequence, nil
	}
	b.world.judge.published(from, s, m)
	sequence := b.store(s, m.Subject, m.Data, op)
	if isEntry {
		kept := s.subjects[m.Subject]
		kept[len(kept)-1].said = len(entry.GetMessages())
	}
	return sequence, nil
}

// store stores a message and tells those who watch.
func (b *broker) store(s *stream, subject string, data []byte, op jetstream.KeyValueOp) uint64 {
	if b.world.variant.restartsEpochs && s.isBucket && s.end(subject).op == jetstream.KeyValuePurge {
		s.last = 0
	}
	s.last++
	m := message{subject: subject, sequence: s.last, data: data, op: op, stored: time.Now()}
	if s.isBucket {
		b.world.judge.stored(s, s.end(subject), m)
		s.subjects[subject] = nil
	} else {
		s.owners[m.sequence] = subject
	}
	s.subjects[subject] = append(s.subjects[subject], m)
	s.past[subject] = append(s.past[subject], m)
	b.tell(s, m)
	switch {
	case op != jetstream.KeyValuePut:
		b.world.after(markerTTL, func() { b.forget(s, m) })
	case s.ttl > 0:
		lives := time.Duration(float64(s.ttl) / b.world.plan.Clock)
		b.world.after(lives+b.world.between(0, 200*time.Millisecond), func() { b.expire(s, m) })
	}
	return m.sequence
}

// expire replaces a message by a marker, if it is still the last of its subject.
func (b *broker) expire(s *stream, m message) {
	if s.end(m.subject).sequence == m.sequence {
		b.world.notef("expired: %s %d", m.subject, m.sequence)
		b.store(s, m.subject, nil, jetstream.KeyValueDelete)
	}
}

// forget forgets a marker.
func (b *broker) forget(s *stream, m message) {
	if s.end(m.subject).sequence == m.sequence {
		delete(s.subjects, m.subject)
	}
}

// read gives the last message of a subject, or what it was a moment ago while reads lag.
func (b *broker) read(s *stream, subject string) message {
	if b.world.is(staleNATS) && b.world.rng.IntN(2) == 0 {
		return s.endBefore(subject, time.Now().Add(-b.world.between(0, 20*time.Second)))
	}
	return s.end(subject)
}

// readNext gives the first message of a subject at or behind a sequence, or what it was a moment ago while reads lag.
func (b *broker) readNext(s *stream, subject string, sequence uint64) message {
	kept := s.matching(subject)
	if b.world.is(staleNATS) && b.world.rng.IntN(2) == 0 {
		kept = before(s.past[subject], time.Now().Add(-b.world.between(0, 20*time.Second)))
	}
	for _, m := range kept {
		if m.sequence >= sequence {
			return m
		}
	}
	return message{}
}

// readAll gives what a reader of a subject is given: while reads lag, also what was dropped, for the node that feeds it has
// yet to hear of that.
func (b *broker) readAll(s *stream, subject string) []message {
	if b.world.is(staleNATS) && b.world.rng.IntN(2) == 0 && len(s.past[subject]) > 0 {
		return slices.Clone(s.past[subject])
	}
	return s.matching(subject)
}

// now gives all that a bucket holds, in the order of its writing.
func (s *stream) now() []message {
	var all []message
	for _, kept := range s.subjects {
		all = append(all, kept...)
	}
	sortBySequence(all)
	return all
}

// watchAll begins a watch; what is there already comes first, then nil.
func (b *broker) watchAll(p *process, s *stream) *watch {
	w := b.readBucket(p, s)
	s.watches = append(s.watches, w)
	return w
}

// readBucket is a watch that ends when all that is there has been told.
func (b *broker) readBucket(p *process, s *stream) *watch {
	now := s.now()
	w := &watch{process: p, stream: s, updates: make(chan jetstream.KeyValueEntry, len(now)+watchAhead)}
	for _, m := range now {
		w.updates <- m.entry(s)
	}
	w.updates <- nil
	return w
}

// tell tells those who watch a stream.
func (b *broker) tell(s *stream, m message) {
	s.watches = slices.DeleteFunc(s.watches, func(w *watch) bool { return w.broken || w.process.dead })
	for _, w := range s.watches {
		told := func() {
			if !w.broken {
				w.updates <- m.entry(s)
			}
		}
		b.world.sendInOrderOr(b.world.nats, w.process, &w.last, told, func() { b.breakWatch(w) })
	}
}

// breakWatches ends the watches of a process, or of all: the connection was lost, and the process finds that out after
// a while.
func (b *broker) breakWatches(of *process) {
	for _, name := range slices.Sorted(maps.Keys(b.streams)) {
		for _, w := range b.streams[name].watches {
			if of == nil || w.process == of {
				b.breakWatch(w)
			}
		}
	}
}

// breakWatch ends one. A watch tells everything or breaks: the real one counts what it is told.
func (b *broker) breakWatch(w *watch) {
	if w.broken {
		return
	}
	w.broken = true
	b.world.after(b.world.between(10*time.Millisecond, 4*time.Second), func() { close(w.updates) })
}
