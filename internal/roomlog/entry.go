package roomlog

import (
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"

	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
)

// entry is one stream message of a group.
type entry struct {
	*guildhallv1.LogEntry
	sequence uint64    // of the stream; 0: there is none
	size     int       // in bytes
	stored   time.Time // by NATS's clock; zero where nobody asks for it
}

func noEntry() entry { return entry{LogEntry: &guildhallv1.LogEntry{}} }

// errNotDecoded is no passing trouble.
var errNotDecoded = errors.New("does not decode")

func decode(data []byte, sequence uint64) (entry, error) {
	decoded := entry{LogEntry: &guildhallv1.LogEntry{}, sequence: sequence, size: len(data)}
	if err := proto.Unmarshal(data, decoded.LogEntry); err != nil {
		return entry{}, fmt.Errorf("log entry %d %w: %w", sequence, errNotDecoded, err)
	}
	if n := uint64(len(decoded.Messages)); n > decoded.LastSeq {
		return entry{}, fmt.Errorf("log entry %d %w: it has %d messages up to number %d", sequence, errNotDecoded, n, decoded.LastSeq)
	}
	return decoded, nil
}

func decodeRaw(raw *jetstream.RawStreamMsg) (entry, error) {
	decoded, err := decode(raw.Data, raw.Sequence)
	decoded.stored = raw.Time
	return decoded, err
}

// firstSeq is the number of the entry's first message; of a barrier, the number of the message that comes next.
func (e entry) firstSeq() uint64 { return e.LastSeq - uint64(len(e.Messages)) + 1 }

// tail is the sequence from which on the last messages are found; 0: from the group's first entry. One that is not before the
// entry itself was written for another stream: the log was restored into this one.
func (e entry) tail() uint64 {
	if e.Tail >= e.sequence {
		return 0
	}
	return e.Tail
}
