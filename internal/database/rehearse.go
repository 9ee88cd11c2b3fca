package database

import (
	"errors"
	"strings"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// What a rehearsal looks at, as the findings call it.
const (
	checkPrivileges = "privileges"
	checkSettings   = "settings"
)

// finding words what a look came to. Only what the server itself said is certain: a server that does not answer now tells
// nothing about the day on which it does.
func finding(check, well string, faults []string, err error) failover.Finding {
	f := failover.Finding{Check: check, OK: err == nil && len(faults) == 0, Detail: well}
	switch {
	case err != nil:
		f.Detail, f.Certain = err.Error(), denied(err)
	case len(faults) > 0:
		f.Detail, f.Certain = strings.Join(faults, "; "), true
	}
	return f
}

// denied reports whether a server has answered that it does not let us do this, which no waiting changes.
func denied(err error) bool {
	var pg *serverError
	if errors.As(err, &pg) {
		return strings.HasPrefix(pg.code, "28") || pg.code == "42501" || pg.code == "3D000" // authorization, privilege, no such database
	}
	return saidMySQL(err, 1044, 1045, 1142, 1227) || saidRedis(err, "WRONGPASS", "NOAUTH", "NOPERM")
}
