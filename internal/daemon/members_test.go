package daemon

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/watchover-ha/watchover/internal/config"
	"github.com/watchover-ha/watchover/pkg/failover"
)

func TestMemberDifferences(t *testing.T) {
	ip := func(s string) []netip.Addr { return []netip.Addr{netip.MustParseAddr(s)} }
	file := map[string]config.Member{
		"w1": {Address: "a:1", DNS: ip("192.0.2.1")}, "w2": {Address: "b:1", DNS: ip("192.0.2.2")},
		"w3": {Address: "c:1", DNS: ip("192.0.2.3")}, "w4": {Address: "d:1", DNS: ip("192.0.2.4")},
	}
	members := []failover.Member{
		{Name: "w1", Address: "a:1", DNS: []string{"192.0.2.1"}}, {Name: "w2", Address: "b:2", DNS: []string{"192.0.2.2"}},
		{Name: "w3", Address: "c:1", DNS: []string{"192.0.2.33"}}, {Name: "w5", Address: "e:1"},
	}
	want := "w2 is at b:2, not b:1; w3 has other dns addresses; w5 is not in the file; w4 is not a member"
	if got := strings.Join(memberDifferences(file, members), "; "); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// A watcher that only joins has no NS record: it could not answer yet.
func TestJoiningWatcherIsNoNameServer(t *testing.T) {
	s := failover.NewState()
	s.Members = []failover.Member{{Name: "w1", DNS: []string{"192.0.2.1"}}, {Name: "w2", DNS: []string{"192.0.2.2"}, Joining: true}}
	s.Policy = &failover.Policy{Zone: failover.Zone{Name: "ha.example.com."}}
	zone, err := zoneOf(s)
	if err != nil || len(zone.Nameservers) != 1 || zone.Nameservers[0].Name != "w1" {
		t.Errorf("%+v, %v", zone.Nameservers, err)
	}
}

// A watcher is not added under a name that the zone's other records have; a zone that cannot be served as it is already keeps
// nobody from being added.
func TestAWatcherIsHeldAgainstTheZone(t *testing.T) {
	for _, tc := range []struct{ name, records, want string }{
		{"nothing in its way", "www IN A 192.0.2.80\n", ""},
		{"a record at its name", "w4 IN A 192.0.2.80\n", `watcher "w4" is already at this name`},
		{"a zone too large for any table", largeSet(), ""},
		{"records that cannot be read", "((\n", ""},
	} {
		s, _ := switched()
		s.Policy.Zone.Records = tc.records
		err := checkNameserver(s, &failover.AddMember{Name: "w4", Address: "d:1", DNS: []string{"192.0.2.4"}})
		if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
}
