package daemon

import (
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// wireConn is one end of a connection.
type wireConn struct {
	w       *wire
	o       *outlet
	peer    *wireConn
	address place // of the end that accepted

	// Guarded by w.mu.
	in      []packet // on their way here
	news    *sync.Cond
	wake    *time.Timer // broadcasts news
	readBy  time.Time
	writeBy time.Time
	err     error // the end is broken or closed
}

// packet is bytes, or the end of them, that arrive at a time; zero: held by a cut.
type packet struct {
	at   time.Time
	data []byte
	end  bool
}

// pair makes a connection. The caller holds mu.
func (w *wire) pair(from, to *outlet, address string) (near, far *wireConn) {
	near = &wireConn{w: w, o: from, address: place(address)}
	far = &wireConn{w: w, o: to, address: place(address), peer: near}
	near.peer = far
	for _, c := range []*wireConn{near, far} {
		c.news = sync.NewCond(&w.mu)
		w.conns[c] = true
	}
	return near, far
}

// link is the direction in which this end writes.
func (c *wireConn) link() link { return link{c.o.name, c.peer.o.name} }

func (c *wireConn) Read(b []byte) (int, error) {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	for {
		now := time.Now()
		switch {
		case c.err != nil:
			return 0, c.err
		case !c.readBy.IsZero() && !now.Before(c.readBy):
			return 0, os.ErrDeadlineExceeded
		case c.arrived(now) && c.in[0].end:
			return 0, io.EOF
		case c.arrived(now):
			n := copy(b, c.in[0].data)
			if c.in[0].data = c.in[0].data[n:]; len(c.in[0].data) == 0 {
				c.in = c.in[1:]
			}
			return n, nil
		}
		c.waitForNews(now)
	}
}

// arrived reports whether there is something to read.
func (c *wireConn) arrived(now time.Time) bool {
	return len(c.in) > 0 && !c.in[0].at.IsZero() && !now.Before(c.in[0].at)
}

// waitForNews waits for the next packet, the deadline or another end. The caller holds mu.
func (c *wireConn) waitForNews(now time.Time) {
	next := c.readBy
	if len(c.in) > 0 && !c.in[0].at.IsZero() && (next.IsZero() || c.in[0].at.Before(next)) {
		next = c.in[0].at
	}
	if !next.IsZero() {
		if c.wake == nil {
			c.wake = time.AfterFunc(next.Sub(now), func() {
				c.w.mu.Lock()
				defer c.w.mu.Unlock()
				c.news.Broadcast()
			})
		} else {
			c.wake.Reset(next.Sub(now))
		}
	}
	c.news.Wait()
}

func (c *wireConn) Write(b []byte) (int, error) {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	switch {
	case c.err != nil:
		return 0, c.err
	case !c.writeBy.IsZero() && !time.Now().Before(c.writeBy):
		return 0, os.ErrDeadlineExceeded
	}
	c.send(packet{data: append([]byte(nil), b...)})
	return len(b), nil
}

// send puts a packet on its way. The caller holds mu.
func (c *wireConn) send(p packet) {
	l := c.link()
	if c.w.cut[l] == 0 {
		p.at = c.peer.after(time.Now().Add(c.w.delay(l)))
	}
	if number := max(c.w.cut[l], c.w.cut[l.back()]); number != 0 { // what arrives is not acknowledged
		time.AfterFunc(resendFor, func() {
			c.w.mu.Lock()
			defer c.w.mu.Unlock()
			if c.w.cut[l] == number || c.w.cut[l.back()] == number {
				c.fail(syscall.ETIMEDOUT)
			}
		})
	}
	c.peer.in = append(c.peer.in, p)
	c.peer.news.Broadcast()
}

// after keeps packets in their order.
func (c *wireConn) after(at time.Time) time.Time {
	if n := len(c.in); n > 0 && c.in[n-1].at.After(at) {
		return c.in[n-1].at
	}
	return at
}

// release lets what was held arrive at this end. The caller holds mu.
func (c *wireConn) release() {
	at := time.Now().Add(c.w.delay(c.peer.link()))
	for i := range c.in {
		if c.in[i].at.IsZero() {
			c.in[i].at = at
		}
	}
	c.news.Broadcast()
}

// fail breaks this end. The caller holds mu.
func (c *wireConn) fail(err error) {
	if c.err == nil {
		c.err = &net.OpError{Op: "read", Net: "tcp", Err: err}
		delete(c.w.conns, c)
	}
	if c.wake != nil {
		c.wake.Stop()
	}
	c.news.Broadcast()
}

func (c *wireConn) Close() error {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	if c.err == nil {
		c.send(packet{end: true})
		c.fail(net.ErrClosed)
	}
	return nil
}

// Alive reports whether nothing has come on an idle connection, its end included.
func (c *wireConn) Alive() bool {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	return c.err == nil && !c.arrived(time.Now())
}

func (c *wireConn) LocalAddr() net.Addr  { return place(fmt.Sprintf("127.0.0.1:%d", 1)) }
func (c *wireConn) RemoteAddr() net.Addr { return c.address }

func (c *wireConn) SetDeadline(t time.Time) error {
	return c.setDeadlines(&t, &t)
}
func (c *wireConn) SetReadDeadline(t time.Time) error  { return c.setDeadlines(&t, nil) }
func (c *wireConn) SetWriteDeadline(t time.Time) error { return c.setDeadlines(nil, &t) }

func (c *wireConn) setDeadlines(read, write *time.Time) error {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	if read != nil {
		c.readBy = *read
	}
	if write != nil {
		c.writeBy = *write
	}
	c.news.Broadcast()
	return nil
}
