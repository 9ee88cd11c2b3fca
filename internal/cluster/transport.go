package cluster

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/raft"
)

const (
	// protocol is what both ends must speak. It follows the four bytes that begin every connection.
	protocol = 1
	magic    = "wtov"

	helloTimeout = 3 * time.Second
	maxHello     = 1 << 10 // bytes
	// Bounds on connections: all of them, and those of one watcher.
	maxConns       = 256
	maxConnsOfPeer = 48
	writeTimeout   = 10 * time.Second
)

// The two kinds of connection that share the port.
const (
	kindRaft    = "raft"
	kindRequest = "request"
	kindJoin    = "join" // for questions of who takes part; open to watchers that do not, or not yet
)

// hello is what the dialling end says first. The other answers with one frame: empty if it is welcome, else why not.
type hello struct {
	Protocol  int    `json:"protocol"`
	Kind      string `json:"kind"`
	Cluster   string `json:"cluster"`
	ClusterID string `json:"cluster_id,omitempty"` // empty until the cluster has begun
	Name      string `json:"name"`
	claim
}

// gate is the one port: it lets watchers of this cluster in and sends each connection to raft or to the requests.
type gate struct {
	n       *Node
	ln      net.Listener
	forRaft chan net.Conn
	closed  chan struct{} // closed by close
	raftOn  atomic.Bool   // raft accepts from forRaft

	mu    sync.Mutex
	conns map[*conn]string // guarded by mu: every open connection, accepted and dialled, with its watcher's name
	done  bool             // guarded by mu
}

// conn is a connection that the gate can end.
type conn struct {
	net.Conn
	g       *gate
	limited bool // each write gets a deadline of its own
}

// Close implements net.Conn.
func (c *conn) Close() error {
	c.g.mu.Lock()
	delete(c.g.conns, c)
	c.g.mu.Unlock()
	return c.Conn.Close()
}

// Write implements net.Conn. Raft sets deadlines only on what it dials; what it answers is bounded here. Its reads need
// no deadline: idle streams stay open so that an election finds them ready, and the keep-alive ends dead ones.
func (c *conn) Write(b []byte) (int, error) {
	if c.limited {
		if err := c.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
			return 0, err
		}
	}
	return c.Conn.Write(b)
}

func (n *Node) listen() error {
	ln := n.o.listener
	if ln == nil {
		var err error
		if ln, err = net.Listen("tcp", n.o.Listen); err != nil {
			return fmt.Errorf("cannot listen for the other watchers: %w", err)
		}
	}
	n.gate = &gate{n: n, ln: ln, forRaft: make(chan net.Conn), closed: make(chan struct{}), conns: map[*conn]string{}}
	return nil
}

// serve lets connections in until the gate is closed.
func (g *gate) serve(ctx context.Context) {
	for {
		c, err := g.ln.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			g.warn("accept", "", err)
			if !pause(ctx, 50*time.Millisecond) { // out of file descriptors, most likely
				return
			}
			continue
		}
		tracked, err := g.track(c, "", maxConns)
		if err != nil {
			_ = c.Close()
			g.warn("accept", "", err)
			continue
		}
		if !g.n.spawn(func() { g.welcome(ctx, tracked) }) {
			_ = tracked.Close()
		}
	}
}

// track remembers an open connection unless there are too many.
func (g *gate) track(c net.Conn, name string, limit int) (*conn, error) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 5 * time.Second, Count: 3})
		setUserTimeout(tcp)
	}
	t := &conn{Conn: c, g: g}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.done {
		return nil, net.ErrClosed
	}
	if len(g.conns) >= limit {
		return nil, fmt.Errorf("there are %d connections already", len(g.conns))
	}
	g.conns[t] = name
	return t, nil
}

// setUserTimeout ends a connection whose peer does not acknowledge what was sent (tcp(7), TCP_USER_TIMEOUT).
func setUserTimeout(c *net.TCPConn) {
	const tcpUserTimeout = 18
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeout, int(writeTimeout.Milliseconds()))
	})
}

// welcome reads the hello and hands the connection on.
func (g *gate) welcome(ctx context.Context, c *conn) {
	_ = c.SetDeadline(time.Now().Add(helloTimeout))
	h, err := readHello(c)
	if err == nil {
		err = g.admit(c, h)
		answer := ""
		if err != nil {
			answer = err.Error()
		}
		if e := writeFrame(c, []byte(answer)); err == nil {
			err = e
		}
	}
	if err != nil {
		g.warn("refused", c.RemoteAddr().String(), err)
		_ = c.Close()
		return
	}
	_ = c.SetDeadline(time.Time{})
	if h.Kind != kindRaft {
		g.n.serve(ctx, c, h)
		return
	}
	c.limited = true
	select {
	case g.forRaft <- c:
	case <-g.closed:
		_ = c.Close()
	}
}

// admit checks that the caller is another watcher of this cluster and speaks this protocol.
func (g *gate) admit(c *conn, h hello) error {
	id := g.n.clusterID()
	switch {
	case h.Protocol != protocol:
		return fmt.Errorf("watcher %q speaks protocol %d, this one %d; run the same version on all", h.Name, h.Protocol, protocol)
	case h.Cluster != g.n.o.Cluster:
		return fmt.Errorf("watcher %q belongs to cluster %q, this one to %q; check cluster.name and the addresses", h.Name, h.Cluster, g.n.o.Cluster)
	case h.ClusterID != "" && id != "" && h.ClusterID != id:
		return fmt.Errorf("watcher %q belongs to another cluster that is also called %q (id %s, this one %s); give it its own data_dir, or an empty one after `watchover members remove` and `add` of it", h.Name, h.Cluster, h.ClusterID, id)
	case h.Name == g.n.o.Name:
		return fmt.Errorf("another watcher calls itself %q too; check watcher.name", h.Name)
	case h.Kind != kindRaft && h.Kind != kindRequest && h.Kind != kindJoin:
		return fmt.Errorf("watcher %q asks for a connection of kind %q, which this version does not know", h.Name, h.Kind)
	case h.Kind == kindRaft && !g.raftOn.Load():
		return fmt.Errorf("watcher %q does not take part in the cluster yet", g.n.o.Name)
	}
	if err := g.n.judgeCaller(h); err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	of := 0
	for _, name := range g.conns {
		if name == h.Name {
			of++
		}
	}
	if of >= maxConnsOfPeer {
		return fmt.Errorf("watcher %q has %d connections already", h.Name, of)
	}
	g.conns[c] = h.Name
	return nil
}

func readHello(r io.Reader) (hello, error) {
	var h hello
	head := make([]byte, len(magic))
	if _, err := io.ReadFull(r, head); err != nil {
		return h, fmt.Errorf("cannot read hello: %w", err)
	}
	if string(head) != magic {
		return h, errors.New("cannot read hello: this is no watcher")
	}
	text, err := readFrame(r, maxHello)
	if err != nil {
		return h, fmt.Errorf("cannot read hello: %w", err)
	}
	if err := json.Unmarshal(text, &h); err != nil {
		return h, fmt.Errorf("cannot read hello: %w", err)
	}
	return h, nil
}

// dial connects to another watcher's gate.
func (g *gate) dial(ctx context.Context, address, kind string) (*conn, error) {
	var d net.Dialer
	raw, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	c, err := g.track(raw, "", maxConns)
	if err != nil {
		_ = raw.Close()
		return nil, err
	}
	if err := g.greet(ctx, c, kind, address); err != nil {
		_ = c.Close()
		return nil, err
	}
	return c, nil
}

func (g *gate) greet(ctx context.Context, c *conn, kind, address string) error {
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	_ = c.SetDeadline(time.Now().Add(helloTimeout))
	text, err := json.Marshal(hello{Protocol: protocol, Kind: kind, Cluster: g.n.o.Cluster, ClusterID: g.n.clusterID(), Name: g.n.o.Name, claim: g.n.claims(address)})
	if err != nil {
		return fmt.Errorf("cannot encode hello: %w", err)
	}
	message := append([]byte(magic), make([]byte, 4)...)
	binary.BigEndian.PutUint32(message[len(magic):], uint32(len(text)))
	if _, err := c.Write(append(message, text...)); err != nil {
		return fmt.Errorf("cannot say hello: %w", err)
	}
	answer, err := readFrame(c, maxHello)
	if err != nil {
		return fmt.Errorf("cannot read the answer to hello: %w", err)
	}
	if len(answer) > 0 {
		err := &refusal{reason: string(answer)}
		g.warn("refused us", c.RemoteAddr().String(), err)
		if kind != kindJoin {
			g.n.doubt()
		}
		return err
	}
	if !stop() {
		return ctx.Err()
	}
	return c.SetDeadline(time.Time{})
}

// refusal is why another watcher does not let this one in.
type refusal struct{ reason string }

func (r *refusal) Error() string { return r.reason }

// warn logs a connection's failure, each kind and reason once in a while.
func (g *gate) warn(what, address string, err error) {
	if ok, held := g.n.limit.allow(what + ": " + err.Error()); ok {
		g.n.log.Warn().Err(err).Str(keyAddress, address).Str(keyReason, what).Int(keySuppressed, held).Msg("connection between watchers failed")
	}
}

// close ends the port and every connection.
func (g *gate) close() {
	g.mu.Lock()
	if !g.done {
		g.done = true
		close(g.closed)
	}
	open := make([]*conn, 0, len(g.conns))
	for c := range g.conns {
		open = append(open, c)
	}
	g.mu.Unlock()
	_ = g.ln.Close()
	for _, c := range open {
		_ = c.Close()
	}
}

// stream is raft's view of the gate.
func (g *gate) stream() raft.StreamLayer {
	g.raftOn.Store(true)
	return &stream{g: g}
}

type stream struct{ g *gate }

// Accept implements net.Listener.
func (s *stream) Accept() (net.Conn, error) {
	select {
	case c := <-s.g.forRaft:
		return c, nil
	case <-s.g.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (s *stream) Close() error { s.g.close(); return nil }

// Addr implements net.Listener. Votes and leader checks compare addresses, so this is the configured one.
func (s *stream) Addr() net.Addr {
	self, _ := s.g.n.member(s.g.n.o.Name)
	return configured(self.Address)
}

// Dial implements raft.StreamLayer.
func (s *stream) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return s.g.dial(ctx, string(address), kindRaft)
}

// configured is an address as the configuration writes it.
type configured string

// Network implements net.Addr.
func (configured) Network() string { return "tcp" }

func (c configured) String() string { return string(c) }

// pause waits for d; false: ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
