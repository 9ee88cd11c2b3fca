package probe

import (
	"context"
	"net"
	"sync/atomic"
	"time"
)

// keeper watches the one connection that an http check keeps between two checks, and asks for the next check early
// when the server closes it.
//
// A server that closes every connection after its answer, or soon after, would make each early check cause the next.
// So the keeper is armed only by proof that this server keeps connections: after an early check was asked for, none
// is again until a kept connection has served a whole check.
type keeper struct {
	dialer  net.Dialer
	hurry   func()
	dialled atomic.Uint64                     // connections made so far
	current atomic.Pointer[watchedConnection] // the newest connection
	idle    atomic.Pointer[watchedConnection] // the one kept; nil during a check
	spent   atomic.Bool                       // an early check was asked for, and no kept connection has served since
}

// watchedConnection tells its keeper when it is closed. The transport closes an idle connection as soon as its read
// loop sees the server's end of it, under TLS as well.
type watchedConnection struct {
	net.Conn
	keeper *keeper
	made   time.Time
	served atomic.Uint32 // checks
	closed atomic.Bool
}

func (k *keeper) dial(ctx context.Context, network, address string) (net.Conn, error) {
	k.dialled.Add(1)
	conn, err := k.dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	watched := &watchedConnection{Conn: conn, keeper: k, made: time.Now()}
	k.current.Store(watched)
	return watched, nil
}

func (c *watchedConnection) Close() error {
	c.closed.Store(true)
	c.keeper.gone(c)
	return c.Conn.Close()
}

// begin marks the start of a check: until keep, a connection that closes is the check's own business.
func (k *keeper) begin() { k.idle.Store(nil) }

// keep marks the end of a check whose connection stays open for the next one.
func (k *keeper) keep() {
	conn := k.current.Load()
	if conn == nil {
		return
	}
	if conn.served.Add(1) > 1 {
		k.spent.Store(false)
	}
	k.idle.Store(conn)
	if conn.closed.Load() {
		k.gone(conn) // it was closed before it was marked as kept
	}
}

// gone is called when a connection was closed; it matters only if that was the kept one.
func (k *keeper) gone(conn *watchedConnection) {
	if k.idle.CompareAndSwap(conn, nil) && k.spent.CompareAndSwap(false, true) {
		k.hurry()
	}
}

// age is how long ago the newest connection was made, zero if there is none.
func (k *keeper) age() time.Duration {
	if conn := k.current.Load(); conn != nil && !conn.closed.Load() {
		return time.Since(conn.made)
	}
	return 0
}
