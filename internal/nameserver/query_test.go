package nameserver

import (
	"encoding/hex"
	"strings"
	"testing"

	"github.com/miekg/dns"
	"github.com/rs/zerolog"
)

// hexQuery makes a packet of a header and the rest; spaces are for the reader.
func hexQuery(t testing.TB, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

const (
	shopName = "04 73686f70 02 6861 07 6578616d706c65 03 636f6d 00"
	shopA    = shopName + " 0001 0001"
	opt      = "00 0029 1000 00000000 0000"
)

// Packets that a well-behaved client does not send. Each is asked over both transports and must be treated alike.
func TestUnusualPackets(t *testing.T) {
	s := deaf(t, exampleZone(t))
	tests := []struct {
		rule   string
		packet string
		want   string // hex of flags, then of counts; "" if there must be no answer
	}{
		{"empty", "", ""},
		{"shorter than a header", "1234 0000 0001 0000 0000 00", ""},
		{"a response", "1234 8000 0001 0000 0000 0000 " + shopA, ""},
		{"a broken response", "1234 8000 0001 0000 0000 0000", ""},
		{"plain", "1234 0000 0001 0000 0000 0000 " + shopA, "8400 0001 0002 0000 0000"},
		{"RD is copied, all other bits are cleared", "1234 07ff 0001 0000 0000 0000 " + shopA, "8500 0001 0002 0000 0000"},
		{"bits are cleared in FORMERR as well", "1234 07ff 0001 0000 0000 0000 ", "8101 0000 0000 0000 0000"},
		{"header only", "1234 0000 0000 0000 0000 0000", "8001 0000 0000 0000 0000"},
		{"two questions", "1234 0000 0002 0000 0000 0000 " + shopA + shopA, "8001 0000 0000 0000 0000"},
		{"an answer in the query", "1234 0000 0001 0001 0000 0000 " + shopA + shopA + "00000000 0000", "8001 0000 0000 0000 0000"},
		{"authority in the query", "1234 0000 0001 0000 0001 0000 " + shopA + shopA + "00000000 0000", "8001 0001 0000 0000 0000"},
		{"IXFR has authority", "1234 0000 0001 0000 0001 0000 " + shopName + "00fb 0001 c00c 0006 0001 00000000 0000", "8005 0001 0000 0000 0000"},
		{"compressed question", "1234 0000 0001 0000 0000 0000 04 73686f70 c00c 0001 0001", "8001 0000 0000 0000 0000"},
		{"question cut off", "1234 0000 0001 0000 0000 0000 " + shopName + " 0001 00", "8001 0000 0000 0000 0000"},
		{"name cut off", "1234 0000 0001 0000 0000 0000 04 7368", "8001 0000 0000 0000 0000"},
		{"name of 256 bytes", "1234 0000 0001 0000 0000 0000 " + strings.Repeat("3f"+strings.Repeat("61", 63), 3) + "3e" + strings.Repeat("61", 62) + "00 0001 0001", "8001 0000 0000 0000 0000"},
		{"name of 255 bytes", "1234 0000 0001 0000 0000 0000 " + strings.Repeat("3f"+strings.Repeat("61", 63), 3) + "3d" + strings.Repeat("61", 61) + "00 0001 0001", "8005 0001 0000 0000 0000"},
		{"bytes after the end", "1234 0000 0001 0000 0000 0000 " + shopA + "00", "8001 0001 0000 0000 0000"},
		{"fewer records than counted", "1234 0000 0001 0000 0000 0001 " + shopA, "8001 0001 0000 0000 0000"},
		{"EDNS", "1234 0000 0001 0000 0000 0001 " + shopA + opt, "8400 0001 0002 0000 0001"},
		{"EDNS beside another record", "1234 0000 0001 0000 0000 0002 " + shopA + "c00c 0001 0001 00000000 0004 01020304" + opt, "8400 0001 0002 0000 0001"},
		{"two OPT records", "1234 0000 0001 0000 0000 0002 " + shopA + opt + opt, "8001 0001 0000 0000 0000"},
		{"OPT with a name", "1234 0000 0001 0000 0000 0001 " + shopA + "0161" + opt, "8001 0001 0000 0000 0000"},
		{"OPT in authority", "1234 0000 0001 0000 0001 0000 " + shopA + opt, "8001 0001 0000 0000 0000"},
		{"unknown option is ignored", "1234 0000 0001 0000 0000 0001 " + shopA + "00 0029 1000 00000000 0006 fde9 0002 abcd", "8400 0001 0002 0000 0001"},
		{"option longer than the record", "1234 0000 0001 0000 0000 0001 " + shopA + "00 0029 1000 00000000 0006 fde9 0003 abcd", "8001 0001 0000 0000 0000"},
		{"option header cut off", "1234 0000 0001 0000 0000 0001 " + shopA + "00 0029 1000 00000000 0003 fde900", "8001 0001 0000 0000 0000"},
		{"EDNS version 1", "1234 0000 0001 0000 0000 0001 " + shopA + "00 0029 1000 00010000 0000", "8000 0001 0000 0000 0001"},
		{"pointer to itself", "1234 0000 0001 0000 0000 0001 " + shopA + "c026 0001 0001 00000000 0000", "8001 0001 0000 0000 0000"},
		{"reserved label type", "1234 0000 0001 0000 0000 0000 44 73686f70 00 0001 0001", "8001 0000 0000 0000 0000"},
		{"status opcode", "1234 1000 0001 0000 0000 0000 " + shopA, "9004 0001 0000 0000 0000"},
		{"notify keeps RD", "1234 2500 0001 0000 0000 0000 " + shopA, "a104 0001 0000 0000 0000"},
		{"update with EDNS", "1234 2800 0001 0000 0001 0001 " + shopA + shopA + "00000000 0000" + opt, "a804 0001 0000 0000 0001"},
		{"update with OPT in the wrong section", "1234 2800 0001 0000 0001 0000 " + shopA + opt, "a804 0001 0000 0000 0000"},
		{"stateful operations", "1234 3000 0000 0000 0000 0000", "b004 0000 0000 0000 0000"},
		{"broken update", "1234 2800 0001 0000 0001 0001 " + shopA, "a804 0001 0000 0000 0000"},
		{"class chaos", "1234 0000 0001 0000 0000 0000 " + shopName + "0001 0003", "8005 0001 0000 0000 0000"},
		{"class any, never authoritative", "1234 0000 0001 0000 0000 0000 " + shopName + "0001 00ff", "8000 0001 0002 0000 0000"},
		{"type 0", "1234 0000 0001 0000 0000 0000 " + shopName + "0000 0001", "8001 0001 0000 0000 0000"},
	}
	for _, test := range tests {
		t.Run(test.rule, func(t *testing.T) {
			for _, via := range []transport{udp, tcp} {
				got := s.respond(nil, hexQuery(t, test.packet), via)
				want := hexQuery(t, "1234"+test.want)
				if test.want == "" {
					want = nil
				}
				if len(got) < len(want) || len(got) > 0 && want == nil || hex.EncodeToString(got[:len(want)]) != hex.EncodeToString(want) {
					t.Fatalf("%s: got %x, want %x", via, got, want)
				}
				if want != nil {
					unpack(t, got)
				}
			}
		})
	}
}

func TestEDNS(t *testing.T) {
	s := deaf(t, exampleZone(t))
	if r := ask(t, s, question("shop.ha.example.com.", dns.TypeA), udp); r.IsEdns0() != nil {
		t.Error("OPT record without one in the query")
	}
	for _, do := range []bool{false, true} {
		m := question("shop.ha.example.com.", dns.TypeA)
		m.SetEdns0(4096, do)
		opt := ask(t, s, m, udp).IsEdns0()
		if opt == nil || opt.UDPSize() != ednsSize || opt.Do() != do || opt.Version() != 0 || len(opt.Option) != 0 {
			t.Errorf("got %v", opt)
		}
	}
	m := question("shop.ha.example.com.", dns.TypeA)
	m.SetEdns0(4096, true)
	m.IsEdns0().SetVersion(1)
	r := ask(t, s, m, udp)
	if r.Rcode != dns.RcodeBadVers || len(r.Answer) != 0 || r.IsEdns0().Version() != 0 {
		t.Errorf("got %v", r)
	}
}

func FuzzRespond(f *testing.F) {
	s := deaf(f, exampleZone(f))
	s.faults = zerolog.Nop()
	for _, rest := range []string{shopA, shopA + opt, shopName + "00ff 0001" + opt} {
		f.Add(hexQuery(f, "1234 0100 0001 0000 0000 0001 "+rest), false)
	}
	for _, name := range []string{"a.b.sub", "loop1", "q.wild", "large", "@"} {
		packet, _ := question(absolute(name), dns.TypeNS).Pack()
		f.Add(packet, true)
	}
	f.Fuzz(func(t *testing.T, packet []byte, overTCP bool) {
		via, limit := udp, ednsSize
		if overTCP {
			via, limit = tcp, tcpSize
		}
		response := s.respond(nil, packet, via)
		if len(packet) < headerLen || packet[2]&0x80 != 0 {
			if response != nil {
				t.Fatalf("answered %x", packet)
			}
			return
		}
		r := unpack(t, response)
		if !r.Response || response[0] != packet[0] || response[1] != packet[1] || len(response) > limit {
			t.Fatalf("bad response %v", r)
		}
		if r.RecursionAvailable || r.AuthenticatedData || r.CheckingDisabled || r.Zero || r.RecursionDesired != (packet[2]&1 != 0) {
			t.Fatalf("bad flags: %v", r)
		}
		if got := counter(t, s, "panic"); got != 0 {
			t.Fatal("panic")
		}
		if q := new(dns.Msg); r.IsEdns0() != nil && q.Unpack(packet) == nil && q.IsEdns0() == nil {
			t.Fatalf("OPT record without one in the query: %v", r)
		}
	})
}
