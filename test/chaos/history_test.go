package chaos

import (
	"hash/fnv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/guildhall-dev/guildhall"
	"github.com/guildhall-dev/guildhall/client"
)

// deed is what a client did or was told.
type deed string

// The deeds of a client, in the order in which they come about.
const (
	assigned deed = "assigned" // told where the room is: Host, Epoch
	joined   deed = "joined"   // seated for the first time: Epoch; Seq is the last number said before
	resumed  deed = "resumed"  // seated again: Epoch; Seq is what it resumes behind
	sent     deed = "sent"     // said something: ID, Hash
	acked    deed = "acked"    // told that it is durable: ID, Seq
	seen     deed = "seen"     // was shown a message: Seq, From, ID, Hash
	closed   deed = "closed"   // lost its session: Text says why
	refused  deed = "refused"  // was refused a message: ID, Text
)

// event is one line of a client's history.
type event struct {
	At    time.Time
	Deed  deed
	Seq   uint64 `json:",omitempty"`
	From  string `json:",omitempty"`
	ID    string `json:",omitempty"`
	Hash  uint64 `json:",omitempty"`
	Host  string `json:",omitempty"`
	Epoch uint64 `json:",omitempty"`
	// Truncated is up to which number messages were said to be gone, with joined and resumed.
	Truncated uint64 `json:",omitempty"`
	Text      string `json:",omitempty"`
}

// visit is the history of one client: of one player from one Join to its end.
type visit struct {
	Group, Player string
	// After is what the client asked for; nil if for nothing from before.
	After *uint64
	// Stayed says that it was still there at the end, and was given the time to see everything.
	Stayed bool
	Events []event

	mu        sync.Mutex // guards Events and host until the end
	host      string     // the last one assigned
	lastSeen  atomic.Uint64
	seated    atomic.Bool
	wasSeated atomic.Bool
}

func (v *visit) note(e event) {
	e.At = time.Now()
	v.mu.Lock()
	defer v.mu.Unlock()
	v.Events = append(v.Events, e)
}

// sent notes what is about to be said.
func (v *visit) sent(id string, body []byte) {
	v.note(event{Deed: sent, ID: id, Hash: hashOf(body)})
}

// read notes all that happens in a room until its end.
func (v *visit) read(room *client.Room) {
	for e := range room.Events() {
		v.happened(e)
	}
}

func (v *visit) happened(e client.Event) {
	switch e := e.(type) {
	case client.Assigned:
		v.sentTo(string(e.Host))
		v.note(event{Deed: assigned, Host: string(e.Host), Epoch: uint64(e.Epoch)})
	case client.Joined:
		v.note(event{Deed: joined, Host: v.at(), Epoch: uint64(e.Epoch), Seq: uint64(e.LastSeq), Truncated: uint64(e.TruncatedTo)})
		v.seated.Store(true)
		v.wasSeated.Store(true)
		if v.After == nil {
			v.lastSeen.Store(uint64(e.LastSeq))
		}
	case client.Resumed:
		v.note(event{Deed: resumed, Host: v.at(), Epoch: uint64(e.Epoch), Seq: uint64(e.After), Truncated: uint64(e.TruncatedTo)})
		v.seated.Store(true)
	case client.Message:
		v.note(event{Deed: seen, Seq: uint64(e.Seq), From: string(e.From), ID: e.ID, Hash: hashOf(e.Body)})
		v.lastSeen.Store(uint64(e.Seq))
	case client.Acked:
		v.note(event{Deed: acked, ID: e.ID, Seq: uint64(e.Seq), Host: v.at()})
	case client.Refused:
		v.note(event{Deed: refused, ID: e.ID, Text: e.Reason})
	case client.Closed:
		v.seated.Store(false)
		v.note(event{Deed: closed, Host: v.at(), Text: e.Code + ": " + e.Reason})
	}
}

func (v *visit) sentTo(host string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.host = host
}

// at gives the host that the client is at, or was sent to last.
func (v *visit) at() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.host
}

func hashOf(body []byte) uint64 {
	h := fnv.New64a()
	_, _ = h.Write(body)
	return h.Sum64()
}

// entry is one entry of a group's log, as NATS has it.
type entry struct {
	Sequence uint64
	Epoch    uint64
	LastSeq  uint64
	At       time.Time
	Messages []said
}

// said is one message of the log.
type said struct {
	Seq      uint64
	From, ID string
	Hash     uint64
}

// history is all that is known of one group: what its clients did and saw, and its log.
type history struct {
	Group  string
	Visits []*visit
	Log    []entry
}

// book keeps all visits.
type book struct {
	mu     sync.Mutex
	visits []*visit
}

// open begins the history of a new client.
func (b *book) open(player guildhall.PlayerID, group guildhall.Group, after *guildhall.Seq) *visit {
	v := &visit{Group: group.String(), Player: string(player)}
	if after != nil {
		number := uint64(*after)
		v.After = &number
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.visits = append(b.visits, v)
	return v
}

// histories gives what there is, by group, with the log that was read back.
func (b *book) histories(log map[string][]entry) []history {
	b.mu.Lock()
	defer b.mu.Unlock()
	byGroup := map[string]*history{}
	var order []string
	for _, v := range b.visits {
		h := byGroup[v.Group]
		if h == nil {
			h = &history{Group: v.Group, Log: log[v.Group]}
			byGroup[v.Group] = h
			order = append(order, v.Group)
		}
		h.Visits = append(h.Visits, v)
	}
	all := make([]history, 0, len(order))
	for _, group := range order {
		all = append(all, *byGroup[group])
	}
	return all
}
