package nameserver

import (
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/rs/zerolog"
)

func TestIsolation(t *testing.T) {
	tests := []struct {
		rule     string
		isolated bool
		since    time.Duration
		servfail time.Duration
		rcode    int
		ttl      uint32
		ede      int // -1: none
	}{
		{"in touch", false, 0, time.Hour, dns.RcodeSuccess, 300, -1},
		{"in touch, whatever since says", false, 2 * time.Hour, time.Hour, dns.RcodeSuccess, 300, -1},
		{"not for long", true, 9 * time.Second, time.Hour, dns.RcodeSuccess, 300, -1},
		{"isolated", true, 10 * time.Second, time.Hour, dns.RcodeSuccess, 30, 3},
		{"up to the bound", true, time.Hour, time.Hour, dns.RcodeSuccess, 30, 3},
		{"past it", true, time.Hour + 1, time.Hour, dns.RcodeServerFailure, 0, 14},
		{"without a bound", true, 1000 * time.Hour, 0, dns.RcodeSuccess, 30, 3},
	}
	for _, test := range tests {
		t.Run(test.rule, func(t *testing.T) {
			zone := exampleZone(t)
			zone.Isolation.ServfailAfter = test.servfail
			s := deaf(t, zone)
			s.isolation = func() (bool, time.Duration) { return test.isolated, test.since }
			for _, edns := range []bool{false, true} {
				m := question("shop.ha.example.com.", dns.TypeA)
				if edns {
					m.SetEdns0(1232, false)
				}
				r := ask(t, s, m, udp)
				if r.Rcode != test.rcode || r.Authoritative != (test.rcode == dns.RcodeSuccess) {
					t.Fatalf("got %v", r)
				}
				for _, rr := range r.Answer {
					if rr.Header().Ttl != test.ttl {
						t.Errorf("ttl %d, want %d", rr.Header().Ttl, test.ttl)
					}
				}
				if edns {
					wantEDE(t, r, test.ede)
				} else if r.IsEdns0() != nil {
					t.Error("OPT record without one in the query")
				}
			}
			if r := ask(t, s, question("example.org.", dns.TypeA), udp); r.Rcode != dns.RcodeRefused {
				t.Errorf("outside the zone: %v", r)
			}
		})
	}
}

func wantEDE(t *testing.T, r *dns.Msg, code int) {
	t.Helper()
	got := -1
	for _, o := range r.IsEdns0().Option {
		got = int(o.(*dns.EDNS0_EDE).InfoCode)
	}
	if got != code {
		t.Errorf("extended error %d, want %d", got, code)
	}
}

// Negative answers are remembered for the lower of the SOA record's TTL and its MINIMUM, so clamping the TTL is enough.
func TestIsolationClampsEverySection(t *testing.T) {
	s := deaf(t, exampleZone(t))
	s.isolation = func() (bool, time.Duration) { return true, time.Minute }
	for _, name := range []string{"nope", "@", "mail", "x.sub"} {
		r := ask(t, s, question(absolute(name), dns.TypeNS), udp)
		for _, section := range [][]dns.RR{r.Answer, r.Ns, r.Extra} {
			for _, rr := range section {
				if rr.Header().Ttl != 30 {
					t.Errorf("%s: %v", name, rr)
				}
			}
		}
	}
}

// A TTL below the clamp stays.
func TestIsolationNeverRaisesTTL(t *testing.T) {
	zone := exampleZone(t)
	zone.TTL = 5
	s := deaf(t, zone)
	s.isolation = func() (bool, time.Duration) { return true, time.Minute }
	if r := ask(t, s, question("shop.ha.example.com.", dns.TypeA), udp); r.Answer[0].Header().Ttl != 5 {
		t.Errorf("got %v", r.Answer[0])
	}
}

// What an earlier process answered is marked as stale from the first query on, and ends at the same bound.
func TestStaleZone(t *testing.T) {
	zone := exampleZone(t)
	zone.Stale = true
	s := deaf(t, zone)
	for _, test := range []struct {
		isolated bool
		since    time.Duration
		rcode    int
		ede      int
	}{{false, 0, dns.RcodeSuccess, 3}, {true, time.Second, dns.RcodeSuccess, 3}, {true, time.Hour + 1, dns.RcodeServerFailure, 14}} {
		s.isolation = func() (bool, time.Duration) { return test.isolated, test.since }
		m := question("shop.ha.example.com.", dns.TypeA)
		m.SetEdns0(1232, false)
		r := ask(t, s, m, udp)
		if r.Rcode != test.rcode || r.Rcode == dns.RcodeSuccess && r.Answer[0].Header().Ttl != 30 {
			t.Errorf("isolated %t for %s: %v", test.isolated, test.since, r)
		}
		wantEDE(t, r, test.ede)
	}
}

func TestBeforeFirstPublish(t *testing.T) {
	s := deaf(t, exampleZone(t))
	s.answers.Store(nil)
	m := question("shop.ha.example.com.", dns.TypeA)
	m.SetEdns0(1232, false)
	r := ask(t, s, m, udp)
	if r.Rcode != dns.RcodeServerFailure || r.Authoritative || s.Serial() != 0 {
		t.Errorf("got %v", r)
	}
	wantEDE(t, r, int(dns.ExtendedErrorCodeNotReady))
}

func TestPanicCostsOneAnswer(t *testing.T) {
	s := deaf(t, exampleZone(t))
	s.faults = zerolog.Nop()
	s.isolation = func() (bool, time.Duration) { panic("broken") }
	packet, err := question("shop.ha.example.com.", dns.TypeA).Pack()
	if err != nil {
		t.Fatal(err)
	}
	response := s.respond([]byte{1, 2}, packet, tcp)
	if response[0] != 1 || response[1] != 2 {
		t.Errorf("prefix lost: %x", response)
	}
	r := unpack(t, response[2:])
	if r.Rcode != dns.RcodeServerFailure || !r.Response || !r.RecursionDesired || counter(t, s, "panic") != 1 {
		t.Errorf("got %v", r)
	}
}
