package control

import (
	"maps"
	"net"
	"slices"
	"time"
)

// ListenAs is Listen with callers whose uid the test chooses.
func ListenAs(o Options, uid func() uint32) (*Server, error) {
	return listen(o, func(*net.UnixConn) (uint32, error) { return uid(), nil })
}

// Limits for the tests.
const (
	MaxBody        = maxBody
	MaxConnections = maxConnections
	Reserved       = reserved
	MaxPolicy      = maxPolicy
	MaxFollowers   = maxFollowers
	MaxHeader      = maxHeader
)

// Table is every path that takes part in the table, with its methods.
func (s *Server) Table() map[string][]string {
	table := map[string][]string{}
	for pattern, methods := range s.table() {
		table[pattern] = slices.Sorted(maps.Keys(methods))
	}
	return table
}

// Followers counts those who follow the events now.
func (s *Server) Followers() int { return len(s.followers) }

// SetFollowerPatience says how long a follower may take to read.
func (s *Server) SetFollowerPatience(d time.Duration) { s.followerSlow = d }
