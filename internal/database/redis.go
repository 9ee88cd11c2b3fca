package database

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// redis is a Redis 6.2 or later without cluster mode, on one connection. Its files are redis_*.go: one for each thing done
// with it.
//
// A primary is frozen if it asks for more replicas than anybody has before it takes a write (min-replicas-to-write): it
// refuses writes then, also from scripts and from transactions that were begun before. CLIENT PAUSE is no freeze: when it
// runs out, the writes that have waited are done.
//
// The identity is master_replid, the id of the history that the data has. A replica has that of its primary; one that is
// promoted gets a new one, and so does a primary that starts empty. A server that came back without its data is therefore not
// the one that it was.
type redis struct {
	o      Options
	to     redisTarget
	conn   *redisConn // nil: not used yet
	broken error      // why there will be none any more
	opened time.Time
	soured bool  // something went wrong with it: nobody is to use it after this
	late   int64 // the server's clock at the deadline, in milliseconds since 1970; 0: a mere look
	token  uint64
}

// redisTarget is what a DSN says.
type redisTarget struct {
	address string
	user    string // empty: the default one
	secure  bool
	host    string
}

const redisForm = "want redis://user@192.0.2.10:6379, or rediss:// for TLS"

func checkRedis(dsn string) error {
	_, err := parseRedis(dsn)
	return err
}

// parseRedis reads a DSN. The URL library's errors are not passed on: they may repeat a password.
func parseRedis(dsn string) (redisTarget, error) {
	u, err := url.Parse(dsn)
	if err != nil {
		return redisTarget{}, errors.New("cannot read the dsn; " + redisForm)
	}
	_, secret := u.User.Password()
	switch {
	case secret:
		return redisTarget{}, errors.New("the dsn holds a password; name a password_file or a password_env instead")
	case u.Scheme != "redis" && u.Scheme != "rediss", u.Hostname() == "":
		return redisTarget{}, errors.New("cannot read the dsn; " + redisForm)
	case u.Path != "" && u.Path != "/" && u.Path != "/0" || u.RawQuery != "" || u.Fragment != "":
		return redisTarget{}, errors.New("the dsn names more than a server; replication is about all databases of it; " + redisForm)
	}
	port := u.Port()
	if port == "" {
		port = "6379"
	}
	return redisTarget{address: net.JoinHostPort(u.Hostname(), port), user: u.User.Username(), secure: u.Scheme == "rediss", host: u.Hostname()}, nil
}

func openRedis(o Options) (Driver, error) {
	to, err := parseRedis(o.DSN)
	if err != nil {
		return nil, err
	}
	return &redis{o: o, to: to}, nil
}

// ask sends commands over the one connection. An answer that is an error fails all.
func (r *redis) ask(ctx context.Context, commands ...[]string) ([]reply, error) {
	if err := r.open(ctx); err != nil {
		return nil, err
	}
	replies, err := r.conn.ask(ctx, commands...)
	if err != nil {
		return nil, err
	}
	for i, answer := range replies {
		if answer.err != nil {
			return nil, fmt.Errorf("%s: %w", commands[i][0], answer.err)
		}
	}
	return replies, nil
}

// open makes the one connection, unless there is or was one.
func (r *redis) open(ctx context.Context) error {
	if r.conn != nil || r.broken != nil {
		return r.broken
	}
	r.broken = r.connect(ctx)
	return r.broken
}

// clientName marks our sessions in CLIENT LIST. A freeze spares them: they are other watchers', who only look.
const clientName = "watchover"

func (r *redis) connect(ctx context.Context) (err error) {
	if r.warm(ctx) {
		return nil
	}
	r.opened = time.Now()
	if r.conn, err = r.dial(ctx); err != nil {
		return err
	}
	return r.begin(ctx)
}

// warm takes a session that another attempt or look has left, if it answers.
func (r *redis) warm(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, warmAnswer)
	defer cancel()
	for {
		value, opened := r.o.Warm.take(r.o.server())
		conn, ok := value.(*redisConn)
		if !ok {
			return false
		}
		r.conn, r.opened = conn, opened
		if r.begin(ctx) == nil {
			return true
		}
		conn.close()
		r.conn = nil
	}
}

// begin names the session and asks for the server's clock.
func (r *redis) begin(ctx context.Context) error {
	replies, err := r.conn.ask(ctx, []string{"CLIENT", "SETNAME", clientName}, []string{"TIME"})
	if err != nil {
		return err
	}
	for _, answer := range replies {
		if answer.err != nil {
			return fmt.Errorf("cannot begin: %w", answer.err)
		}
	}
	return r.setDeadline(replies[1])
}

// dial connects and logs in.
func (r *redis) dial(ctx context.Context) (*redisConn, error) {
	secret, err := password(ctx, r.o.PasswordFile, r.o.PasswordEnv)
	if err != nil {
		return nil, err
	}
	pool, err := authorities(ctx, r.o.CAFile)
	if err != nil {
		return nil, err
	}
	var secure *tls.Config
	switch {
	case r.to.secure:
		secure = &tls.Config{RootCAs: pool, ServerName: r.to.host, MinVersion: tls.VersionTLS12}
	case pool != nil:
		return nil, errors.New("ca_file has no use without TLS; want rediss:// in the dsn")
	}
	conn, err := dialRedis(ctx, r.to.address, secure)
	if err != nil || secret == "" {
		return conn, err
	}
	login := []string{"AUTH", secret}
	if r.to.user != "" {
		login = []string{"AUTH", r.to.user, secret}
	}
	replies, err := conn.ask(ctx, login)
	if err == nil && replies[0].err != nil {
		err = withoutSecret(replies[0].err)
	}
	if err != nil {
		conn.close()
		return nil, fmt.Errorf("cannot log in: %w", err)
	}
	return conn, nil
}

// withoutSecret keeps the code alone of an answer to AUTH that is none of the well-known ones: a server that does not know the
// command, since somebody has renamed it, repeats its words.
func withoutSecret(err error) error {
	if saidRedis(err, "WRONGPASS ", "NOAUTH ", "NOPERM ", "LOADING ", tooManyRedis) {
		return err
	}
	code, _, _ := strings.Cut(err.Error(), " ")
	return &redisError{text: code + " (what follows is not shown: it may repeat the password)"}
}

func (r *redis) left() time.Duration { return time.Until(r.o.Deadline) }

// setDeadline notes where the server's own clock will stand at the deadline.
func (r *redis) setDeadline(now reply) error {
	if r.o.Deadline.IsZero() {
		return nil
	}
	if len(now.list) != 2 {
		return errors.New("cannot read the server's clock")
	}
	seconds, err := strconv.ParseInt(now.list[0].text, 10, 64)
	micros, err2 := strconv.ParseInt(now.list[1].text, 10, 64)
	if err != nil || err2 != nil {
		return errors.New("cannot read the server's clock")
	}
	left := r.left()
	if left <= 0 {
		return errTooLate
	}
	r.late = seconds*1000 + micros/1000 + left.Milliseconds()
	return nil
}

// Begin names the attempt.
func (r *redis) Begin(token uint64) { r.token = token }

// TellsFrozen is true: whoever asks sees the setting.
func (r *redis) TellsFrozen() bool { return true }

// Close leaves the session to whoever asks next, or ends it.
func (r *redis) Close() {
	conn := r.conn
	switch {
	case conn == nil:
		return
	case r.soured || r.broken != nil || conn.broken != nil:
		conn.close()
	default:
		r.o.Warm.put(r.o.server(), conn, r.opened, conn.close)
	}
	r.conn, r.broken = nil, errors.New("the connection is closed")
}

// tooManyRedis begins the answer of a server that has no connection left.
const tooManyRedis = "ERR max number of clients reached"

// pingRedis: alive is who answers PING, also a replica that has lost its primary or a primary that cannot save, or has no
// connection left for us. One that still loads its data is not.
func pingRedis(ctx context.Context, o Options) error {
	to, err := parseRedis(o.DSN)
	if err != nil {
		return err
	}
	r := &redis{o: o, to: to}
	defer r.Close()
	if r.conn, err = r.dial(ctx); err == nil {
		_, err = r.ask(ctx, []string{"PING"})
	}
	if saidRedis(err, tooManyRedis, "MASTERDOWN", "MISCONF") {
		return nil
	}
	return err
}
