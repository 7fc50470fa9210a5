package transport

import (
	"errors"
	"net"
	"sync"
	"syscall"
	"time"
)

// What ends a stream's use.
var (
	// ErrSlow says that too much waits for a peer that does not keep up: close the stream, discarding it.
	ErrSlow = errors.New("transport: the peer does not keep up")
	// ErrEnded says that the stream is over, by either side.
	ErrEnded = errors.New("transport: the stream has ended")
	// ErrMistake says that the client sent what the transport does not take: close the stream.
	ErrMistake = errors.New("transport: the client sent what is not taken")
)

const (
	// QueueBytes and queueMessages bound what waits for one peer, beside what the kernel has taken. What comes when nothing waits
	// is taken whatever its size.
	QueueBytes    = 512 << 10
	queueMessages = 512
	// controlBytes bounds what else may wait: answers to pings and the like of a peer that sends them and does not read.
	controlBytes = 64 << 10
	// joinMost bounds how much of that is put together: a small answer has to cost little.
	joinMost = 4 << 10
	// writeWithin bounds how long a peer may take for a batch of what waits for it, which has about batchBytes.
	writeWithin = 30 * time.Second
	batchBytes  = 32 << 10
)

// pipe is the outgoing half of a connection. A write goes to the kernel at once, on the caller's goroutine, without
// waiting: most of the cost of a delivery is that system call, and waking a goroutine to make it would double it. Only
// what the kernel does not take waits in a queue, and a goroutine that lives as long as the queue writes it.
type pipe struct {
	// Static after construction.
	conn    net.Conn
	raw     syscall.RawConn       // nil: this connection has no writes that do not wait
	attempt func(fd uintptr) bool // writes out to fd; made once, for it escapes
	of      *Server               // knows of the goroutines that write queues
	refill  func()                // called under mu when the queue is empty; it may queue more

	mu       sync.Mutex
	out      []byte        // guarded by mu; what attempt is to write
	wrote    int           // guarded by mu; what it wrote
	broke    error         // guarded by mu; how it failed
	queue    []waiting     // guarded by mu
	queued   int           // guarded by mu; bytes in queue and in the write under way
	messages int           // guarded by mu; the same in messages
	flushing bool          // guarded by mu; a goroutine writes the queue
	closing  bool          // guarded by mu; close the connection behind the queue
	shut     bool          // guarded by mu; nothing more is written, but the peer may still read
	broken   bool          // guarded by mu; nothing can be written any more
	drained  chan struct{} // guarded by mu; closed when the queue is empty; nil if nobody waits for that
}

// waiting is what waits to be written.
type waiting struct {
	bytes   []byte // shared: not to be changed
	message bool   // it ends a message
	begun   bool   // part of it is written: it cannot be discarded
	own     bool   // the bytes are the queue's: more can be put behind them
}

func (p *pipe) open(conn net.Conn, of *Server) {
	p.conn, p.of = conn, of
	p.raw = rawConn(conn)
	p.attempt = p.tryWrite
}

// isBehind says whether the peer has not taken all that was written. The caller holds mu.
func (p *pipe) isBehind() bool { return p.flushing }

// write writes, or queues what the kernel does not take. The bytes are the caller's again. The caller holds mu.
func (p *pipe) write(b []byte) {
	if p.broken || p.shut {
		return
	}
	begun := false
	if !p.flushing && p.raw != nil {
		p.out, p.wrote, p.broke = b, 0, nil
		err := p.raw.Write(p.attempt)
		p.out = nil
		if err != nil || p.broke != nil {
			p.breakOff()
			return
		}
		if b = b[p.wrote:]; len(b) == 0 {
			return
		}
		begun = p.wrote > 0
	}
	if n := len(p.queue); n > 0 && p.queue[n-1].own && len(p.queue[n-1].bytes)+len(b) <= joinMost {
		last := &p.queue[n-1]
		last.bytes = append(last.bytes, b...)
		p.queued += len(b)
		return
	}
	p.enqueue(waiting{bytes: append([]byte(nil), b...), message: true, begun: begun, own: true})
}

// enqueue queues. The caller holds mu.
func (p *pipe) enqueue(w waiting) {
	p.queue = append(p.queue, w)
	p.queued += len(w.bytes)
	if w.message {
		p.messages++
	}
	if !p.flushing {
		p.flushing = true
		p.of.tasks.Go(p.flush)
	}
}

// flush writes the queue until it is empty.
func (p *pipe) flush() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for !p.broken {
		if len(p.queue) == 0 && p.refill != nil {
			p.refill()
		}
		if len(p.queue) == 0 {
			break
		}
		batch, buffers := p.takeBatch()
		p.mu.Unlock()
		_ = p.conn.SetWriteDeadline(time.Now().Add(writeWithin)) // if it fails, so does the write
		_, err := buffers.WriteTo(p.conn)
		_ = p.conn.SetWriteDeadline(time.Time{}) // it would hold for writes that do not wait, too
		p.mu.Lock()
		for _, w := range batch {
			p.queued -= len(w.bytes)
			if w.message {
				p.messages--
			}
		}
		if err != nil {
			p.breakOff()
		}
	}
	p.flushing = false
	p.wake()
	if p.closing {
		p.shutDown()
	}
}

// shutDown ends what is written. The connection is closed once the peer has closed it, too, or a while has passed: one that is
// closed before that is reset when something comes, and then the peer loses what it has not read. The caller holds mu.
func (p *pipe) shutDown() {
	half, can := p.conn.(interface{ CloseWrite() error })
	if p.broken || p.shut || !can || half.CloseWrite() != nil {
		p.breakOff()
		return
	}
	p.shut = true
	_ = p.conn.SetReadDeadline(time.Now().Add(p.of.closeWithin)) // if it fails, so does the read
	p.wake()
}

// takeBatch takes from the queue what is to be written next: not so much that a peer who takes a little would be said to take
// nothing. The caller holds mu.
func (p *pipe) takeBatch() (batch []waiting, buffers net.Buffers) {
	n, size := 0, 0
	for n < len(p.queue) && size < batchBytes {
		size += len(p.queue[n].bytes)
		buffers = append(buffers, p.queue[n].bytes)
		n++
	}
	batch, p.queue = p.queue[:n:n], p.queue[n:]
	if len(p.queue) == 0 {
		p.queue = nil
	}
	return batch, buffers
}

// discard forgets what waits and is not begun. The caller holds mu.
func (p *pipe) discard() {
	kept := p.queue[:0]
	for _, w := range p.queue {
		if w.begun {
			kept = append(kept, w)
			continue
		}
		p.queued -= len(w.bytes)
		if w.message {
			p.messages--
		}
	}
	clear(p.queue[len(kept):])
	p.queue = kept
}

// closeBehind closes the connection once all is written. The caller holds mu.
func (p *pipe) closeBehind() {
	p.closing = true
	if !p.flushing && !p.shut {
		p.shutDown()
	}
}

// breakOff closes the connection. Whoever reads from it finds out. The caller holds mu.
func (p *pipe) breakOff() {
	if !p.broken {
		p.broken = true
		_ = p.conn.Close() // it is of no use any more in any case
	}
	p.wake()
}

// wake tells whoever waits that nothing waits any more. The caller holds mu.
func (p *pipe) wake() {
	if p.drained != nil {
		close(p.drained)
		p.drained = nil
	}
}

// waitDrained gives a channel that is closed when nothing waits any more; nil if that is so. The caller holds mu.
func (p *pipe) waitDrained() <-chan struct{} {
	if p.broken || !p.flushing {
		return nil
	}
	if p.drained == nil {
		p.drained = make(chan struct{})
	}
	return p.drained
}

// awaitDrained waits until nothing waits any more, or until it is late. The channel is that of waitDrained: nil if that is so.
func awaitDrained(drained <-chan struct{}, late <-chan time.Time) {
	if drained == nil {
		return
	}
	select {
	case <-drained:
	case <-late:
	}
}
