package database

import (
	"context"
	"database/sql/driver"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestMySQLDSN(t *testing.T) {
	for dsn, want := range map[string]string{
		"watchover@tcp(192.0.2.10:3306)/":                      "",
		"watchover@tcp(db.example.net)/?tls=true":              "",
		"watchover@unix(/run/mysqld/mysqld.sock)/":             "",
		"watchover:hunter2@tcp(192.0.2.10:3306)/":              "the dsn holds a password",
		"tcp(192.0.2.10:3306)/":                                "names no user",
		"watchover@tcp(192.0.2.10:3306)/?allowAllFiles=true":   "may only say how to connect",
		"watchover@tcp(192.0.2.10:3306)/?multiStatements=true": "may only say how to connect",
		"watchover@tcp(192.0.2.10:3306)/?sql_log_bin=0":        "may only say how to connect",
		"watchover:hunter2@nowhere":                            "cannot read the dsn",
		"watchover:hunter2@tcp(x)/?tls=%zz":                    "cannot read the dsn",
	} {
		err := Check("mysql", dsn)
		got := ""
		if err != nil {
			got = err.Error()
		}
		if (want == "") != (err == nil) || !strings.Contains(got, want) || strings.Contains(got, "hunter2") {
			t.Errorf("%s: %q, want %q", dsn, got, want)
		}
	}
}

func TestLinear(t *testing.T) {
	at := func(file, position string) uint64 {
		p := linear(file, position)
		if p == nil {
			t.Fatalf("no position for %s:%s", file, position)
		}
		return *p
	}
	if got := at("bin.000003", "1234") - at("bin.000003", "1000"); got != 234 {
		t.Errorf("within a file: %d", got)
	}
	if at("bin.000004", "4") <= at("bin.000003", "9999999999") {
		t.Error("the next file is not after a file of 10 GB")
	}
	if at("my.host.log.000010", "4") <= at("my.host.log.000009", "4") {
		t.Error("a name with dots")
	}
	for _, none := range [][2]string{{"", ""}, {"bin", "4"}, {"bin.x", "4"}, {"bin.000001", ""}, {"bin.000001", "-4"}, {"bin.99999999", "4"}} {
		if p := linear(none[0], none[1]); p != nil {
			t.Errorf("%v: %d", none, *p)
		}
	}
}

func TestMissingTransactions(t *testing.T) {
	for _, test := range []struct{ mine, theirs, want string }{
		{"", "", ""},
		{"0-1-100", "0-1-100,0-2-110", ""},
		{"0-1-105", "0-1-102,0-2-110", "transactions 0-1-103 to 105"},
		{"0-1-100,0-3-7", "0-1-100", "transactions 0-3-1 to 7"},
		{"0-1-5,1-1-9", "0-1-5,1-1-8,1-1-3", "transactions 1-1-9 to 9"},
	} {
		got, err := missing(test.mine, test.theirs)
		if err != nil || got != test.want {
			t.Errorf("%q of %q: %q, %v; want %q", test.mine, test.theirs, got, err, test.want)
		}
	}
	if _, err := missing("0-1-100", "3E11FA47-71CA-11E1-9E33-C80AA9429562:23"); err == nil {
		t.Error("a history of MySQL was read")
	}
}

// MySQL 8 is not tested against a server; these are the words of its manual.
func TestMySQL8Words(t *testing.T) {
	for version, want := range map[string]struct {
		mariadb  bool
		newWords bool
	}{
		"10.11.6-MariaDB-0+deb12u1-log": {true, false}, "11.4.2-MariaDB": {true, false},
		"8.0.36": {false, false}, "8.4.0": {false, true}, "8.2.0-commercial": {false, true}, "9.1.0": {false, true}, "?": {false, false},
	} {
		if d, newWords := dialectOf(version); d.mariadb != want.mariadb || newWords != want.newWords {
			t.Errorf("%s: %t, %t", version, d.mariadb, newWords)
		}
	}
	m := &mysql{dialect: &mysql8, late: "1000.5", token: 7}
	for statement, want := range map[string]string{
		"SET GLOBAL super_read_only = 1": "/* watchover 7 */ SET GLOBAL super_read_only = IF(UNIX_TIMESTAMP(SYSDATE(6)) < 1000.5, 1, @@global.super_read_only)",
		"STOP REPLICA":                   "/* watchover 7 */ STOP REPLICA",
	} {
		if got := m.dialect.guard(m, statement); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	row := record{"Replica_IO_Running": "Yes", "Replica_SQL_Running": "Yes", "Source_UUID": "3e11fa47-71ca-11e1-9e33-c80aa9429562", "Source_Log_File": "bin.000002",
		"Read_Source_Log_Pos": "157", "Retrieved_Gtid_Set": "a:1-5,\nb:1-3", "Auto_Position": "1", "Source_Host": "192.0.2.10", "Source_Port": "3306"}
	from := mysql8.receiving(row)
	if !from.streams() || !from.applies() || !from.gtid || from.source != "server 3e11fa47-71ca-11e1-9e33-c80aa9429562" || from.received != "a:1-5,b:1-3" {
		t.Errorf("got %+v", from)
	}
}

// recorder is a connection that only notes what it is told.
type recorder struct {
	driver.Conn
	told []string
}

func (r *recorder) ExecContext(_ context.Context, text string, _ []driver.NamedValue) (driver.Result, error) {
	r.told = append(r.told, text)
	return driver.ResultNoRows, nil
}

// What MySQL cannot compare with the deadline in the same statement is only stopped by the end of the idle session, which
// counts from the last statement: the limit must be what is left now.
func TestMySQL8LimitsTheSessionBeforeEachAct(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &recorder{}
		m := &mysql{o: Options{Deadline: time.Now().Add(10 * time.Second)}, conn: r, dialect: &mysql8, late: "1000.5", token: 7}
		<-time.After(6500 * time.Millisecond)
		for _, s := range []string{"STOP REPLICA", "SET GLOBAL read_only = 0"} {
			if err := m.act(t.Context(), s); err != nil {
				t.Fatal(err)
			}
		}
		want := []string{"SET SESSION wait_timeout = 4", "/* watchover 7 */ STOP REPLICA",
			"/* watchover 7 */ SET GLOBAL read_only = IF(UNIX_TIMESTAMP(SYSDATE(6)) < 1000.5, 0, @@global.read_only)"}
		if !slices.Equal(r.told, want) {
			t.Errorf("got %q", r.told)
		}
	})
}

func TestReplicationIsEncryptedAsWeAre(t *testing.T) {
	for _, tc := range []struct {
		tls, caFile string
		want        int
	}{{"", "", 0}, {"false", "", 0}, {"preferred", "", 0}, {"true", "", 1}, {"skip-verify", "", 1}, {"", "/etc/ca.pem", 1}, {"true", "/etc/ca.pem", 1}} {
		if got := encrypts(tc.tls, tc.caFile); got != tc.want {
			t.Errorf("tls %q, ca_file %q: %d", tc.tls, tc.caFile, got)
		}
	}
}

func TestQuoteSQL(t *testing.T) {
	if got, want := quoteSQL(`it's a \`), `'it''s a \\'`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
