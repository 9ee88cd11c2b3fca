package config

import (
	"strings"
	"time"
	"unicode/utf8"

	"github.com/watchover-ha/watchover/internal/localfile"
	"github.com/watchover-ha/watchover/pkg/failover"
)

// policy reads zone and groups, the part of the file that is replicated.
func (r *reader) policy(top *mapping) failover.Policy {
	p := failover.Policy{Zone: Default().Zone}
	if zone, ok := top.need("zone", "the DNS zone that the watchers serve"); ok {
		p.Zone = r.zone(zone)
	}
	if groups, ok := top.need("groups", "the failover groups"); ok {
		p.Groups = r.groups(groups, p.Zone.Name)
	}
	return p
}

func (r *reader) zone(v value) failover.Zone {
	z := Default().Zone
	m := v.mapping()
	if name, ok := m.need("name", "the DNS zone, like ha.example.com"); ok {
		z.Name = name.zoneName()
		r.zoneFits(name, z.Name)
	}
	if m.duration("ttl", &z.TTL, time.Second, 24*time.Hour) {
		m.wholeSeconds("ttl", z.TTL)
	}
	// A default never makes a file invalid: with a shorter TTL of the zone, isolation cannot lengthen it.
	z.Isolation.TTL = min(z.Isolation.TTL, z.TTL)
	if isolation, ok := m.get("isolation"); ok {
		isolation.isolation(&z)
	}
	if file, ok := m.get("records_file"); ok {
		z.Records = r.records(file, z)
	}
	if text, ok := m.get("records"); ok {
		z.Records = r.inlineRecords(text, z, m)
	}
	m.done()
	return z
}

func (v value) isolation(z *failover.Zone) {
	i := &z.Isolation
	m := v.mapping()
	m.duration("after", &i.After, time.Second, time.Hour)
	if m.duration("ttl", &i.TTL, time.Second, 24*time.Hour) {
		m.wholeSeconds("ttl", i.TTL)
		if i.TTL > z.TTL {
			m.fields["ttl"].fault("%s is longer than zone.ttl (%s)", short(i.TTL), short(z.TTL))
		}
	}
	if m.duration("servfail_after", &i.ServfailAfter, 0, 30*24*time.Hour) && i.ServfailAfter > 0 && i.ServfailAfter < i.After {
		m.fields["servfail_after"].fault("%s is shorter than isolation.after (%s); 0s is never", short(i.ServfailAfter), short(i.After))
	}
	m.done()
}

// zoneName returns the absolute, lower-case name, or "" if it is none.
func (v value) zoneName() string {
	s, ok := v.oneLine()
	if !ok {
		return ""
	}
	name := strings.TrimSuffix(strings.ToLower(s), ".")
	if name == "" {
		v.fault("the root is no zone of yours; want a name like ha.example.com")
		return ""
	}
	if err := checkDNSName(name); err != nil {
		v.fault("%v", err)
		return ""
	}
	return name + "."
}

// zoneFits checks that the watchers' own names, which the NS records point at, are not too long.
func (r *reader) zoneFits(v value, zone string) {
	for _, member := range r.members {
		if zone != "" && len(member)+len(zone) > maxName {
			v.fault("%q is too long: with watcher %q before it, it exceeds %d characters", clip(zone), member, maxName)
			return
		}
	}
}

// checkZone asks the caller's rule, once there is nothing else to complain about.
func (r *reader) checkZone(top *mapping, p failover.Policy, members map[string]Member) {
	if r.options.CheckZone == nil || len(r.faults) > 0 {
		return
	}
	if err := r.options.CheckZone(p, members); err != nil {
		where := top.child("zone")
		for _, key := range []string{"records_file", "records"} {
			if where.has(key) {
				where = where.child(key)
				break
			}
		}
		where.fault("%v", err)
	}
}

// records inlines the records file, since a path would mean something else on every watcher.
func (r *reader) records(v value, z failover.Zone) string {
	path, ok := v.oneLine()
	if !ok {
		return ""
	}
	if r.dir == "" {
		v.fault("%q cannot be read here; `watchover apply` sends its text, or write it into records", clip(path))
		return ""
	}
	text, err := localfile.ReadSoon(Resolve(r.dir, path), maxRecordsSize)
	switch {
	case err != nil:
		v.fault("cannot read records: %v", err)
		return ""
	case !utf8.Valid(text):
		v.fault("%q is not text", clip(path))
		return ""
	}
	if err := r.checkRecords(string(text), z); err != nil {
		v.fault("%q: %v", clip(path), err)
	}
	return string(text)
}

// inlineRecords reads the records where they stand in the file itself, as in a policy that a watcher has written out.
func (r *reader) inlineRecords(v value, z failover.Zone, zone *mapping) string {
	text, ok := v.text(maxRecordsSize)
	switch {
	case zone.has("records_file"):
		v.fault("is given beside records_file; want one of them")
		return ""
	case !ok:
		return ""
	}
	if err := r.checkRecords(text, z); err != nil {
		v.fault("%v", err)
	}
	return text
}

// checkRecords asks the caller's rule.
func (r *reader) checkRecords(text string, z failover.Zone) error {
	if r.options.CheckRecords == nil || z.Name == "" {
		return nil
	}
	return r.options.CheckRecords(z.Name, z.TTL, text)
}
