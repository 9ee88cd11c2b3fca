package config

import (
	"net"
	"slices"

	"github.com/watchover-ha/watchover/pkg/failover"
)

const maxProbes = 32

// probeKinds is the one table of the kinds that run: what each reads besides kind and name.
var probeKinds = map[string]func(*reader, *mapping, *failover.Probe){
	"http": (*reader).httpProbe,
	"tcp":  (*reader).tcpProbe,
	"tls":  (*reader).tlsProbe,
	"dns":  (*reader).dnsProbe,
	"exec": (*reader).execProbe,
}

// builtProbeKinds and laterProbeKinds are all that the format knows.
var (
	builtProbeKinds = []string{"http", "tcp", "tls", "dns", "exec"}
	laterProbeKinds = []string{"grpc", "icmp", "postgres", "mysql", "redis"}
)

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
	kind, ok := m.need("kind", "one of http, tcp, tls, dns, exec")
	if !ok {
		return p, false
	}
	p.Kind, ok = kind.text(maxText)
	if !ok {
		return p, false
	}
	read, ok := probeKinds[p.Kind]
	if !ok {
		if slices.Contains(laterProbeKinds, p.Kind) {
			kind.fault("probe kind %q is not built yet; built are http, tcp, tls, dns and exec", p.Kind)
		} else {
			kind.fault("%s", notOneOf(p.Kind, builtProbeKinds, laterProbeKinds...))
		}
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
	if v, ok := m.get("server_name"); ok {
		if s, ok := v.oneLine(); ok && v.host(s) {
			p.ServerName = s
		}
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
