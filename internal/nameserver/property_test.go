package nameserver

import (
	"strings"
	"testing"

	"github.com/miekg/dns"
	"pgregory.net/rapid"
)

// TestNXDOMAINOnlyForMissingNames compares with a model that knows names only as text: a name exists if a record is at it
// or below it, or if the asterisk below its closest existing ancestor exists.
func TestNXDOMAINOnlyForMissingNames(t *testing.T) {
	label := rapid.SampledFrom([]string{"a", "b", "c", "*"})
	name := rapid.Custom(func(t *rapid.T) string {
		return strings.Join(rapid.SliceOfN(label, 1, 4).Draw(t, "labels"), ".")
	})
	rapid.Check(t, func(t *rapid.T) {
		owners := rapid.SliceOfN(name, 0, 6).Draw(t, "owners")
		text := ""
		for _, owner := range owners {
			text += owner + " TXT x\n"
		}
		const origin = "z."
		static, err := ParseStatic(origin, 60, text)
		if err != nil {
			t.Fatal(err)
		}
		table, err := Build(Zone{Name: origin, TTL: 60, Static: static, Nameservers: []Nameserver{{Name: "w1", Addresses: addrs("192.0.2.1")}}})
		if err != nil {
			t.Fatal(err)
		}
		asked := name.Draw(t, "asked")
		key, err := wireName(asked + "." + origin)
		if err != nil {
			t.Fatal(err)
		}
		m := message{buf: make([]byte, headerLen), end: tcpSize, maxTTL: maxTTL, zone: headerLen}
		rcode, aa := table.resolve(&m, key, dns.TypeTXT)
		if !aa {
			t.Fatal("not authoritative")
		}
		exists := func(n string) bool {
			if n == "" {
				return true
			}
			for _, owner := range owners {
				if owner == n || strings.HasSuffix(owner, "."+n) {
					return true
				}
			}
			return false
		}
		encloser := asked
		for !exists(encloser) {
			_, encloser, _ = strings.Cut(encloser, ".")
		}
		want := dns.RcodeSuccess
		if encloser != asked && !exists(strings.TrimSuffix("*."+encloser, ".")) {
			want = dns.RcodeNameError
		}
		if rcode != want {
			t.Fatalf("%q among %q: %s, want %s", asked, owners, dns.RcodeToString[rcode], dns.RcodeToString[want])
		}
		if rcode == dns.RcodeNameError && (m.counts != [3]uint16{0, 1, 0}) {
			t.Fatalf("NXDOMAIN with sections %v, want the SOA record only", m.counts)
		}
	})
}
