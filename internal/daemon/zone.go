package daemon

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/watchover-ha/watchover/internal/config"
	"github.com/watchover-ha/watchover/internal/nameserver"
	"github.com/watchover-ha/watchover/pkg/failover"
)

// zoneOf is everything that a state makes the watchers answer.
func zoneOf(s *failover.State) (nameserver.Zone, error) {
	p := s.Policy
	zone := bareZone(p)
	zone.Serial = s.Serial
	for _, m := range s.Members {
		if !m.Voter() {
			continue // it answers nothing yet
		}
		zone.Nameservers = append(zone.Nameservers, nameserverOf(m.Name, m.DNS))
	}
	for i := range p.Groups {
		zone.Records = append(zone.Records, recordOf(p, &p.Groups[i], s.Groups[p.Groups[i].Name].Active))
	}
	var err error
	zone.Static, err = nameserver.ParseStatic(zone.Name, zone.TTL, p.Zone.Records)
	return zone, err
}

func bareZone(p *failover.Policy) nameserver.Zone {
	return nameserver.Zone{Name: p.Zone.Name, TTL: uint32(p.Zone.TTL / time.Second), Isolation: p.Zone.Isolation}
}

func nameserverOf(name string, texts []string) nameserver.Nameserver {
	server := nameserver.Nameserver{Name: name}
	for _, text := range texts {
		if ip, err := netip.ParseAddr(text); err == nil {
			server.Addresses = append(server.Addresses, ip)
		}
	}
	return server
}

func recordOf(p *failover.Policy, g *failover.Group, active string) nameserver.Record {
	r := nameserver.Record{Name: p.FQDN(g)}
	for _, address := range g.App(active).Address {
		if ip, err := netip.ParseAddr(address); err == nil {
			r.Addresses = append(r.Addresses, ip)
		} else {
			r.CNAME = dns.Fqdn(address)
		}
	}
	return r
}

// partial is why a zone is not answered as the policy has it, and what is missing.
type partial struct {
	without string
	why     error
}

// String is a line for people.
func (p *partial) String() string {
	return "the zone is answered without " + p.without + ": " + briefly(p.why) + "; " + repair
}

const repair = "correct the policy and apply it, or remove the watcher that it collides with"

// buildMost builds what can be answered of a zone. Every way in is checked, yet what passed its checks may not go together:
// a policy and a watcher that were both on their way, or a backup among other watchers than its own. The groups' records
// must not wait until a person has put that right, or a failover would end with the old address answered for ever. So first
// the other records are left out, then watchers that cannot be named as name servers. nil: the zone is complete.
func buildMost(zone nameserver.Zone) (*nameserver.Answers, *partial, error) {
	answers, why := nameserver.Build(zone)
	if why == nil {
		return answers, nil, nil
	}
	bare := zone
	bare.Static = nil
	named := zone
	named.Nameservers = slices.DeleteFunc(slices.Clone(zone.Nameservers), func(ns nameserver.Nameserver) bool {
		alone := bare
		alone.Nameservers = []nameserver.Nameserver{ns}
		return nameserver.Check(alone) != nil
	})
	least := named
	least.Static = nil
	var err error
	for _, try := range []struct {
		zone    nameserver.Zone
		without string
	}{
		{bare, otherRecords},
		{named, "the NS records of watchers whose names cannot be used"},
		{least, otherRecords + " and the NS records of watchers whose names cannot be used"},
	} {
		if answers, err = nameserver.Build(try.zone); err == nil {
			return answers, &partial{try.without, why}, nil
		}
	}
	return nil, nil, err
}

// otherRecords are those of zone.records.
const otherRecords = "the zone's other records"

// briefly is the first of joined errors, short enough for a line of a status: a zone may have thousands of faults.
func briefly(err error) string {
	const limit = 300
	text, _, _ := strings.Cut(err.Error(), "\n")
	if len(text) > limit {
		text = strings.ToValidUTF8(text[:limit], "") + "..."
	}
	return text
}

// checkZone builds what a policy may come to: each app of each group is the active one in one of the tables. members may be
// empty.
func checkZone(p failover.Policy, members map[string]config.Member) error {
	zone := bareZone(&p)
	for _, name := range sortedKeys(members) {
		zone.Nameservers = append(zone.Nameservers, nameserver.Nameserver{Name: name, Addresses: members[name].DNS})
	}
	if len(members) == 0 {
		zone.Nameservers = []nameserver.Nameserver{{Name: standIn, Addresses: addresses(nil)}}
	}
	var err error
	if zone.Static, err = nameserver.ParseStatic(zone.Name, zone.TTL, p.Zone.Records); err != nil {
		return err
	}
	most := 0
	for i := range p.Groups {
		most = max(most, len(p.Groups[i].Apps))
	}
	for n := range most {
		zone.Records = nil
		for i := range p.Groups {
			g := &p.Groups[i]
			zone.Records = append(zone.Records, recordOf(&p, g, g.Apps[min(n, len(g.Apps)-1)].Name))
		}
		if _, err := nameserver.Build(zone); err != nil {
			return err
		}
	}
	return nil
}
