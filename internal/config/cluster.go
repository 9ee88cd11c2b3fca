package config

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"go.yaml.in/yaml/v3"
)

// maxWatchers bounds what every entry of the log is replicated to; three or five are what is meant.
const maxWatchers = 15

// cluster reads the section that names the watchers.
func (r *reader) cluster(v value) Cluster {
	c := Default().Cluster
	m := v.mapping()
	if name, ok := m.need("name", "a name for this cluster, the same on every watcher"); ok {
		c.Name, _ = name.word()
	}
	if v, ok := m.get("tls"); ok {
		c.TLS = r.tls(v)
	}
	r.trusted = m.has("tls")
	if watchers, ok := m.need("watchers", "every watcher with its address"); ok {
		c.Watchers = r.watchers(watchers)
	}
	if timing, ok := m.get("timing"); ok {
		if t, ok := timing.timing(); ok {
			c.Timing = t
		}
	}
	m.done()
	return c
}

func (r *reader) watchers(v value) map[string]Member {
	m := v.mapping()
	if !m.broken && len(m.keys) == 0 {
		v.fault("is empty: name at least this watcher")
	}
	if len(m.keys) > maxWatchers {
		v.fault("has %d watchers, at most %d are allowed; three or five are meant", len(m.keys), maxWatchers)
		return nil
	}
	members := make(map[string]Member, len(m.keys))
	owner := map[string]string{} // address -> watcher
	for _, name := range m.keys {
		entry, ok := m.get(name)
		if err := checkWord(name); err != nil {
			entry.fault("%v", err)
			continue
		}
		if !ok {
			continue
		}
		member := entry.member(name)
		members[name] = member
		if other, taken := owner[member.Address]; taken && member.Address != "" {
			entry.at("address").fault("%s is %s's address already", member.Address, other)
		}
		owner[member.Address] = name
	}
	return members
}

func (v value) member(name string) Member {
	var out Member
	m := v.mapping()
	if address, ok := m.need("address", "host:port that the other watchers reach it at"); ok {
		if host, port, ok := address.hostPort(false); ok && address.reachable(host) {
			out.Address = net.JoinHostPort(host, port)
		}
	}
	if dns, ok := m.need("dns", fmt.Sprintf("the addresses of %s's NS record, like [127.0.0.1]", name)); ok {
		out.DNS = dns.addresses()
		if dns.emptyList() {
			dns.fault("is empty; its NS record needs an address")
		}
	}
	m.done()
	return out
}

func (v value) addresses() []netip.Addr {
	var out []netip.Addr
	for _, item := range v.list(16) {
		ip, ok := item.address()
		if ok && slices.Contains(out, ip) {
			item.fault("%s is given twice", ip)
		} else if ok {
			out = append(out, ip)
		}
	}
	return out
}

// timing reads lan, wan, or the three durations. Raft's conditions on them are checked here, with the keys' names,
// rather than by Raft at the start.
func (v value) timing() (Timing, bool) {
	if v.node.Kind == yaml.ScalarNode {
		t, ok := timings[v.node.Value]
		if !ok {
			v.fault("%s is unknown; want lan, wan or {heartbeat: 1s, election: 1s, lease: 500ms}", describe(v.node))
		}
		return t, ok
	}
	var t Timing
	m := v.mapping()
	all := true
	for _, k := range []struct {
		key  string
		into *time.Duration
	}{{"heartbeat", &t.Heartbeat}, {"election", &t.Election}, {"lease", &t.Lease}} {
		if d, ok := m.need(k.key, "a timing of one's own gives heartbeat, election and lease"); ok {
			*k.into, ok = d.duration(20*time.Millisecond, time.Minute)
			all = all && ok
		} else {
			all = false
		}
	}
	m.done()
	switch {
	case !all:
		return Timing{}, false
	case t.Election < t.Heartbeat:
		m.fields["election"].fault("%s is shorter than heartbeat (%s)", short(t.Election), short(t.Heartbeat))
		return Timing{}, false
	case t.Lease > t.Heartbeat:
		m.fields["lease"].fault("%s is longer than heartbeat (%s)", short(t.Lease), short(t.Heartbeat))
		return Timing{}, false
	}
	// The ratio of Raft's defaults (1 s to 50 ms); an exchange may take a heartbeat, but a disk that is busy for a
	// second is no lost connection.
	t.Commit = min(max(t.Heartbeat/20, 5*time.Millisecond), 200*time.Millisecond)
	t.Transport = max(t.Heartbeat, time.Second)
	return t, true
}
