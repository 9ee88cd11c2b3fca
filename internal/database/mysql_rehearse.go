package database

import (
	"context"
	"fmt"
	"strings"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// The privileges of examples/mariadb/watchover.sql, and MySQL's words for them. Each may go by several names.
var (
	mayMariaDB = [][]string{{"READ_ONLY ADMIN", "READ ONLY ADMIN"}, {"CONNECTION ADMIN"}, {"PROCESS"}, {"BINLOG MONITOR"}, {"SLAVE MONITOR", "REPLICA MONITOR"},
		{"REPLICATION SLAVE ADMIN", "REPLICATION REPLICA ADMIN"}, {"RELOAD"}}
	mayMySQL = [][]string{{"SYSTEM_VARIABLES_ADMIN"}, {"CONNECTION_ADMIN"}, {"PROCESS"}, {"REPLICATION CLIENT"}, {"REPLICATION_SLAVE_ADMIN"}, {"RELOAD"}}
)

// Rehearse looks at privileges, and at settings that would make a step fail.
func (m *mysql) Rehearse(ctx context.Context, writer bool) []failover.Finding {
	privileges := m.rehearsePrivileges(ctx)
	if m.conn == nil {
		return []failover.Finding{privileges}
	}
	return []failover.Finding{privileges, m.rehearseSettings(ctx, writer)}
}

// rehearsePrivileges reads the grants that are in force in this session, those of its default role included.
func (m *mysql) rehearsePrivileges(ctx context.Context) failover.Finding {
	var grants []string
	err := m.open(ctx)
	if err == nil {
		var rows []record
		rows, err = m.query(ctx, "SHOW GRANTS")
		for _, r := range rows {
			for _, text := range r { // the only column is called after the user
				grants = append(grants, strings.ToUpper(text))
			}
		}
	}
	if err != nil {
		return finding(checkPrivileges, "", nil, err)
	}
	want := mayMySQL
	if m.dialect.mariadb {
		want = mayMariaDB
	}
	var faults []string
	if missing := notGranted(want, grants); len(missing) > 0 {
		faults = []string{"missing: GRANT " + strings.Join(missing, ", ") + " ON *.*"}
	}
	return finding(checkPrivileges, "all that the plan needs", faults, nil)
}

func notGranted(want [][]string, grants []string) (missing []string) {
	global := ","
	for _, g := range grants {
		if list, _, ok := strings.Cut(strings.TrimPrefix(g, "GRANT "), " ON *.*"); ok {
			for name := range strings.SplitSeq(list, ",") {
				global += strings.TrimSpace(name) + ","
			}
		}
	}
	if strings.Contains(global, ",ALL PRIVILEGES,") {
		return nil
	}
	for _, names := range want {
		has := false
		for _, name := range names {
			has = has || strings.Contains(global, ","+name+",")
		}
		if !has {
			missing = append(missing, names[0])
		}
	}
	return missing
}

func (m *mysql) rehearseSettings(ctx context.Context, writer bool) failover.Finding {
	var faults []string
	on, err := m.row(ctx, "SELECT @@global.log_bin AS log_bin")
	if err == nil && on["log_bin"] != "1" {
		faults = append(faults, "log_bin is off: nobody could follow it after a switchover; set log_bin")
	}
	if err == nil && !writer {
		var from *receiving
		if from, err = m.replica(ctx); err == nil && from != nil {
			if !from.gtid {
				faults = append(faults, "it follows by file and position; use GTIDs (MASTER_USE_GTID=slave_pos, SOURCE_AUTO_POSITION=1)")
			}
			if !from.applies() {
				faults = append(faults, fmt.Sprintf("its applier is off: %s", orNone(from.applierError)))
			}
		}
	}
	return finding(checkSettings, orNone(""), faults, err)
}
