package nameserver

import (
	"bytes"
	"testing"
	"time"

	"github.com/miekg/dns"
)

func TestAnswers(t *testing.T) {
	s := deaf(t, exampleZone(t))
	const soaOnly = " ; /@ SOA ..."
	tests := []struct {
		rule string
		name string // relative to the zone, unless absolute
		kind uint16
		want string
	}{
		{"group addresses in the order given", "shop", dns.TypeA, "NOERROR ; aa ; shop A 192.0.2.10 ; shop A 192.0.2.9"},
		{"group AAAA", "shop", dns.TypeAAAA, "NOERROR ; aa ; shop AAAA 2001:db8::10"},
		{"missing type is NODATA with SOA", "shop", dns.TypeTXT, "NOERROR ; aa" + soaOnly},
		{"unknown type is NODATA", "shop", 65280, "NOERROR ; aa" + soaOnly},
		{"missing name is NXDOMAIN with SOA", "nope", dns.TypeA, "NXDOMAIN ; aa" + soaOnly},
		{"name below a group is missing", "x.shop", dns.TypeA, "NXDOMAIN ; aa" + soaOnly},
		{"host name is CNAME", "cloud", dns.TypeA, "NOERROR ; aa ; cloud CNAME lb.example.net."},
		{"CNAME asked for itself", "cloud", dns.TypeCNAME, "NOERROR ; aa ; cloud CNAME lb.example.net."},
		{"apex record", "@", dns.TypeA, "NOERROR ; aa ; @ A 192.0.2.80"},
		{"apex NODATA", "@", dns.TypeAAAA, "NOERROR ; aa" + soaOnly},
		{"apex static", "@", dns.TypeMX, "NOERROR ; aa ; @ MX 10 mail"},
		{"SOA", "@", dns.TypeSOA, "NOERROR ; aa ; @ SOA ..."},
		{"NS with glue, unreachable watcher left out", "@", dns.TypeNS,
			"NOERROR ; aa ; @ NS w1 ; @ NS w2 ; +w1 A 192.0.2.53 ; +w2 A 198.51.100.53 ; +w2 AAAA 2001:db8::53"},
		{"glue asked for", "w2", dns.TypeAAAA, "NOERROR ; aa ; w2 AAAA 2001:db8::53"},
		{"unreachable watcher has no name", "w3", dns.TypeA, "NXDOMAIN ; aa" + soaOnly},
		{"chased CNAME", "www", dns.TypeA, "NOERROR ; aa ; www CNAME shop ; shop A 192.0.2.10 ; shop A 192.0.2.9"},
		{"chased CNAME to NODATA", "www", dns.TypeMX, "NOERROR ; aa ; www CNAME shop" + soaOnly},
		{"CNAME out of the zone", "ext", dns.TypeA, "NOERROR ; aa ; ext CNAME www.example.net."},
		{"chain to NXDOMAIN", "chain1", dns.TypeA, "NXDOMAIN ; aa ; chain1 CNAME chain2 ; chain2 CNAME nowhere" + soaOnly},
		{"empty non-terminal", "a.b", dns.TypeTXT, "NOERROR ; aa" + soaOnly},
		{"upper empty non-terminal", "b", dns.TypeA, "NOERROR ; aa" + soaOnly},
		{"below empty non-terminals", "deep.a.b", dns.TypeTXT, `NOERROR ; aa ; deep.a.b TXT "below two empty names"`},
		{"wildcard", "q.wild", dns.TypeA, "NOERROR ; aa ; q.wild A 192.0.2.77"},
		{"wildcard covers several labels", "p.q.wild", dns.TypeA, "NOERROR ; aa ; p.q.wild A 192.0.2.77"},
		{"wildcard NODATA", "q.wild", dns.TypeAAAA, "NOERROR ; aa" + soaOnly},
		{"existing name hides the wildcard", "here.wild", dns.TypeTXT, "NOERROR ; aa" + soaOnly},
		{"empty non-terminal hides the wildcard", "y.wild", dns.TypeA, "NOERROR ; aa" + soaOnly},
		{"no wildcard above the closest name", "z.y.wild", dns.TypeA, "NXDOMAIN ; aa" + soaOnly},
		{"nor below an existing one", "z.here.wild", dns.TypeA, "NXDOMAIN ; aa" + soaOnly},
		{"the wildcard's parent", "wild", dns.TypeA, "NOERROR ; aa" + soaOnly},
		{"the asterisk itself", "*.wild", dns.TypeTXT, `NOERROR ; aa ; *.wild TXT "wild"`},
		{"wildcard CNAME is chased", "any.alias", dns.TypeAAAA, "NOERROR ; aa ; any.alias CNAME shop ; shop AAAA 2001:db8::10"},
		{"delegation", "sub", dns.TypeA, "NOERROR ; /sub NS ns.sub ; /sub NS ns.elsewhere.example. ; +ns.sub A 192.0.2.99"},
		{"below a delegation", "a.b.sub", dns.TypeMX, "NOERROR ; /sub NS ns.sub ; /sub NS ns.elsewhere.example. ; +ns.sub A 192.0.2.99"},
		{"glue is not our data", "ns.sub", dns.TypeA, "NOERROR ; /sub NS ns.sub ; /sub NS ns.elsewhere.example. ; +ns.sub A 192.0.2.99"},
		{"DS belongs to the parent", "sub", dns.TypeDS, "NOERROR ; aa" + soaOnly},
		{"DS below belongs to the child", "x.sub", dns.TypeDS, "NOERROR ; /sub NS ns.sub ; /sub NS ns.elsewhere.example. ; +ns.sub A 192.0.2.99"},
		{"CNAME into a delegation", "tosub", dns.TypeA,
			"NOERROR ; aa ; tosub CNAME host.sub ; /sub NS ns.sub ; /sub NS ns.elsewhere.example. ; +ns.sub A 192.0.2.99"},
		{"name in data of later types is not compressed", "_sip._tcp", dns.TypeSRV, "NOERROR ; aa ; _sip._tcp SRV 1 2 5060 mail"},
		{"ANY gives one set", "shop", dns.TypeANY, "NOERROR ; aa ; shop A 192.0.2.10 ; shop A 192.0.2.9"},
		{"ANY on a CNAME gives it", "www", dns.TypeANY, "NOERROR ; aa ; www CNAME shop"},
		{"ANY on an empty non-terminal", "b", dns.TypeANY, "NOERROR ; aa" + soaOnly},
		{"ANY on no name", "nope", dns.TypeANY, "NXDOMAIN ; aa" + soaOnly},
		{"outside the zone", "example.com.", dns.TypeA, "REFUSED"},
		{"another zone", "example.org.", dns.TypeA, "REFUSED"},
		{"the root", ".", dns.TypeNS, "REFUSED"},
		{"same ending in the middle of a label", "xha.example.com.", dns.TypeA, "REFUSED"},
		{"the zone's name within one label", `x\002ha\007example\003com.`, dns.TypeA, "REFUSED"},
		{"transfer", "@", dns.TypeAXFR, "REFUSED"},
		{"incremental transfer", "@", dns.TypeIXFR, "REFUSED"},
		{"OPT is no type to ask", "@", dns.TypeOPT, "FORMERR"},
		{"MAILA", "@", dns.TypeMAILA, "NOTIMP"},
	}
	for _, test := range tests {
		t.Run(test.rule, func(t *testing.T) {
			r := ask(t, s, question(absolute(test.name), test.kind), tcp)
			if got := summary(r); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

func absolute(name string) string {
	switch {
	case name == "@":
		return "ha.example.com."
	case dns.IsFqdn(name):
		return name
	}
	return name + ".ha.example.com."
}

func TestLoopEnds(t *testing.T) {
	r := ask(t, deaf(t, exampleZone(t)), question("loop1.ha.example.com.", dns.TypeA), tcp)
	if r.Rcode != dns.RcodeSuccess || len(r.Answer) != maxChain || len(r.Ns) != 0 {
		t.Errorf("got %v", r)
	}
}

func TestSOA(t *testing.T) {
	for _, test := range []struct{ ttl, want uint32 }{{60, 60}, {300, 300}, {3600, 300}} {
		zone := exampleZone(t)
		zone.TTL = test.ttl
		for _, name := range []string{"ha.example.com.", "nope.ha.example.com."} {
			r := ask(t, deaf(t, zone), question(name, dns.TypeSOA), udp)
			soa := append(r.Answer, r.Ns...)[0].(*dns.SOA)
			if soa.Ns != "w1.ha.example.com." || soa.Mbox != "hostmaster.ha.example.com." || soa.Serial != 7 ||
				soa.Minttl != test.want || soa.Hdr.Ttl != test.want || soa.Expire <= soa.Refresh+soa.Retry {
				t.Errorf("zone ttl %d: %v", test.ttl, soa)
			}
		}
	}
}

func TestCaseIsKept(t *testing.T) {
	s := deaf(t, exampleZone(t))
	for _, name := range []string{"sHoP.hA.eXaMpLe.CoM.", "Q.WILD.HA.EXAMPLE.COM."} {
		r := ask(t, s, question(name, dns.TypeA), udp)
		if r.Question[0].Name != name || len(r.Answer) == 0 || r.Answer[0].Header().Name != name {
			t.Errorf("asked %s, got %v", name, r)
		}
	}
}

func TestTTLs(t *testing.T) {
	s := deaf(t, exampleZone(t))
	for name, want := range map[string]uint32{"shop": 300, "w1": 300, "mail": 3600, "q.wild": 3600} {
		if r := ask(t, s, question(absolute(name), dns.TypeA), udp); r.Answer[0].Header().Ttl != want {
			t.Errorf("%s: ttl %d, want %d", name, r.Answer[0].Header().Ttl, want)
		}
	}
}

// Every watcher builds its own table; the bytes must not depend on map order or on who asks.
func TestSameZoneSameBytes(t *testing.T) {
	var first [][]byte
	for range 20 {
		s := deaf(t, exampleZone(t))
		var all [][]byte
		for _, name := range []string{"@", "shop", "large", "sub", "www", "nope"} {
			for _, kind := range []uint16{dns.TypeA, dns.TypeNS, dns.TypeANY} {
				m := question(absolute(name), kind)
				m.Id = 1
				packet, err := m.Pack()
				if err != nil {
					t.Fatal(err)
				}
				all = append(all, s.respond(nil, packet, tcp))
			}
		}
		if first == nil {
			first = all
		}
		for i := range all {
			if !bytes.Equal(all[i], first[i]) {
				t.Fatalf("answer %d differs:\n%x\n%x", i, all[i], first[i])
			}
		}
	}
}

func TestDuplicatesAreSentOnce(t *testing.T) {
	zone := exampleZone(t)
	zone.Records[0].Addresses = addrs("192.0.2.10", "192.0.2.10", "::ffff:192.0.2.10")
	r := ask(t, deaf(t, zone), question("shop.ha.example.com.", dns.TypeA), udp)
	if got := summary(r); got != "NOERROR ; aa ; shop A 192.0.2.10" {
		t.Error(got)
	}
}

func TestTruncation(t *testing.T) {
	s := deaf(t, exampleZone(t))
	tests := []struct {
		rule    string
		name    string
		kind    uint16
		edns    uint16 // 0: none
		via     transport
		tc      bool
		answers int
	}{
		{"fits without EDNS", "shop", dns.TypeA, 0, udp, false, 2},
		{"set is left out whole", "large", dns.TypeA, 0, udp, true, 0},
		{"fits with EDNS", "large", dns.TypeA, 1232, udp, false, 40},
		{"client's size counts", "large", dns.TypeA, 600, udp, true, 0},
		{"sizes below 512 mean 512", "shop", dns.TypeA, 10, udp, false, 2},
		{"ours is the limit", "medium", dns.TypeTXT, 4096, udp, false, 8},
		{"512 without EDNS", "medium", dns.TypeTXT, 0, udp, true, 0},
		{"TCP takes all", "large", dns.TypeA, 0, tcp, false, 40},
		{"CNAME stays complete before it", "big", dns.TypeA, 0, udp, true, 1},
	}
	for _, test := range tests {
		t.Run(test.rule, func(t *testing.T) {
			m := question(absolute(test.name), test.kind)
			limit := 512
			if test.edns > 0 {
				m.SetEdns0(test.edns, false)
				limit = max(512, min(int(test.edns), 1232))
			}
			r := ask(t, s, m, test.via)
			if r.Truncated != test.tc || len(r.Answer) != test.answers {
				t.Errorf("tc %v with %d answers, want %v with %d", r.Truncated, len(r.Answer), test.tc, test.answers)
			}
			packet, _ := m.Pack()
			if n := len(s.respond(nil, packet, test.via)); test.via == udp && n > limit {
				t.Errorf("%d bytes are more than %d", n, limit)
			}
		})
	}
}

// Glue that a referral needs makes it truncated when it does not fit; glue beside a complete answer is dropped silently.
func TestTruncatedGlue(t *testing.T) {
	text := "sub NS ns.sub\n"
	zone := exampleZone(t)
	for i := range 40 {
		text += "ns.sub A 192.0.2." + string(rune('0'+i/10)) + string(rune('0'+i%10)) + "\n"
		if i >= 10 {
			zone.Nameservers[0].Addresses = append(zone.Nameservers[0].Addresses, addrs("203.0.113."+string(rune('0'+i/10))+string(rune('0'+i%10)))...)
		}
	}
	text = string(bytes.ReplaceAll([]byte(text), []byte("192.0.2.0"), []byte("192.0.2.")))
	static, err := ParseStatic(zone.Name, 300, text)
	if err != nil {
		t.Fatal(err)
	}
	zone.Static = static
	s := deaf(t, zone)
	if r := ask(t, s, question("x.sub.ha.example.com.", dns.TypeA), udp); !r.Truncated || len(r.Ns) != 1 || len(r.Extra) != 0 {
		t.Errorf("referral: %v", r)
	}
	r := ask(t, s, question("ha.example.com.", dns.TypeNS), udp)
	if r.Truncated || len(r.Answer) != 2 || len(r.Extra) != 2 {
		t.Errorf("NS: %s", summary(r))
	}
}

// Whatever the client's size, and with the longest OPT record, the answer stays within it.
func TestSizeIncludesOPT(t *testing.T) {
	s := deaf(t, exampleZone(t))
	s.isolation = func() (bool, time.Duration) { return true, time.Minute }
	for size := 512; size <= 1300; size++ {
		m := question("ha.example.com.", dns.TypeNS)
		if size%2 == 0 {
			m = question("large.ha.example.com.", dns.TypeA)
		}
		m.SetEdns0(uint16(size), true)
		packet, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		if n := len(s.respond(nil, packet, udp)); n > min(size, ednsSize) {
			t.Fatalf("%d bytes for a client that takes %d", n, size)
		}
	}
}

// Old receivers cannot decompress names in the data of types that came after RFC 1035 (RFC 3597, section 4).
func TestCompressionInData(t *testing.T) {
	static, err := ParseStatic("z.", 60, "a SRV 1 1 1 b\na MX 1 b\nb PTR c\nc SVCB 1 b")
	if err != nil {
		t.Fatal(err)
	}
	for i, pointers := range []int{0, 1, 1, 0} {
		r, err := encode(static[i], []byte("\x01z\x00"), make([]byte, 1<<16))
		if err != nil || len(r.pointers) != pointers {
			t.Errorf("%v: %d pointers, want %d (%v)", static[i], len(r.pointers), pointers, err)
		}
	}
}
