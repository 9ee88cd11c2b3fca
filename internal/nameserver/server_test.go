package nameserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/rs/zerolog"
)

// start runs a server on loopback until the test ends, and returns it with its address.
func start(t testing.TB, opts Options) (*Server, string) {
	t.Helper()
	if opts.Listen == nil {
		opts.Listen = []string{"127.0.0.1:0"}
	}
	opts.Log = zerolog.Nop()
	s, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(10 * time.Second):
			t.Error("Run does not return")
		}
	})
	return s, s.Addrs()[0].String()
}

func counter(t testing.TB, s *Server, reason string) float64 {
	t.Helper()
	var m dto.Metric
	if err := s.metrics.dropped.WithLabelValues(reason).Write(&m); err != nil {
		t.Fatal(err)
	}
	return m.GetCounter().GetValue()
}

// eventually waits for a condition that a server reaches by itself.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	deadline := time.NewTimer(10 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-deadline.C:
			t.Fatalf("not reached: %s", what)
		case <-tick.C:
		}
	}
}

func TestOverTheWire(t *testing.T) {
	registry := prometheus.NewRegistry()
	s, addr := start(t, Options{Registerer: registry})
	for _, network := range []string{"udp", "tcp"} {
		c := &dns.Client{Net: network}
		r, _, err := c.Exchange(question("shop.ha.example.com.", dns.TypeA), addr)
		if err != nil || r.Rcode != dns.RcodeServerFailure {
			t.Fatalf("before Publish: %v, %v", r, err)
		}
	}
	zone := exampleZone(t)
	for serial := uint32(7); serial < 10; serial++ {
		zone.Serial = serial
		zone.Records[0].Addresses = addrs(fmt.Sprintf("192.0.2.%d", serial))
		s.Publish(mustBuild(t, zone))
		if s.Serial() != serial {
			t.Errorf("serial %d, want %d", s.Serial(), serial)
		}
		for _, network := range []string{"udp", "tcp"} {
			c := &dns.Client{Net: network}
			r, _, err := c.Exchange(question("shop.ha.example.com.", dns.TypeA), addr)
			if err != nil {
				t.Fatal(err)
			}
			if want := fmt.Sprintf("NOERROR ; aa ; shop A 192.0.2.%d", serial); summary(r) != want {
				t.Errorf("%s: got %s, want %s", network, summary(r), want)
			}
		}
	}
	wantMetrics(t, registry,
		`watchover_dns_queries_total rcode=NOERROR transport=tcp type=A 3`,
		`watchover_dns_queries_total rcode=NOERROR transport=udp type=A 3`,
		`watchover_dns_queries_total rcode=SERVFAIL transport=udp type=A 1`,
		`watchover_dns_serial zone=ha.example.com. 9`,
		`watchover_dns_dropped_total reason=panic 0`)
}

// A truncated answer over UDP is complete over TCP, which is what clients do next.
func TestTruncatedThenTCP(t *testing.T) {
	s, addr := start(t, Options{})
	s.Publish(mustBuild(t, exampleZone(t)))
	r, _, err := new(dns.Client).Exchange(question("large.ha.example.com.", dns.TypeA), addr)
	if err != nil || !r.Truncated {
		t.Fatalf("%v, %v", r, err)
	}
	r, _, err = (&dns.Client{Net: "tcp"}).Exchange(question("large.ha.example.com.", dns.TypeA), addr)
	if err != nil || r.Truncated || len(r.Answer) != 40 {
		t.Fatalf("%v, %v", r, err)
	}
}

func TestOnlyTheCurrentZonesSerialIsShown(t *testing.T) {
	registry := prometheus.NewRegistry()
	s, _ := start(t, Options{Registerer: registry})
	for _, name := range []string{"a.example.", "b.example."} {
		s.Publish(mustBuild(t, Zone{Name: name, Serial: 1, Nameservers: []Nameserver{{Name: "w1", Addresses: addrs("192.0.2.1")}}}))
	}
	wantMetrics(t, registry, "watchover_dns_serial zone=b.example. 1")
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "watchover_dns_serial" && len(f.Metric) != 1 {
			t.Errorf("%d zones", len(f.Metric))
		}
	}
}

func TestUnknownTypesShareOneLabel(t *testing.T) {
	registry := prometheus.NewRegistry()
	m, err := newMetrics(registry)
	if err != nil {
		t.Fatal(err)
	}
	for kind := range 2000 {
		m.query(uint16(kind+1000), dns.RcodeRefused, udp)
	}
	m.query(dns.TypeMX, dns.RcodeBadVers, tcp)
	wantMetrics(t, registry, `watchover_dns_queries_total rcode=REFUSED transport=udp type=other 2000`,
		`watchover_dns_queries_total rcode=BADVERS transport=tcp type=MX 1`)
}

func wantMetrics(t *testing.T, registry *prometheus.Registry, want ...string) {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, f := range families {
		for _, m := range f.Metric {
			line := f.GetName()
			for _, l := range m.Label {
				line += " " + l.GetName() + "=" + l.GetValue()
			}
			lines = append(lines, fmt.Sprint(line, " ", m.GetCounter().GetValue()+m.GetGauge().GetValue()))
		}
	}
	all := strings.Join(lines, "\n") + "\n"
	for _, w := range want {
		if !strings.Contains(all, w+"\n") {
			t.Errorf("no %q in\n%s", w, all)
		}
	}
}

// On a wildcard address the answer must come from the address that was asked, or the client will not take it.
func TestAnswersFromTheAddressAsked(t *testing.T) {
	for _, test := range []struct{ listen, ask string }{{"0.0.0.0:0", "127.0.0.2"}, {"[::]:0", "::1"}, {"127.0.0.3:0", "127.0.0.3"}} {
		s, _ := start(t, Options{Listen: []string{test.listen}})
		s.Publish(mustBuild(t, exampleZone(t)))
		target := netip.AddrPortFrom(netip.MustParseAddr(test.ask), s.Addrs()[0].Port())
		conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(target)) // connected: takes nothing from elsewhere
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		c := &dns.Client{Timeout: 5 * time.Second}
		r, _, err := c.ExchangeWithConn(question("shop.ha.example.com.", dns.TypeA), &dns.Conn{Conn: conn})
		if err != nil || len(r.Answer) != 2 {
			t.Errorf("%s asked at %s: %v, %v", test.listen, test.ask, r, err)
		}
	}
}

func TestBothFamiliesWithoutHost(t *testing.T) {
	s, _ := start(t, Options{Listen: []string{":0"}})
	s.Publish(mustBuild(t, exampleZone(t)))
	if len(s.Addrs()) != 2 || !s.Addrs()[0].Addr().Is4() || !s.Addrs()[1].Addr().Is6() {
		t.Errorf("bound %v", s.Addrs())
	}
}

func TestBindErrors(t *testing.T) {
	first, _ := start(t, Options{})
	taken := first.Addrs()[0].String()
	tests := []struct{ rule, listen, want string }{
		{"in use", taken, "cannot listen for DNS on " + taken + ": "},
		{"in use, hint", taken, "another name server has it"},
		{"not ours", "192.0.2.1:0", "this machine does not have that address"},
		{"host name", "localhost:53", "write it like 192.0.2.53:53"},
		{"no port", "127.0.0.1", "write it like 192.0.2.53:53"},
		{"no port after the colon", ":", "not an IP address and port"},
	}
	for _, test := range tests {
		t.Run(test.rule, func(t *testing.T) {
			_, err := New(Options{Listen: []string{"127.0.0.1:0", test.listen}})
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %s", err, test.want)
			}
		})
	}
	if _, err := New(Options{}); err == nil {
		t.Error("no address accepted")
	}
	if got := hint(&net.OpError{Err: os.NewSyscallError("bind", syscall.EACCES)}); !strings.Contains(got, "CAP_NET_BIND_SERVICE") {
		t.Errorf("hint %q", got)
	}
}

func TestFailedNewLeavesNothingBound(t *testing.T) {
	s, err := New(Options{Listen: []string{"127.0.0.1:0"}})
	if err != nil {
		t.Fatal(err)
	}
	addr := s.Addrs()[0].String()
	s.Close()
	s.Close()
	if err := s.Run(context.Background()); !errors.Is(err, errUsed) {
		t.Errorf("Run after Close: %v", err)
	}
	if _, err := New(Options{Listen: []string{addr, "nonsense"}}); err == nil {
		t.Fatal("no error")
	}
	again, err := New(Options{Listen: []string{addr}})
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
}

func TestOversizeUDP(t *testing.T) {
	s, addr := start(t, Options{})
	s.Publish(mustBuild(t, exampleZone(t)))
	conn, err := net.Dial("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write(make([]byte, maxQuery+1)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "counted", func() bool { return counter(t, s, "oversize") == 1 })
}

// Publishing while queries run: each answer is of one state, and the serial a client sees never falls.
func TestPublishWhileAnswering(t *testing.T) {
	s, addr := start(t, Options{})
	zone := exampleZone(t)
	s.Publish(mustBuild(t, zone))
	stop := make(chan struct{})
	var wait sync.WaitGroup
	wait.Go(func() {
		for serial := uint32(8); ; serial++ {
			select {
			case <-stop:
				return
			default:
			}
			zone.Serial = serial
			s.Publish(mustBuild(t, zone))
		}
	})
	last := uint32(0)
	for range 500 {
		r, _, err := new(dns.Client).Exchange(question("ha.example.com.", dns.TypeSOA), addr)
		if err != nil {
			t.Fatal(err)
		}
		serial := r.Answer[0].(*dns.SOA).Serial
		if serial < last {
			t.Fatalf("serial fell from %d to %d", last, serial)
		}
		last = serial
	}
	close(stop)
	wait.Wait()
}
