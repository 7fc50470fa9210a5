//go:build unix

package transport

import (
	"errors"
	"net"
	"syscall"

	"github.com/guildhall-dev/guildhall/internal/socket"
)

// rawConn gives the socket of a connection; nil if it has none, as one that is encrypted.
func rawConn(conn net.Conn) syscall.RawConn {
	socket, is := conn.(syscall.Conn)
	if !is {
		return nil
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return nil
	}
	return raw
}

// tryWrite writes what the kernel takes at once. It is true always: not to wait until it takes more.
func (p *pipe) tryWrite(fd uintptr) bool {
	n, err := socket.WriteNow(fd, p.out)
	p.wrote = n
	if !errors.Is(err, syscall.EAGAIN) {
		p.broke = err
	}
	return true
}
