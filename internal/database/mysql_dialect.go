package database

import (
	"fmt"
	"strings"
)

// dialect is what MariaDB and MySQL say differently.
type dialect struct {
	mariadb bool
	// session limits the session: seconds until an idle one ends, seconds until a statement does.
	session string
	// settings are those that a freeze changes, with the question for them as columns of their names.
	settings []string
	freeze   string
	identity string // the question for what the server is known by
	history  string // the question for all that it has, as column history
	ends     string // the question for the history of its own binary log, as column history

	status                    string // the question for the replica's state
	stopReceiver              string
	startReceiver             string
	stop, start, forget       string
	receiver, applier         string // columns of status
	source, file, position    string
	received                  string
	appliedFile               string
	appliedPosition           string
	host, port                string
	applierError, sourceError string
}

var mariadb = dialect{
	mariadb:  true,
	session:  "SET SESSION sql_mode = '', wait_timeout = %[1]d, lock_wait_timeout = %[1]d, innodb_lock_wait_timeout = %[1]d, max_statement_time = %[2]f",
	settings: []string{"read_only"},
	freeze:   "SET GLOBAL read_only = 1",
	identity: "SELECT CONCAT('server ', @@global.server_id) AS id",
	history:  "SELECT CONCAT_WS(',', @@global.gtid_binlog_state, @@global.gtid_slave_pos) AS history",
	ends:     "SELECT @@global.log_bin AS on_, @@global.gtid_binlog_pos AS history",

	status:       "SHOW ALL SLAVES STATUS", // SHOW SLAVE STATUS leaves out connections that have a name
	stopReceiver: "STOP SLAVE IO_THREAD", startReceiver: "START SLAVE IO_THREAD",
	stop: "STOP SLAVE", start: "START SLAVE", forget: "RESET SLAVE ALL",
	receiver: "Slave_IO_Running", applier: "Slave_SQL_Running",
	source: "Master_Server_Id", file: "Master_Log_File", position: "Read_Master_Log_Pos", received: "Gtid_IO_Pos",
	appliedFile: "Relay_Master_Log_File", appliedPosition: "Exec_Master_Log_Pos",
	host: "Master_Host", port: "Master_Port",
	applierError: "Last_SQL_Error", sourceError: "Last_IO_Error",
}

// mysql8 is written after the manual of MySQL 8.4 and not tested against a server.
var mysql8 = dialect{
	session:  "SET SESSION sql_mode = '', wait_timeout = %[1]d, lock_wait_timeout = 1, innodb_lock_wait_timeout = %[1]d, max_execution_time = %[2].0f000",
	settings: []string{"read_only", "super_read_only"},
	freeze:   "SET GLOBAL super_read_only = 1", // which turns read_only on too
	identity: "SELECT CONCAT('server ', @@global.server_uuid) AS id",
	history:  "SELECT @@global.gtid_executed AS history",
	ends:     "SELECT @@global.log_bin AS on_, @@global.gtid_executed AS history",

	status:       "SHOW REPLICA STATUS",
	stopReceiver: "STOP REPLICA IO_THREAD", startReceiver: "START REPLICA IO_THREAD",
	stop: "STOP REPLICA", start: "START REPLICA", forget: "RESET REPLICA ALL",
	receiver: "Replica_IO_Running", applier: "Replica_SQL_Running",
	source: "Source_UUID", file: "Source_Log_File", position: "Read_Source_Log_Pos", received: "Retrieved_Gtid_Set",
	appliedFile: "Relay_Source_Log_File", appliedPosition: "Exec_Source_Log_Pos",
	host: "Source_Host", port: "Source_Port",
	applierError: "Last_SQL_Error", sourceError: "Last_IO_Error",
}

// dialectOf tells who speaks, and whether it is a MySQL that has no MASTER and SLAVE in its words any more: 8.2 and later.
func dialectOf(version string) (d *dialect, newWords bool) {
	if strings.Contains(version, "MariaDB") {
		return &mariadb, false
	}
	var major, minor int
	_, _ = fmt.Sscanf(version, "%d.%d", &major, &minor) // what cannot be read counts as old
	return &mysql8, major > 8 || major == 8 && minor >= 2
}

// guard words a statement so that the server does it only before the deadline by its own clock. MySQL has no way to say so
// in one statement, but for settings; there the end of an idle session has to do.
func (d *dialect) guard(m *mysql, statement string) string {
	comment := fmt.Sprintf("/* watchover %d */ ", m.token)
	switch {
	case d.mariadb:
		return fmt.Sprintf("%sEXECUTE IMMEDIATE IF(UNIX_TIMESTAMP(SYSDATE(6)) < %s, %s, %s)", comment, m.late,
			quoteSQL(statement), quoteSQL("SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = '"+lateSignal+"'"))
	case d.guards(statement):
		name, value, _ := strings.Cut(strings.TrimPrefix(statement, "SET GLOBAL "), " = ")
		return fmt.Sprintf("%sSET GLOBAL %s = IF(UNIX_TIMESTAMP(SYSDATE(6)) < %s, %s, @@global.%s)", comment, name, m.late, value, name)
	}
	return comment + statement
}

// guards reports whether guard has the server compare its clock with the deadline.
func (d *dialect) guards(statement string) bool {
	return d.mariadb || strings.HasPrefix(statement, "SET GLOBAL ")
}

// quoteSQL makes a string literal, with sql_mode empty.
func quoteSQL(text string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `''`).Replace(text) + "'"
}

// applied asks whether a history is applied here, waiting for at most some seconds; its column done is then 1.
func (d *dialect) applied(history string, seconds float64) string {
	if d.mariadb {
		return fmt.Sprintf("SELECT MASTER_GTID_WAIT(%s, %f) = 0 AS done", quoteSQL(history), seconds)
	}
	return fmt.Sprintf("SELECT WAIT_FOR_EXECUTED_GTID_SET(%s, %f) = 0 AS done", quoteSQL(history), max(seconds, 0.001)) // 0: for ever
}
