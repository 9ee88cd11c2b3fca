package control

import "net"

// ListenAs is Listen with callers whose uid the test chooses.
func ListenAs(o Options, uid func() uint32) (*Server, error) {
	return listen(o, func(*net.UnixConn) (uint32, error) { return uid(), nil })
}

// Limits for the tests.
const (
	MaxBody        = maxBody
	MaxConnections = maxConnections
	Reserved       = reserved
)
