package dbtest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// Roles of every private PostgreSQL. Watchover's own has what examples/postgres/watchover.sql grants and nothing else.
const (
	WatchoverPassword   = "watch over 'us\\ all" // with all that a careless quoting would break on
	replicationPassword = "copy it"
	appPassword         = "shop"
)

// postgresConf is what differs from a fresh cluster's postgresql.conf. Timeouts are short so that a frozen primary is noticed
// while a test waits.
const postgresConf = `
listen_addresses = '127.0.0.1'
max_connections = 30
shared_buffers = 16MB
fsync = off
wal_level = replica
wal_log_hints = on
wal_keep_size = 128MB
max_wal_size = 64MB
wal_receiver_timeout = 4s
wal_sender_timeout = 4s
wal_receiver_status_interval = 1s
log_min_messages = info
log_line_prefix = '%m [%p] %q%a %u '
`

const postgresHBA = `
local all,replication all trust
host all,replication watchover,replica,app 127.0.0.1/32 scram-sha-256
`

// Postgres is a private PostgreSQL 15.
type Postgres struct {
	Dir  string // its data
	Port int

	account Account
	process *Process
}

// postgresBin are the directories that Debian keeps the servers' programs in.
const postgresBin = "/usr/lib/postgresql/*/bin"

func postgresProgram(t TB, name string) string {
	t.Helper()
	return Find(t, "postgresql", name, postgresBin)
}

// NewPostgresCluster starts a cluster of its own identity: a primary with the roles, a database shop and a table orders in it.
func NewPostgresCluster(t TB) *Postgres {
	t.Helper()
	p := newPostgres(t)
	p.initialise(t)
	p.Start(t)
	p.populate(t)
	return p
}

// NewPostgres starts a primary. It is a copy: all of a process's primaries are of one identity.
func NewPostgres(t TB) *Postgres {
	t.Helper()
	p := template.copy(t, "primary")
	p.Start(t)
	return p
}

// NewPostgresPair starts a primary and a replica that streams from it. settings are added to postgresql.conf.
func NewPostgresPair(t TB, settings ...string) (primary, replica *Postgres) {
	t.Helper()
	primary, replica = template.copy(t, "primary"), template.copy(t, "replica")
	primary.Set(t, settings...)
	replica.Set(t, settings...)
	primary.Start(t)
	replica.Follow(t, primary)
	replica.Start(t)
	Until(t, "the replica streams", func() bool {
		return primary.Query(t, "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'") == "1"
	})
	return primary, replica
}

// template is a pair that was made once and is copied for each test: initdb takes seconds.
var template pairTemplate

type pairTemplate struct {
	once sync.Once
	dir  string
}

func (pair *pairTemplate) copy(t TB, name string) *Postgres {
	t.Helper()
	pair.once.Do(func() { pair.make(t) })
	if pair.dir == "" {
		t.Fatalf("the template of a pair could not be made; see the first test that failed")
	}
	p := newPostgres(t)
	p.account.Run(t, "/", "/bin/cp", "-a", filepath.Join(pair.dir, name)+"/.", p.Dir)
	return p
}

func (pair *pairTemplate) make(t TB) {
	primary := NewPostgresCluster(t)
	replica := primary.Copy(t)
	replica.Start(t)
	primary.Stop(t)
	replica.Stop(t)
	dir, err := os.MkdirTemp("", "watchover-pair-")
	if err != nil {
		t.Fatalf("cannot make a directory: %v", err)
	}
	if err := primary.account.own(dir); err != nil {
		t.Fatalf("%v", err)
	}
	for name, p := range map[string]*Postgres{"primary": primary, "replica": replica} {
		p.account.Run(t, "/", "/bin/cp", "-a", p.Dir, filepath.Join(dir, name))
	}
	pair.dir = dir
}

// Sweep removes what is kept for the next test; TestMain calls it at the end.
func Sweep() {
	mariadbTemplate.sweep()
	if template.dir != "" {
		_ = os.RemoveAll(template.dir)
	}
}

func newPostgres(t TB) *Postgres {
	t.Helper()
	p := &Postgres{Port: Port(t), account: AccountOf(t, "postgres")}
	p.Dir = filepath.Join(Dir(t, p.account), "data")
	if err := os.Mkdir(p.Dir, 0o700); err != nil {
		t.Fatalf("cannot make a directory: %v", err)
	}
	if err := p.account.own(p.Dir); err != nil {
		t.Fatalf("%v", err)
	}
	return p
}

func (p *Postgres) initialise(t TB) {
	t.Helper()
	p.account.Run(t, "/", postgresProgram(t, "initdb"), "-D", p.Dir, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync")
	p.append(t, "postgresql.conf", postgresConf)
	p.write(t, "pg_hba.conf", postgresHBA)
}

func (p *Postgres) populate(t TB) {
	t.Helper()
	p.Exec(t, "CREATE ROLE replica REPLICATION LOGIN PASSWORD "+Quote(replicationPassword),
		"CREATE ROLE app LOGIN PASSWORD "+Quote(appPassword), "CREATE DATABASE shop OWNER app")
	p.Exec(t, p.Grants(t)...)
	p.Exec(t, "ALTER ROLE watchover PASSWORD "+Quote(WatchoverPassword))
	p.ExecIn(t, "shop", "CREATE TABLE orders (id bigint PRIMARY KEY, at timestamptz NOT NULL DEFAULT now())", "ALTER TABLE orders OWNER TO app")
}

// Grants are the statements of examples/postgres/watchover.sql.
func (p *Postgres) Grants(t TB) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(Repository(t), "examples/postgres/watchover.sql"))
	if err != nil {
		t.Fatalf("cannot read the grants: %v", err)
	}
	bare := regexp.MustCompile(`--.*`).ReplaceAllString(string(text), "")
	var statements []string
	for s := range strings.SplitSeq(bare, ";") {
		if s = strings.TrimSpace(s); s != "" {
			statements = append(statements, s)
		}
	}
	return statements
}

// Repository is the module's directory.
func Repository(t TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatalf("%v", err)
	}
	for ; dir != "/"; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
	}
	t.Fatalf("no go.mod above the working directory")
	return ""
}

// Copy is a replica of a running primary, not started.
func (p *Postgres) Copy(t TB) *Postgres {
	t.Helper()
	r := newPostgres(t)
	r.account.Run(t, "/", postgresProgram(t, "pg_basebackup"), "-h", p.Dir, "-p", fmt.Sprint(p.Port), "-U", "postgres", "-D", r.Dir, "-c", "fast", "--no-sync")
	r.Follow(t, p)
	return r
}

// Conninfo is how a replica reaches a primary.
func (p *Postgres) Conninfo() string {
	return fmt.Sprintf("host=127.0.0.1 port=%d user=replica password='%s' connect_timeout=2", p.Port, replicationPassword)
}

// Follow makes a stopped server a replica of another one, as pg_basebackup -R does.
func (p *Postgres) Follow(t TB, primary *Postgres) {
	t.Helper()
	p.Unset(t, "primary_conninfo")
	p.append(t, "postgresql.auto.conf", "primary_conninfo = "+Quote(primary.Conninfo())+"\n")
	p.write(t, "standby.signal", "")
}

// Unset takes a setting out of a stopped server's postgresql.auto.conf.
func (p *Postgres) Unset(t TB, name string) {
	t.Helper()
	var kept []string
	for line := range strings.Lines(p.AutoConf(t)) {
		if !strings.HasPrefix(line, name+" ") {
			kept = append(kept, line)
		}
	}
	p.write(t, "postgresql.auto.conf", strings.Join(kept, ""))
}

// Set adds settings to postgresql.conf, for the next start.
func (p *Postgres) Set(t TB, lines ...string) {
	t.Helper()
	p.append(t, "postgresql.conf", strings.Join(lines, "\n")+"\n")
}

// EnableTLS gives a stopped server a certificate, which is its own authority, and returns that file.
func (p *Postgres) EnableTLS(t TB) (caFile string) {
	t.Helper()
	cert, key := Certificate(t)
	p.write(t, "server.crt", string(cert))
	p.write(t, "server.key", string(key))
	p.Set(t, "ssl = on")
	return filepath.Join(p.Dir, "server.crt")
}

// AutoConf is what postgresql.auto.conf holds, which ALTER SYSTEM writes.
func (p *Postgres) AutoConf(t TB) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(p.Dir, "postgresql.auto.conf"))
	if err != nil {
		t.Fatalf("cannot read settings: %v", err)
	}
	return string(text)
}

func (p *Postgres) write(t TB, name, text string) {
	t.Helper()
	path := filepath.Join(p.Dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatalf("cannot write %s: %v", name, err)
	}
	if err := p.account.own(path); err != nil {
		t.Fatalf("%v", err)
	}
}

func (p *Postgres) append(t TB, name, text string) {
	t.Helper()
	old, err := os.ReadFile(filepath.Join(p.Dir, name))
	if err != nil {
		t.Fatalf("cannot read %s: %v", name, err)
	}
	p.write(t, name, string(old)+text)
}

// Start starts it and waits until it takes connections.
func (p *Postgres) Start(t TB) {
	t.Helper()
	_ = os.Remove(filepath.Join(p.Dir, "postmaster.pid")) // of one that was killed; whose children are gone as well
	p.process = p.account.Start(t, p.Dir, filepath.Join(filepath.Dir(p.Dir), fmt.Sprintf("postgres-%d.log", p.Port)),
		postgresProgram(t, "postgres"), "-D", p.Dir, "-c", fmt.Sprintf("port=%d", p.Port), "-c", "unix_socket_directories="+p.Dir)
	Until(t, "the server takes connections", func() bool {
		if p.process.Ended() {
			t.Fatalf("the server ended: %s", p.process.Tail())
		}
		conn, err := p.connect("postgres")
		if err != nil {
			return false
		}
		_ = conn.Close(context.Background())
		return true
	})
}

// Stop ends it in order, clients cut off (a fast shutdown).
func (p *Postgres) Stop(t TB) {
	t.Helper()
	p.process.Signal(syscall.SIGINT)
	p.process.Wait(t)
}

// Kill ends it as a loss of power would.
func (p *Postgres) Kill() { p.process.Kill() }

// Freeze and Thaw stop it where it stands and let it go on.
func (p *Postgres) Freeze() { p.process.Freeze() }

// Thaw lets it go on.
func (p *Postgres) Thaw() { p.process.Thaw() }

// Log is the end of what it logged.
func (p *Postgres) Log() string { return p.process.Tail() }

// DSN is Watchover's, and PasswordFile belongs to it.
func (p *Postgres) DSN() string {
	return fmt.Sprintf("host=127.0.0.1 port=%d user=watchover dbname=postgres sslmode=disable connect_timeout=5", p.Port)
}

// PasswordFile writes the password of Watchover's role into a new file.
func (p *Postgres) PasswordFile(t TB) string {
	t.Helper()
	path := filepath.Join(filepath.Dir(p.Dir), "watchover.pass")
	if err := os.WriteFile(path, []byte(WatchoverPassword+"\n"), 0o600); err != nil {
		t.Fatalf("cannot write a password: %v", err)
	}
	return path
}

// AppDSN is that of a client of the database shop, with its password.
func (p *Postgres) AppDSN() string {
	return fmt.Sprintf("host=127.0.0.1 port=%d user=app password=%s dbname=shop sslmode=disable connect_timeout=2", p.Port, appPassword)
}

// connect opens a superuser's session through the socket in the data directory.
func (p *Postgres) connect(database string) (*pgx.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	config, err := pgx.ParseConfig(fmt.Sprintf("host=%s port=%d user=postgres dbname=%s sslmode=disable application_name=test", p.Dir, p.Port, database))
	if err != nil {
		return nil, err
	}
	config.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	return pgx.ConnectConfig(ctx, config)
}

// Super is a superuser's session, ended with the test.
func (p *Postgres) Super(t TB, database string) *pgx.Conn {
	t.Helper()
	conn, err := p.connect(database)
	if err != nil {
		t.Fatalf("cannot connect: %v", err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// Exec runs statements as a superuser, each by itself.
func (p *Postgres) Exec(t TB, statements ...string) {
	t.Helper()
	p.ExecIn(t, "postgres", statements...)
}

// ExecIn is Exec in a named database.
func (p *Postgres) ExecIn(t TB, database string, statements ...string) {
	t.Helper()
	conn, err := p.connect(database)
	if err != nil {
		t.Fatalf("cannot connect: %v", err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	for _, s := range statements {
		if _, err := conn.Exec(context.Background(), s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

// Query is one value, as text, that a superuser sees.
func (p *Postgres) Query(t TB, query string) string {
	t.Helper()
	return p.QueryIn(t, "postgres", query)
}

// QueryIn is Query in a named database.
func (p *Postgres) QueryIn(t TB, database, query string) string {
	t.Helper()
	conn, err := p.connect(database)
	if err != nil {
		t.Fatalf("cannot connect: %v", err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	results, err := conn.PgConn().Exec(context.Background(), query).ReadAll()
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	if len(results) == 0 || len(results[0].Rows) == 0 {
		return ""
	}
	return string(results[0].Rows[0][0])
}

// Quote is text as a literal of SQL, and of a configuration file.
func Quote(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }
