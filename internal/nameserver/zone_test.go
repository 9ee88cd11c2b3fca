package nameserver

import (
	"fmt"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

func TestCheck(t *testing.T) {
	static := func(text string) []dns.RR {
		records, err := ParseStatic("ha.example.com.", 300, text)
		if err != nil {
			t.Fatal(err)
		}
		return records
	}
	tests := []struct {
		rule   string
		change func(*Zone)
		want   string // "" if it is fine
	}{
		{"example", func(*Zone) {}, ""},
		{"relative zone name", func(z *Zone) { z.Name = "ha.example.com" }, `cannot serve zone "ha.example.com": not an absolute domain name`},
		{"no name server", func(z *Zone) { z.Nameservers = z.Nameservers[2:] }, "no watcher has a dns address"},
		{"ttl", func(z *Zone) { z.TTL = 1 << 31 }, "ttl 2147483648 s is above"},
		{"watcher of two labels", func(z *Zone) { z.Nameservers[0].Name = "w.1" }, `watcher "w.1" is not one label`},
		{"watcher without a name", func(z *Zone) { z.Nameservers[0].Name = "" }, `watcher "" is not one label`},
		{"watcher asterisk", func(z *Zone) { z.Nameservers[0].Name = "*" }, `watcher "*" is not one label`},
		{"two watchers of one name", func(z *Zone) { z.Nameservers[1].Name = "W1" }, `watcher "w1" and watcher "W1" want the same name`},
		{"group at a watcher's name", func(z *Zone) { z.Records[0].Name = "w1.ha.example.com." }, `watcher "w1" and group record "w1.ha.example.com." want`},
		{"two groups at one name", func(z *Zone) { z.Records[0].Name = "Cloud.ha.example.com." }, "want the same name"},
		{"group outside", func(z *Zone) { z.Records[0].Name = "shop.example.com." }, `group record "shop.example.com." is outside the zone`},
		{"group with a relative name", func(z *Zone) { z.Records[0].Name = "shop" }, `group record "shop": not an absolute domain name`},
		{"apex CNAME", func(z *Zone) { z.Records[2] = Record{Name: z.Name, CNAME: "lb.example.net."} }, "the zone's own name cannot be a CNAME"},
		{"neither", func(z *Zone) { z.Records[0].Addresses = nil }, "has neither an address nor a host name"},
		{"both", func(z *Zone) { z.Records[0].CNAME = "a." }, `has addresses beside host name "a."`},
		{"relative host name", func(z *Zone) { z.Records[1].CNAME = "lb" }, `host name "lb": not an absolute domain name`},
		{"itself", func(z *Zone) { z.Records[1].CNAME = "CLOUD.ha.example.com." }, "points at itself"},
		{"link-local address", func(z *Zone) { z.Records[0].Addresses = addrs("fe80::1%eth0") }, `"fe80::1%eth0" is no address`},
		{"static at a group's name", func(z *Zone) { z.Static = static("shop TXT x") }, `shop.ha.example.com. TXT: group record "shop.ha.example.com." is already at this name`},
		{"static at a watcher's name", func(z *Zone) { z.Static = static("W1 TXT x") }, `watcher "w1" is already at this name`},
		{"static address at the apex group", func(z *Zone) { z.Static = static("@ AAAA 2001:db8::1") }, "is already at this name"},
		{"static MX at the apex group", func(z *Zone) { z.Static = static("@ MX 1 mail") }, ""},
		{"static address at the apex without a group", func(z *Zone) { z.Records, z.Static = z.Records[:2], static("@ A 192.0.2.1") }, ""},
		{"group below a delegation", func(z *Zone) {
			z.Records[0].Name, z.Static = "a.b.ha.example.com.", static("b NS ns.example.net.")
		}, `b.ha.example.com. NS: delegates the name of group record "a.b.ha.example.com." away`},
		{"static of another zone", func(z *Zone) { z.Static[0].Header().Name = "example.org." }, "example.org. MX: is outside the zone"},
	}
	for _, test := range tests {
		t.Run(test.rule, func(t *testing.T) {
			zone := exampleZone(t)
			test.change(&zone)
			err := Check(zone)
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("got  %v\nwant %s", err, test.want)
			}
			if _, built := Build(zone); (built == nil) != (err == nil) {
				t.Errorf("Check says %v, Build says %v", err, built)
			}
		})
	}
}

func TestBuildRefusesHugeSets(t *testing.T) {
	zone := exampleZone(t)
	var text string
	for i := range 300 {
		text += fmt.Sprintf("huge TXT %s%d\n", strings.Repeat("x", 200), i)
	}
	static, err := ParseStatic(zone.Name, 300, text)
	if err != nil {
		t.Fatal(err)
	}
	zone.Static = static
	if _, err := Build(zone); err == nil || !strings.Contains(err.Error(), `the TXT records of "huge.ha.example.com." take more than 32768 bytes`) {
		t.Errorf("got %v", err)
	}
}

// Before it is known who serves a zone, all else can be checked; it cannot be served.
func TestZoneWithoutNameservers(t *testing.T) {
	zone := exampleZone(t)
	zone.Nameservers = nil
	if err := Check(zone); err != nil {
		t.Error(err)
	}
	if _, err := Build(zone); err == nil || !strings.Contains(err.Error(), "it has no name servers") {
		t.Errorf("built: %v", err)
	}
	zone.Records[0].Name = "shop.example.com."
	if Check(zone) == nil {
		t.Error("a group outside the zone is taken")
	}
}
