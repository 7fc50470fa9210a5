package simulation

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"

	"github.com/guildhall-dev/guildhall"
	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
	"github.com/guildhall-dev/guildhall/internal/registry"
	"github.com/guildhall-dev/guildhall/internal/roomlog"
)

// logPrefix is what the subjects of the log begin with.
const logPrefix = "guildhall.log."

// logStreams is how many streams the log has.
const logStreams = 2

// judge watches a run and says which promises were broken. It sees what the broker has stored, which is the truth, and
// what hosts and players say and see.
type judge struct {
	world *world
	// By the log's subject, in the order of storing.
	entries map[string][]*guildhallv1.LogEntry
	// numbered is what the log holds, by subject and number.
	numbered map[string][]*guildhallv1.Message
	bodies   map[string]map[string]uint64 // the number of each body
	writers  map[string]map[uint64]string // who appended, by subject and epoch
	seated   map[string]uint64            // the latest epoch at which somebody was seated, by subject
	acks     map[acked]uint64             // the number of each
	absent   map[string]time.Time         // when each host was last seen to have no lease, or to be on its way out
	sayings  map[string]string            // the body of each id that was said, by player and id

	claims     int // that stand
	claimsMost int
	told       int // messages in all logs

	mu         sync.Mutex
	violations []string // guarded by mu
}

// acked is a body that somebody was told is in a group's log.
type acked struct{ subject, body string }

func newJudge(w *world) *judge {
	return &judge{
		world: w, entries: map[string][]*guildhallv1.LogEntry{}, numbered: map[string][]*guildhallv1.Message{},
		bodies: map[string]map[string]uint64{}, writers: map[string]map[uint64]string{}, acks: map[acked]uint64{},
		seated:  map[string]uint64{},
		absent:  map[string]time.Time{},
		sayings: map[string]string{},
	}
}

// failf notes a violation. Any goroutine may call it.
func (j *judge) failf(format string, v ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.violations = append(j.violations, fmt.Sprintf("%s: ", j.world.now().Round(time.Microsecond))+fmt.Sprintf(format, v...))
}

// must fails if there is an error other than that the process is dead.
func (j *judge) must(err error) {
	if err != nil && !errors.Is(err, errGone) {
		j.failf("%v", err)
	}
}

func (j *judge) failed() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.violations) > 0
}

func subject(group guildhall.Group) string {
	return fmt.Sprintf("%s%d.%s", logPrefix, group.Shard(logStreams), group.Key())
}

// lastSeq is the number of the last message of a group.
func (j *judge) lastSeq(group guildhall.Group) uint64 { return uint64(len(j.numbered[subject(group)])) }

func (j *judge) said(p *player, say *guildhallv1.Say) {
	j.sayings[p.name+"/"+say.GetId()] = string(say.GetBody())
}

// publishing sees a process about to append: a host that speaks must have its lease.
func (j *judge) publishing(from *process, m *nats.Msg) {
	entry, ok := entryOf(m)
	if !ok || len(entry.GetMessages()) == 0 {
		return
	}
	leases := j.world.broker.streams["guildhall_leases"]
	if end := leases.end(leases.prefix + from.name); end.sequence == 0 || len(end.data) == 0 {
		j.failf("lease: %s appends to %s and its lease has run out", from.name, m.Subject)
	}
}

func entryOf(m *nats.Msg) (*guildhallv1.LogEntry, bool) {
	if !strings.HasPrefix(m.Subject, logPrefix) {
		return nil, false
	}
	entry := &guildhallv1.LogEntry{}
	return entry, proto.Unmarshal(m.Data, entry) == nil
}

// stored sees what is written into a bucket, and what was there before. No room that is well is taken away: whoever writes
// a claim over another must have seen that its host had no lease, or was leaving.
func (j *judge) stored(s *stream, before, now message) {
	switch s.name {
	case "guildhall_leases":
		var lease registry.Lease
		if before.sequence == 0 || before.op != jetstream.KeyValuePut || now.op != jetstream.KeyValuePut || json.Unmarshal(now.data, &lease) != nil || lease.Leaving() {
			j.absent[strings.TrimPrefix(now.subject, s.prefix)] = time.Now()
		}
	case "guildhall_claims":
		j.countClaims(before, now)
		var claim struct{ Host string }
		if before.op != jetstream.KeyValuePut || now.op != jetstream.KeyValuePut || json.Unmarshal(before.data, &claim) != nil {
			return
		}
		leases := j.world.broker.streams["guildhall_leases"]
		end := leases.end(leases.prefix + claim.Host)
		var lease registry.Lease
		isWell := end.op == jetstream.KeyValuePut && json.Unmarshal(end.data, &lease) == nil && !lease.Leaving()
		if isWell && j.absent[claim.Host].Before(before.stored) && !j.world.plan.has(staleNATS) {
			j.failf("taken: the claim of %s on %s is written over, and the host has been well all the time", claim.Host, now.subject)
		}
	}
}

func (j *judge) countClaims(before, now message) {
	if len(before.data) > 0 {
		j.claims--
	}
	if len(now.data) > 0 {
		j.claims++
	}
	j.claimsMost = max(j.claimsMost, j.claims)
}

// published sees what the log has taken: epochs never fall, each has one writer, numbers have no gaps, nothing is there
// twice.
func (j *judge) published(from *process, s *stream, m *nats.Msg) {
	entry, ok := entryOf(m)
	if !ok {
		return
	}
	j.checkTail(from, s.subjects[m.Subject], entry)
	before := j.entries[m.Subject]
	if n := len(before); n > 0 && before[n-1].GetEpoch() > entry.GetEpoch() {
		j.failf("split: %s appends to %s at epoch %d, and epoch %d has the log", from.name, m.Subject, entry.GetEpoch(), before[n-1].GetEpoch())
	}
	if seated := j.seated[m.Subject]; seated > entry.GetEpoch() {
		j.failf("split: %s appends to %s at epoch %d, and people sit in the room of epoch %d", from.name, m.Subject, entry.GetEpoch(), seated)
	}
	if j.writers[m.Subject] == nil {
		j.writers[m.Subject], j.bodies[m.Subject] = map[uint64]string{}, map[string]uint64{}
	}
	if writer := j.writers[m.Subject][entry.GetEpoch()]; writer != "" && writer != from.name {
		j.failf("split: %s and %s both append to %s at epoch %d", writer, from.name, m.Subject, entry.GetEpoch())
	}
	j.writers[m.Subject][entry.GetEpoch()] = from.name
	j.entries[m.Subject] = append(before, entry)
	for _, said := range entry.GetMessages() {
		if n := uint64(len(j.numbered[m.Subject])); said.GetSeq() != n+1 {
			j.failf("order: number %d is stored in %s behind %d", said.GetSeq(), m.Subject, n)
		}
		if n, twice := j.bodies[m.Subject][string(said.GetBody())]; twice {
			j.failf("twice: %q is number %d and number %d of %s", said.GetBody(), n, said.GetSeq(), m.Subject)
		}
		j.told++
		j.bodies[m.Subject][string(said.GetBody())] = said.GetSeq()
		j.numbered[m.Subject] = append(j.numbered[m.Subject], said)
	}
	if entry.GetLastSeq() != uint64(len(j.numbered[m.Subject])) {
		j.failf("order: an entry of %s says that number %d is the last, it is %d", m.Subject, entry.GetLastSeq(), len(j.numbered[m.Subject]))
	}
}

// checkTail sees that an entry says where the last messages begin, far enough back.
func (j *judge) checkTail(from *process, kept []message, entry *guildhallv1.LogEntry) {
	all, found := 0, 0
	for _, m := range kept {
		all += m.said
		if m.sequence >= entry.GetTail() {
			found += m.said
		}
	}
	if found < min(all, roomlog.TailMessages) {
		j.failf("tail: %s says that the last messages begin at entry %d, and only %d are found from there, of %d", from.name, entry.GetTail(), found, all)
	}
}

// sent sees what a host sends at the moment it does so: nothing that is not in the log.
func (j *judge) sent(s *joined, frame *guildhallv1.JoinResponse) {
	if welcome := frame.GetWelcome(); welcome != nil {
		j.seated[subject(s.player.group)] = max(j.seated[subject(s.player.group)], welcome.GetEpoch())
	}
	if ack := frame.GetAck(); ack != nil {
		j.isLogged(s.host.name, s.player.group, ack.GetSeq(), j.sayings[s.player.name+"/"+ack.GetId()])
	}
	for _, e := range frame.GetEvents().GetEvents() {
		if m := e.GetMessage(); m != nil {
			j.isLogged(s.host.name, s.player.group, m.GetSeq(), string(m.GetBody()))
		}
	}
}

func (j *judge) isLogged(who string, group guildhall.Group, seq uint64, body string) {
	logged := j.numbered[subject(group)]
	switch {
	case seq == 0 || seq > uint64(len(logged)):
		j.failf("lost: %s tells of number %d (%q) of %s, and the log has %d", who, seq, body, group, len(logged))
	case string(logged[seq-1].GetBody()) != body:
		j.failf("split: %s tells of number %d of %s as %q, and the log has %q there", who, seq, group, body, logged[seq-1].GetBody())
	}
}

// acked sees an ack arrive.
func (j *judge) acked(p *player, ack *guildhallv1.Ack) {
	j.acks[acked{subject(p.group), j.sayings[p.name+"/"+ack.GetId()]}] = ack.GetSeq()
}

// seen sees a message arrive.
func (j *judge) seen(p *player, m *guildhallv1.Message) {
	j.isLogged(p.name, p.group, m.GetSeq(), string(m.GetBody()))
}

// settled judges the end of the run, when everything has been mended for a while.
func (j *judge) settled() {
	for _, p := range j.world.players {
		if !p.isDone() {
			j.failf("stuck: %s is seated: %t, has %d messages that are not acked, has seen %d of %d",
				p.name, p.seated, len(p.unacked), p.lastSeq, j.lastSeq(p.group))
		}
	}
	for ack, seq := range j.acks {
		if found := j.bodies[ack.subject][ack.body]; found != seq {
			j.failf("lost: %q was acked as number %d of %s, the log has it as %d", ack.body, seq, ack.subject, found)
		}
	}
}

// nothingLeft says whether left says nothing.
func (j *judge) nothingLeft() bool {
	return j.claims == 0 && j.world.all(func(p *player) bool { return p.gone }) && len(j.leftHosts()) == 0
}

// left says what is left over when everybody has gone.
func (j *judge) left() (what []string) {
	claims := j.world.broker.streams["guildhall_claims"]
	for subject, kept := range claims.subjects {
		if end := kept[len(kept)-1]; len(end.data) > 0 {
			what = append(what, "claim "+strings.TrimPrefix(subject, claims.prefix))
		}
	}
	what = append(what, j.leftHosts()...)
	for _, p := range j.world.players {
		if !p.gone {
			what = append(what, "player "+p.name)
		}
	}
	return what
}

// leftHosts are the allocated ones beyond the headroom.
func (j *judge) leftHosts() (what []string) {
	kept := (j.world.plan.Headroom + j.world.plan.roomsPerHost() - 1) / j.world.plan.roomsPerHost() // hosts that make up the headroom
	for _, h := range j.world.hosts {
		if h.dead || !h.allocated {
			continue
		}
		if kept--; kept < 0 {
			what = append(what, "allocated "+h.name)
		}
	}
	return what
}
