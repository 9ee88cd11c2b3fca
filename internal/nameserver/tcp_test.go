package nameserver

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
)

func dial(t *testing.T, addr string) *net.TCPConn {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return conn.(*net.TCPConn)
}

func framed(t *testing.T, m *dns.Msg) []byte {
	t.Helper()
	packet, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(packet))), packet...)
}

func receive(t *testing.T, r io.Reader) (*dns.Msg, error) {
	t.Helper()
	var size [2]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	b := make([]byte, binary.BigEndian.Uint16(size[:]))
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, err
	}
	return unpack(t, b), nil
}

// wantClosed reads until the other side closes.
func wantClosed(t *testing.T, conn net.Conn) {
	t.Helper()
	if _, err := io.Copy(io.Discard, conn); err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("not closed: %v", err)
	}
}

func TestPipelining(t *testing.T) {
	s, addr := start(t, Options{})
	s.Publish(mustBuild(t, exampleZone(t)))
	conn := dial(t, addr)
	var all []byte
	for i := range 200 {
		m := question("shop.ha.example.com.", dns.TypeA)
		m.Id = uint16(i)
		all = append(all, framed(t, m)...)
	}
	var wait sync.WaitGroup
	wait.Go(func() {
		for chunk := range bytes.SplitSeq(all, []byte("shop")) { // across the boundaries of queries
			_, _ = conn.Write(append(chunk, "shop"...))
		}
	})
	defer wait.Wait()
	for i := range 200 {
		r, err := receive(t, conn)
		if err != nil || r.Id != uint16(i) {
			t.Fatalf("%d: %v, %v", i, r, err)
		}
	}
}

func TestTCPLimits(t *testing.T) {
	ask := func(t *testing.T, conn net.Conn) error {
		t.Helper()
		if _, err := conn.Write(framed(t, question("shop.ha.example.com.", dns.TypeA))); err != nil {
			return err
		}
		_, err := receive(t, conn)
		return err
	}
	run := func(t *testing.T, limits Limits) (*Server, string) {
		t.Helper()
		s, addr := start(t, Options{Limits: limits})
		s.Publish(mustBuild(t, exampleZone(t)))
		return s, addr
	}
	t.Run("queries per connection", func(t *testing.T) {
		s, addr := run(t, Limits{Queries: 3})
		conn := dial(t, addr)
		for range 3 {
			if err := ask(t, conn); err != nil {
				t.Fatal(err)
			}
		}
		wantClosed(t, conn)
		eventually(t, "counted", func() bool { return counter(t, s, "queries") == 1 })
	})
	t.Run("idle", func(t *testing.T) {
		_, addr := run(t, Limits{Idle: 50 * time.Millisecond})
		conn := dial(t, addr)
		if err := ask(t, conn); err != nil {
			t.Fatal(err)
		}
		wantClosed(t, conn)
	})
	t.Run("query sent too slowly", func(t *testing.T) {
		s, addr := run(t, Limits{Read: 50 * time.Millisecond})
		conn := dial(t, addr)
		if _, err := conn.Write([]byte{0, 40, 1}); err != nil {
			t.Fatal(err)
		}
		wantClosed(t, conn)
		eventually(t, "counted", func() bool { return counter(t, s, "timeout") == 1 })
	})
	t.Run("answers not read", func(t *testing.T) {
		s, addr := run(t, Limits{Write: 100 * time.Millisecond, Queries: 1 << 30})
		conn := dial(t, addr)
		query := bytes.Repeat(framed(t, question("large.ha.example.com.", dns.TypeA)), 1000)
		for { // until the server gives up
			if _, err := conn.Write(query); err != nil {
				break
			}
		}
		eventually(t, "counted", func() bool { return counter(t, s, "timeout") == 1 })
	})
	for reason, packet := range map[string][]byte{"oversize": {0xff, 0xff}, "short": {0, 3, 1, 2, 3}, "response": append([]byte{0, 12, 0, 0, 0x80}, make([]byte, 9)...)} {
		t.Run(reason, func(t *testing.T) {
			s, addr := run(t, Limits{})
			conn := dial(t, addr)
			if _, err := conn.Write(packet); err != nil {
				t.Fatal(err)
			}
			wantClosed(t, conn)
			eventually(t, "counted", func() bool { return counter(t, s, reason) == 1 })
		})
	}
	t.Run("connections", func(t *testing.T) {
		s, addr := run(t, Limits{Connections: 2})
		var conns [3]*net.TCPConn
		for i := range conns {
			conns[i] = dial(t, addr)
			if err := ask(t, conns[i]); err != nil {
				t.Fatal(err)
			}
			eventually(t, "idle", func() bool { return idle(s) }) // an answer arrives before its connection counts as idle
			if i == 1 {                                           // the first is now the one used last
				if err := ask(t, conns[0]); err != nil {
					t.Fatal(err)
				}
				eventually(t, "idle again", func() bool { return idle(s) })
			}
		}
		wantClosed(t, conns[1])
		for _, i := range []int{0, 2} {
			if err := ask(t, conns[i]); err != nil {
				t.Errorf("connection %d: %v", i, err)
			}
		}
		if got := counter(t, s, "connections"); got != 1 {
			t.Errorf("%v counted", got)
		}
	})
}

func idle(s *Server) bool {
	s.clients.mu.Lock()
	defer s.clients.mu.Unlock()
	for c := range s.clients.open {
		if c.busy {
			return false
		}
	}
	return true
}

// pair is a connection as the server accepted it, and its other end.
func pair(t *testing.T, from string) (*client, *net.TCPConn) {
	t.Helper()
	listener, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	far := dial(t, listener.Addr().String())
	near, err := listener.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { near.Close() })
	return &client{conn: near, source: sourceOf(&net.TCPAddr{IP: net.ParseIP(from), Port: 1})}, far
}

// One host can neither take all places nor keep others out by not reading its answers.
func TestOneHostCannotDenyTCP(t *testing.T) {
	l := clients{max: 4, perSource: 2}
	admit := func(from string, busy, wantDropped bool) *net.TCPConn {
		t.Helper()
		c, far := pair(t, from)
		if admitted, dropped := l.admit(c); !admitted || dropped != wantDropped {
			t.Fatalf("%s: admitted %t, dropped %t", from, admitted, dropped)
		}
		l.answering(c, busy)
		return far
	}
	hog := admit("192.0.2.1", true, false)
	second := admit("192.0.2.1", false, false)
	admit("2001:db8::1", true, false)
	third := admit("192.0.2.1", true, true) // its own idle one goes, though there is a place left
	wantClosed(t, second)
	admit("198.51.100.1", true, false)
	admit("203.0.113.1", true, true) // all are being answered: the one that has been for longest goes
	wantClosed(t, hog)
	admit("192.0.2.1", true, true)
	admit("192.0.2.1", true, true)
	wantClosed(t, third)
	if len(l.open) != 4 {
		t.Errorf("%d open, want 4", len(l.open))
	}
}

func TestSourceOf(t *testing.T) {
	for addr, want := range map[string]string{
		"192.0.2.1": "192.0.2.1/32", "::ffff:192.0.2.1": "192.0.2.1/32", "2001:db8:1:2:3::4": "2001:db8:1:2::/64", "127.0.0.9": "invalid Prefix", "::1": "invalid Prefix",
	} {
		if got := sourceOf(&net.TCPAddr{IP: net.ParseIP(addr)}).String(); got != want {
			t.Errorf("%s: %s, want %s", addr, got, want)
		}
	}
}
