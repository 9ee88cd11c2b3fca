package config

import (
	"github.com/watchover-ha/watchover/pkg/failover"
)

// app reads one app of a group.
func (r *reader) app(m *mapping, record, zone string) failover.App {
	var a failover.App
	if name, ok := m.need("name", "a name for this app"); ok {
		a.Name, _ = name.word()
	}
	if address, ok := m.need("address", "IP addresses, or one host name, for the DNS record"); ok {
		a.Address = address.publishes(record, zone)
	}
	if probes, ok := m.need("probes", "at least one, to know whether the app lives"); ok {
		a.Probes = r.probes(probes)
		if probes.emptyList() {
			probes.fault("is empty; want at least one, to know whether the app lives")
		}
	}
	if probes, ok := m.get("standby_probes"); ok {
		a.StandbyProbes = r.probes(probes)
	}
	if v, ok := m.get("maintenance"); ok {
		a.Maintenance = r.maintenance(v)
	}
	if v, ok := m.get("database"); ok {
		a.Database = v.database()
	}
	m.done()
	return a
}

func (r *reader) maintenance(v value) *failover.Maintenance {
	out := &failover.Maintenance{}
	m := v.mapping()
	if on, ok := m.need("on", "how the app is put into maintenance"); ok {
		out.On = r.action(on, "POST")
	}
	if off, ok := m.need("off", "how the app is put out of maintenance"); ok {
		out.Off = r.action(off, "POST")
	}
	if check, ok := m.get("check"); ok {
		action := r.action(check, "GET")
		out.Check = &action
		if status := check.child("http").child("expect_status"); status.node != nil {
			status.fault("has no meaning here: 2xx is in maintenance, 404 is not, all else is unknown")
		}
	}
	m.done()
	return out
}
