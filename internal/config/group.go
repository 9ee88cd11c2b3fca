package config

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// Bounds on the number of things; each is probed or stored on every watcher.
const (
	maxGroups = 1000
	maxApps   = 16
)

// groups reads all groups and what has to hold between them. They come back sorted by name.
func (r *reader) groups(v value, zone string) []failover.Group {
	m := v.mapping()
	if !m.broken && len(m.keys) == 0 {
		v.fault("is empty: name at least one group")
	}
	if len(m.keys) > maxGroups {
		v.fault("has %d groups, at most %d are allowed", len(m.keys), maxGroups)
		return nil
	}
	var groups []failover.Group
	owner := map[string]string{} // record -> group
	for _, name := range m.keys {
		entry, ok := m.get(name)
		if err := checkWord(name); err != nil {
			entry.fault("%v", err)
		}
		if !ok {
			continue
		}
		g := r.group(entry, name, zone)
		if other, taken := owner[g.Record]; taken && g.Record != "" {
			entry.child("record").fault("%q is group %s's record already", g.Record, other)
		} else {
			owner[g.Record] = name
		}
		groups = append(groups, g)
	}
	slices.SortFunc(groups, func(a, b failover.Group) int { return cmp.Compare(a.Name, b.Name) })
	return groups
}

func (r *reader) group(v value, name, zone string) failover.Group {
	g := Default().Group
	g.Name = name
	m := v.mapping()
	if record, ok := m.need("record", "the name in the zone that follows the active app, like "+clip(name)); ok {
		g.Record = r.record(record, zone)
	}
	apps, ok := m.need("apps", "two or more apps in order of preference")
	if ok {
		g.Apps = r.apps(apps, g.Record, zone)
	}
	if probing, ok := m.get("probe"); ok {
		probing.probing(&g.Probing)
	}
	if rules, ok := m.get("failover"); ok {
		r.rules(rules, &g.Failover)
	}
	if steps, ok := m.get("steps"); ok {
		steps.steps(g.Steps, apps)
	}
	if notify, ok := m.get("notify"); ok {
		g.Notify = r.notify(notify)
	}
	m.done()
	return g
}

// record reads a name relative to the zone; "@" is the zone's own.
func (r *reader) record(v value, zone string) string {
	s, ok := v.oneLine()
	if !ok || s == "@" {
		return s
	}
	name := strings.ToLower(s)
	inside := strings.TrimSuffix(name, ".")
	switch {
	case zone != "" && inside+"." == zone:
		v.fault("%q is the zone's own name; write \"@\"", clip(s))
	case zone != "" && strings.HasSuffix(inside+".", "."+zone):
		v.fault("is relative to the zone; write %q", clip(strings.TrimSuffix(inside+".", "."+zone)))
	case inside != name:
		v.fault("%q is not in the zone; a record is relative to it", clip(s))
	case slices.Contains(r.members, name):
		v.fault("%q is the name of a watcher, whose NS record needs it", name)
	case len(name)+1+len(zone) > maxName+1:
		v.fault("%q is too long with the zone's name behind it", clip(s))
	default:
		if err := checkDNSName(name); err != nil {
			v.fault("%v", err)
			return ""
		}
		return name
	}
	return ""
}

func (r *reader) apps(v value, record, zone string) []failover.App {
	items := v.list(maxApps)
	if v.isList() && len(v.node.Content) < 2 {
		v.fault("has %d, but a failover needs two or more", len(items))
	}
	apps := make([]failover.App, 0, len(items))
	for _, item := range items {
		m := item.mapping()
		a := r.app(m, record, zone)
		if a.Name != "" && slices.ContainsFunc(apps, func(b failover.App) bool { return b.Name == a.Name }) {
			m.fields["name"].fault("%q is the name of another app of this group", a.Name)
		}
		apps = append(apps, a)
	}
	r.sameDatabases(items, apps)
	return apps
}

// sameDatabases holds a group to one kind of database: a promotion means the same thing on all of its apps.
func (r *reader) sameDatabases(items []value, apps []failover.App) {
	for i, a := range apps {
		first, db := apps[0].Database, a.Database
		switch {
		case first == nil && db == nil:
		case db == nil && !items[i].has("database"):
			items[i].at("database").fault("is missing: %s has one, and either all apps of a group do or none", quoted(apps[0].Name))
		case first == nil && !items[0].has("database"):
			items[i].at("database").fault("%s has none, and either all apps of a group have one or none", quoted(apps[0].Name))
		case first != nil && db != nil && db.Kind != first.Kind:
			items[i].at("database").fault("is of kind %s, but that of %s is of kind %s", db.Kind, quoted(apps[0].Name), first.Kind)
		}
	}
}

func quoted(name string) string {
	if name == "" {
		return "the first app"
	}
	return "\"" + name + "\""
}

// probing reads the rhythm of the probes.
func (v value) probing(p *failover.Probing) {
	m := v.mapping()
	m.duration("interval", &p.Interval, 50*time.Millisecond, time.Hour)
	if m.duration("retry_interval", &p.RetryInterval, 50*time.Millisecond, time.Hour) {
		if p.RetryInterval > p.Interval {
			m.fields["retry_interval"].fault("%s is longer than interval (%s)", short(p.RetryInterval), short(p.Interval))
		}
	} else {
		p.RetryInterval = min(p.RetryInterval, p.Interval)
	}
	m.duration("timeout", &p.Timeout, 10*time.Millisecond, time.Minute)
	m.number("fall", &p.Fall, 1, 100)
	m.number("rise", &p.Rise, 1, 100)
	m.done()
}

// leastRehearseEvery keeps rehearsals, which log in everywhere, from becoming a load.
const leastRehearseEvery = time.Second

// rules reads when the group is moved.
func (r *reader) rules(v value, f *failover.Rules) {
	m := v.mapping()
	choice(m, "mode", &f.Mode, failover.ModeAutomatic, failover.ModeObserve, failover.ModeManual)
	if m.number("quorum", &f.Quorum, 0, maxWatchers) {
		r.quorum(m.fields["quorum"], f.Quorum)
	}
	m.duration("confirm_for", &f.ConfirmFor, 0, time.Hour)
	m.duration("cooldown", &f.Cooldown, 0, 7*24*time.Hour)
	if lag, ok := m.get("max_lag"); ok {
		l := lag.mapping()
		l.size("bytes", &f.MaxLag.Bytes)
		l.duration("time", &f.MaxLag.Time, 0, 24*time.Hour)
		l.done()
	}
	choice(m, "require_fence", &f.RequireFence, failover.FenceAuto, failover.FenceNever)
	if witnesses, ok := m.get("witnesses"); ok {
		f.Witnesses = witnesses.witnesses()
	}
	if m.duration("rehearse_every", &f.RehearseEvery, 0, 7*24*time.Hour) && f.RehearseEvery != 0 && f.RehearseEvery < leastRehearseEvery {
		m.fields["rehearse_every"].fault("%s is shorter than %s; 0s rehearses never by itself", short(f.RehearseEvery), short(leastRehearseEvery))
	}
	m.done()
}

// quorum may ask for more than a majority, never for less: two halves of a cluster must not both have one.
func (r *reader) quorum(v value, quorum int) {
	watchers := len(r.members)
	if quorum == 0 || watchers == 0 {
		return
	}
	if majority := watchers/2 + 1; quorum < majority {
		v.fault("%d is less than the majority of %d watchers; want 0 (the majority) or %d to %d", quorum, watchers, majority, watchers)
	} else if quorum > watchers {
		v.fault("%d is more than there are watchers (%d), so it would never be reached", quorum, watchers)
	}
}

func (v value) witnesses() []string {
	var out []string
	for _, item := range v.list(16) {
		s, ok := item.dialable()
		if ok && slices.Contains(out, s) {
			item.fault("%s is given twice", s)
		} else if ok {
			out = append(out, s)
		}
	}
	return out
}

// publishes reads an app's addresses: IP addresses, or exactly one host name, which comes back absolute.
func (v value) publishes(record, zone string) []string {
	items := []value{v}
	if v.isList() {
		items = v.list(32)
	}
	if len(items) == 0 && v.emptyList() {
		v.fault("is empty; want IP addresses or one host name")
	}
	var out, names []string
	for _, item := range items {
		s, ok := item.oneLine()
		if !ok {
			continue
		}
		if ip, err := netip.ParseAddr(s); err == nil {
			if item.publishable(ip) {
				s = ip.String()
			}
		} else if s, ok = item.hostName(s, record, zone); ok {
			names = append(names, s)
		} else {
			continue
		}
		if slices.Contains(out, s) {
			item.fault("%s is given twice", s)
			continue
		}
		out = append(out, s)
	}
	if len(names) > 0 && len(out) > 1 {
		v.fault("want IP addresses or exactly one host name; a CNAME stands alone")
	}
	return out
}

// hostName reads the target of the record as a CNAME.
func (v value) hostName(s, record, zone string) (string, bool) {
	if hint := addressHint(s); hint != "" {
		v.fault("%q is not an IP address%s", clip(s), hint)
		return "", false
	}
	if err := checkHostName(s); err != nil {
		v.fault("%v", err)
		return "", false
	}
	name := strings.TrimSuffix(strings.ToLower(s), ".") + "."
	switch {
	case record == "@":
		v.fault("%q is a host name, but a zone's own name cannot be a CNAME (RFC 1034, section 3.6.2); give IP addresses", clip(s))
		return "", false
	case record != "" && zone != "" && name == record+"."+zone:
		v.fault("%q is the group's own record, which would point at itself", clip(s))
		return "", false
	}
	return name, true
}
