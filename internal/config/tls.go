package config

import (
	"net/netip"
)

// TLS names the files that this watcher proves itself with, resolved in File.Dir.
type TLS struct {
	CAFile   string // the authorities whose watchers are believed
	CertFile string
	KeyFile  string
}

// Remark is what Options.CheckTLS found in one of the files.
type Remark struct {
	Key  string // ca_file, cert_file or key_file
	Text string
	Odd  bool // worth a warning only: it does not keep the watcher from starting
}

// tls reads which files prove who this watcher is. Whether they do is judged later, when its name is known.
func (r *reader) tls(v value) *TLS {
	t := &TLS{}
	m := v.mapping()
	for _, k := range []struct {
		key, what string
		into      *string
	}{
		{"ca_file", "the authority's certificate, which `watchover pki init` makes", &t.CAFile},
		{"cert_file", "this watcher's certificate, which `watchover pki issue` makes", &t.CertFile},
		{"key_file", "the key of this watcher's certificate", &t.KeyFile},
	} {
		file, ok := m.need(k.key, k.what)
		if !ok {
			continue
		}
		path, ok := file.oneLine()
		if ok && r.dir != "" {
			path = Resolve(r.dir, path)
		}
		*k.into = path
	}
	m.done()
	return t
}

// checkTLS has the files judged. A file that is not on this machine, or not for this user, is only worth a warning: the
// configuration may be another watcher's.
func (r *reader) checkTLS(v value, t *TLS, name string) {
	if t == nil || r.dir == "" || r.options.CheckTLS == nil || len(r.faults) > 0 {
		return
	}
	for _, remark := range r.options.CheckTLS(*t, name) {
		if key := v.child(remark.Key); remark.Odd {
			r.warn(key, remark.Text)
		} else {
			key.fault("%s", remark.Text)
		}
	}
}

// reachable accepts the host that the other watchers dial. Without TLS nothing would authenticate them to one another,
// so they are held to one machine.
func (v value) reachable(host string) bool {
	if v.r.trusted {
		return v.host(host)
	}
	if ip, err := netip.ParseAddr(host); err == nil && ip.IsLoopback() || host == "localhost" {
		return true
	}
	if host == "" {
		v.fault("the host before the port is missing")
		return false
	}
	v.fault("%q is not a loopback address; watchers on several machines need mutual TLS: set cluster.tls, for which `watchover pki init` makes the first file", clip(host))
	return false
}

// listenable accepts where this machine waits for the other watchers: an address or name of its own, or nothing, which
// is all of its addresses.
func (v value) listenable(host string) bool {
	if !v.r.trusted {
		return v.reachable(host)
	}
	if ip, err := netip.ParseAddr(host); host == "" || err == nil && ip.IsUnspecified() {
		return true
	}
	return v.host(host)
}
