package config

import (
	"regexp"
	"slices"
	"strings"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// serverKinds are the kinds of databases that are reached by a DSN.
var serverKinds = []string{"postgres", "mysql", "redis"}

// databaseKinds are all kinds of databases.
var databaseKinds = append([]string{"exec"}, serverKinds...)

func (v value) database() *failover.Database {
	m := v.mapping()
	kind, ok := m.need("kind", "the kind of database, one of "+strings.Join(databaseKinds, ", "))
	if !ok {
		return nil
	}
	name, ok := kind.text(maxText)
	if !ok {
		return nil
	}
	db := &failover.Database{Kind: name}
	switch {
	case name == "exec":
		db.Exec = m.databaseExec()
	case slices.Contains(serverKinds, name):
		m.server(name, &db.DSN, &db.PasswordFile, &db.PasswordEnv, &db.CAFile)
	default:
		kind.fault("%s", notOneOf(name, databaseKinds))
		return nil
	}
	if v, ok := m.get("reprotect"); ok {
		db.Reprotect = v.argv()
	}
	m.done()
	return db
}

// server reads how a database server is reached.
func (m *mapping) server(kind string, dsn, passwordFile *string, passwordEnv *failover.Variable, caFile *string) {
	if v, ok := m.need("dsn", "how to reach the server, without a password"); ok {
		if s, ok := v.oneLine(); ok {
			v.checkDSN(kind, s)
			*dsn = s
		}
	}
	m.secret("password", passwordFile, passwordEnv)
	m.oneLine("ca_file", caFile)
}

// passwords are the shapes in which a DSN may hold one: a keyword, a parameter, or behind the user before an @.
var passwords = regexp.MustCompile(`(?i)(\b(password|passwd|pwd|sslpassword)\s*=|^[a-z0-9+.-]*(://)?[^/@\s?]*:[^/@\s?]+@)`)

// checkDSN refuses secrets and whatever the drivers cannot read. It never repeats a text that may hold a password.
func (v value) checkDSN(kind, dsn string) {
	if passwords.MatchString(dsn) {
		v.fault("holds a password; secrets stay out of the file: use password_file or password_env")
		return
	}
	if v.r.options.CheckDSN == nil {
		return
	}
	if err := v.r.options.CheckDSN(kind, dsn); err != nil {
		v.fault("%v", err)
	}
}

// databaseProbe asks a server for an answer, by the keys of a database.
func databaseProbe(_ *reader, m *mapping, p *failover.Probe) {
	m.server(p.Kind, &p.DSN, &p.PasswordFile, &p.PasswordEnv, &p.CAFile)
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
