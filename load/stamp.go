package load

import (
	"encoding/binary"
	"encoding/hex"
	"hash/fnv"
	"time"
)

// A message begins with its stamp, so that whoever receives it knows without looking anything up which one it is and when
// it was due. It is text, for so is the body of a message that says nothing else.
const (
	stampBytes = 16
	// MinSize is the shortest message: its stamp.
	MinSize = 2 * stampBytes
)

// stamp is what a message says of itself.
type stamp struct {
	run    uint32
	number uint32
	due    time.Duration // since the run began
}

// tag is a run in its stamps.
func tag(run string) uint32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(run)) // a hash takes everything
	return h.Sum32()
}

// body makes a message of a size.
func (s stamp) body(size int) []byte {
	var raw [stampBytes]byte
	binary.BigEndian.PutUint32(raw[0:], s.run)
	binary.BigEndian.PutUint32(raw[4:], s.number)
	binary.BigEndian.PutUint64(raw[8:], uint64(s.due))
	body := make([]byte, max(size, MinSize))
	for i := hex.Encode(body, raw[:]); i < len(body); i++ {
		body[i] = 'a' + byte(i%26)
	}
	return body
}

// readStamp reads the stamp of a message; false if it has none of this run.
func readStamp(body []byte, run uint32) (stamp, bool) {
	var raw [stampBytes]byte
	if len(body) < MinSize {
		return stamp{}, false
	}
	if _, err := hex.Decode(raw[:], body[:MinSize]); err != nil {
		return stamp{}, false
	}
	s := stamp{
		run: binary.BigEndian.Uint32(raw[0:]), number: binary.BigEndian.Uint32(raw[4:]),
		due: time.Duration(binary.BigEndian.Uint64(raw[8:])),
	}
	return s, s.run == run
}
