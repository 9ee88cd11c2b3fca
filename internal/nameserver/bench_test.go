package nameserver

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

func BenchmarkRespond(b *testing.B) {
	s := deaf(b, exampleZone(b))
	m := question("shop.ha.example.com.", dns.TypeA)
	m.SetEdns0(1232, false)
	packet, err := m.Pack()
	if err != nil {
		b.Fatal(err)
	}
	out := make([]byte, 0, ednsSize)
	b.ReportAllocs()
	for b.Loop() {
		out = s.respond(out[:0], packet, udp)
	}
}

func BenchmarkBuild(b *testing.B) {
	for _, records := range []int{0, maxStaticRecords} {
		b.Run(fmt.Sprint(records), func(b *testing.B) {
			zone := exampleZone(b)
			static, err := ParseStatic(zone.Name, 300, hosts(max(records, 1)))
			if err != nil {
				b.Fatal(err)
			}
			zone.Static = static
			b.ReportAllocs()
			for b.Loop() {
				mustBuild(b, zone)
			}
		})
	}
}

func hosts(n int) string {
	var text strings.Builder
	for i := range n {
		fmt.Fprintf(&text, "h%d A 192.0.2.1\n", i+1)
	}
	return text.String()
}

func BenchmarkUDP(b *testing.B) {
	s, addr := start(b, Options{})
	s.Publish(mustBuild(b, exampleZone(b)))
	packet, err := question("shop.ha.example.com.", dns.TypeA).Pack()
	if err != nil {
		b.Fatal(err)
	}
	conn, err := net.Dial("udp", addr)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	in := make([]byte, ednsSize)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := conn.Write(packet); err != nil {
			b.Fatal(err)
		}
		if _, err := conn.Read(in); err != nil {
			b.Fatal(err)
		}
	}
}
