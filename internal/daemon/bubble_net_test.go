package daemon

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

const (
	// resendFor is how long what was written may stay unacknowledged until the writer's end breaks, and keepAlive how long an
	// idle connection outlives a cut: what the watchers ask of TCP (internal/cluster, track).
	resendFor = 10 * time.Second
	keepAlive = 20 * time.Second
	syncRetry = time.Second // between two tries to connect through a cut
)

// link is one direction between two watchers.
type link struct{ from, to string }

func (l link) back() link { return link{l.to, l.from} }

// wire is the network between the watchers of a bubble. Like TCP over a bad network it never loses or reorders bytes within a
// connection: it delays them, holds them as long as a link is cut, and breaks connections that are held for too long.
// Connections have no bound on what they hold, so writing never blocks.
type wire struct {
	mu    sync.Mutex // guards all, the fields of the connections included
	ports map[string]*port
	owner map[string]string // address: watcher
	cut   map[link]int      // number of the cut; 0: there is none
	cuts  int
	slow  map[link]time.Duration
	conns map[*wireConn]bool
}

func newWire() *wire {
	return &wire{ports: map[string]*port{}, owner: map[string]string{}, cut: map[link]int{}, slow: map[link]time.Duration{}, conns: map[*wireConn]bool{}}
}

// delay is how long bytes take in one direction. The caller holds mu.
func (w *wire) delay(l link) time.Duration { return 2*time.Millisecond + w.slow[l] }

func (w *wire) setDelay(l link, d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.slow[l] = d
}

// block cuts one direction.
func (w *wire) block(l link) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cut[l] != 0 {
		return
	}
	w.cuts++
	number := w.cuts
	w.cut[l] = number
	time.AfterFunc(keepAlive, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.cut[l] == number {
			w.breakAll(l)
		}
	})
}

// heal opens one direction again. What was held arrives.
func (w *wire) heal(l link) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cut[l] == 0 {
		return
	}
	delete(w.cut, l)
	for c := range w.conns {
		if c.peer.link() == l {
			c.release()
		}
	}
}

func (w *wire) healAll() {
	w.mu.Lock()
	var links []link
	for l := range w.cut {
		links = append(links, l)
	}
	clear(w.slow)
	w.mu.Unlock()
	for _, l := range links {
		w.heal(l)
	}
}

// reset breaks every connection between two watchers.
func (w *wire) reset(l link) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.breakAll(l)
}

func (w *wire) breakAll(l link) {
	for c := range w.conns {
		if c.link() == l || c.link() == l.back() {
			c.fail(syscall.ECONNRESET)
		}
	}
}

// outlet is one life of a watcher on the wire.
type outlet struct {
	w    *wire
	name string
	dead bool // guarded by w.mu
}

// Listen implements cluster.Network.
func (o *outlet) Listen(address string) (net.Listener, error) {
	o.w.mu.Lock()
	defer o.w.mu.Unlock()
	if o.dead || o.w.ports[address] != nil {
		return nil, &net.OpError{Op: "listen", Net: "tcp", Err: syscall.EADDRINUSE}
	}
	p := &port{o: o, address: address, incoming: make(chan net.Conn, 64), closed: make(chan struct{})}
	o.w.ports[address] = p
	return p, nil
}

// Dial implements cluster.Network.
func (o *outlet) Dial(ctx context.Context, address string) (net.Conn, error) {
	for {
		wait, c, err := o.dialOnce(address)
		if c != nil || err != nil {
			return c, err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: ctx.Err()}
		}
	}
}

// dialOnce connects, or tells when to try again.
func (o *outlet) dialOnce(address string) (time.Duration, net.Conn, error) {
	w := o.w
	w.mu.Lock()
	defer w.mu.Unlock()
	l := link{o.name, w.owner[address]}
	p := w.ports[address]
	switch {
	case o.dead:
		return 0, nil, &net.OpError{Op: "dial", Net: "tcp", Err: net.ErrClosed}
	case w.cut[l] != 0 || w.cut[l.back()] != 0:
		return syncRetry, nil, nil
	case p == nil:
		return 0, nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	}
	near, far := w.pair(o, p.o, address)
	select {
	case p.incoming <- far:
		return 0, near, nil
	default:
		near.fail(syscall.ECONNREFUSED)
		return 0, nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	}
}

// kill ends a life as the kernel does when its process is killed: whoever can be reached hears that its connections are closed.
func (o *outlet) kill() {
	o.w.mu.Lock()
	o.dead = true
	var ports []*port
	for _, p := range o.w.ports {
		if p.o == o {
			ports = append(ports, p)
		}
	}
	var conns []*wireConn
	for c := range o.w.conns {
		if c.o == o {
			conns = append(conns, c)
		}
	}
	o.w.mu.Unlock()
	for _, p := range ports {
		_ = p.Close()
	}
	for _, c := range conns {
		_ = c.Close()
	}
}

// port is a listener.
type port struct {
	o        *outlet
	address  string
	incoming chan net.Conn
	once     sync.Once
	closed   chan struct{} // closed by Close
}

func (p *port) Accept() (net.Conn, error) {
	select {
	case c := <-p.incoming:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *port) Close() error {
	p.once.Do(func() {
		p.o.w.mu.Lock()
		delete(p.o.w.ports, p.address)
		p.o.w.mu.Unlock()
		close(p.closed)
		for { // nobody takes these any more
			select {
			case c := <-p.incoming:
				_ = c.Close()
			default:
				return
			}
		}
	})
	return nil
}

func (p *port) Addr() net.Addr { return place(p.address) }

// place is an address on the wire.
type place string

func (place) Network() string  { return "tcp" }
func (a place) String() string { return string(a) }

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
