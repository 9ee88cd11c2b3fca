package daemon

import (
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/watchover-ha/watchover/internal/config"
	"github.com/watchover-ha/watchover/internal/nameserver"
	"github.com/watchover-ha/watchover/pkg/failover"
)

// shopState is a group of two sites and one of a host name and an address, on two watchers.
func shopState() *failover.State {
	app := func(name string, address ...string) failover.App { return failover.App{Name: name, Address: address} }
	return &failover.State{
		Serial: 77, PolicyRevision: 5,
		Members: []failover.Member{{Name: "w1", DNS: []string{"192.0.2.53", "2001:db8::53"}}, {Name: "w2"}},
		Policy: &failover.Policy{
			Zone: failover.Zone{Name: "ha.example.com.", TTL: 5 * time.Minute, Records: "www 60 IN A 192.0.2.80\n", Isolation: failover.Isolation{After: 10 * time.Second, TTL: 30 * time.Second}},
			Groups: []failover.Group{
				{Name: "apex", Record: "@", Apps: []failover.App{app("one", "cdn.example.net"), app("two", "198.51.100.1")}},
				{Name: "shop", Record: "shop", Apps: []failover.App{app("main", "192.0.2.10", "2001:db8::10"), app("standby", "198.51.100.10")}},
			},
		},
		Groups: map[string]*failover.GroupState{
			"apex": {Active: "two", Apps: map[string]*failover.AppState{"one": {}, "two": {}}},
			"shop": {Active: "main", Apps: map[string]*failover.AppState{"main": {}, "standby": {}}},
		},
	}
}

func TestZoneOf(t *testing.T) {
	s := shopState()
	zone, err := zoneOf(s)
	if err != nil {
		t.Fatal(err)
	}
	if len(zone.Static) == 0 {
		t.Error("the other records are not there")
	}
	zone.Static = nil
	ip := netip.MustParseAddr
	want := nameserver.Zone{Name: "ha.example.com.", Serial: 77, TTL: 300, Isolation: s.Policy.Zone.Isolation,
		Nameservers: []nameserver.Nameserver{{Name: "w1", Addresses: []netip.Addr{ip("192.0.2.53"), ip("2001:db8::53")}}, {Name: "w2"}},
		Records: []nameserver.Record{{Name: "ha.example.com.", Addresses: []netip.Addr{ip("198.51.100.1")}},
			{Name: "shop.ha.example.com.", Addresses: []netip.Addr{ip("192.0.2.10"), ip("2001:db8::10")}}}}
	if !reflect.DeepEqual(zone, want) {
		t.Errorf("got  %+v\nwant %+v", zone, want)
	}
	s.Groups["shop"].Active = "standby"
	s.Policy.Zone.Records = "this is no master file ((\n"
	zone, err = zoneOf(s)
	if err == nil {
		t.Error("faulty records are no error")
	}
	if got := zone.Records[1].Addresses; len(got) != 1 || got[0] != ip("198.51.100.10") {
		t.Errorf("after the switch: %v", got)
	}
}

func TestRecordOfAHostName(t *testing.T) {
	s := shopState()
	r := recordOf(s.Policy, &s.Policy.Groups[0], "one")
	if r.CNAME != "cdn.example.net." || len(r.Addresses) != 0 {
		t.Errorf("got %+v", r)
	}
}

func TestReachable(t *testing.T) {
	for listen, want := range map[string]string{
		"0.0.0.0:53": "127.0.0.1:53", "[::]:5353": "[::1]:5353", "192.0.2.53:53": "192.0.2.53:53", "[2001:db8::1]:53": "[2001:db8::1]:53",
	} {
		if got := reachable(netip.MustParseAddrPort(listen)).String(); got != want {
			t.Errorf("%s: got %s, want %s", listen, got, want)
		}
	}
}

// The key must change with whatever changes what is probed, and with nothing else.
func TestAimKey(t *testing.T) {
	base := aimKey(shopState())
	for _, tc := range []struct {
		name   string
		change func(*failover.State)
		same   bool
	}{
		{"nothing", func(*failover.State) {}, true},
		{"serial", func(s *failover.State) { s.Serial++ }, true},
		{"health", func(s *failover.State) { s.Groups["shop"].Apps["main"].Health = failover.HealthDown }, true},
		{"policy", func(s *failover.State) { s.PolicyRevision++ }, false},
		{"role", func(s *failover.State) { s.Groups["shop"].Active = "standby" }, false},
		{"revision", func(s *failover.State) { s.Groups["apex"].Apps["one"].Revision++ }, false},
	} {
		s := shopState()
		tc.change(s)
		if got := aimKey(s); (got == base) != tc.same {
			t.Errorf("%s: %s, before %s", tc.name, got, base)
		}
	}
}

func TestChecksOfRecordsAndZone(t *testing.T) {
	o := checks()
	if err := o.CheckRecords("ha.example.com.", 5*time.Minute, "www IN A 192.0.2.1\n"); err != nil {
		t.Error(err)
	}
	if err := o.CheckRecords("ha.example.com.", 5*time.Minute, "www IN A nowhere\n"); err == nil {
		t.Error("a faulty record is taken")
	}
	members := map[string]config.Member{"w1": {DNS: []netip.Addr{netip.MustParseAddr("192.0.2.53")}}}
	p := *shopState().Policy
	if err := o.CheckZone(p, members); err == nil || !strings.Contains(err.Error(), "CNAME") {
		t.Errorf("a CNAME at the zone's own name: %v", err)
	}
	p.Groups = p.Groups[1:]
	if err := o.CheckZone(p, members); err != nil {
		t.Error(err)
	}
	p.Zone.Records = "shop IN A 192.0.2.1\n"
	if err := o.CheckZone(p, members); err == nil {
		t.Error("a static record at a group's name is taken")
	}
}

// A policy that is proposed to a running cluster is held against the zone like a watcher's own file, with or without the
// watchers that will serve it.
func TestChecksOfAProposedPolicy(t *testing.T) {
	const policy = `
zone: {name: ha.example.com, records_file: static.zone}
groups:
  shop:
    record: shop
    apps:
      - {name: main, address: [192.0.2.10], probes: [{kind: tcp, address: "192.0.2.10:80"}]}
      - {name: standby, address: [198.51.100.10], probes: [{kind: tcp, address: "198.51.100.10:80"}]}
`
	watchers := map[string]config.Member{"w1": {DNS: []netip.Addr{netip.MustParseAddr("192.0.2.53")}}}
	for _, tc := range []struct {
		records  string
		watchers map[string]config.Member
		want     string
	}{
		{"www A 192.0.2.80", nil, ""},
		{"www A 192.0.2.80", watchers, ""},
		{"shop A 192.0.2.80", nil, "group record"},
		{"w1 A 192.0.2.80", nil, ""}, // whose name that is nobody knows here
		{"w1 A 192.0.2.80", watchers, `watcher "w1" is already at this name`},
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "static.zone"), []byte(tc.records+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		o := checks()
		o.Watchers = tc.watchers
		_, err := o.ParsePolicy("policy.yaml", []byte(policy), dir)
		if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s, %d watchers: %v", tc.records, len(tc.watchers), err)
		}
	}
}
