package nameserver

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"
)

// sendBuffer bounds, in bytes, what the kernel holds for a client that does not read: it would grow to megabytes for each.
const sendBuffer = 2 * tcpSize

// serveTCP accepts connections and waits for all of them before it returns.
func (s *Server) serveTCP(ctx context.Context, listener *net.TCPListener) {
	var wait sync.WaitGroup
	defer wait.Wait()
	for {
		conn, err := listener.AcceptTCP()
		if err != nil {
			if s.pause(ctx, err) {
				continue
			}
			return
		}
		if err := conn.SetWriteBuffer(sendBuffer); err != nil {
			s.faults.Debug().Err(err).Msg("cannot bound the send buffer of a DNS connection")
		}
		c := &client{conn: conn, source: sourceOf(conn.RemoteAddr())}
		admitted, dropped := s.clients.admit(c)
		if dropped {
			s.metrics.drop(dropConnections)
		}
		if !admitted {
			_ = conn.Close()
			continue
		}
		wait.Go(func() {
			defer s.clients.leave(c)
			if reason := s.converse(c); reason != "" {
				s.metrics.drop(reason)
			}
		})
	}
}

// converse answers the queries of one connection in the order they came (RFC 7766 allows any), until the client is done
// or has to go; then it says why.
func (s *Server) converse(c *client) dropReason {
	in := bufio.NewReaderSize(c.conn, 2+maxQuery)
	out := make([]byte, 2, plainUDP)
	for range s.limits.Queries {
		query, reason, ok := s.receive(c, in)
		if !ok {
			return reason
		}
		s.clients.answering(c, true)
		out = s.respond(out[:2], query, tcp)
		if len(out) == 2 {
			return "" // counted by respond; whoever sends such things is no client
		}
		binary.BigEndian.PutUint16(out, uint16(len(out)-2))
		if reason, ok := s.send(c, out); !ok {
			return reason
		}
		s.clients.answering(c, false)
		if _, err := in.Discard(2 + len(query)); err != nil {
			return ""
		}
	}
	return dropQueries
}

// receive waits for the next query; it stays in the reader until discarded. The time to read is for a whole query, so
// that sending it byte by byte gains nothing.
func (s *Server) receive(c *client, in *bufio.Reader) (query []byte, reason dropReason, ok bool) {
	if in.Buffered() == 0 {
		if err := c.conn.SetReadDeadline(time.Now().Add(s.limits.Idle)); err != nil {
			return nil, "", false
		}
		if _, err := in.Peek(1); err != nil {
			return nil, "", false // an idle connection ends without a word, on either side
		}
	}
	if err := c.conn.SetReadDeadline(time.Now().Add(s.limits.Read)); err != nil {
		return nil, "", false
	}
	size, err := in.Peek(2)
	if err != nil {
		return nil, slow(err, dropShort), false
	}
	n := int(binary.BigEndian.Uint16(size))
	switch {
	case n > maxQuery:
		return nil, dropOversize, false
	case n < headerLen:
		return nil, dropShort, false
	}
	query, err = in.Peek(2 + n)
	if err != nil {
		return nil, slow(err, dropShort), false
	}
	return query[2:], "", true
}

// send has a deadline of its own for each answer, so that a client who does not read cannot hold the connection.
func (s *Server) send(c *client, out []byte) (dropReason, bool) {
	if err := c.conn.SetWriteDeadline(time.Now().Add(s.limits.Write)); err != nil {
		return "", false
	}
	if _, err := c.conn.Write(out); err != nil {
		return slow(err, dropWrite), false
	}
	return "", true
}

// slow is the reason to count for an error: a timeout, nothing if the connection is closed (by the other side or by us,
// who counted it elsewhere), else other.
func slow(err error, other dropReason) dropReason {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return dropTimeout
	case errors.Is(err, net.ErrClosed):
		return ""
	case errors.Is(err, io.EOF):
		return dropShort
	}
	return other
}

// client is one TCP connection. Its fields but conn and source are guarded by clients.mu.
type client struct {
	conn   *net.TCPConn
	source netip.Prefix // whom it counts for; invalid: nobody
	active time.Time    // when it was accepted, last answered, or its present answer was begun
	busy   bool         // being answered
}

// clients are the open TCP connections of all addresses.
type clients struct {
	mu        sync.Mutex
	open      map[*client]struct{}
	max       int
	perSource int
	closed    bool
}

// sourceOf is whom a connection counts for: an IPv4 address, or the /64 that an IPv6 host has to itself (RFC 6177).
// Those from this machine count for nobody: there may be a proxy that speaks for everyone.
func sourceOf(remote net.Addr) netip.Prefix {
	tcp, ok := remote.(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}
	}
	addr := tcp.AddrPort().Addr().Unmap().WithZone("")
	if !addr.IsValid() || addr.IsLoopback() {
		return netip.Prefix{}
	}
	bits := 32
	if addr.Is6() {
		bits = 64
	}
	return netip.PrefixFrom(addr, bits).Masked()
}

// admit takes a new connection in. Where there are too many, one of the same source's or, if there are too many at all,
// anyone's goes for it: the one that has been without a query for longest or, if all are being answered, the one
// that has been for longest, which is how one that does not read looks. dropped says that this happened.
func (l *clients) admit(c *client) (admitted, dropped bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false, false
	}
	if l.open == nil {
		l.open = map[*client]struct{}{}
	}
	if victim := l.victim(c.source); victim != nil {
		_ = victim.conn.Close() // ends its goroutine, which then leaves
		delete(l.open, victim)
		dropped = true
	}
	c.active = time.Now()
	l.open[c] = struct{}{}
	return true, dropped
}

// victim is who has to go for one more connection from source; nil: nobody.
func (l *clients) victim(source netip.Prefix) *client {
	var own, any *client
	count := 0
	for c := range l.open {
		if source.IsValid() && c.source == source {
			count++
			own = sooner(own, c)
		}
		any = sooner(any, c)
	}
	switch {
	case count >= l.perSource:
		return own
	case len(l.open) >= l.max:
		return any
	}
	return nil
}

// sooner is which of two should go first; a may be nil.
func sooner(a, b *client) *client {
	if a == nil || a.busy && !b.busy || a.busy == b.busy && b.active.Before(a.active) {
		return b
	}
	return a
}

func (l *clients) answering(c *client, busy bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c.busy, c.active = busy, time.Now()
}

func (l *clients) leave(c *client) {
	_ = c.conn.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.open, c)
}

func (l *clients) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for c := range l.open {
		_ = c.conn.Close()
	}
}
