package config

import (
	"maps"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// maxSocketPath is the longest path that fits sockaddr_un with its final zero byte (unix(7)).
const maxSocketPath = 107

// watcher reads the section about this machine; f already holds the cluster and the policy that it refers to.
func (r *reader) watcher(v value, f *File) Watcher {
	w := Default().Watcher
	m := v.mapping()
	if name, ok := m.need("name", "which of cluster.watchers this machine is"); ok {
		w.Name = r.self(name, f.Cluster)
	}
	m.path("data_dir", &w.DataDir)
	m.path("socket", &w.Socket)
	if len(w.Socket) > maxSocketPath {
		m.child("socket").fault("%q is longer than the %d bytes that a Unix socket's path may have", clip(w.Socket), maxSocketPath)
	}
	m.oneLine("socket_group", &w.SocketGroup)
	w.Operators = m.words("operators")
	r.listeners(m, &w, f.Cluster.Watchers[w.Name])
	if log, ok := m.get("log"); ok {
		l := log.mapping()
		choice(l, "level", &w.Log.Level, "debug", "info", "warn", "error")
		choice(l, "format", &w.Log.Format, "json", "console", "auto")
		l.done()
	}
	if signals, ok := m.get("signals"); ok {
		s := signals.mapping()
		w.Signals.Switchover = s.group("switchover", f.Policy)
		s.done()
	}
	m.done()
	return w
}

// self is the watcher's name, which has to be one of the cluster's.
func (r *reader) self(v value, c Cluster) string {
	name, ok := v.word()
	if !ok || len(c.Watchers) == 0 {
		return name
	}
	if _, member := c.Watchers[name]; !member {
		v.fault("%q is not in cluster.watchers (%s)", name, strings.Join(memberNames(c), ", "))
	}
	return name
}

// listeners reads where this machine listens; what is left out follows from its entry under cluster.watchers.
func (r *reader) listeners(m *mapping, w *Watcher, self Member) {
	w.Listen = self.Address
	if v, ok := m.get("listen"); ok {
		if host, port, ok := v.hostPort(false); ok && v.listenable(host) {
			w.Listen = net.JoinHostPort(host, port)
		}
	}
	for _, ip := range self.DNS {
		w.DNSListen = append(w.DNSListen, netip.AddrPortFrom(ip, 53).String())
	}
	if v, ok := m.get("dns_listen"); ok {
		w.DNSListen = r.dnsListen(v)
	}
	if v, ok := m.get("http_listen"); ok {
		if s, isText := v.text(maxText); isText && s == "" {
			w.HTTPListen = ""
		} else if host, port, ok := v.hostPort(true); isText && ok && v.listenHost(host) {
			w.HTTPListen = net.JoinHostPort(host, port)
		}
	}
}

func (r *reader) dnsListen(v value) []string {
	var out []string
	if v.emptyList() {
		v.fault("is empty; leave the key out to answer on this watcher's dns addresses")
	}
	for _, item := range v.list(16) {
		host, port, ok := item.hostPort(true)
		if ok && host == "localhost" {
			item.fault("want an IP address to answer DNS on, got %q; write 127.0.0.1 or [::1]", host)
			continue
		}
		if !ok || !item.listenHost(host) {
			continue
		}
		address := net.JoinHostPort(host, port)
		if slices.Contains(out, address) && port != "0" {
			item.fault("%s is given twice", address)
			continue
		}
		out = append(out, address)
	}
	return out
}

// listenHost accepts an IP address of this machine, "localhost", or nothing, which is all of its addresses.
func (v value) listenHost(host string) bool {
	if host == "" || host == "localhost" {
		return true
	}
	if ip, err := netip.ParseAddr(host); err != nil || ip.IsMulticast() {
		v.fault("want an IP address to listen on, got %q", clip(host))
		return false
	}
	return true
}

// path sets into from an optional key, made absolute beside the file.
func (m *mapping) path(key string, into *string) {
	m.oneLine(key, into)
	if m.r.dir != "" {
		*into = Resolve(m.r.dir, *into)
	}
}

// Resolve makes path absolute: one that is relative stands beside the configuration file, in dir.
func Resolve(dir, path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(dir, path)
}

// words reads an optional list of distinct user names.
func (m *mapping) words(key string) []string {
	v, ok := m.get(key)
	if !ok {
		return nil
	}
	var out []string
	for _, item := range v.list(1000) {
		s, ok := item.oneLine()
		if ok && slices.Contains(out, s) {
			item.fault("%q is given twice", clip(s))
		} else if ok {
			out = append(out, s)
		}
	}
	return out
}

// group reads the name of a group of the policy.
func (m *mapping) group(key string, p failover.Policy) string {
	v, ok := m.get(key)
	if !ok {
		return ""
	}
	name, ok := v.word()
	if !ok {
		return ""
	}
	var names []string
	for _, g := range p.Groups {
		names = append(names, g.Name)
	}
	if !slices.Contains(names, name) {
		v.fault("%q is not a group of this file (%s)", name, strings.Join(names, ", "))
	}
	return name
}

// memberNames returns the names of the cluster's watchers, sorted.
func memberNames(c Cluster) []string {
	return slices.Sorted(maps.Keys(c.Watchers))
}
