package database

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// postgres is a PostgreSQL of version 14 or later, on one connection.
type postgres struct {
	o      Options
	config *pgx.ConnConfig
	conn   *pgx.Conn // nil: not used yet
	opened time.Time
	broken error // why there will be none any more
	token  uint64
}

func checkPostgres(dsn string) error {
	_, err := parsePostgres(dsn)
	return err
}

// parsePostgres reads a DSN: keywords and values, or a URL. pgx's own errors repeat it, which is fine where no secret may be
// in it, but the configuration refuses one by this same function.
func parsePostgres(dsn string) (*pgx.ConnConfig, error) {
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, errors.New("cannot read the dsn; want keywords like \"host=192.0.2.10 user=watchover dbname=postgres sslmode=verify-full\" or a postgres:// URL")
	}
	for _, f := range config.Fallbacks { // of another ssl mode, to the same server
		if f.Host != config.Host || f.Port != config.Port {
			return nil, errors.New("the dsn names several hosts; a database is one server")
		}
	}
	switch {
	case config.ValidateConnect != nil:
		return nil, errors.New("target_session_attrs has no use here: each server is asked what it is")
	case unread.MatchString(dsn):
		return nil, errors.New("the dsn's passfile or service is not read; use password_file or password_env, and name host and user in the dsn")
	}
	// What the dsn leaves out comes from the watcher's environment; whom to ask and as whom must not.
	switch {
	case !namesHost.MatchString(dsn):
		return nil, errors.New("the dsn names no host")
	case !namesUser.MatchString(dsn):
		return nil, errors.New("the dsn names no user")
	}
	return config, nil
}

// What a DSN may not have, and what it must.
var (
	unread    = regexp.MustCompile(`\b(passfile|service|servicefile)\s*=`)
	namesHost = regexp.MustCompile(`host(addr)?\s*=|://([^/]*@)?[^/:]`)
	namesUser = regexp.MustCompile(`user\s*=|://[^/@]+@`)
)

func openPostgres(o Options) (Driver, error) {
	config, err := parsePostgres(o.DSN)
	if err != nil {
		return nil, err
	}
	if o.CAFile != "" && (config.TLSConfig == nil || config.TLSConfig.InsecureSkipVerify) {
		return nil, errors.New("ca_file has no use with the dsn's sslmode, which does not look at certificates' names; want verify-full")
	}
	return &postgres{o: o, config: config}, nil
}

// session is what every session of ours sets for itself: nothing of the role's or the database's settings may change what is
// seen or done.
var session = map[string]string{
	"application_name":    "watchover",
	"search_path":         "pg_catalog",
	"synchronous_commit":  "local", // a commit of ours waits for this server's disk and for no standby
	"client_min_messages": "error",
	"DateStyle":           "ISO",
	"TimeZone":            "UTC",
}

// connect opens the one connection, within ctx.
func (p *postgres) connect(ctx context.Context) (*pgx.Conn, error) {
	if p.conn != nil || p.broken != nil {
		return p.conn, p.broken
	}
	if p.conn = p.warm(ctx); p.conn != nil {
		return p.conn, nil
	}
	config := p.config.Copy()
	secret, err := password(ctx, p.o.PasswordFile, p.o.PasswordEnv)
	if err != nil {
		return nil, err
	}
	config.Password = secret
	if err := trust(ctx, &config.Config, p.o.CAFile); err != nil {
		return nil, err
	}
	for name, value := range session {
		config.RuntimeParams[name] = value
	}
	// Until the attempt is journaled; then arm sets them anew.
	config.RuntimeParams["idle_session_timeout"] = milliseconds(p.left())
	config.RuntimeParams["statement_timeout"] = milliseconds(p.left())
	config.MaxProtocolMessageBodyLen = maxMessage
	config.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	config.StatementCacheCapacity, config.DescriptionCacheCapacity = 0, 0
	p.opened = time.Now()
	if p.conn, err = pgx.ConnectConfig(ctx, config); err != nil {
		p.broken = plain(err)
	}
	return p.conn, p.broken
}

// maxMessage bounds a message of the server's, in bytes; ours are asked for a few hundred.
const maxMessage = 1 << 20

// server names the server and whom we are there, for sessions that are kept.
func (p *postgres) server() string { return p.o.server() }

// warm is a session that another attempt or look has left, if it answers.
func (p *postgres) warm(ctx context.Context) *pgx.Conn {
	ctx, cancel := context.WithTimeout(ctx, warmAnswer)
	defer cancel()
	for {
		value, opened := p.o.Warm.take(p.server())
		conn, ok := value.(*pgx.Conn)
		if !ok {
			return nil
		}
		p.opened = opened
		if _, err := conn.Exec(ctx, p.limits("watchover")); err == nil {
			return conn
		}
		end(conn)
	}
}

// limits has the server end the session, or a statement of it, when the time is over.
func (p *postgres) limits(name string) string {
	return fmt.Sprintf("SET idle_session_timeout = %s; SET statement_timeout = %[1]s; SET application_name = '%s'", milliseconds(p.left()), name)
}

// idleLook is how long a mere look's session may live on when its watcher is frozen.
const idleLook = time.Minute

// left is how long the server may keep the session, or a statement of it.
func (p *postgres) left() time.Duration {
	if p.o.Deadline.IsZero() {
		return idleLook
	}
	return time.Until(p.o.Deadline)
}

// milliseconds is a setting's value; never 0, which would mean for ever.
func milliseconds(d time.Duration) string {
	return strconv.FormatInt(max(1, d.Milliseconds()), 10)
}

// trust makes the file's authorities those that the server's certificate must come from.
func trust(ctx context.Context, config *pgconn.Config, caFile string) error {
	pool, err := authorities(ctx, caFile)
	if err != nil || pool == nil {
		return err
	}
	config.TLSConfig.RootCAs = pool
	for _, f := range config.Fallbacks {
		f.TLSConfig.RootCAs = pool
	}
	return nil
}

// plain makes a client's error short: what the server said, without the address and user that every log line would repeat.
func plain(err error) error {
	if err == nil {
		return nil
	}
	var said *pgconn.PgError
	if errors.As(err, &said) {
		return &serverError{code: said.Code, text: strings.ToLower(said.Severity) + ": " + said.Message}
	}
	var refused *pgconn.ConnectError
	if errors.As(err, &refused) && refused.Unwrap() != nil {
		first, _, _ := strings.Cut(refused.Unwrap().Error(), "\n") // there is one line for each address
		return errors.New(first)
	}
	return err
}

// serverError is what a server said.
type serverError struct{ code, text string }

func (e *serverError) Error() string { return e.text }

// Codes of PostgreSQL's errors (its manual, appendix A).
const (
	tooManyConnections = "53300"
)

// pingPostgres: alive is who answers a query, or has no connection left for us.
func pingPostgres(ctx context.Context, o Options) error {
	d, err := openPostgres(o)
	if err != nil {
		return err
	}
	p := d.(*postgres)
	defer p.Close()
	conn, err := p.connect(ctx)
	if err == nil {
		_, err = conn.Exec(ctx, "SELECT 1")
		err = plain(err)
	}
	var said *serverError
	if errors.As(err, &said) && said.code == tooManyConnections {
		return nil
	}
	return err
}

// Begin names the attempt: whoever looks at the server's sessions or log sees which one acts.
func (p *postgres) Begin(token uint64) { p.token = token }

// arm comes before each act. It refuses what comes too late, and has the server end the session at the deadline: a watcher that
// is frozen between this and its act, and thawed after the deadline, has no session to act in. What it costs is one answer.
func (p *postgres) arm(ctx context.Context) error {
	if p.token == 0 {
		return errNotBegun
	}
	if p.left() <= 0 {
		return errTooLate
	}
	return p.exec(ctx, p.limits(fmt.Sprintf("watchover %d", p.token)))
}

// act is arm and one statement.
func (p *postgres) act(ctx context.Context, statement string) error {
	if err := p.arm(ctx); err != nil {
		return err
	}
	if p.left() <= 0 {
		return errTooLate
	}
	return p.exec(ctx, statement)
}

func (p *postgres) exec(ctx context.Context, statement string) error {
	conn, err := p.connect(ctx)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, statement)
	return plain(err)
}

// ask reads one row.
func (p *postgres) ask(ctx context.Context, query string, into ...any) error {
	conn, err := p.connect(ctx)
	if err != nil {
		return err
	}
	return plain(conn.QueryRow(ctx, query).Scan(into...))
}

// poll asks again and again, a few milliseconds apart, until ok says so or ctx ends.
func poll(ctx context.Context, ok func() (bool, error)) error {
	for pause := pollFirst; ; pause = min(2*pause, pollEvery) {
		done, err := ok()
		if done || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

// How often a server is asked whether something has happened. Whatever waits here keeps clients waiting.
const (
	pollFirst = 500 * time.Microsecond // what a server does by itself is often done by then
	pollEvery = 3 * time.Millisecond
)

// reload has the server take up its settings and waits until it has. A session takes them up after the server itself has and
// has told all sessions, so that what is seen here holds for everybody who connects from now on.
func (p *postgres) reload(ctx context.Context) error {
	if err := p.arm(ctx); err != nil {
		return err
	}
	var before, now string
	if err := p.ask(ctx, "SELECT pg_conf_load_time()::text FROM pg_reload_conf()", &before); err != nil {
		return err
	}
	err := poll(ctx, func() (bool, error) {
		err := p.ask(ctx, "SELECT pg_conf_load_time()::text", &now)
		return now != before, err
	})
	if err != nil {
		return fmt.Errorf("the server does not take up its settings (its log says why): %w", err)
	}
	return nil
}

// TellsFrozen is true: whoever asks sees the setting.
func (p *postgres) TellsFrozen() bool { return true }

// Close leaves the session to who comes next, or ends it.
func (p *postgres) Close() {
	conn := p.conn
	p.conn, p.broken = nil, errClosed
	switch {
	case conn == nil:
	case conn.IsClosed() || conn.PgConn().TxStatus() != 'I':
		end(conn)
	default:
		p.o.Warm.put(p.server(), conn, p.opened, func() { end(conn) })
	}
}

// end ends a session. It does not wait for the server's answer for long.
func end(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), closing)
	defer cancel()
	_ = conn.Close(ctx)
}

const closing = 100 * time.Millisecond

var errClosed = errors.New("the session has been ended")
