package nameserver

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"

	"github.com/miekg/dns"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// Timers of the SOA record, in seconds, after RFC 1912, section 2.2. Nothing transfers this zone (the watchers agree by
// other means), so the first three only have to look sane to checkers.
const (
	soaRefresh = 3600
	soaRetry   = 600
	soaExpire  = 14 * 24 * 3600
	// negativeTTL bounds how long resolvers remember that a name or type is missing (RFC 2308, section 5). It is never
	// above the zone's TTL: moving to an app that has an AAAA record from one that has none must not take longer than
	// moving between two that have.
	negativeTTL = 300
)

// Answers is the table from which a zone is answered. It never changes once built, so readers need no lock.
type Answers struct {
	name      string
	zone      []byte // its name on the wire, lower case
	serial    uint32
	isolation failover.Isolation
	stale     bool
	nodes     map[string]*node // by name on the wire, lower case; every name that exists, with or without records
	apex      *node
	soa       *recordSet
}

// node is a name that exists.
type node struct {
	labels   []byte // above the zone's name
	sets     []*recordSet
	wildcard *node // the name "*" directly below, if it exists
	cut      bool  // a delegation: the zone ends here
}

func (n *node) set(kind uint16) *recordSet {
	for _, s := range n.sets {
		if s.kind == kind {
			return s
		}
	}
	return nil
}

// Build makes the table for a zone, after Check.
func Build(zone Zone) (*Answers, error) {
	if err := Check(zone); err != nil {
		return nil, err
	}
	if len(zone.Nameservers) == 0 {
		return nil, fmt.Errorf("cannot serve zone %s: it has no name servers", zone.Name)
	}
	origin, err := wireName(zone.Name)
	if err != nil {
		return nil, err
	}
	b := &builder{
		answers: &Answers{name: zone.Name, zone: origin, serial: zone.Serial, isolation: zone.Isolation, stale: zone.Stale,
			nodes: make(map[string]*node, 4+len(zone.Records)+len(zone.Static))},
		scratch: make([]byte, 1<<16),
	}
	b.answers.apex = b.node(origin)
	for _, rr := range records(zone) {
		if err := b.add(rr); err != nil {
			return nil, fmt.Errorf("cannot serve zone %s: %w", zone.Name, err)
		}
	}
	b.finish()
	return b.answers, nil
}

// records lists all records of a zone in the order in which they are answered.
func records(zone Zone) []dns.RR {
	var list []dns.RR
	for _, ns := range zone.Nameservers {
		if len(ns.Addresses) == 0 {
			continue
		}
		host := ns.Name + "." + zone.Name
		if list == nil {
			list = append(list, soa(zone, host))
		}
		list = append(list, &dns.NS{Hdr: header(zone.Name, dns.TypeNS, zone.TTL), Ns: host})
		list = append(list, addresses(host, zone.TTL, ns.Addresses)...)
	}
	for _, r := range zone.Records {
		if r.CNAME != "" {
			list = append(list, &dns.CNAME{Hdr: header(r.Name, dns.TypeCNAME, zone.TTL), Target: r.CNAME})
		}
		list = append(list, addresses(r.Name, zone.TTL, r.Addresses)...)
	}
	return append(list, zone.Static...)
}

func header(name string, kind uint16, ttl uint32) dns.RR_Header {
	return dns.RR_Header{Name: name, Rrtype: kind, Class: dns.ClassINET, Ttl: ttl}
}

// soa is the zone's SOA record. Its own TTL equals MINIMUM, so that negative answers carry the lower of the two as
// RFC 2308, section 3 wants.
func soa(zone Zone, primary string) dns.RR {
	ttl := min(zone.TTL, negativeTTL)
	return &dns.SOA{
		Hdr: header(zone.Name, dns.TypeSOA, ttl), Ns: primary, Mbox: "hostmaster." + zone.Name, Serial: zone.Serial,
		Refresh: soaRefresh, Retry: soaRetry, Expire: soaExpire, Minttl: ttl,
	}
}

func addresses(name string, ttl uint32, addrs []netip.Addr) []dns.RR {
	list := make([]dns.RR, 0, len(addrs))
	for _, a := range addrs {
		if a = a.Unmap(); a.Is4() {
			list = append(list, &dns.A{Hdr: header(name, dns.TypeA, ttl), A: a.AsSlice()})
		} else {
			list = append(list, &dns.AAAA{Hdr: header(name, dns.TypeAAAA, ttl), AAAA: a.AsSlice()})
		}
	}
	return list
}

// builder fills a table.
type builder struct {
	answers *Answers
	scratch []byte
	ns      []nsTarget
}

// nsTarget is a name server whose addresses, if in the zone, belong to the answer.
type nsTarget struct {
	owner  *node
	target []byte
}

// node returns the node of a name in the zone, making it and the names above it. Those exist from now on even without
// records of their own (RFC 4592, section 2.2.2).
func (b *builder) node(key []byte) *node {
	if n := b.answers.nodes[string(key)]; n != nil {
		return n
	}
	n := &node{labels: bytes.Clone(key[:len(key)-len(b.answers.zone)])}
	b.answers.nodes[string(key)] = n
	if len(n.labels) > 0 {
		parent := b.node(key[int(key[0])+1:])
		if key[0] == 1 && key[1] == '*' {
			parent.wildcard = n
		}
	}
	return n
}

func (b *builder) add(rr dns.RR) error {
	h := rr.Header()
	key, err := wireName(h.Name)
	if err != nil {
		return fmt.Errorf("%q: %w", h.Name, err)
	}
	n := b.node(key)
	set := n.set(h.Rrtype)
	if set == nil {
		set = &recordSet{kind: h.Rrtype, ttl: h.Ttl}
		n.sets = append(n.sets, set)
	}
	r, err := encode(rr, b.answers.zone, b.scratch)
	if err != nil {
		return err
	}
	// A set holds each record once (RFC 2181, section 5.5).
	same := func(o record) bool { return bytes.Equal(o.data, r.data) && slices.Equal(o.pointers, r.pointers) }
	if slices.ContainsFunc(set.records, same) {
		return nil
	}
	set.records = append(set.records, r)
	if set.size += len(r.data) + rrHeader + 4; set.size > maxRdata {
		return fmt.Errorf("the %s records of %q take more than %d bytes", dns.Type(h.Rrtype), h.Name, maxRdata)
	}
	return b.follow(n, set, rr)
}

// follow notes where a record points within the zone.
func (b *builder) follow(n *node, set *recordSet, rr dns.RR) error {
	var to string
	switch rr := rr.(type) {
	case *dns.CNAME:
		to = rr.Target
	case *dns.NS:
		to = rr.Ns
		n.cut = n != b.answers.apex
	default:
		return nil
	}
	target, err := wireName(to)
	if err != nil {
		return fmt.Errorf("%q points at %q: %w", rr.Header().Name, to, err)
	}
	if !inZone(target, b.answers.zone) {
		return nil
	}
	if set.kind == dns.TypeCNAME {
		set.target = target
	} else {
		b.ns = append(b.ns, nsTarget{n, target})
	}
	return nil
}

// finish orders the sets of each name by type and ties glue to the NS sets.
func (b *builder) finish() {
	for _, n := range b.answers.nodes {
		slices.SortFunc(n.sets, func(a, b *recordSet) int { return int(a.kind) - int(b.kind) })
	}
	b.answers.soa = b.answers.apex.set(dns.TypeSOA)
	for _, ns := range b.ns {
		host := b.answers.nodes[string(ns.target)]
		if host == nil {
			continue
		}
		set := ns.owner.set(dns.TypeNS)
		for _, kind := range []uint16{dns.TypeA, dns.TypeAAAA} {
			if addrs := host.set(kind); addrs != nil {
				below := ns.owner.cut && inZone(host.labels, ns.owner.labels)
				set.glue = append(set.glue, glue{owner: host.labels, set: addrs, required: below})
			}
		}
	}
}
