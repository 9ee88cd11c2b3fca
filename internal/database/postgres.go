package database

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// postgres is a PostgreSQL of version 14 or later, on one connection.
type postgres struct {
	o      Options
	config *pgx.ConnConfig
	conn   *pgx.Conn // nil: not used yet
	broken error     // why there will be none any more
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
	return config, nil
}

func openPostgres(o Options) (Driver, error) {
	config, err := parsePostgres(o.DSN)
	if err != nil {
		return nil, err
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
	config := p.config.Copy()
	secret, err := password(p.o.PasswordFile)
	if err != nil {
		return nil, err
	}
	config.Password = secret
	if err := trust(&config.Config, p.o.CAFile); err != nil {
		return nil, err
	}
	for name, value := range session {
		config.RuntimeParams[name] = value
	}
	config.RuntimeParams["idle_session_timeout"] = milliseconds(p.left())
	config.RuntimeParams["statement_timeout"] = milliseconds(p.left())
	config.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	config.StatementCacheCapacity, config.DescriptionCacheCapacity = 0, 0
	if p.conn, err = pgx.ConnectConfig(ctx, config); err != nil {
		p.broken = plain(err)
	}
	return p.conn, p.broken
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
func trust(config *pgconn.Config, caFile string) error {
	pool, err := authorities(caFile)
	if err != nil || pool == nil {
		return err
	}
	if config.TLSConfig == nil {
		return errors.New("ca_file has no use with the dsn's sslmode; want verify-full")
	}
	config.TLSConfig.RootCAs = pool
	for _, f := range config.Fallbacks {
		if f.TLSConfig != nil {
			f.TLSConfig.RootCAs = pool
		}
	}
	return nil
}

// plain makes a client's error short: what the server said, without the address and user that every log line would repeat.
func plain(err error) error {
	var said *pgconn.PgError
	if errors.As(err, &said) {
		return &serverError{code: said.Code, text: strings.ToLower(said.Severity) + ": " + said.Message}
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
	config, err := parsePostgres(o.DSN)
	if err != nil {
		return err
	}
	p := &postgres{o: o, config: config}
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

// TellsFrozen is true: whoever asks sees the setting.
func (p *postgres) TellsFrozen() bool { return true }

// Close ends the session. It does not wait for the server's answer for long.
func (p *postgres) Close() {
	if p.conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), closing)
	defer cancel()
	_ = p.conn.Close(ctx)
}

const closing = 100 * time.Millisecond

var errNotYet = errors.New("not there yet")

func (p *postgres) Observe(ctx context.Context) (failover.Observation, error) {
	return failover.Observation{Role: failover.RoleUnknown}, fmt.Errorf("cannot look: %w", errNotYet)
}
func (p *postgres) Found(context.Context, failover.StepName) (string, error) { return "", errNotYet }
func (p *postgres) Freeze(context.Context) (string, error)                   { return "", errNotYet }
func (p *postgres) Unfreeze(context.Context, string) (string, error)         { return "", errNotYet }
func (p *postgres) Position(context.Context) (string, error)                 { return "", errNotYet }
func (p *postgres) CatchUp(context.Context, string) (string, error)          { return "", errNotYet }
func (p *postgres) StopReplication(context.Context) (string, error)          { return "", errNotYet }
func (p *postgres) ResumeReplication(context.Context, string) (string, error) {
	return "", errNotYet
}
func (p *postgres) Promote(context.Context) (string, error) { return "", errNotYet }
