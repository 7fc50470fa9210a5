// Package socket makes connections for much traffic of short messages.
//
// The runtime is not told of their system calls. A read or a write of a socket that does not wait is over in microseconds. To be
// ready to hand the processor to another thread meanwhile costs a tenth as much again; and a process that mostly waits wakes
// the runtime's monitor with every call, which then looks every 20 µs whether the call has got stuck: in a host of many small
// rooms that was an eighth of all it did. What waits, waits in the runtime's poller, as in the net package.
package socket

import "net"

// Quiet gives a connection that does as conn does, without telling the runtime. What is not TCP is given back as it is.
func Quiet(conn net.Conn) net.Conn {
	tcp, is := conn.(*net.TCPConn)
	if !is {
		return conn
	}
	return quiet(tcp)
}
