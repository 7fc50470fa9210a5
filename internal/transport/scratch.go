package transport

import "sync"

// scratch is a buffer to put a write together in. Most writes are small, and the kernel has them when the call returns.
type scratch struct {
	bytes []byte
}

// scratchMost is the largest buffer that is kept for the next use.
const scratchMost = 64 << 10

var scratches sync.Pool

func newScratch() *scratch {
	if s, is := scratches.Get().(*scratch); is {
		return s
	}
	return &scratch{bytes: make([]byte, 0, 2<<10)}
}

// release gives the buffer back.
func (s *scratch) release() {
	if cap(s.bytes) > scratchMost {
		return
	}
	s.bytes = s.bytes[:0]
	scratches.Put(s)
}
