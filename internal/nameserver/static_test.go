package nameserver

import (
	"fmt"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

func TestParseStatic(t *testing.T) {
	records, err := ParseStatic("ha.example.com.", 120, `
$TTL 1h
www 60 IN A 192.0.2.1
       AAAA 2001:db8::1 ; the owner above
$ORIGIN deep.ha.example.com.
a TXT ( "one"
        "two" )
WWW.HA.EXAMPLE.COM. CAA 0 issue "ca.example"
b TYPE65280 \# 2 abcd`)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, rr := range records {
		got = append(got, fmt.Sprint(rr.Header().Name, " ", rr.Header().Ttl, " ", dns.Type(rr.Header().Rrtype)))
	}
	want := "www.ha.example.com. 60 A, www.ha.example.com. 3600 AAAA, a.deep.ha.example.com. 3600 TXT, WWW.HA.EXAMPLE.COM. 3600 CAA, " +
		"b.deep.ha.example.com. 3600 TYPE65280"
	if strings.Join(got, ", ") != want {
		t.Errorf("got  %s\nwant %s", strings.Join(got, ", "), want)
	}
	if records, err := ParseStatic("ha.example.com.", 120, "a A 192.0.2.1"); err != nil || records[0].Header().Ttl != 120 {
		t.Errorf("default ttl: %v, %v", records, err)
	}
	if records, err := ParseStatic("ha.example.com.", 120, ""); err != nil || len(records) != 0 {
		t.Errorf("empty: %v, %v", records, err)
	}
}

func TestParseStaticRefuses(t *testing.T) {
	tests := []struct{ rule, text, want string }{
		{"syntax", "a A 192.0.2.1\nb A nonsense\n", `bad A A: "nonsense" at line: 2:`},
		{"include", "\n$INCLUDE /etc/passwd\n", `$INCLUDE directive not allowed: "/etc/passwd" at line: 2:`},
		{"out of zone", "a A 192.0.2.1\nwww.example.com. A 192.0.2.1", "line 2: www.example.com. A: is outside the zone"},
		{"half a label", "xha.example.com. A 192.0.2.1", "line 1: xha.example.com. A: is outside the zone"},
		{"line of a record over several", "a TXT (\n\"x\"\n)\n@ SOA a. b. (\n1 2 3 4 5\n)\n", "line 6: ha.example.com. SOA: the watchers make"},
		{"SOA", "@ SOA a. b. 1 2 3 4 5", "line 1: ha.example.com. SOA: the watchers make the SOA record themselves"},
		{"apex NS", "@ NS ns.example.net.", "line 1: ha.example.com. NS: the watchers are the zone's name servers"},
		{"apex CNAME", "@ CNAME a.", "line 1: ha.example.com. CNAME: the zone's own name cannot be a CNAME"},
		{"wildcard NS", "*.a NS ns.example.net.", "a wildcard cannot delegate"},
		{"CNAME beside data", "a A 192.0.2.1\nA CNAME b", "line 2: A.ha.example.com. CNAME: a CNAME cannot stand beside"},
		{"data beside CNAME", "a CNAME b\na TXT x", "line 2: a.ha.example.com. TXT: a CNAME cannot stand beside"},
		{"two CNAMEs", "a CNAME b\na CNAME c", "line 2: a.ha.example.com. CNAME: a CNAME cannot stand beside"},
		{"class", "a CH A 192.0.2.1", "class CH is not served"},
		{"unequal TTLs", "a 60 A 192.0.2.1\na 61 A 192.0.2.2", "line 2: a.ha.example.com. A: ttl 61 s differs from the 60 s"},
		{"TTL too large", "a 2147483648 A 192.0.2.1", "is above 2147483647 s"},
		{"DNSSEC", "a DS 1 8 2 " + strings.Repeat("ab", 32), "line 1: a.ha.example.com. DS: the zone is not signed"},
		{"DNSSEC in unknown form", `a TYPE48 \# 0`, "the zone is not signed"},
		{"no target", "a CNAME ", "line 1: a.ha.example.com. CNAME: its data is missing"},
		{"DNAME", "a DNAME b.", "DNAME is not served"},
		{"question type", `a TYPE255 \# 0`, "cannot be in a zone"},
		{"data below a delegation", "a.sub TXT x\nsub NS ns.example.net.", "line 1: a.sub.ha.example.com. TXT: is at or below a delegation"},
		{"data at a delegation", "sub NS ns.example.net.\nsub MX 1 a", "line 2: sub.ha.example.com. MX: is at or below a delegation"},
		{"delegation below a delegation", "sub NS ns.example.net.\na.sub NS ns.example.net.", "line 2: a.sub.ha.example.com. NS: is at or below"},
		{"too much text", strings.Repeat(";", maxStaticText+1), "bytes of text are more than 262144"},
		{"generated records", "a A 192.0.2.1\n$generate\t1-3 h$ A 192.0.2.$\n", "line 2: $GENERATE is not served"},
		{"too many records", strings.Repeat("h A 192.0.2.1\n", 10001), "more than 10000 records"},
		{"too many bytes", "$ORIGIN " + strings.Repeat(strings.Repeat("o", 60)+".", 3) + "ha.example.com.\n" + strings.Repeat("h TXT x\n", 9999), "bytes of them"},
		{"all errors at once", "a A 192.0.2.1\n@ NS a.\nb. A 192.0.2.1\n", "line 2: ha.example.com. NS: the watchers are the zone's name servers; leave it out\nline 3: b. A: is outside"},
		{"not too many errors at once", strings.Repeat("b. A 192.0.2.1\n", 100), "and 1 more"},
	}
	for _, test := range tests {
		t.Run(test.rule, func(t *testing.T) {
			_, err := ParseStatic("ha.example.com.", 300, test.text)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got  %v\nwant %s", err, test.want)
			}
		})
	}
	if _, err := ParseStatic("relative", 300, ""); err == nil {
		t.Error("zone name without final dot accepted")
	}
}

// What is at and below a delegation for good reason.
func TestParseStaticDelegation(t *testing.T) {
	if _, err := ParseStatic("ha.example.com.", 300, "sub NS sub\nsub NS ns.sub\nsub A 192.0.2.1\nns.sub AAAA 2001:db8::1"); err != nil {
		t.Error(err)
	}
}

// Whatever the parser accepts must build, be answered and be readable.
func FuzzParseStatic(f *testing.F) {
	f.Add(staticText)
	f.Add("$TTL 1h\n$ORIGIN a.ha.example.com.\n@ TXT ( \"a\" ; c\n )\n\\097 A 192.0.2.1")
	f.Add(`a TYPE65280 \# 2 abcd`)
	f.Fuzz(func(t *testing.T, text string) {
		static, err := ParseStatic("ha.example.com.", 300, text)
		if err != nil {
			return
		}
		zone := Zone{Name: "ha.example.com.", TTL: 300, Static: static, Nameservers: []Nameserver{{Name: "watcher-of-fuzz", Addresses: addrs("192.0.2.1")}}}
		if Check(zone) != nil {
			return
		}
		table, err := Build(zone)
		if err != nil {
			if strings.Contains(err.Error(), "take more than") {
				return
			}
			t.Fatal(err)
		}
		for _, rr := range static {
			m := message{buf: make([]byte, headerLen), end: tcpSize, maxTTL: maxTTL, zone: headerLen}
			name, err := wireName(rr.Header().Name)
			if err != nil {
				t.Fatal(err)
			}
			if rcode, _ := table.resolve(&m, name, rr.Header().Rrtype); rcode == dns.RcodeNameError && rr.Header().Rrtype != dns.TypeCNAME {
				t.Fatalf("%v does not exist", rr)
			}
		}
	})
}
