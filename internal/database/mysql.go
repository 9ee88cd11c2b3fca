package database

import (
	"context"
	"crypto/tls"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"strconv"
	"strings"
	"time"

	my "github.com/go-sql-driver/mysql"
)

// mysql is a MariaDB or a MySQL, on one connection. Its files are mysql_*.go: one for each thing done with it.
//
// MariaDB from 10.6 on is tested against real servers. MySQL from 8.0.22 on, with gtid_mode=ON, is written after its
// manual and not tested against a server. What differs between the two is in the table of dialects and nowhere else.
//
// A server is a replica if it has a source configured, whatever read_only says: many replicas are writable by mistake, and
// a primary that is read_only is a frozen one. It is frozen if it is read_only; MariaDB lets users with the privilege READ
// ONLY ADMIN write all the same, so a freeze also ends their sessions.
type mysql struct {
	o        Options
	config   *my.Config
	conn     driver.Conn // nil: not used yet
	broken   error       // why there will be none any more
	opened   time.Time
	soured   bool // something went wrong with it: nobody is to use it after this
	dialect  *dialect
	newWords bool   // MySQL 8.2 and later say BINARY LOG where others say MASTER
	late     string // the server's clock at the deadline, in seconds since 1970; empty: a mere look
	token    uint64
}

func checkMySQL(dsn string) error {
	_, err := parseMySQL(dsn)
	return err
}

const mysqlForm = `want user@tcp(192.0.2.10:3306)/?tls=true`

// parseMySQL reads a DSN in the form of Go's MySQL driver. Its errors are not passed on: they may repeat a password.
func parseMySQL(dsn string) (*my.Config, error) {
	config, err := my.ParseDSN(dsn)
	switch {
	case err != nil:
		return nil, errors.New("cannot read the dsn; " + mysqlForm)
	case config.Passwd != "":
		return nil, errors.New("the dsn holds a password; name a password_file or a password_env instead")
	case config.User == "":
		return nil, errors.New("the dsn names no user; " + mysqlForm)
	case len(config.Params) > 0 || config.AllowAllFiles || config.MultiStatements:
		return nil, errors.New("the dsn may only say how to connect: user, address, database, tls, collation and the kinds of authentication")
	}
	config.InterpolateParams = true // one round trip, and no statement left prepared
	config.CheckConnLiveness = false
	config.Logger = log.New(io.Discard, "", 0) // what it says is in its errors too
	config.ConnectionAttributes = "program_name:watchover"
	return config, nil
}

func openMySQL(o Options) (Driver, error) {
	config, err := parseMySQL(o.DSN)
	if err != nil {
		return nil, err
	}
	return &mysql{o: o, config: config}, nil
}

// idleMySQL is how long the session of a mere look may live on when its watcher is frozen.
const idleMySQL = time.Minute

func (m *mysql) left() time.Duration {
	if m.o.Deadline.IsZero() {
		return idleMySQL
	}
	return time.Until(m.o.Deadline)
}

// open makes the one connection, unless there is or was one.
func (m *mysql) open(ctx context.Context) error {
	if m.conn != nil || m.broken != nil {
		return m.broken
	}
	if m.warm(ctx) {
		return nil
	}
	if m.broken = m.connect(ctx); m.broken == nil {
		m.broken = m.setUp(ctx)
	}
	return m.broken
}

// warm takes a session that another attempt or look has left, if it answers.
func (m *mysql) warm(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, warmAnswer)
	defer cancel()
	for {
		value, opened := m.o.Warm.take(m.o.server())
		conn, ok := value.(driver.Conn)
		if !ok {
			return false
		}
		if m.conn, m.opened = conn, opened; m.setUp(ctx) == nil {
			return true
		}
		_ = conn.Close()
		m.conn, m.soured = nil, false
	}
}

func (m *mysql) connect(ctx context.Context) error {
	config := m.config.Clone()
	secret, err := password(ctx, m.o.PasswordFile, m.o.PasswordEnv)
	if err != nil {
		return err
	}
	config.Passwd = secret
	if err := trustMySQL(ctx, config, m.o.CAFile); err != nil {
		return err
	}
	connector, err := my.NewConnector(config)
	if err != nil {
		return errors.New("cannot use the dsn")
	}
	m.opened = time.Now()
	m.conn, err = connector.Connect(ctx)
	return plainMySQL(ctx, err)
}

// trustMySQL makes the file's authorities those that the server's certificate must come from.
func trustMySQL(ctx context.Context, config *my.Config, caFile string) error {
	pool, err := authorities(ctx, caFile)
	if err != nil || pool == nil {
		return err
	}
	if config.TLSConfig != "" && config.TLSConfig != "true" {
		return errors.New("ca_file has no use with the dsn's tls; want tls=true")
	}
	host, _, err := net.SplitHostPort(config.Addr)
	if err != nil {
		return errors.New("ca_file has no use without a host name in the dsn")
	}
	config.TLS = &tls.Config{RootCAs: pool, ServerName: host, MinVersion: tls.VersionTLS12}
	return nil
}

// setUp learns who the server is, and makes it end the session and its statements at the deadline: hands that were frozen
// find their connection closed.
func (m *mysql) setUp(ctx context.Context) error {
	about, err := m.row(ctx, "SELECT VERSION() AS version, UNIX_TIMESTAMP(SYSDATE(6)) AS now")
	if err != nil {
		return err
	}
	left := m.left()
	if left <= 0 {
		return errTooLate
	}
	m.dialect, m.newWords = dialectOf(about["version"])
	if !m.o.Deadline.IsZero() {
		now, err := strconv.ParseFloat(about["now"], 64)
		if err != nil {
			return fmt.Errorf("cannot read the server's clock from %q", about["now"])
		}
		m.late = strconv.FormatFloat(now+left.Seconds(), 'f', 6, 64)
	}
	return m.exec(ctx, fmt.Sprintf(m.dialect.session, wholeSeconds(left), left.Seconds()))
}

// wholeSeconds rounds up: what is 0 would mean for ever.
func wholeSeconds(d time.Duration) int64 { return max(1, int64((d+time.Second-1)/time.Second)) }

// record is one row by the names of its columns, without those that are null.
type record map[string]string

// query asks over the connection and reads all rows.
func (m *mysql) query(ctx context.Context, text string, args ...string) (rows []record, err error) {
	if m.conn == nil {
		if err := m.open(ctx); err != nil {
			return nil, err
		}
	}
	asker, ok := m.conn.(driver.QueryerContext)
	if !ok {
		return nil, errors.New("cannot ask: the client library has changed")
	}
	answer, err := asker.QueryContext(ctx, text, values(args))
	if err != nil {
		return nil, m.told(ctx, err)
	}
	defer func() { _ = answer.Close() }()
	rows, err = readRows(answer)
	return rows, m.told(ctx, err)
}

// told is an error in few words. Whatever the server did not say itself is about the connection.
func (m *mysql) told(ctx context.Context, err error) error {
	err = plainMySQL(ctx, err)
	var said *mysqlError
	m.soured = m.soured || err != nil && !errors.As(err, &said)
	return err
}

// maxRows bounds an answer: no question of ours has more rows than a server has sessions.
const maxRows = 100_000

func readRows(answer driver.Rows) (rows []record, err error) {
	names := answer.Columns()
	cells := make([]driver.Value, len(names))
	for len(rows) < maxRows {
		switch err := answer.Next(cells); {
		case errors.Is(err, io.EOF):
			return rows, nil
		case err != nil:
			return nil, err
		}
		r := record{}
		for i, cell := range cells {
			switch cell := cell.(type) {
			case nil:
			case []byte:
				r[names[i]] = string(cell)
			default:
				r[names[i]] = fmt.Sprint(cell)
			}
		}
		rows = append(rows, r)
	}
	return nil, fmt.Errorf("cannot read the answer: it has more than %d rows", maxRows)
}

// row asks for exactly one row.
func (m *mysql) row(ctx context.Context, text string, args ...string) (record, error) {
	rows, err := m.query(ctx, text, args...)
	if err == nil && len(rows) != 1 {
		err = fmt.Errorf("the server answered with %d rows instead of one", len(rows))
	}
	if err != nil {
		return nil, err
	}
	return rows[0], nil
}

func (m *mysql) exec(ctx context.Context, text string) error {
	if m.conn == nil {
		if err := m.open(ctx); err != nil {
			return err
		}
	}
	doer, ok := m.conn.(driver.ExecerContext)
	if !ok {
		return errors.New("cannot act: the client library has changed")
	}
	_, err := doer.ExecContext(ctx, text, nil)
	return m.told(ctx, err)
}

func values(args []string) []driver.NamedValue {
	out := make([]driver.NamedValue, len(args))
	for i, arg := range args {
		out[i] = driver.NamedValue{Ordinal: i + 1, Value: arg}
	}
	return out
}

// act does one thing that changes the server. Where the server can, it compares its own clock with the deadline in the same
// breath: a statement that a frozen watcher or network brings too late does nothing.
func (m *mysql) act(ctx context.Context, statement string) error {
	if m.token == 0 {
		return errNotBegun
	}
	if err := m.open(ctx); err != nil {
		return err
	}
	if m.left() <= 0 || m.late == "" {
		return errTooLate
	}
	if !m.dialect.guards(statement) {
		// The session's time was counted from its last statement, which may be long ago.
		if err := m.exec(ctx, fmt.Sprintf("SET SESSION wait_timeout = %d", wholeSeconds(m.left()))); err != nil {
			return err
		}
		if m.left() <= 0 {
			return errTooLate
		}
	}
	return m.exec(ctx, m.dialect.guard(m, statement))
}

// Begin names the attempt: whoever looks at the server's sessions or log sees which one acts.
func (m *mysql) Begin(token uint64) { m.token = token }

// TellsFrozen is true: whoever asks sees read_only.
func (m *mysql) TellsFrozen() bool { return true }

// Close leaves the session to whoever asks next, or ends it.
func (m *mysql) Close() {
	conn := m.conn
	switch {
	case conn == nil:
		return
	case m.soured || m.broken != nil:
		_ = conn.Close() // it only says goodbye; the server ends the session either way
	default:
		m.o.Warm.put(m.o.server(), conn, m.opened, func() { _ = conn.Close() })
	}
	m.conn, m.broken = nil, errors.New("the connection is closed")
}

// Numbers of errors (MariaDB's and MySQL's manuals, "Server Error Codes").
const (
	tooManyMySQL        = 1040 // ER_CON_COUNT_ERROR
	unknownSession      = 1094 // ER_NO_SUCH_THREAD
	tooManyOfUser       = 1203 // ER_TOO_MANY_USER_CONNECTIONS
	lockWaitTimeout     = 1205 // ER_LOCK_WAIT_TIMEOUT
	userLimitReached    = 1226 // ER_USER_LIMIT_REACHED
	signalled           = 1644 // ER_SIGNAL_EXCEPTION
	statementTimeout    = 1969 // ER_STATEMENT_TIMEOUT, MariaDB
	lateSignal          = "watchover: too late"
	maxMySQLErrorLength = 300
)

// plainMySQL makes a client's error short, and says what a lost connection means here.
func plainMySQL(ctx context.Context, err error) error {
	var said *my.MySQLError
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err() // the client library then only says that the connection is invalid
	case errors.As(err, &said) && said.Number == signalled && strings.Contains(said.Message, lateSignal):
		return errTooLate
	case errors.As(err, &said):
		return &mysqlError{number: said.Number, text: cutText(said.Message, maxMySQLErrorLength)}
	case errors.Is(err, driver.ErrBadConn), errors.Is(err, my.ErrInvalidConn):
		return errors.New("the server has closed the connection")
	}
	return err
}

// mysqlError is what a server said.
type mysqlError struct {
	number uint16
	text   string
}

func (e *mysqlError) Error() string { return fmt.Sprintf("%s (error %d)", e.text, e.number) }

func saidMySQL(err error, numbers ...uint16) bool {
	var said *mysqlError
	if !errors.As(err, &said) {
		return false
	}
	for _, n := range numbers {
		if said.number == n {
			return true
		}
	}
	return false
}

func cutText(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "..."
}

// pingMySQL: alive is who answers a query, or has no connection left for us.
func pingMySQL(ctx context.Context, o Options) error {
	config, err := parseMySQL(o.DSN)
	if err != nil {
		return err
	}
	m := &mysql{o: o, config: config}
	defer m.Close()
	if err = m.connect(ctx); err == nil {
		_, err = m.query(ctx, "SELECT 1")
	}
	if saidMySQL(err, tooManyMySQL, tooManyOfUser, userLimitReached) {
		return nil
	}
	return err
}
