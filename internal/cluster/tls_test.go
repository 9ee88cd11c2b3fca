package cluster

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// authority issues certificates for the tests.
type authority struct {
	t    testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t testing.TB, name string) *authority {
	t.Helper()
	a := &authority{t: t}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-1000 * time.Hour), NotAfter: time.Now().Add(1000 * time.Hour),
		KeyUsage: x509.KeyUsageCertSign, BasicConstraintsValid: true, IsCA: true,
	}
	a.cert, a.key = a.sign(template, nil)
	return a
}

func (a *authority) sign(template, parent *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	signer := a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert, key
}

// pair is a certificate for the DNS names.
func (a *authority) pair(names []string, change ...func(*x509.Certificate)) *tls.Certificate {
	a.t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), DNSNames: names, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, f := range change {
		f(template)
	}
	cert, key := a.sign(template, a.cert)
	return &tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert}
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// of are a watcher's credentials.
func (a *authority) of(names ...string) func() Credentials {
	c := Credentials{Certificate: *a.pair(names), Authorities: a.pool()}
	return func() Credentials { return c }
}

func expired(c *x509.Certificate) {
	c.NotBefore, c.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
}

func newSecureRig(t testing.TB, watchers int) (*rig, *authority) {
	ca := newAuthority(t, "good CA")
	return newRig(t, watchers, func(o *Options) { o.Credentials = ca.of(o.Name) }), ca
}

// TestSecureCluster: a cluster over TLS elects, commits, forwards, and survives its leader.
func TestSecureCluster(t *testing.T) {
	r, _ := newSecureRig(t, 3)
	leader := r.up()
	if _, err := r.follower().Propose(seconds(t, 10), pauseCommand("a", "forwarded", 0)); err != nil {
		t.Fatal(err)
	}
	r.kill(leader)
	next := r.leader()
	if _, err := next.Propose(seconds(t, 10), pauseCommand("b", "after", 0)); err != nil {
		t.Fatal(err)
	}
	until(t, "all have it", func() bool {
		for _, n := range r.living() {
			if pauseReason(n) != "after" {
				return false
			}
		}
		return true
	})
	for _, n := range r.living() {
		n.gate.mu.Lock()
		for c, name := range n.gate.conns {
			if c.standing == admitted && (c.tls == nil || c.tls.ConnectionState().Version != tls.VersionTLS13) {
				t.Errorf("%s speaks with %s without TLS 1.3", n.o.Name, name)
			}
		}
		n.gate.mu.Unlock()
	}
}

// safeBuffer is a log that is read while it is written.
type safeBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// doorway is a gate without a cluster behind it, and what its watcher logs.
type doorway struct {
	*gate
	address string
	log     *safeBuffer
}

// open starts the gate of a watcher. A caller that is welcome is told so and then let go.
func open(t *testing.T, name string, credentials func() Credentials) *doorway {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	log := &safeBuffer{}
	n := &Node{
		o:   Options{Name: name, Cluster: "prod", Credentials: credentials, listener: ln, Peers: []Peer{{Name: "w1"}, {Name: "w2"}}},
		log: zerolog.New(log), limit: newLimiter(time.Minute), peers: map[string]*peer{}, pokes: newPokes(), dir: &dataDir{},
	}
	n.setLeader("")
	n.setState(failover.NewState())
	if err := n.listen(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); n.gate.serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		n.gate.close()
		<-done
		n.joinAll()
	})
	return &doorway{gate: n.gate, address: ln.Addr().String(), log: log}
}

// TestBothEndsSayWhy goes through everything that can be wrong between two watchers: w1 dials, w2 is dialled. Each end
// has one line that says what to do, and no more than that comes of it.
func TestBothEndsSayWhy(t *testing.T) {
	ca, foreign := newAuthority(t, "good CA"), newAuthority(t, "foreign CA")
	with := func(c *tls.Certificate, pool *x509.CertPool) func() Credentials {
		return func() Credentials { return Credentials{Certificate: *c, Authorities: pool} }
	}
	w1, w2 := ca.of("w1"), ca.of("w2")
	clientOnly := func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }
	future := func(c *x509.Certificate) {
		c.NotBefore, c.NotAfter = time.Now().Add(time.Hour), time.Now().Add(2*time.Hour)
	}
	for _, c := range []struct {
		name           string
		dials, dialled func() Credentials
		dialler, door  string // what each logs; empty: nothing
	}{
		{"all is well", w1, w2, "", ""},
		{"expired caller", with(ca.pair([]string{"w1"}, expired), ca.pool()), w2,
			"it says that this watcher's certificate has ended, or has not begun by its clock; `watchover pki issue w1` makes a new one",
			"Z; `watchover pki issue w1` makes a new one"},
		{"early caller", with(ca.pair([]string{"w1"}, future), ca.pool()), w2,
			"or has not begun by its clock", "is not good before"},
		{"expired door", w1, with(ca.pair([]string{"w2"}, expired), ca.pool()),
			"`watchover pki issue w2` makes a new one", "it does not accept this watcher's certificate, which has ended; `watchover pki issue w2` makes a new one"},
		{"caller of a foreign authority", with(foreign.pair([]string{"w1"}), ca.pool()), w2,
			"it does not know the authority of this watcher's certificate; all watchers need the same ca_file",
			`its certificate for \"w1\" is issued by \"foreign CA\", which is not in ca_file here`},
		{"door of a foreign authority", w1, with(foreign.pair([]string{"w2"}), ca.pool()),
			`its certificate for \"w2\" is issued by \"foreign CA\", which is not in ca_file here`, "it does not accept this watcher's certificate (bad certificate)"},
		{"caller in another cluster", foreign.of("w1"), w2,
			`is issued by \"good CA\", which is not in ca_file here`, "it does not accept this watcher's certificate (bad certificate)"},
		{"caller with another's certificate", ca.of("w3"), w2,
			`watcher w2 says: watcher \"w1\" shows a certificate made out to \"w3\"; give it its own, `, `watcher \"w1\" shows a certificate made out to \"w3\"`},
		{"another watcher at the address", w1, ca.of("w3"),
			`its certificate is made out to \"w3\", not to \"w2\", whom cluster.watchers has at this address`, "it does not accept this watcher's certificate"},
		{"a wildcard at the address", w1, ca.of("*"),
			`its certificate is made out to \"*\", not to \"w2\"`, "it does not accept this watcher's certificate"},
		{"caller with a server's certificate", with(ca.pair([]string{"w1"}, clientOnly), ca.pool()), w2,
			"it does not accept this watcher's certificate (bad certificate); its log says why", "may not be used for this end of a connection"},
		{"caller in plain", nil, w2,
			"watcher w2 says: this watcher speaks only TLS; set cluster.tls in your file too", "it speaks without TLS; set cluster.tls in its file too"},
		{"door in plain", w1, nil,
			"it answers without TLS; set cluster.tls in its file too", "it speaks TLS, but cluster.tls is not set here; set it on all watchers"},
	} {
		t.Run(c.name, func(t *testing.T) {
			door, from := open(t, "w2", c.dialled), open(t, "w1", c.dials)
			for range 3 { // the same again is not said again
				got, err := from.dial(seconds(t, 10), "w2", door.address, kindRequest)
				if (err == nil) != (c.dialler == "") {
					t.Fatalf("dialling: %v", err)
				}
				if err == nil {
					_ = got.Close()
				}
			}
			for _, end := range []struct {
				*doorway
				want string
			}{{from, c.dialler}, {door, c.door}} {
				if end.want == "" {
					if text := end.log.String(); text != "" {
						t.Errorf("%s logs %s", end.n.o.Name, text)
					}
					continue
				}
				until(t, end.n.o.Name+" says: "+end.want, func() bool { return strings.Contains(end.log.String(), end.want) })
				if text := end.log.String(); strings.Count(text, "\n") != 1 {
					t.Errorf("%s logs %s", end.n.o.Name, text)
				}
			}
		})
	}
}

// TestSwappedAddresses: the watcher that is reached tells by the name that was asked for.
func TestSwappedAddresses(t *testing.T) {
	ca := newAuthority(t, "good CA")
	door, from := open(t, "w1", ca.of("w1")), open(t, "w2", ca.of("w2"))
	if _, err := from.dial(seconds(t, 10), "w3", door.address, kindRaft); err == nil {
		t.Error("took w1 for w3")
	}
	until(t, "the line", func() bool {
		return strings.Contains(door.log.String(), `it looks for watcher \"w3\" here, which is \"w1\"`)
	})
}

// TestStrangersAtTheTLSDoor: who is no watcher gets a line in the log and no word.
func TestStrangersAtTheTLSDoor(t *testing.T) {
	ca := newAuthority(t, "good CA")
	own := ca.pair([]string{"w1"})
	for _, c := range []struct {
		name, want string
		call       func(c net.Conn) error
	}{
		{"http", "does not speak TLS", func(c net.Conn) error {
			_, err := io.WriteString(c, "GET / HTTP/1.1\r\n\r\n")
			return err
		}},
		{"silent", "did not end the TLS handshake", func(c net.Conn) error { return c.(*net.TCPConn).CloseWrite() }},
		{"no certificate", "it shows no certificate", func(c net.Conn) error {
			return tls.Client(c, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{alpn[kindRaft]}}).Handshake()
		}},
		{"browser", "it is no watcher, or one of another version", func(c net.Conn) error {
			_ = tls.Client(c, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2", "http/1.1"}}).Handshake()
			return nil
		}},
		{"old TLS", "it is no watcher, or one of another version", func(c net.Conn) error {
			_ = tls.Client(c, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12}).Handshake()
			return nil
		}},
		{"no protocol", "it asks for no protocol of the watchers", func(c net.Conn) error {
			return tls.Client(c, &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{*own}}).Handshake()
		}},
		{"another kind than agreed on", `it asks for a connection of kind \"request\" on one of kind \"raft\"`, func(c net.Conn) error {
			t := tls.Client(c, &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{*own}, NextProtos: []string{alpn[kindRaft]}})
			_, err := io.WriteString(t, greeting(`{"protocol":1,"kind":"request","cluster":"prod","name":"w1"}`))
			return err
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			door := open(t, "w2", ca.of("w2"))
			raw, err := net.Dial("tcp", door.address)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = raw.Close() }()
			_ = raw.SetDeadline(time.Now().Add(10 * time.Second))
			if err := c.call(raw); err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(raw)
			if errors.Is(err, context.DeadlineExceeded) || bytes.Contains(text, []byte("watcher")) {
				t.Errorf("was told %q, %v", text, err)
			}
			until(t, "the line", func() bool { return strings.Contains(door.log.String(), c.want) })
		})
	}
}

// tickets counts the session tickets that a server sends.
type tickets struct{ atomic.Int32 }

func (*tickets) Get(string) (*tls.ClientSessionState, bool) { return nil, false }

func (n *tickets) Put(string, *tls.ClientSessionState) { n.Add(1) }

// TestNoTicketsComeUnasked: not even to a caller that would take them.
func TestNoTicketsComeUnasked(t *testing.T) {
	ca := newAuthority(t, "good CA")
	door, got := open(t, "w2", ca.of("w2")), &tickets{}
	c, err := tls.Dial("tcp", door.address, &tls.Config{RootCAs: ca.pool(), ServerName: "w2", Certificates: []tls.Certificate{*ca.pair([]string{"w1"})},
		NextProtos: []string{alpn[kindRequest]}, ClientSessionCache: got})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(c, greeting(`{"protocol":1,"kind":"request","cluster":"prod","name":"w1"}`)); err != nil {
		t.Fatal(err)
	}
	if answer, err := readFrame(c, maxHello); err != nil || len(answer) > 0 {
		t.Fatalf("got %q, %v", answer, err)
	}
	if n := got.Load(); n != 0 {
		t.Errorf("%d tickets came", n)
	}
}

func greeting(hello string) string {
	return fmt.Sprintf("%s\x00\x00%c%c%s", magic, len(hello)>>8, len(hello)&0xff, hello)
}

// TestIdleSecureConnectionIsAlive: nothing may come unasked on an idle connection, or it would be taken for dead and
// every request would dial anew.
func TestIdleSecureConnectionIsAlive(t *testing.T) {
	ca := newAuthority(t, "good CA")
	door, from := open(t, "w2", ca.of("w2")), open(t, "w1", ca.of("w1"))
	p := from.n.peer("w2")
	for i := range 3 {
		if _, err := p.call(seconds(t, 10), door.address, request{Poke: &failure{}}); err != nil {
			t.Fatal(err)
		}
		c := <-p.idle
		if !alive(c) {
			t.Fatalf("after %d requests the connection is taken for dead", i+1)
		}
		p.idle <- c
	}
	from.mu.Lock()
	count := from.count(dialled)
	from.mu.Unlock()
	if count != 1 {
		t.Errorf("three requests took %d connections", count)
	}
	c := <-p.idle
	door.gate.close()
	until(t, "the end is seen", func() bool { return !alive(c) })
}

// TestNewCredentials: they count for the next connection at once; a certificate that ends leaves open ones alone; an
// authority that is no longer believed does not.
func TestNewCredentials(t *testing.T) {
	ca, next := newAuthority(t, "good CA"), newAuthority(t, "next CA")
	both := ca.pool()
	both.AddCert(next.cert)
	var have atomic.Pointer[Credentials]
	set := func(c *tls.Certificate, pool *x509.CertPool) {
		have.Store(&Credentials{Certificate: *c, Authorities: pool})
	}
	set(ca.pair([]string{"w2"}), ca.pool())
	door, from := open(t, "w2", func() Credentials { return *have.Load() }), open(t, "w1", ca.of("w1"))
	c, err := from.dial(seconds(t, 10), "w2", door.address, kindRequest)
	if err != nil {
		t.Fatal(err)
	}
	set(ca.pair([]string{"w2"}, expired), both)
	door.n.Retrust()
	if !alive(c) {
		t.Error("a connection ended with its certificate")
	}
	if _, err := from.dial(seconds(t, 10), "w2", door.address, kindRequest); err == nil {
		t.Error("the old certificate is still shown")
	}
	set(next.pair([]string{"w2"}), next.pool())
	door.n.Retrust()
	until(t, "the end of a connection whose authority is not believed any more", func() bool { return !alive(c) })
}

// TestStrangersLeaveRoom: however many connections a stranger holds, a watcher gets in.
func TestStrangersLeaveRoom(t *testing.T) {
	ca := newAuthority(t, "good CA")
	door, from := open(t, "w2", ca.of("w2")), open(t, "w1", ca.of("w1"))
	for range 4 * maxStrangers {
		c, err := net.Dial("tcp", door.address)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
	}
	for range 5 {
		c, err := from.dial(seconds(t, 10), "w2", door.address, kindRequest)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
	}
	door.mu.Lock()
	defer door.mu.Unlock()
	if n := door.count(stranger); n > maxStrangers {
		t.Errorf("%d strangers", n)
	}
	if n := door.count(admitted); n != 5 {
		t.Errorf("%d of 5 watchers' connections are left", n)
	}
}

// TestCrowding: the busiest host pays.
func TestCrowding(t *testing.T) {
	g := &gate{conns: map[*conn]string{}}
	add := func(host string, as standing) *conn {
		g.arrivals++
		c := &conn{Conn: &addressed{host: host}, g: g, standing: as, arrival: g.arrivals}
		g.conns[c] = ""
		return c
	}
	add("192.0.2.1", admitted)
	add("192.0.2.1", stranger)
	first := add("192.0.2.9", stranger)
	add("192.0.2.9", stranger)
	if got := g.crowding(); got != first {
		t.Errorf("number %d has to leave, want %d", got.arrival, first.arrival)
	}
}

type addressed struct {
	net.Conn
	host string
}

func (a *addressed) RemoteAddr() net.Addr { return configured(net.JoinHostPort(a.host, "1")) }

// TestPlainStaysOnLoopback: a member whose address has become another one is not spoken to without TLS.
func TestPlainStaysOnLoopback(t *testing.T) {
	from := open(t, "w1", nil)
	if _, err := from.dial(seconds(t, 10), "w2", "192.0.2.1:7653", kindRaft); err == nil || !strings.Contains(err.Error(), "cluster.tls") {
		t.Errorf("got %v", err)
	}
	if err := (&Options{Name: "w1", Listen: "0.0.0.0:7653", Peers: []Peer{{Name: "w1", Address: "127.0.0.1:7653"}}}).check(); err == nil {
		t.Error("listens in plain to everybody")
	}
	ca := newAuthority(t, "good CA")
	o := Options{Name: "w1", Listen: "0.0.0.0:7653", Peers: []Peer{{Name: "w1", Address: "w1.example.net:7653"}}, Credentials: ca.of("w1")}
	if err := o.check(); err != nil {
		t.Error(err)
	}
}

// tapped is a listener that keeps what comes in.
type tapped struct {
	net.Listener
	heard *safeBuffer
}

func (l tapped) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return tappedConn{c, l.heard}, nil
}

type tappedConn struct {
	net.Conn
	heard *safeBuffer
}

func (c tappedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	_, _ = c.heard.Write(b[:n])
	return n, err
}

// TestNothingInClear: what passes between the watchers names no group, no verdict and no cluster; in plain it does.
func TestNothingInClear(t *testing.T) {
	ca := newAuthority(t, "good CA")
	for _, secure := range []bool{false, true} {
		heard := &safeBuffer{}
		r := newRig(t, 3, func(o *Options) {
			o.listener = tapped{o.listener, heard}
			if secure {
				o.Credentials = ca.of(o.Name)
			}
		})
		r.up()
		n := r.follower()
		n.say(failover.VerdictDown)
		until(t, "the verdict is known", func() bool { return verdictOf(r.leader(), n.o.Name) == failover.VerdictDown })
		text := heard.String()
		for _, word := range []string{"shop", "standby", "down", "prod", "198.51.100.10"} {
			if strings.Contains(text, word) == secure {
				t.Errorf("TLS %t: among %d bytes %q: %t", secure, len(text), word, !secure)
			}
		}
		for _, n := range r.living() {
			r.quit(n)
		}
	}
}
