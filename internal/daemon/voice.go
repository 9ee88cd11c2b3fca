package daemon

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/watchover-ha/watchover/internal/config"
	"github.com/watchover-ha/watchover/internal/nameserver"
	"github.com/watchover-ha/watchover/pkg/failover"
)

// voice keeps the name server saying what the state says, and asks it over the wire whether it does: a switch is
// verified by an answer, not by having been told.
type voice struct {
	d         *Daemon
	serial    uint32
	published chan answered // newest only
}

// answered is zone content that the name server should answer by now.
type answered struct {
	zone   string
	serial uint32
	index  uint64 // State.ZoneIndex
}

func newVoice(d *Daemon) *voice { return &voice{d: d, published: make(chan answered, 1)} }

// publish swaps the answers if the zone has changed. Every change raises the serial.
func (v *voice) publish(state *failover.State) {
	now := answered{zone: state.Policy.Zone.Name, serial: state.Serial, index: state.ZoneIndex()}
	if state.Serial != v.serial {
		zone, err := zoneOf(state)
		if err != nil {
			v.d.log.Error().Err(err).Msg("cannot read the zone's other records, they are left out")
		}
		answers, err := nameserver.Build(zone)
		if err != nil {
			v.d.log.Error().Err(err).Uint32("serial", state.Serial).Msg("cannot build the zone, the old answers stay")
			return
		}
		v.d.dns.Publish(answers)
		v.serial = state.Serial
	}
	select {
	case <-v.published:
	default:
	}
	v.published <- now
}

// confirm asks this watcher's own name server until it answers what was published, and tells the newest index answered.
func (v *voice) confirm(ctx context.Context, served chan<- uint64) {
	var last uint64
	for {
		var want answered
		select {
		case <-ctx.Done():
			return
		case want = <-v.published:
		}
		if want.index == last {
			continue
		}
		for !v.answers(ctx, want) {
			select {
			case <-ctx.Done():
				return
			case newer := <-v.published:
				want = newer
			case <-time.After(100 * time.Millisecond):
			}
		}
		last = want.index
		select {
		case <-ctx.Done():
			return
		case served <- last:
		}
	}
}

// answers asks for the zone's SOA over UDP.
func (v *voice) answers(ctx context.Context, want answered) bool {
	addrs := v.d.dns.Addrs()
	if len(addrs) == 0 {
		return true
	}
	client := dns.Client{Timeout: time.Second}
	query := new(dns.Msg).SetQuestion(want.zone, dns.TypeSOA)
	reply, _, err := client.ExchangeContext(ctx, query, reachable(addrs[0]).String())
	if err != nil || len(reply.Answer) == 0 {
		return false
	}
	soa, ok := reply.Answer[0].(*dns.SOA)
	return ok && soa.Serial >= want.serial
}

// reachable turns an address that is listened on into one that can be asked.
func reachable(a netip.AddrPort) netip.AddrPort {
	switch {
	case a.Addr() == netip.IPv4Unspecified():
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), a.Port())
	case a.Addr() == netip.IPv6Unspecified():
		return netip.AddrPortFrom(netip.IPv6Loopback(), a.Port())
	}
	return a
}

// zoneOf is everything that a state makes the watchers answer.
func zoneOf(s *failover.State) (nameserver.Zone, error) {
	p := s.Policy
	zone := nameserver.Zone{Name: p.Zone.Name, Serial: s.Serial, TTL: uint32(p.Zone.TTL / time.Second), Isolation: p.Zone.Isolation}
	for _, m := range s.Members {
		if !m.Voter() {
			continue // it answers nothing yet
		}
		server := nameserver.Nameserver{Name: m.Name}
		for _, text := range m.DNS {
			if ip, err := netip.ParseAddr(text); err == nil {
				server.Addresses = append(server.Addresses, ip)
			}
		}
		zone.Nameservers = append(zone.Nameservers, server)
	}
	for i := range p.Groups {
		zone.Records = append(zone.Records, recordOf(p, &p.Groups[i], s.Groups[p.Groups[i].Name].Active))
	}
	var err error
	zone.Static, err = nameserver.ParseStatic(zone.Name, zone.TTL, p.Zone.Records)
	return zone, err
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

// checks are what the parts know about keys that the configuration cannot judge by itself.
func checks() config.Options {
	return config.Options{
		CheckRecords: func(zone string, ttl time.Duration, text string) error {
			_, err := nameserver.ParseStatic(zone, uint32(ttl/time.Second), text)
			return err
		},
		CheckZone: func(p failover.Policy, members map[string]config.Member) error {
			zone := nameserver.Zone{Name: p.Zone.Name, TTL: uint32(p.Zone.TTL / time.Second), Isolation: p.Zone.Isolation}
			for _, name := range sortedKeys(members) {
				zone.Nameservers = append(zone.Nameservers, nameserver.Nameserver{Name: name, Addresses: members[name].DNS})
			}
			for i := range p.Groups {
				for _, app := range p.Groups[i].Apps {
					with := zone
					with.Records = []nameserver.Record{recordOf(&p, &p.Groups[i], app.Name)}
					static, err := nameserver.ParseStatic(zone.Name, zone.TTL, p.Zone.Records)
					if err != nil {
						return err
					}
					with.Static = static
					if err := nameserver.Check(with); err != nil {
						return err
					}
				}
			}
			return nil
		},
	}
}

// aimKey changes whenever the probes' targets may have.
func aimKey(s *failover.State) string {
	var key strings.Builder
	key.WriteString(strconv.FormatUint(s.PolicyRevision, 10))
	for _, name := range s.GroupNames() {
		g := s.Groups[name]
		for _, app := range s.Policy.Group(name).Apps {
			fmt.Fprintf(&key, " %s/%s/%d/%t", name, app.Name, g.Apps[app.Name].Revision, g.Active == app.Name)
		}
	}
	return key.String()
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}
