//go:build unix

package socket

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
)

// Conn is a TCP connection whose reads and writes the runtime is not told of.
type Conn struct {
	*net.TCPConn

	raw syscall.RawConn

	reading sync.Mutex
	tryIn   func(fd uintptr) bool
	in      []byte // guarded by reading; to read into
	got     int    // guarded by reading
	inErr   error  // guarded by reading

	writing sync.Mutex
	tryOut  func(fd uintptr) bool
	out     []byte // guarded by writing; to write
	wrote   int    // guarded by writing
	outErr  error  // guarded by writing
}

func quiet(tcp *net.TCPConn) net.Conn {
	raw, err := tcp.SyscallConn()
	if err != nil {
		return tcp // it has ended, and says so
	}
	c := &Conn{TCPConn: tcp, raw: raw}
	c.tryIn, c.tryOut = c.read, c.write // made once, for they escape
	return c
}

// Read reads what there is; it waits until there is something. Little is on its stack: of connections that wait here there
// are many.
func (c *Conn) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	c.reading.Lock()
	c.in, c.got, c.inErr = b, 0, nil
	err := c.raw.Read(c.tryIn)
	n, failed := c.got, c.inErr
	c.in = nil
	c.reading.Unlock()
	switch {
	case err != nil:
		return 0, err
	case failed != nil:
		return 0, c.failed("read", failed)
	case n == 0:
		return 0, io.EOF
	}
	return n, nil
}

// read is false if there is nothing yet.
func (c *Conn) read(fd uintptr) bool {
	for {
		c.got, c.inErr = readOnce(fd, c.in)
		if !errors.Is(c.inErr, syscall.EINTR) {
			return !errors.Is(c.inErr, syscall.EAGAIN)
		}
	}
}

// Write writes all of b; it waits until the kernel takes it.
func (c *Conn) Write(b []byte) (int, error) {
	c.writing.Lock()
	c.out, c.wrote, c.outErr = b, 0, nil
	err := c.raw.Write(c.tryOut)
	n, failed := c.wrote, c.outErr
	c.out = nil
	c.writing.Unlock()
	if err == nil && failed != nil {
		err = c.failed("write", failed)
	}
	return n, err
}

// write is false if the kernel takes no more for now.
func (c *Conn) write(fd uintptr) bool {
	n, err := WriteNow(fd, c.out[c.wrote:])
	c.wrote += n
	if errors.Is(err, syscall.EAGAIN) {
		return false
	}
	c.outErr = err
	return true
}

// WriteNow writes what the kernel takes at once, and gives how much that was. [syscall.EAGAIN] says that it takes no more for
// now.
func WriteNow(fd uintptr, b []byte) (wrote int, err error) {
	for wrote < len(b) {
		n, err := writeOnce(fd, b[wrote:])
		switch {
		case err == nil:
			wrote += n
		case !errors.Is(err, syscall.EINTR):
			return wrote, err
		}
	}
	return wrote, nil
}

func (c *Conn) failed(what string, err error) error {
	return &net.OpError{Op: what, Net: "tcp", Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: os.NewSyscallError(what, err)}
}
