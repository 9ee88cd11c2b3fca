package nameserver

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
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
		c := &client{conn: conn}
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

// client is one TCP connection. Its fields but conn are guarded by clients.mu.
type client struct {
	conn   *net.TCPConn
	active time.Time // last answered or accepted
	busy   bool      // being answered
}

// clients are the open TCP connections of all addresses.
type clients struct {
	mu     sync.Mutex
	open   map[*client]struct{}
	max    int
	closed bool
}

// admit takes a new connection in. When there are too many, the one that has been without a query for longest goes; if
// all are being answered, the new one does. dropped says that one of the two happened.
func (l *clients) admit(c *client) (admitted, dropped bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false, false
	}
	if l.open == nil {
		l.open = map[*client]struct{}{}
	}
	if len(l.open) >= l.max {
		idlest := l.idlest()
		if idlest == nil {
			return false, true
		}
		_ = idlest.conn.Close() // ends its goroutine, which then leaves
		delete(l.open, idlest)
		dropped = true
	}
	c.active = time.Now()
	l.open[c] = struct{}{}
	return true, dropped
}

func (l *clients) idlest() *client {
	var found *client
	for c := range l.open {
		if !c.busy && (found == nil || c.active.Before(found.active)) {
			found = c
		}
	}
	return found
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
