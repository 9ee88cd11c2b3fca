package nameserver

import "github.com/miekg/dns"

// maxChain bounds how many CNAME records of the zone are followed in one answer. Chains that are longer or lead back to
// themselves end there; the client goes on from the last one, as RFC 1034, section 3.6.2 allows it to.
const maxChain = 8

// resolve answers a question for a name in the zone, as RFC 1034, section 4.3.2 (with RFC 4592 for wildcards) says. aa
// is whether the zone itself knows, not a delegated one: it is about the name asked for (RFC 1035, section 4.1.1).
func (a *Answers) resolve(m *message, name []byte, kind uint16) (rcode int, aa bool) {
	var owner []byte // nil: the name in the question
	for hop := 0; ; hop++ {
		n, found := a.find(name)
		if !found {
			// After a CNAME this is about the name it points at (RFC 6604, section 3).
			m.require(authority, zoneName, a.soa)
			return dns.RcodeNameError, true
		}
		if n.cut && !(kind == dns.TypeDS && len(name) == len(a.zone)+len(n.labels)) {
			a.refer(m, n)
			return dns.RcodeSuccess, hop > 0
		}
		alias := n.set(dns.TypeCNAME)
		if alias == nil || kind == dns.TypeCNAME || kind == dns.TypeANY {
			a.reply(m, owner, n, kind)
			return dns.RcodeSuccess, true
		}
		if !m.require(answer, owner, alias) || alias.target == nil || hop == maxChain-1 {
			return dns.RcodeSuccess, true
		}
		name = alias.target
		owner = name[:len(name)-len(a.zone)]
	}
}

// zoneName is the zone's own name as an owner: no labels above it. It must not be nil.
var zoneName = []byte{}

// find walks from the zone's name down to name, and returns the node that answers for it: itself, the delegation on the
// way, or the wildcard below the last name that exists. Names below an existing one are covered by no wildcard above it.
func (a *Answers) find(name []byte) (*node, bool) {
	var starts [maxName / 2]uint8 // of the labels above the zone's name; each label takes two bytes or more
	labels := 0
	for i := 0; i < len(name)-len(a.zone); i += int(name[i]) + 1 {
		starts[labels] = uint8(i)
		labels++
	}
	n := a.apex
	for labels--; labels >= 0; labels-- {
		next := a.nodes[string(name[starts[labels]:])]
		if next == nil {
			return n.wildcard, n.wildcard != nil
		}
		if n = next; n.cut {
			return n, true
		}
	}
	return n, true
}

// reply answers from a node: the set asked for, or the zone's SOA record if there is none (RFC 2308, section 2.2). Asked
// for any type it gives one set, the first by type (RFC 8482, section 4.1): those who ask are abusing the answer's size
// or debugging.
func (a *Answers) reply(m *message, owner []byte, n *node, kind uint16) {
	set := n.set(kind)
	if kind == dns.TypeANY && len(n.sets) > 0 {
		set = n.sets[0]
	}
	if set == nil {
		m.require(authority, zoneName, a.soa)
		return
	}
	if m.require(answer, owner, set) {
		m.glue(set)
	}
}

// refer points at the name servers of a delegated zone. It adds their addresses only if the NS set itself fitted.
func (a *Answers) refer(m *message, n *node) {
	set := n.set(dns.TypeNS)
	if m.require(authority, n.labels, set) {
		m.glue(set)
	}
}
