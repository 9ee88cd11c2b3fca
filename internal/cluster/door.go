package cluster

import (
	"fmt"
	"net"
	"time"
)

// Bounds on connections, each kind apart: whoever has not proved to be a watcher must not take the place of those who
// have.
const (
	maxStrangers   = 64  // accepted, and not admitted yet
	maxConnsOfPeer = 48  // admitted, of one watcher
	maxDialled     = 256 // by this watcher
)

// standing is what a connection is to the gate.
type standing int

const (
	stranger standing = iota
	admitted
	dialled
)

// track remembers an open connection. When strangers crowd the door the one that came first from the busiest host has
// to leave: a flood from one host ends only its own connections, and one from many leaves each caller as long as all
// of them together take to come.
func (g *gate) track(c net.Conn, as standing) (*conn, error) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 5 * time.Second, Count: 3})
		setUserTimeout(tcp)
	}
	t := &conn{Conn: c, g: g, standing: as}
	g.mu.Lock()
	if g.done {
		g.mu.Unlock()
		return nil, net.ErrClosed
	}
	n := g.count(as)
	if as == dialled && n >= maxDialled {
		g.mu.Unlock()
		return nil, fmt.Errorf("there are %d connections already", n)
	}
	var leaves *conn
	if as == stranger && n >= maxStrangers {
		leaves = g.crowding()
		delete(g.conns, leaves)
	}
	g.arrivals++
	t.arrival = g.arrivals
	g.conns[t] = ""
	g.mu.Unlock()
	if leaves != nil {
		_ = leaves.Close()
		g.say("crowd", "crowd", "", leaves.RemoteAddr().String(), fmt.Errorf("more than %d callers have not said who they are; the oldest of the busiest address was sent away", maxStrangers))
	}
	return t, nil
}

// count is called with mu held.
func (g *gate) count(as standing) (n int) {
	for c := range g.conns {
		if c.standing == as {
			n++
		}
	}
	return n
}

// crowding is the stranger that has to leave; mu is held.
func (g *gate) crowding() (first *conn) {
	of, busiest := map[string]int{}, 0
	for c := range g.conns {
		if c.standing == stranger {
			of[hostOf(c)]++
			busiest = max(busiest, of[hostOf(c)])
		}
	}
	for c := range g.conns {
		if c.standing == stranger && of[hostOf(c)] == busiest && (first == nil || c.arrival < first.arrival) {
			first = c
		}
	}
	return first
}

func hostOf(c *conn) string {
	host, _, _ := net.SplitHostPort(c.RemoteAddr().String())
	return host
}
