package simulation

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"

	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
)

// variant is a Guildhall with a mistake in it, planted in what its code stands on rather than in the code. The zero
// value has none.
type variant struct {
	// noFencing has the log take appends whatever they expect.
	noFencing bool
	// noBarrier has whoever opens the log leave nothing in it.
	noBarrier bool
	// noHousekeeping has directors reap nothing.
	noHousekeeping bool
	// blindClaims has a claim be written whatever it is written over.
	blindClaims bool
	// longLeases has hosts believe that their leases live so many times longer than they do.
	longLeases int
	// restartsEpochs has revisions begin anew when a claim was given back.
	restartsEpochs bool
	// trustsOldClaims has hosts see each claim as they saw it first.
	trustsOldClaims map[string]message
	// forgetsHistory has a host that opens a room read back nothing of what was said.
	forgetsHistory bool
	// keepsHosts has hosts that nobody uses stay.
	keepsHosts bool
	// freshIDs has clients say again what was not acked by another id.
	freshIDs bool
	// losesAppends has the log lose one in so many of what it has acknowledged.
	losesAppends int
	// afterAppend answers in place of an append that failed or whose answer was lost.
	afterAppend func(context.Context, *client, *nats.Msg, error) (*jetstream.PubAck, error)
}

func (v *variant) ignoresExpectation(subject string) bool {
	return v.noFencing && strings.HasPrefix(subject, logPrefix) || v.blindClaims && strings.HasPrefix(subject, "$KV.guildhall_claims.")
}

func (v *variant) hostLeaseTTL() time.Duration { return leaseTTL * time.Duration(max(1, v.longLeases)) }

func (v *variant) hostIdleGrace() time.Duration {
	if v.keepsHosts {
		return time.Hour
	}
	return hostIdleGrace
}

// sees gives what a process sees of a key.
func (v *variant) sees(p *process, s *stream, m message) message {
	if v.trustsOldClaims == nil || s.name != "guildhall_claims" || !strings.HasPrefix(p.name, "host") || m.sequence == 0 {
		return m
	}
	key := p.name + " " + m.subject
	if first, found := v.trustsOldClaims[key]; found && len(first.data) > 0 {
		return first
	}
	v.trustsOldClaims[key] = m
	return m
}

// reads gives what a process reads of the log.
func (v *variant) reads(p *process, messages []message) []message {
	if v.forgetsHistory && strings.HasPrefix(p.name, "host") && len(messages) > 1 {
		return messages[len(messages)-1:]
	}
	return messages
}

// mistake is a variant that the simulation must catch.
type mistake struct {
	name    string
	because string
	variant func() variant
}

var mistakes = []mistake{
	{"no fencing", "the log takes the appends of whoever comes", func() variant { return variant{noFencing: true} }},
	{"no barrier", "a host opens the log without closing it to the one before", func() variant { return variant{noBarrier: true} }},
	{"no reaper", "claims of the dead are left to whoever comes, and nobody does", func() variant { return variant{noHousekeeping: true} }},
	{"blind put", "a claim is written without compare-and-swap", func() variant { return variant{blindClaims: true} }},
	{"long lease", "a host serves on when its lease has run out", func() variant { return variant{longLeases: 3} }},
	{"epochs that begin anew", "revisions do not only grow", func() variant { return variant{restartsEpochs: true} }},
	{"claim not looked at again", "a host never learns that a room is elsewhere", func() variant {
		return variant{trustsOldClaims: map[string]message{}}
	}},
	{"history not read back", "a host that opens a room does not know what was said", func() variant { return variant{forgetsHistory: true} }},
	{"hosts not given back", "an allocated host that nobody uses stays", func() variant { return variant{keepsHosts: true} }},
	{"another id for the same", "a client says again by another id", func() variant { return variant{freshIDs: true} }},
	{"acked and not stored", "the log loses what it has acknowledged", func() variant { return variant{losesAppends: 20} }},
	{"no answer taken for yes", "an append whose answer was lost is believed done", func() variant {
		return variant{afterAppend: believe}
	}},
	{"no answer taken for no", "an append whose answer was lost is made anew behind what is there", func() variant {
		return variant{afterAppend: appendAnew}
	}},
}

// believe takes a lost answer for a good one.
func believe(_ context.Context, _ *client, m *nats.Msg, err error) (*jetstream.PubAck, error) {
	if errors.Is(err, context.DeadlineExceeded) {
		var sequence uint64
		if _, scanErr := fmt.Sscan(m.Header.Get(jetstream.ExpectedLastSubjSeqHeader), &sequence); scanErr != nil {
			return nil, scanErr
		}
		return &jetstream.PubAck{Sequence: sequence + 1}, nil
	}
	return nil, err
}

// appendAnew appends the messages once more, numbered behind what is there now.
func appendAnew(ctx context.Context, c *client, m *nats.Msg, err error) (*jetstream.PubAck, error) {
	entry := &guildhallv1.LogEntry{}
	if proto.Unmarshal(m.Data, entry) != nil || len(entry.GetMessages()) == 0 {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), natsTimeout)
	defer cancel()
	return ask(ctx, c, "anew "+m.Subject, func(b *broker) (*jetstream.PubAck, error) {
		end := b.find(m.Subject).end(m.Subject)
		last := &guildhallv1.LogEntry{}
		if err := proto.Unmarshal(end.data, last); err != nil {
			return nil, err
		}
		again := proto.Clone(entry).(*guildhallv1.LogEntry)
		again.LastSeq = last.GetLastSeq() + uint64(len(again.GetMessages()))
		for i, said := range again.GetMessages() {
			said.Seq = last.GetLastSeq() + uint64(i) + 1
		}
		data, err := proto.Marshal(again)
		if err != nil {
			return nil, err
		}
		anew := nats.NewMsg(m.Subject)
		anew.Data = data
		sequence, err := b.publish(c.process, anew)
		return &jetstream.PubAck{Sequence: sequence}, err
	})
}

func decimal(n uint64) string { return fmt.Sprint(n) }
