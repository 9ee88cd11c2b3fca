package config

import (
	"net"
	"slices"
	"strings"

	"github.com/watchover-ha/watchover/pkg/failover"
)

const maxProbes = 32

// probeKinds is the one table of the kinds that run: what each reads besides kind and name.
var probeKinds = map[string]func(*reader, *mapping, *failover.Probe){
	"http": (*reader).httpProbe,
	"tcp":  (*reader).tcpProbe,
	"tls":  (*reader).tlsProbe,
	"dns":  (*reader).dnsProbe,
	"grpc": (*reader).grpcProbe,
	"icmp": (*reader).icmpProbe,
	"exec": (*reader).execProbe,

	"postgres": databaseProbe,
	"mysql":    databaseProbe,
	"redis":    databaseProbe,
}

// probeKindNames are the kinds in the order of the documentation.
var probeKindNames = []string{"http", "tcp", "tls", "dns", "grpc", "icmp", "exec", "postgres", "mysql", "redis"}

// probes reads a list of probes, whose names are labels and so have to differ.
func (r *reader) probes(v value) []failover.Probe {
	items := v.list(maxProbes)
	var out []failover.Probe
	for _, item := range items {
		p, ok := r.probe(item)
		if !ok {
			continue
		}
		if slices.ContainsFunc(out, func(q failover.Probe) bool { return q.Name == p.Name }) {
			item.fault("is called %q like another probe of this app; give it a name of its own", p.Name)
			continue
		}
		out = append(out, p)
	}
	return out
}

func (r *reader) probe(v value) (failover.Probe, bool) {
	var p failover.Probe
	m := v.mapping()
	kind, ok := m.need("kind", "one of "+strings.Join(probeKindNames, ", "))
	if !ok {
		return p, false
	}
	p.Kind, ok = kind.text(maxText)
	if !ok {
		return p, false
	}
	read, ok := probeKinds[p.Kind]
	if !ok {
		kind.fault("%s", notOneOf(p.Kind, probeKindNames))
		return p, false
	}
	p.Name = p.Kind
	if name, ok := m.get("name"); ok {
		p.Name, ok = name.word()
		if !ok {
			p.Name = p.Kind
		}
	}
	read(r, m, &p)
	m.done()
	return p, true
}

func (r *reader) httpProbe(m *mapping, p *failover.Probe) {
	p.HTTP = r.http(m, "GET")
	m.text("expect_body", &p.ExpectBody, maxText)
	if p.ExpectBody != "" && p.Method == "HEAD" {
		m.fields["expect_body"].fault("the answer to HEAD has no body")
	}
}

func (r *reader) tcpProbe(m *mapping, p *failover.Probe) {
	m.dialable("address", &p.Address)
}

func (r *reader) tlsProbe(m *mapping, p *failover.Probe) {
	m.dialable("address", &p.Address)
	m.oneLine("ca_file", &p.CAFile)
	m.serverName(&p.ServerName)
}

// serverName sets into from an optional key: the name that a certificate must be made out to.
func (m *mapping) serverName(into *string) {
	if v, ok := m.get("server_name"); ok {
		if s, ok := v.oneLine(); ok && v.host(s) {
			*into = s
		}
	}
}

// grpcProbe reads a health check (grpc.health.v1). The keys of TLS are those of the kind tls.
func (r *reader) grpcProbe(m *mapping, p *failover.Probe) {
	m.dialable("address", &p.Address)
	m.oneLine("service", &p.Service)
	m.truth("tls", &p.TLS)
	m.oneLine("ca_file", &p.CAFile)
	m.serverName(&p.ServerName)
	for _, key := range []string{"ca_file", "server_name"} {
		if m.has(key) && !p.TLS {
			m.fields[key].fault("has no use without tls: true")
		}
	}
}

// icmpProbe reads an echo request's target: there are no ports.
func (r *reader) icmpProbe(m *mapping, p *failover.Probe) {
	v, ok := m.need("address", "an IP address or a host name")
	if !ok {
		return
	}
	s, ok := v.oneLine()
	if !ok {
		return
	}
	if hint := addressHint(s); hint != "" {
		v.fault("%q is not an IP address%s", clip(s), hint)
		return
	}
	if host, _, err := net.SplitHostPort(s); err == nil && host != "" {
		v.fault("want an IP address or a host name, got %q; leave out the port", clip(s))
		return
	}
	if v.host(s) {
		p.Address = s
	}
}

// queryTypes are the types that a dns probe may ask for: those whose data can be written in expect_answer.
var queryTypes = []string{"A", "AAAA", "CNAME", "MX", "NS", "PTR", "SOA", "SRV", "TXT"}

func (r *reader) dnsProbe(m *mapping, p *failover.Probe) {
	m.dialable("address", &p.Address)
	if v, ok := m.need("query", "the name to ask for"); ok {
		p.Query = v.zoneName()
	}
	p.QueryType = "A"
	choice(m, "query_type", &p.QueryType, queryTypes...)
	if v, ok := m.get("expect_answer"); ok {
		for _, item := range v.list(32) {
			if s, ok := item.oneLine(); ok {
				p.ExpectAnswer = append(p.ExpectAnswer, s)
			}
		}
	}
}

func (r *reader) execProbe(m *mapping, p *failover.Probe) {
	if v, ok := m.need("exec", "the program and its arguments, in a list"); ok {
		p.Exec = v.argv()
	}
}

// dialable sets into from a required key.
func (m *mapping) dialable(key string, into *string) {
	if v, ok := m.need(key, "host:port to connect to"); ok {
		if host, port, ok := v.hostPort(false); ok && v.host(host) {
			*into = net.JoinHostPort(host, port)
		}
	}
}
