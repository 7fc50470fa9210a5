//go:build !unix

package socket

import "net"

func quiet(conn *net.TCPConn) net.Conn { return conn }
