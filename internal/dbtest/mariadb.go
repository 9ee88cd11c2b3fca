package dbtest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	my "github.com/go-sql-driver/mysql"
)

// MariaDB is a private server with a binary log. Its root logs in over the Unix socket without a password; whoever else is
// wanted is made by SQL.
type MariaDB struct {
	Dir  string // its data are in data
	Port int
	ID   int // server id

	account Account
	process *Process
	db      *sql.DB // root's
	more    []string
}

// NewMariaDB starts a fresh server with an id of its own; more are further options of mariadbd.
func NewMariaDB(t TB, id int, more ...string) *MariaDB {
	t.Helper()
	m := &MariaDB{ID: id, Port: Port(t), account: AccountOf(t, "mysql"), more: more}
	m.Dir = Dir(t, m.account)
	m.account.Run(t, "/", "/bin/cp", "-a", mariadbTemplate.take(t, m.account), m.Dir+"/data")
	m.db = m.open(t, "root", "", "unix("+m.socket()+")", "mysql")
	m.Start(t)
	return m
}

func (m *MariaDB) socket() string { return m.Dir + "/s" }

// Address is where it listens.
func (m *MariaDB) Address() string { return fmt.Sprintf("127.0.0.1:%d", m.Port) }

// Start starts the server, the first time or again, and waits until it answers.
func (m *MariaDB) Start(t TB) {
	t.Helper()
	// A tmpdir of its own: when a server starts it deletes the temporary tables that it finds there, also another server's.
	argv := []string{
		"--no-defaults", "--datadir=" + m.Dir + "/data", "--tmpdir=" + m.Dir, "--socket=" + m.socket(),
		"--port=" + strconv.Itoa(m.Port), "--bind-address=127.0.0.1", "--server-id=" + strconv.Itoa(m.ID), "--pid-file=" + m.Dir + "/pid",
		"--log-bin=bin", "--log-slave-updates", "--gtid-strict-mode=1", "--relay-log=relay", "--sync-binlog=0", "--innodb-flush-log-at-trx-commit=2",
		"--innodb-buffer-pool-size=16M", "--performance-schema=0", "--slave-net-timeout=4", "--skip-name-resolve", "--max-connections=30", redoSize,
	}
	m.process = m.account.Start(t, m.Dir, m.Dir+"/log", Find(t, "mariadb-server", "mariadbd", "/usr/sbin"), append(argv, m.more...)...)
	Until(t, "the server takes connections", func() bool {
		if m.process.Ended() {
			t.Fatalf("the server ended: %s", m.process.Tail())
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		return m.db.PingContext(ctx) == nil
	})
}

// Stop ends it in order.
func (m *MariaDB) Stop(t TB) {
	t.Helper()
	m.process.Signal(syscall.SIGTERM)
	m.process.Wait(t)
}

// Kill ends it as a loss of power would.
func (m *MariaDB) Kill() { m.process.Kill() }

// Freeze stops it where it stands: it takes connections and answers nothing.
func (m *MariaDB) Freeze() { m.process.Freeze() }

// Thaw lets it go on.
func (m *MariaDB) Thaw() { m.process.Thaw() }

// redoSize keeps what is copied for each server small.
const redoSize = "--innodb-log-file-size=4M"

// Exec runs statements as root, one after the other.
func (m *MariaDB) Exec(t TB, statements ...string) {
	t.Helper()
	for _, s := range statements {
		if _, err := m.db.Exec(s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

// Value is the answer to a question with one cell, asked as root.
func (m *MariaDB) Value(t TB, question string) string {
	t.Helper()
	var value sql.NullString
	if err := m.db.QueryRow(question).Scan(&value); err != nil {
		t.Fatalf("%s: %v", question, err)
	}
	return value.String
}

// Settings are all global settings that do not change by themselves.
func (m *MariaDB) Settings(t TB) string {
	t.Helper()
	return m.Value(t, "SELECT GROUP_CONCAT(variable_name, '=', variable_value ORDER BY variable_name SEPARATOR '\n') FROM information_schema.global_variables "+
		"WHERE variable_name NOT LIKE 'GTID%' AND variable_name NOT LIKE '%TIMESTAMP%'")
}

// Replica is one column of what the server says of its replication; empty if it has none.
func (m *MariaDB) Replica(t TB, column string) string {
	t.Helper()
	rows, err := m.db.Query("SHOW SLAVE STATUS")
	must(t, err)
	defer func() { _ = rows.Close() }()
	names, err := rows.Columns()
	must(t, err)
	if !rows.Next() {
		return ""
	}
	cells, into := make([]sql.NullString, len(names)), make([]any, len(names))
	for i := range cells {
		into[i] = &cells[i]
	}
	must(t, rows.Scan(into...))
	for i, name := range names {
		if name == column {
			return cells[i].String
		}
	}
	t.Fatalf("no column %s", column)
	return ""
}

// User opens the database as a user over TCP, as an application does. It is closed with the test.
func (m *MariaDB) User(t TB, name, secret, database string) *sql.DB {
	t.Helper()
	return m.open(t, name, secret, "tcp("+m.Address()+")", database)
}

func (m *MariaDB) open(t TB, name, secret, where, database string) *sql.DB {
	t.Helper()
	config, err := my.ParseDSN(name + "@" + where + "/" + database + "?timeout=5s&interpolateParams=true")
	must(t, err)
	config.Passwd, config.Logger = secret, quiet{}
	connector, err := my.NewConnector(config)
	must(t, err)
	db := sql.OpenDB(connector)
	t.Cleanup(func() { _ = db.Close() })
	return db
}

type quiet struct{}

func (quiet) Print(...any) {}

// Follow makes the server a replica of another one, with GTIDs. It needs the user repl there, with the password repl.
func (m *MariaDB) Follow(t TB, source *MariaDB) {
	t.Helper()
	m.Exec(t, fmt.Sprintf("CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT=%d, MASTER_USER='repl', MASTER_PASSWORD='repl', "+
		"MASTER_USE_GTID=slave_pos, MASTER_CONNECT_RETRY=1, MASTER_HEARTBEAT_PERIOD=1", source.Port), "START SLAVE")
	Until(t, "the replica receives", func() bool { return m.Replica(t, "Slave_IO_Running") == "Yes" })
}

// NewMariaDBPair starts a primary and a replica of it, with the users that Watchover, replication and an application need, and a
// database shop with the table orders.
func NewMariaDBPair(t TB, more ...string) (primary, replica *MariaDB) {
	t.Helper()
	primary, replica = NewMariaDB(t, 1, more...), NewMariaDB(t, 2, more...)
	primary.Populate(t)
	replica.Follow(t, primary)
	end := primary.Value(t, "SELECT @@gtid_binlog_pos")
	Until(t, "the replica has the users", func() bool { return replica.Value(t, "SELECT @@gtid_slave_pos") == end })
	return primary, replica
}

// Populate makes users and tables. Watchover's user has what examples/mariadb/watchover.sql grants and nothing else.
func (m *MariaDB) Populate(t TB) {
	t.Helper()
	m.Exec(t, statementsOf(t, "examples/mariadb/watchover.sql")...)
	m.Exec(t, "ALTER USER watchover IDENTIFIED BY '"+mariadbPassword+"'",
		"CREATE USER repl IDENTIFIED BY 'repl'", "GRANT REPLICATION SLAVE ON *.* TO repl",
		"CREATE DATABASE shop", "CREATE TABLE shop.orders (id BIGINT PRIMARY KEY)",
		"CREATE USER app IDENTIFIED BY 'app'", "GRANT ALL ON shop.* TO app")
}

const mariadbPassword = "watch over us all"

// DSN is Watchover's, and PasswordFile belongs to it.
func (m *MariaDB) DSN() string { return "watchover@tcp(" + m.Address() + ")/" }

// PasswordFile writes the password of Watchover's user into a file.
func (m *MariaDB) PasswordFile(t TB) string {
	t.Helper()
	path := m.Dir + "/watchover.pass"
	must(t, os.WriteFile(path, []byte(mariadbPassword+"\n"), 0o600))
	return path
}

// mariadbTemplate is a data directory that was made once and is copied for each server: that takes a second or two.
var mariadbTemplate mariadbDirectory

type mariadbDirectory struct {
	once sync.Once
	dir  string
}

func (d *mariadbDirectory) take(t TB, a Account) string {
	t.Helper()
	d.once.Do(func() {
		dir, err := os.MkdirTemp("", "watchover-mariadb-")
		if err == nil {
			err = a.own(dir)
		}
		if err != nil {
			t.Fatalf("cannot make a directory: %v", err)
		}
		a.Run(t, dir, Find(t, "mariadb-server", "mariadb-install-db"), "--no-defaults", "--datadir="+dir+"/data", "--tmpdir="+dir,
			"--auth-root-authentication-method=normal", "--skip-test-db", redoSize)
		d.dir = dir
	})
	if d.dir == "" {
		t.Fatalf("the template of a data directory could not be made")
	}
	return d.dir + "/data"
}

func (d *mariadbDirectory) sweep() {
	if d.dir != "" {
		_ = os.RemoveAll(d.dir)
	}
}

func must(t TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%v", err)
	}
}

// statementsOf are the statements of one of the repository's files of SQL.
func statementsOf(t TB, path string) (statements []string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(Repository(t), path))
	must(t, err)
	for s := range strings.SplitSeq(regexp.MustCompile(`--.*`).ReplaceAllString(string(text), ""), ";") {
		if s = strings.TrimSpace(s); s != "" {
			statements = append(statements, s)
		}
	}
	return statements
}

// AppDSN is that of a client of the database shop, with its password.
func (m *MariaDB) AppDSN() string {
	return "app:app@tcp(" + m.Address() + ")/shop?timeout=2s&interpolateParams=true"
}

// Stored are the numbers of the table orders.
func (m *MariaDB) Stored(t TB) map[int64]bool {
	t.Helper()
	rows, err := m.db.Query("SELECT id FROM shop.orders")
	must(t, err)
	defer func() { _ = rows.Close() }()
	stored := map[int64]bool{}
	for rows.Next() {
		var id int64
		must(t, rows.Scan(&id))
		stored[id] = true
	}
	must(t, rows.Err())
	return stored
}

// mariadbSession is an app's connection, which is never replaced.
type mariadbSession struct {
	db     *sql.DB
	conn   *sql.Conn
	broken bool
}

// MariaDBSession connects a Writer to a server by an app's DSN.
func MariaDBSession(ctx context.Context, dsn string) (Session, error) {
	config, err := my.ParseDSN(dsn)
	if err != nil {
		return nil, err
	}
	config.Logger = quiet{}
	connector, err := my.NewConnector(config)
	if err != nil {
		return nil, err
	}
	s := &mariadbSession{db: sql.OpenDB(connector)}
	if s.conn, err = s.db.Conn(ctx); err != nil {
		_ = s.db.Close()
		return nil, err
	}
	return s, nil
}

func (s *mariadbSession) Write(ctx context.Context, id int64) error {
	_, err := s.conn.ExecContext(ctx, "INSERT INTO orders VALUES (?)", id)
	var refused *my.MySQLError
	s.broken = err != nil && !errors.As(err, &refused)
	return err
}

func (s *mariadbSession) Alive() bool { return !s.broken }

func (s *mariadbSession) Close() { _, _ = s.conn.Close(), s.db.Close() }
