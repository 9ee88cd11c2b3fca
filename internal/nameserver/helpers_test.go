package nameserver

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/watchover-ha/watchover/pkg/failover"
)

const staticText = `
@            MX    10 mail
@            TXT   "hello"
mail         A     192.0.2.25
mail         AAAA  2001:db8::25
www          CNAME shop
ext          CNAME www.example.net.
chain1       CNAME chain2
chain2       CNAME nowhere
loop1        CNAME loop2
loop2        CNAME loop1
deep.a.b     TXT   "below two empty names"
*.wild       A     192.0.2.77
*.wild       TXT   "wild"
here.wild    A     192.0.2.78
x.y.wild     A     192.0.2.79
*.alias      CNAME shop
tosub        CNAME host.sub
sub          NS    ns.sub
sub          NS    ns.elsewhere.example.
ns.sub   600 A     192.0.2.99
_sip._tcp    SRV   1 2 5060 mail
big          CNAME large
`

// exampleZone has one of everything.
func exampleZone(t testing.TB) Zone {
	t.Helper()
	text := staticText
	for i := range 40 {
		text += fmt.Sprintf("large A 198.51.100.%d\n", i)
	}
	for i := range 8 {
		text += fmt.Sprintf("medium TXT \"%s%d\"\n", strings.Repeat("m", 100), i)
	}
	static, err := ParseStatic("ha.example.com.", 3600, text)
	if err != nil {
		t.Fatal(err)
	}
	return Zone{
		Name: "ha.example.com.", Serial: 7, TTL: 300,
		Isolation: failover.Isolation{After: 10 * time.Second, TTL: 30 * time.Second, ServfailAfter: time.Hour},
		Nameservers: []Nameserver{
			{Name: "w1", Addresses: addrs("192.0.2.53")},
			{Name: "w2", Addresses: addrs("198.51.100.53", "2001:db8::53")},
			{Name: "w3"},
		},
		Records: []Record{
			{Name: "shop.ha.example.com.", Addresses: addrs("192.0.2.10", "2001:db8::10", "192.0.2.9")},
			{Name: "cloud.ha.example.com.", CNAME: "lb.example.net."},
			{Name: "ha.example.com.", Addresses: addrs("192.0.2.80")},
		},
		Static: static,
	}
}

func addrs(texts ...string) (list []netip.Addr) {
	for _, text := range texts {
		list = append(list, netip.MustParseAddr(text))
	}
	return list
}

func mustBuild(t testing.TB, zone Zone) *Answers {
	t.Helper()
	a, err := Build(zone)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// deaf is a server without sockets, for asking it packet by packet.
func deaf(t testing.TB, zone Zone) *Server {
	t.Helper()
	m, err := newMetrics(prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{metrics: m, limits: Limits{}.withDefaults(), isolation: func() (bool, time.Duration) { return false, 0 }}
	s.Publish(mustBuild(t, zone))
	return s
}

func question(name string, kind uint16) *dns.Msg {
	m := new(dns.Msg)
	m.SetQuestion(name, kind)
	return m
}

// ask sends a message to the packet entry point and reads the response with the library.
func ask(t testing.TB, s *Server, m *dns.Msg, via transport) *dns.Msg {
	t.Helper()
	packet, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return unpack(t, s.respond(nil, packet, via))
}

func unpack(t testing.TB, response []byte) *dns.Msg {
	t.Helper()
	r := new(dns.Msg)
	if err := r.Unpack(response); err != nil {
		t.Fatalf("response %x: %v", response, err)
	}
	return r
}

// summary is a response in one string: code, flags and the records of each section, without TTLs.
func summary(r *dns.Msg) string {
	words := []string{dns.RcodeToString[r.Rcode]}
	if r.Authoritative {
		words = append(words, "aa")
	}
	if r.Truncated {
		words = append(words, "tc")
	}
	for i, section := range [][]dns.RR{r.Answer, r.Ns, r.Extra} {
		for _, rr := range section {
			if rr.Header().Rrtype == dns.TypeOPT {
				continue
			}
			data := strings.TrimPrefix(rr.String(), rr.Header().String())
			if rr.Header().Rrtype == dns.TypeSOA {
				data = "..."
			}
			owner := strings.TrimSuffix(strings.TrimSuffix(rr.Header().Name, "ha.example.com."), ".")
			if owner == "" {
				owner = "@"
			}
			words = append(words, fmt.Sprintf("%s%s %s %s", []string{"", "/", "+"}[i], owner, dns.Type(rr.Header().Rrtype),
				strings.ReplaceAll(data, ".ha.example.com.", "")))
		}
	}
	return strings.Join(words, " ; ")
}
