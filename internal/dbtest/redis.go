package dbtest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Redis is a private server with a configuration file of its own that keeps its data in an append-only file. Its default
// user needs no password.
type Redis struct {
	Dir  string
	Port int

	account Account
	process *Process
}

// NewRedis starts a fresh server; more are further lines of its configuration.
func NewRedis(t TB, more ...string) *Redis {
	t.Helper()
	r := &Redis{Port: Port(t), account: AccountOf(t, "redis")}
	r.Dir = Dir(t, r.account)
	lines := append([]string{
		"port " + strconv.Itoa(r.Port), "bind 127.0.0.1", "dir " + r.Dir, "daemonize no", "appendonly yes", "appendfsync everysec", "save \"\"",
		"repl-diskless-sync-delay 0", "repl-ping-replica-period 1", "repl-timeout 3",
	}, more...)
	must(t, os.WriteFile(r.conf(), []byte(strings.Join(lines, "\n")+"\n"), 0o600))
	must(t, r.account.own(r.conf()))
	r.Start(t)
	return r
}

func (r *Redis) conf() string { return r.Dir + "/redis.conf" }

// Address is where it listens.
func (r *Redis) Address() string { return fmt.Sprintf("127.0.0.1:%d", r.Port) }

// Start starts the server, the first time or again, and waits until it has loaded its data.
func (r *Redis) Start(t TB) {
	t.Helper()
	r.process = r.account.Start(t, r.Dir, r.Dir+"/log", Find(t, "redis-server", "redis-server"), r.conf())
	Until(t, "the server answers", func() bool {
		if r.process.Ended() {
			t.Fatalf("the server ended: %s", r.process.Tail())
		}
		_, err := r.Try("GET", "nothing")
		return err == nil || strings.HasPrefix(err.Error(), "MASTERDOWN")
	})
	r.allow(t)
}

// Kill ends it as a loss of power would.
func (r *Redis) Kill() { r.process.Kill() }

// Freeze stops it where it stands: it takes connections and answers nothing.
func (r *Redis) Freeze() { r.process.Freeze() }

// Thaw lets it go on.
func (r *Redis) Thaw() { r.process.Thaw() }

// Do gives one command on a connection of its own, and returns its answer as text, lists line by line.
func (r *Redis) Do(t TB, words ...string) string {
	t.Helper()
	text, err := r.Try(words...)
	if err != nil {
		t.Fatalf("%s: %v", words, err)
	}
	return text
}

// Try is Do for commands that may fail.
func (r *Redis) Try(words ...string) (string, error) {
	c, err := r.Dial()
	if err != nil {
		return "", err
	}
	defer c.Close()
	return c.Do(words...)
}

// Info is one field of INFO.
func (r *Redis) Info(t TB, name string) string {
	t.Helper()
	for line := range strings.Lines(r.Do(t, "INFO", "everything")) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), name+":"); ok {
			return value
		}
	}
	return ""
}

// Follow makes the server a replica of another one and waits until it is in step.
func (r *Redis) Follow(t TB, source *Redis) {
	t.Helper()
	r.Do(t, "REPLICAOF", "127.0.0.1", strconv.Itoa(source.Port))
	Until(t, "the replica is linked", func() bool { return r.Info(t, "master_link_status") == "up" })
}

// NewRedisPair starts a primary and a replica of it.
func NewRedisPair(t TB, more ...string) (primary, replica *Redis) {
	t.Helper()
	primary, replica = NewRedis(t, more...), NewRedis(t, more...)
	replica.Follow(t, primary)
	return primary, replica
}

const redisPassword = "watch over us all"

// allow makes Watchover's user, which may do what examples/redis/users.acl allows and nothing else.
func (r *Redis) allow(t TB) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(Repository(t), "examples/redis/users.acl"))
	must(t, err)
	words := strings.Fields(string(text))[1:] // without "user"
	words[slices.Index(words, "#PASSWORD")] = ">" + redisPassword
	r.Do(t, append([]string{"ACL", "SETUSER"}, words...)...)
}

// DSN is Watchover's, and PasswordFile belongs to it.
func (r *Redis) DSN() string { return "redis://watchover@" + r.Address() }

// PasswordFile writes the password of Watchover's user into a file.
func (r *Redis) PasswordFile(t TB) string {
	t.Helper()
	path := r.Dir + "/watchover.pass"
	must(t, os.WriteFile(path, []byte(redisPassword+"\n"), 0o600))
	return path
}

// RedisConn is a client's connection, as simple as a test needs it.
type RedisConn struct {
	conn   net.Conn
	reader *bufio.Reader
}

// Dial connects as the default user.
func (r *Redis) Dial() (*RedisConn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", r.Address())
	if err != nil {
		return nil, err
	}
	return &RedisConn{conn: conn, reader: bufio.NewReader(conn)}, nil
}

// Close ends the connection.
func (c *RedisConn) Close() { _ = c.conn.Close() }

// redisRefusal is an error that the server answered with.
type redisRefusal string

func (e redisRefusal) Error() string { return string(e) }

// Do gives one command. What the server refuses is an error.
func (c *RedisConn) Do(words ...string) (string, error) {
	return c.until(time.Now().Add(10*time.Second), words...)
}

func (c *RedisConn) until(deadline time.Time, words ...string) (string, error) {
	if err := c.conn.SetDeadline(deadline); err != nil {
		return "", err
	}
	text := fmt.Sprintf("*%d\r\n", len(words))
	for _, word := range words {
		text += fmt.Sprintf("$%d\r\n%s\r\n", len(word), word)
	}
	if _, err := c.conn.Write([]byte(text)); err != nil {
		return "", err
	}
	return c.answer()
}

func (c *RedisConn) answer() (string, error) {
	line, err := c.reader.ReadString('\n')
	if err != nil {
		return "", err
	}
	line = strings.TrimRight(line, "\r\n")
	if line == "" {
		return "", fmt.Errorf("an empty answer")
	}
	n, _ := strconv.Atoi(line[1:])
	switch line[0] {
	case '-':
		return "", redisRefusal(line[1:])
	case '$':
		if n < 0 {
			return "", nil
		}
		text := make([]byte, n+2)
		for read := 0; read < len(text); {
			m, err := c.reader.Read(text[read:])
			if err != nil {
				return "", err
			}
			read += m
		}
		return string(text[:n]), nil
	case '*':
		var lines []string
		for range max(0, n) {
			item, err := c.answer()
			if err != nil {
				item = err.Error()
			}
			lines = append(lines, item)
		}
		return strings.Join(lines, "\n"), nil
	}
	return line[1:], nil
}

// Stored are the numbers that were written by sessions.
func (r *Redis) Stored(t TB) map[int64]bool {
	t.Helper()
	stored := map[int64]bool{}
	for key := range strings.Lines(r.Do(t, "KEYS", "order:*")) {
		if id, err := strconv.ParseInt(strings.TrimPrefix(strings.TrimSpace(key), "order:"), 10, 64); err == nil {
			stored[id] = true
		}
	}
	return stored
}

// RedisSession connects a Writer to a server by its address.
func RedisSession(ctx context.Context, address string) (Session, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return &redisSession{conn: &RedisConn{conn: conn, reader: bufio.NewReader(conn)}}, nil
}

type redisSession struct {
	conn   *RedisConn
	broken bool
}

func (s *redisSession) Write(ctx context.Context, id int64) error {
	deadline, _ := ctx.Deadline()
	_, err := s.conn.until(deadline, "SET", "order:"+strconv.FormatInt(id, 10), "1")
	var refused redisRefusal
	s.broken = err != nil && !errors.As(err, &refused)
	return err
}

func (s *redisSession) Alive() bool { return !s.broken }

func (s *redisSession) Close() { s.conn.Close() }
