package daemon

import (
	"fmt"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// largeSet is a record set that no table takes, written in far less than the text may have.
func largeSet() string {
	var b strings.Builder
	for i := range 2100 {
		fmt.Fprintf(&b, "pool IN A 10.0.%d.%d\n", i/250, i%250)
	}
	return b.String()
}

// A policy was in force that no name server could serve: a record at the name of a watcher that had been added since, or
// a set too large. The old answers stayed for ever, the switch's with them, while the state called it done.
func TestASwitchIsAnsweredWhateverElseIsInTheZone(t *testing.T) {
	added := failover.Member{Name: "w4", DNS: []string{"192.0.2.4"}}
	for _, tc := range []struct {
		name   string
		change func(*failover.State)
		lacks  string
		www    int // how it is answered
	}{
		{"a record at a watcher's name", func(s *failover.State) {
			s.Policy.Zone.Records += "w4 IN A 192.0.2.80\n"
			s.Members = append(s.Members, added)
		}, `without the zone's other records: cannot serve zone ha.example.com.: w4.ha.example.com. A: watcher "w4" is already at this name`, dns.RcodeNameError},
		{"a set too large", func(s *failover.State) { s.Policy.Zone.Records += largeSet() }, "without the zone's other records", dns.RcodeNameError},
		{"records that cannot be read", func(s *failover.State) { s.Policy.Zone.Records += "((\n" }, "without the zone's other records: cannot read", dns.RcodeNameError},
		{"a backup whose group has the name of a watcher", func(s *failover.State) {
			s.Members = append(s.Members, failover.Member{Name: "shop", DNS: []string{"192.0.2.4"}})
		}, "without the NS records of watchers", dns.RcodeSuccess},
		{"both", func(s *failover.State) {
			s.Policy.Zone.Records += "w4 IN A 192.0.2.80\n"
			s.Members = append(s.Members, added, failover.Member{Name: "shop", DNS: []string{"192.0.2.5"}})
		}, "without the zone's other records and the NS records", dns.RcodeNameError},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			before, after := switched()
			tc.change(after)
			l := liveOn(t, dir)
			close(l.current)
			l.publish(before)
			if got := l.lacks(); got != "" {
				t.Errorf("before: lacks %q", got)
			}
			l.publish(after)
			if got, want := l.says(t), "198.51.100.10 fresh 02"; got != want {
				t.Errorf("says %q, want %q", got, want)
			}
			if got := l.lacks(); !strings.Contains(got, tc.lacks) || strings.Contains(got, "\n") || len(got) > 600 {
				t.Errorf("lacks %q, want %q", got, tc.lacks)
			}
			if got := l.asks(t, "www.ha.example.com.", dns.TypeA).Rcode; got != tc.www {
				t.Errorf("www: %s, want %s", dns.RcodeToString[got], dns.RcodeToString[tc.www])
			}
			if got := len(l.asks(t, "ha.example.com.", dns.TypeNS).Answer); got == 0 {
				t.Error("no name servers are answered")
			}
			l.end()

			l = liveOn(t, dir)
			if got, want := l.says(t), "198.51.100.10 stale 02"; got != want {
				t.Errorf("restarted: says %q, want %q", got, want)
			}
			close(l.current)
			l.publish(after)
			_, repaired := switched()
			repaired.Serial = 3
			l.publish(repaired)
			if got := l.lacks(); got != "" {
				t.Errorf("repaired: lacks %q", got)
			}
			if got := l.asks(t, "www.ha.example.com.", dns.TypeA).Rcode; got != dns.RcodeSuccess {
				t.Errorf("repaired: www is %s", dns.RcodeToString[got])
			}
		})
	}
}

// What nothing helps with is tried and told once for each serial; the old answers stay, and the next state is tried again.
func TestAZoneWithoutAnyNameServer(t *testing.T) {
	before, after := switched()
	l := liveOn(t, t.TempDir())
	close(l.current)
	l.publish(before)
	members := after.Members
	after.Members = nil
	l.publish(after)
	if got, want := l.says(t), "192.0.2.10 fresh 01"; got != want {
		t.Errorf("says %q, want %q", got, want)
	}
	if got := l.lacks(); !strings.HasPrefix(got, "the zone's old answers stay: ") {
		t.Errorf("lacks %q", got)
	}
	after.Members, after.Serial = members, 3
	l.publish(after)
	if got, want := l.says(t), "198.51.100.10 fresh 03"; got != want {
		t.Errorf("then says %q, want %q", got, want)
	}
	if got := l.lacks(); got != "" {
		t.Errorf("then lacks %q", got)
	}
}

func (l *life) asks(t *testing.T, name string, kind uint16) *dns.Msg {
	t.Helper()
	r, err := dns.Exchange(new(dns.Msg).SetQuestion(name, kind), l.dns.Addrs()[0].String())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// Whatever passes the check can be served, and every app of every group is tried.
func TestTheZoneIsCheckedAsItIsServed(t *testing.T) {
	p := *shopState().Policy
	p.Groups = p.Groups[1:]
	if err := checkZone(p, nil); err != nil {
		t.Error(err)
	}
	p.Zone.Records = largeSet()
	if err := checkZone(p, nil); err == nil || !strings.Contains(err.Error(), "take more than") {
		t.Errorf("a set that no table takes: %v", err)
	}
	p.Zone.Records = ""
	for n := range p.Groups[0].Apps {
		p.Groups[0].Record, p.Groups[0].Apps[n].Address = "@", []string{"cdn.example.net."}
		if err := checkZone(p, nil); err == nil || !strings.Contains(err.Error(), "CNAME") {
			t.Errorf("app %d is a CNAME at the zone's own name: %v", n, err)
		}
		p.Groups[0].Apps[n].Address = []string{"192.0.2.10"}
	}
}
