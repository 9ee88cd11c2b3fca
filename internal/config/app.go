package config

import (
	"slices"

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

// laterDatabaseKinds are those of the format that this version does not run.
var laterDatabaseKinds = []string{"postgres", "mysql", "redis"}

func (v value) database() *failover.Database {
	m := v.mapping()
	kind, ok := m.need("kind", "the kind of database, exec")
	if !ok {
		return nil
	}
	name, ok := kind.text(maxText)
	switch {
	case !ok:
		return nil
	case name == "exec":
		db := &failover.Database{Kind: name, Exec: m.databaseExec()}
		m.done()
		return db
	case slices.Contains(laterDatabaseKinds, name):
		kind.fault("database kind %q is not built yet; built is exec", name)
	default:
		kind.fault("%s", notOneOf(name, []string{"exec"}, laterDatabaseKinds...))
	}
	return nil
}

// databaseExec reads the argv of each thing asked or told; they stand directly beside kind.
func (m *mapping) databaseExec() *failover.DatabaseExec {
	var e failover.DatabaseExec
	for _, k := range []struct {
		key  string
		into *[]string
	}{
		{"role", &e.Role}, {"freeze", &e.Freeze}, {"unfreeze", &e.Unfreeze}, {"catch_up", &e.CatchUp},
		{"stop_replication", &e.StopReplication}, {"resume_replication", &e.ResumeReplication}, {"promote", &e.Promote},
	} {
		if v, ok := m.need(k.key, "a program with its arguments, in a list"); ok {
			*k.into = v.argv()
		}
	}
	m.refuse("exec", "has no place here: role, freeze and the other programs stand directly beside kind")
	return &e
}
