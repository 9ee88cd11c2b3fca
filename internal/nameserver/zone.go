package nameserver

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"

	"github.com/miekg/dns"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// Zone is everything that one committed state makes the watchers answer. Equal zones give equal answers, byte for
// byte, on every watcher: records keep the order given here.
type Zone struct {
	Name        string             `json:"name"`   // absolute
	Serial      uint32             `json:"serial"` // of the SOA record
	TTL         uint32             `json:"ttl"`    // seconds, of the groups' and watchers' records
	Isolation   failover.Isolation `json:"isolation"`
	Nameservers []Nameserver       `json:"nameservers"`
	Records     []Record           `json:"records"` // the groups' records
	Static      []dns.RR           `json:"-"`       // from ParseStatic
	// Stale says that nobody knows whether this is still the committed state. It is answered as an isolated watcher
	// answers, from the first query on.
	Stale bool `json:"-"`
}

// Nameserver is a watcher as the zone's NS record names it. One without an address is left out of the NS set, because
// no resolver could ever reach it.
type Nameserver struct {
	Name      string       `json:"name"` // the watcher's name, one label
	Addresses []netip.Addr `json:"addresses,omitempty"`
}

// Record is where a group's name points: to addresses, or to a host name (CNAME), never both.
type Record struct {
	Name      string       `json:"name"` // absolute
	Addresses []netip.Addr `json:"addresses,omitempty"`
	CNAME     string       `json:"cname,omitempty"` // absolute
}

// maxTTL is the largest TTL, in seconds (RFC 2181, section 8).
const maxTTL = 1<<31 - 1

// Check says what is wrong with a zone, all faults joined: names that are not names or not in the zone, groups and
// watchers that want the same name, a CNAME beside other data or at the zone's own name, and static records where a
// group or a watcher already is. At the zone's own name static records may stand beside a group's (MX and TXT are
// usual there), only not of types A and AAAA. Without Nameservers it is a policy's zone before it is known who serves it:
// all else is checked.
func Check(zone Zone) error {
	origin, err := wireName(zone.Name)
	if err != nil {
		return fmt.Errorf("cannot serve zone %q: %w", zone.Name, err)
	}
	c := checker{origin: origin, owners: map[string]string{}}
	if zone.TTL > maxTTL {
		c.fault("ttl %d s is above %d s (RFC 2181, section 8)", zone.TTL, maxTTL)
	}
	c.nameservers(zone)
	for _, r := range zone.Records {
		c.record(r)
	}
	c.static(zone)
	if len(c.faults) == 0 {
		return nil
	}
	return fmt.Errorf("cannot serve zone %s: %w", zone.Name, errors.Join(c.faults...))
}

// checker gathers the faults of one zone.
type checker struct {
	origin []byte            // the zone's name on the wire, lower case
	owners map[string]string // name on the wire -> who is there: "group record x", "watcher y"
	faults []error
}

func (c *checker) fault(format string, args ...any) {
	c.faults = append(c.faults, fmt.Errorf(format, args...))
}

// claim notes who is at a name and refuses a second one.
func (c *checker) claim(key []byte, who string) {
	if other, taken := c.owners[string(key)]; taken {
		c.fault("%s and %s want the same name", other, who)
		return
	}
	c.owners[string(key)] = who
}

func (c *checker) nameservers(zone Zone) {
	reachable := false
	for _, ns := range zone.Nameservers {
		who := fmt.Sprintf("watcher %q", ns.Name)
		name := ns.Name + "." + zone.Name
		key, err := wireName(name)
		if err != nil || dns.CountLabel(name) != dns.CountLabel(zone.Name)+1 || ns.Name == "*" {
			c.fault("%s is not one label of a name server's name", who)
			continue
		}
		c.claim(key, who)
		c.addresses(who, ns.Addresses)
		reachable = reachable || len(ns.Addresses) > 0
	}
	if !reachable && len(zone.Nameservers) > 0 {
		c.fault("no watcher has a dns address: a zone needs at least one name server")
	}
}

func (c *checker) record(r Record) {
	who := fmt.Sprintf("group record %q", r.Name)
	key, err := wireName(r.Name)
	if err != nil {
		c.fault("%s: %w", who, err)
		return
	}
	if !inZone(key, c.origin) {
		c.fault("%s is outside the zone", who)
		return
	}
	c.claim(key, who)
	c.addresses(who, r.Addresses)
	switch {
	case r.CNAME == "" && len(r.Addresses) == 0:
		c.fault("%s has neither an address nor a host name", who)
	case r.CNAME != "" && len(r.Addresses) > 0:
		c.fault("%s has addresses beside host name %q (RFC 1034, section 3.6.2)", who, r.CNAME)
	case r.CNAME != "" && len(key) == len(c.origin):
		c.fault("%s cannot point at host name %q: the zone's own name cannot be a CNAME (RFC 1034, section 3.6.2); use addresses or another record", who, r.CNAME)
	case r.CNAME != "":
		target, err := wireName(r.CNAME)
		if err != nil {
			c.fault("%s: host name %q: %w", who, r.CNAME, err)
		} else if bytes.Equal(target, key) {
			c.fault("%s points at itself", who)
		}
	}
}

func (c *checker) addresses(who string, addrs []netip.Addr) {
	for _, a := range addrs {
		if !a.IsValid() || a.Zone() != "" {
			c.fault("%s: %q is no address that a DNS record can hold", who, a)
		}
	}
}

// static checks the static records against one another and against the groups and watchers.
func (c *checker) static(zone Zone) {
	placed := make([]placedRR, 0, len(zone.Static))
	for _, rr := range zone.Static {
		p, err := place(rr, c.origin, 0)
		if err != nil {
			c.faults = append(c.faults, err)
			continue
		}
		placed = append(placed, p)
		who, taken := c.owners[string(p.key)]
		kind := rr.Header().Rrtype
		atApex := len(p.key) == len(c.origin)
		if taken && (!atApex || kind == dns.TypeA || kind == dns.TypeAAAA) {
			c.faults = append(c.faults, p.fault("%s is already at this name", who))
		}
	}
	c.faults = append(c.faults, structure(placed, len(c.origin))...)
	c.hidden(placed)
}

// hidden refuses a group or a watcher below a delegation, where this zone's servers would never answer for it.
func (c *checker) hidden(placed []placedRR) {
	cuts := delegations(placed)
	for _, p := range placed {
		if !cuts[string(p.key)] || p.rr.Header().Rrtype != dns.TypeNS {
			continue
		}
		for key, who := range c.owners {
			if inZone([]byte(key), p.key) && len(key) > len(p.key) {
				c.faults = append(c.faults, p.fault("delegates the name of %s away", who))
			}
		}
	}
}
