package daemon

import (
	"context"
	"net"
	"sync"
	"syscall"
	"time"
)

const (
	// resendFor is how long what was written may stay unacknowledged until the writer's end breaks, and keepAlive how long an
	// idle connection outlives a cut: what the watchers ask of TCP (internal/cluster, track).
	resendFor = 10 * time.Second
	keepAlive = 20 * time.Second
	onItsWay  = 10 * time.Second // until what was on its way before a cut has arrived
	syncRetry = time.Second      // between two tries to connect through a cut
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
	since map[link]time.Time // when it was cut
	slow  map[link]time.Duration
	conns map[*wireConn]bool
}

func newWire() *wire {
	return &wire{ports: map[string]*port{}, owner: map[string]string{}, cut: map[link]int{}, since: map[link]time.Time{}, slow: map[link]time.Duration{}, conns: map[*wireConn]bool{}}
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
	w.cut[l], w.since[l] = number, time.Now()
	time.AfterFunc(keepAlive, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.cut[l] == number {
			w.breakAll(l)
		}
	})
}

// deaf is for how long all that is sent to a watcher has been held; zero: something arrives.
func (w *wire) deaf(name string) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	last := time.Time{}
	for _, other := range w.owner {
		l := link{other, name}
		switch {
		case other == name:
		case w.cut[l] == 0:
			return 0
		case w.since[l].After(last):
			last = w.since[l]
		}
	}
	return time.Since(last)
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
