package cluster

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/raft"
)

// tlsHandshake is the first byte of a TLS connection (RFC 8446, section 5.1).
const tlsHandshake = 0x16

const (
	// protocol is what both ends must speak. It follows the four bytes that begin every connection.
	protocol = 1
	magic    = "wtov"

	helloTimeout = 3 * time.Second // for the TLS handshake and the hello together
	maxHello     = 1 << 10         // bytes
	writeTimeout = 10 * time.Second
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
	// Generation and Recovery are of the lineage; see lineage.go.
	Generation uint64 `json:"generation,omitempty"`
	Recovery   string `json:"recovery,omitempty"`
	claim
}

// gate is the one port: it lets watchers of this cluster in and sends each connection to raft or to the requests.
type gate struct {
	n       *Node
	ln      net.Listener
	forRaft chan net.Conn
	closed  chan struct{} // closed by close
	raftOn  atomic.Bool   // raft accepts from forRaft
	// strangers holds back the lines about callers that are not let in.
	strangers *limiter

	mu       sync.Mutex
	conns    map[*conn]string // guarded by mu: every open connection, accepted and dialled, with its watcher's name
	arrivals uint64           // guarded by mu
	done     bool             // guarded by mu
}

// conn is a connection that the gate can end. Deadlines, Close and addresses are those of the TCP connection below TLS.
type conn struct {
	net.Conn
	g       *gate
	limited bool      // one of raft's that was accepted: its reads and writes get deadlines of their own
	within  bool      // bytes have been read since the last write: the other end is in the middle of a request
	tls     *tls.Conn // nil: in plain. Set by secured, with g.mu held, before anything is read or written

	standing standing // guarded by g.mu
	arrival  uint64   // guarded by g.mu
}

// Close implements net.Conn. TLS gets no farewell, which could block: every message tells its length, so a connection
// that is cut off is noticed.
func (c *conn) Close() error {
	c.g.mu.Lock()
	delete(c.g.conns, c)
	c.g.mu.Unlock()
	return c.Conn.Close()
}

// Read implements net.Conn. Raft reads a snapshot in its main loop, so a peer that is frozen in the middle of sending one
// would hold up votes and entries for ever: the rest of a request that has begun has to come in time. Between requests
// there is no deadline: idle streams stay open so that an election finds them ready, and the keep-alive ends dead ones.
// One goroutine reads and writes such a connection.
func (c *conn) Read(b []byte) (int, error) {
	if c.limited && c.within {
		if err := c.SetReadDeadline(time.Now().Add(bodyTimeout)); err != nil {
			return 0, err
		}
	}
	var n int
	var err error
	if c.tls != nil {
		n, err = c.tls.Read(b)
	} else {
		n, err = c.Conn.Read(b)
	}
	c.within = c.within || n > 0
	return n, err
}

// Write implements net.Conn. Raft sets deadlines only on what it dials; what it answers is bounded here.
func (c *conn) Write(b []byte) (int, error) {
	if c.limited {
		c.within = false
		if err := errors.Join(c.SetWriteDeadline(time.Now().Add(writeTimeout)), c.SetReadDeadline(time.Time{})); err != nil {
			return 0, err
		}
	}
	if c.tls != nil {
		return c.tls.Write(b)
	}
	return c.Conn.Write(b)
}

// Network is what the watchers talk over. Its connections keep to their deadlines, and may tell with a method Alive() bool
// whether an idle one can still be used.
type Network interface {
	Listen(address string) (net.Listener, error)
	Dial(ctx context.Context, address string) (net.Conn, error)
}

func (o *Options) network() Network {
	if o.Network != nil {
		return o.Network
	}
	return tcp{}
}

// tcp is the network of all watchers but simulated ones.
type tcp struct{}

func (tcp) Listen(address string) (net.Listener, error) { return net.Listen("tcp", address) }

func (tcp) Dial(ctx context.Context, address string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", address)
}

func (n *Node) listen() error {
	ln := n.o.listener
	if ln == nil {
		var err error
		if ln, err = n.o.network().Listen(n.o.Listen); err != nil {
			return fmt.Errorf("cannot listen for the other watchers: %w", err)
		}
	}
	n.gate = &gate{
		n: n, ln: ln, forRaft: make(chan net.Conn), closed: make(chan struct{}), conns: map[*conn]string{}, strangers: newLimiter(time.Minute),
	}
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
		tracked, err := g.track(c, stranger)
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

// welcome lets the caller prove itself and say hello, and hands the connection on.
func (g *gate) welcome(ctx context.Context, c *conn) {
	_ = c.SetDeadline(time.Now().Add(helloTimeout))
	h, err := g.receive(ctx, c)
	if err != nil {
		g.turnAway(c, err)
		return
	}
	answer := ""
	if err = g.admit(c, h); err != nil {
		answer = refusalAnswer(err)
	}
	if e := writeFrame(c, []byte(answer)); err == nil {
		err = e
	}
	if err != nil {
		g.warn("refused", c.RemoteAddr().String(), err)
		c.linger()
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

// receive reads the hello, which has to ask for what the TLS handshake has agreed on.
func (g *gate) receive(ctx context.Context, c *conn) (hello, error) {
	kind := ""
	if g.n.o.Credentials != nil {
		var err error
		if kind, err = g.secureAccepted(ctx, c); err != nil {
			return hello{}, err
		}
	}
	h, err := readHello(c)
	if err == nil && kind != "" && h.Kind != kind {
		err = &distrust{what: whatNoWatcher, text: fmt.Sprintf("it asks for a connection of kind %q on one of kind %q", clip(h.Kind), kind)}
	}
	return h, err
}

// admit checks that the caller is another watcher of this cluster and speaks this protocol.
func (g *gate) admit(c *conn, h hello) error {
	switch {
	case h.Protocol != protocol:
		return fmt.Errorf("watcher %q speaks protocol %d, this one %d; run the same version on all", h.Name, h.Protocol, protocol)
	case h.Cluster != g.n.o.Cluster:
		return fmt.Errorf("watcher %q belongs to cluster %q, this one to %q; check cluster.name and the addresses", h.Name, h.Cluster, g.n.o.Cluster)
	case h.Name == g.n.o.Name:
		return fmt.Errorf("another watcher calls itself %q too; check watcher.name", h.Name)
	case c.tls != nil && !names(c.tls.ConnectionState().PeerCertificates[0], h.Name):
		return wrongHello(c.tls.ConnectionState().PeerCertificates[0], h.Name)
	}
	if err := g.n.judgeLineage(h); err != nil {
		return err
	}
	switch {
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
	c.standing = admitted
	return nil
}

// wrongHello is the answer to a watcher that calls itself otherwise than its certificate does.
func wrongHello(leaf *x509.Certificate, name string) error {
	return fmt.Errorf("watcher %q shows a certificate made out to %q; give it its own, `watchover pki issue %s` makes one", name, clip(strings.Join(leaf.DNSNames, ", ")), name)
}

func readHello(r io.Reader) (hello, error) {
	var h hello
	head := make([]byte, len(magic))
	if _, err := io.ReadFull(r, head); err != nil {
		return h, fmt.Errorf("cannot read hello: %w", err)
	}
	if head[0] == tlsHandshake {
		return h, &distrust{what: whatPlain, text: "it speaks TLS, but cluster.tls is not set here; set it on all watchers", tell: "not with TLS"}
	}
	if string(head) != magic {
		return h, &distrust{what: whatNoWatcher, text: "cannot read hello: this is no watcher"}
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

// dial connects to the gate of the watcher called name.
func (g *gate) dial(ctx context.Context, name, address, kind string) (*conn, error) {
	if g.n.o.Credentials == nil {
		if err := checkLoopback(address); err != nil { // a member's address may have changed since the start
			return nil, err
		}
	}
	raw, err := g.n.o.network().Dial(ctx, address)
	if err != nil {
		return nil, err
	}
	c, err := g.track(raw, dialled)
	if err != nil {
		_ = raw.Close()
		return nil, err
	}
	if err := g.greet(ctx, c, name, kind, address); err != nil {
		_ = c.Close()
		if d := g.distrustPeer(err, name); d != nil {
			g.say("to "+name+" "+d.what, d.what, name, address, d)
			return nil, d
		}
		return nil, err
	}
	return c, nil
}

func (g *gate) greet(ctx context.Context, c *conn, name, kind, address string) error {
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	_ = c.SetDeadline(time.Now().Add(helloTimeout))
	if g.n.o.Credentials != nil {
		if err := g.secureDialled(ctx, c, name, kind); err != nil {
			return err
		}
	}
	own := g.n.lineage()
	text, err := json.Marshal(hello{Protocol: protocol, Kind: kind, Cluster: g.n.o.Cluster, ClusterID: own.ClusterID, Name: g.n.o.Name,
		Generation: own.Generation, Recovery: own.Recovery, claim: g.n.claims(address)})
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
		err := readRefusal(answer)
		g.warn("refused us", c.RemoteAddr().String(), fmt.Errorf("watcher %s says: %w", name, err))
		if err.behind != nil {
			g.n.wonder()
		}
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
type refusal struct {
	reason string
	behind *behind // this watcher was left behind by a recovery; nil: it is something else
}

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
	name, err := s.g.n.nameAt(string(address))
	if err != nil {
		return nil, err
	}
	return s.g.dial(ctx, name, string(address), kindRaft)
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
