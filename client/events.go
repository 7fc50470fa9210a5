package client

import (
	"time"

	"github.com/guildhall-dev/guildhall"
	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
)

// Event is something that happens in a room or on the way to it: one of the types below.
type Event interface{ isEvent() }

// Waiting tells why the way in takes longer than it should: something does not answer. The frontend goes on trying, and
// [Assigned] follows when it succeeds.
type Waiting struct {
	// Reason may be shown to players.
	Reason string
}

// Assigned tells where the group's room is.
type Assigned struct {
	Host  guildhall.HostName
	Epoch guildhall.Epoch
	// Took is how long Enter took.
	Took time.Duration
}

// Joined says that the player has a seat, for the first time.
type Joined struct {
	Group   guildhall.Group
	Epoch   guildhall.Epoch
	Members []guildhall.PlayerID
	// LastSeq is the number of the last message said before.
	LastSeq guildhall.Seq
	// TruncatedTo is not 0 if Config.After asked for messages that are gone for good: those up to this number.
	TruncatedTo guildhall.Seq
}

// Resumed says that the player has a seat again. Messages go on behind After.
type Resumed struct {
	After   guildhall.Seq
	Epoch   guildhall.Epoch
	Members []guildhall.PlayerID
	// TruncatedTo is not 0 if messages after After are gone for good: those up to this number.
	TruncatedTo guildhall.Seq
}

// Message is something said.
type Message struct {
	Seq  guildhall.Seq
	From guildhall.PlayerID
	ID   string
	Body []byte
	// ContentType is the MIME type of Body; empty means text/plain; charset=utf-8.
	ContentType string
	SaidAt      time.Time
	// To is who sees it besides the one who said it; nil for everybody.
	To []guildhall.PlayerID
}

// Signal is something told for the moment: it has no number, is not kept, and may have been dropped.
type Signal struct {
	From guildhall.PlayerID
	// Topic is what it is about, for example "typing".
	Topic string
	Body  []byte
	// ContentType is the MIME type of Body; empty means text/plain; charset=utf-8.
	ContentType string
}

// Acked says that something this client said is durable.
type Acked struct {
	ID  string
	Seq guildhall.Seq
}

// Refused says that the room did not take something this client said.
type Refused struct {
	ID     string
	Code   guildhallv1.RefuseCode
	Reason string
	// RetryAfter is after how long it would be taken, to a millisecond; 0 if it would not be.
	RetryAfter time.Duration
}

// Member tells that somebody came or went.
type Member struct {
	Player guildhall.PlayerID
	Here   bool
}

// Moved says that the room is leaving its host; the client follows.
type Moved struct{}

// Closed says that a session has ended. If Reconnect is set the client comes back by itself, otherwise the room's
// events end with this one.
type Closed struct {
	// Code is why; [ConnectionLost] if the connection broke without a word.
	Code      string
	Reason    string
	Reconnect bool
}

// ConnectionLost is the code of a [Closed] that the client itself found out.
const ConnectionLost = "connection_lost"

func (Waiting) isEvent()  {}
func (Assigned) isEvent() {}
func (Joined) isEvent()   {}
func (Resumed) isEvent()  {}
func (Message) isEvent()  {}
func (Signal) isEvent()   {}
func (Acked) isEvent()    {}
func (Refused) isEvent()  {}
func (Member) isEvent()   {}
func (Moved) isEvent()    {}
func (Closed) isEvent()   {}
