package database

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// privilegesMariaDB are what examples/mariadb/watchover.sql grants, but for what reprotect alone needs. MySQL's have other
// names (docs/databases.md), and are not checked.
var privilegesMariaDB = []string{"READ_ONLY ADMIN", "CONNECTION ADMIN", "PROCESS", "BINLOG MONITOR", "SLAVE MONITOR", "REPLICATION SLAVE ADMIN", "RELOAD"}

// Rehearse looks at privileges and settings.
func (m *mysql) Rehearse(ctx context.Context, writer bool) []failover.Finding {
	if err := m.open(ctx); err != nil {
		return []failover.Finding{finding(checkPrivileges, "", nil, err)}
	}
	found := m.rehearseSettings(ctx, writer)
	if m.dialect.mariadb {
		found = append(found, m.rehearsePrivileges(ctx))
	}
	return found
}

func (m *mysql) rehearsePrivileges(ctx context.Context) failover.Finding {
	f := failover.Finding{Check: "privileges"}
	rows, err := m.query(ctx, "SHOW GRANTS")
	if err != nil {
		f.Detail = err.Error()
		return f
	}
	has := map[string]bool{}
	for _, r := range rows {
		for _, grant := range r { // its one column is named after the user
			noteGrants(has, grant)
		}
	}
	var lacks []string
	for _, p := range privilegesMariaDB {
		if !has[p] && !has["ALL PRIVILEGES"] {
			lacks = append(lacks, p)
		}
	}
	f.OK, f.Detail = len(lacks) == 0, "may do what the plan needs"
	if !f.OK {
		f.Detail, f.Certain = "lacks "+strings.Join(lacks, ", ")+" on *.*", true
	}
	return f
}

// noteGrants reads "GRANT A, B ON *.* TO ...".
func noteGrants(has map[string]bool, grant string) {
	list, ok := strings.CutPrefix(grant, "GRANT ")
	list, _, global := strings.Cut(list, " ON *.* TO ")
	if !ok || !global {
		return
	}
	for p := range strings.SplitSeq(list, ",") {
		has[strings.TrimSpace(p)] = true
	}
}

// slowSeconds is how long a replica may take to notice that its primary is silent, without a word about it.
const slowSeconds = 10

func (m *mysql) rehearseSettings(ctx context.Context, writer bool) []failover.Finding {
	fault := func(certain bool, format string, args ...any) failover.Finding {
		return failover.Finding{Check: "settings", Detail: fmt.Sprintf(format, args...), Certain: certain}
	}
	names := map[string]string{"log": "log_bin", "updates": "log_slave_updates", "patience": "slave_net_timeout"}
	if !m.dialect.mariadb {
		names["updates"], names["patience"] = "log_replica_updates", "replica_net_timeout"
	}
	r, err := m.row(ctx, fmt.Sprintf("SELECT @@global.%s AS log, @@global.%s AS updates, @@global.%s AS patience", names["log"], names["updates"], names["patience"]))
	if err != nil {
		return []failover.Finding{fault(false, "%v", err)}
	}
	var found []failover.Finding
	if r["log"] != "1" || r["updates"] != "1" {
		found = append(found, fault(true, "%s and %s must be on: without them nobody can tell how far a replica is", names["log"], names["updates"]))
	}
	if seconds, err := strconv.Atoi(r["patience"]); !writer && err == nil && seconds > slowSeconds {
		found = append(found, fault(false, "%s is %d: it holds up a failover for as long when the primary's host is lost; set it to 4", names["patience"], seconds))
	}
	if !writer {
		from, err := m.replica(ctx)
		if err != nil {
			found = append(found, fault(false, "%v", err))
		}
		for _, text := range from.faults() {
			found = append(found, fault(true, "%s", text))
		}
	}
	if len(found) == 0 {
		found = append(found, failover.Finding{Check: "settings", OK: true, Detail: "as the plan needs them"})
	}
	return found
}

// faults are what makes a replica one that cannot be promoted, or not in time.
func (r *receiving) faults() (faults []string) {
	if r == nil {
		return nil
	}
	if !r.gtid {
		faults = append(faults, "it follows without GTIDs: CHANGE MASTER TO MASTER_USE_GTID = slave_pos (MySQL: SOURCE_AUTO_POSITION = 1)")
	}
	if r.delay != "" && r.delay != "0" {
		faults = append(faults, "catch-up would wait: it applies with a delay of "+r.delay+" s (MASTER_DELAY)")
	}
	return faults
}
