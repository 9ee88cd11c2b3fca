package database

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// History is what a primary's own binary log holds and what it has received before it became the primary.
func (m *mysql) History(ctx context.Context) (string, error) {
	seen, err := m.Observe(ctx)
	if err == nil && (seen.Role != failover.RolePrimary || seen.Frozen) {
		err = errNoPrimary
	}
	if err != nil {
		return "", err
	}
	r, err := m.row(ctx, m.dialect.history)
	return strings.Join(strings.Fields(r["history"]), ""), err
}

var errNoPrimary = errors.New("it is no primary that takes writes")

// Lost names the transactions that this server has and the primary has not. With them it can become no replica by
// statements: nothing takes a transaction back.
func (m *mysql) Lost(ctx context.Context, history string) (string, error) {
	if err := m.open(ctx); err != nil {
		return "", err
	}
	if !m.dialect.mariadb {
		r, err := m.row(ctx, "SELECT GTID_SUBTRACT(@@global.gtid_executed, ?) AS lost", history)
		return strings.Join(strings.Fields(r["lost"]), ""), err
	}
	mine, err := m.row(ctx, "SELECT @@global.gtid_binlog_state AS log")
	if err != nil {
		return "", err
	}
	return missing(mine["log"], history)
}

// stream is what MariaDB counts transactions by: domain and server.
type stream struct{ domain, server uint64 }

// missing compares two histories of MariaDB, stream by stream: the sequence numbers of one stream never fall.
func missing(mine, theirs string) (string, error) {
	have, err := streams(theirs)
	if err != nil {
		return "", err
	}
	want, err := streams(mine)
	if err != nil {
		return "", err
	}
	var lost []string
	for s, end := range want {
		if from := have[s] + 1; from <= end {
			lost = append(lost, fmt.Sprintf("transactions %d-%d-%d to %d", s.domain, s.server, from, end))
		}
	}
	return joinSorted(lost), nil
}

func streams(history string) (map[stream]uint64, error) {
	ends := map[stream]uint64{}
	for word := range strings.SplitSeq(history, ",") {
		word = strings.TrimSpace(word)
		if word == "" {
			continue
		}
		var s stream
		var end uint64
		if _, err := fmt.Sscanf(word, "%d-%d-%d", &s.domain, &s.server, &end); err != nil {
			return nil, fmt.Errorf("cannot read %.40q as a GTID", word)
		}
		ends[s] = max(ends[s], end)
	}
	return ends, nil
}

// Follow makes the server a replica of the primary that the DSN names, with GTIDs, whatever it was before. It logs in there as
// Watchover's user, which needs the privilege REPLICATION SLAVE for that and has the same password on both. It stays read_only.
func (m *mysql) Follow(ctx context.Context, to failover.Database) (string, error) {
	if err := m.open(ctx); err != nil {
		return "", err
	}
	if err := m.nothingErrant(ctx, to); err != nil {
		return "", err
	}
	statements, err := m.followStatements(ctx, to)
	if err != nil {
		return "", err
	}
	for _, s := range statements {
		if err := m.act(ctx, s); err != nil {
			return "", fmt.Errorf("cannot make it a replica (%s): %w", firstWords(s), err)
		}
	}
	return m.awaitReceiver(ctx)
}

// nothingErrant asks the primary, also if a person has said that writes may vanish.
func (m *mysql) nothingErrant(ctx context.Context, to failover.Database) error {
	config, err := parseMySQL(to.DSN)
	if err != nil {
		return err
	}
	primary := &mysql{o: Options{DSN: to.DSN, PasswordFile: to.PasswordFile, PasswordEnv: to.PasswordEnv, CAFile: to.CAFile}, config: config}
	defer primary.Close()
	history, err := primary.History(ctx)
	if err != nil {
		return fmt.Errorf("cannot ask the new primary: %w", err)
	}
	if primary.dialect != m.dialect {
		return errors.New("one is a MariaDB, the other a MySQL")
	}
	lost, err := m.Lost(ctx, history)
	if err == nil && lost != "" {
		err = fmt.Errorf("statements cannot take transactions back: %s; make the server anew from a copy of the new primary", lost)
	}
	return err
}

// firstWords leaves out what follows, which may be a password.
func firstWords(statement string) string {
	words := strings.Fields(statement)
	return strings.Join(words[:min(2, len(words))], " ")
}

func (m *mysql) followStatements(ctx context.Context, to failover.Database) ([]string, error) {
	config, err := parseMySQL(to.DSN)
	if err != nil {
		return nil, err
	}
	host, port, err := net.SplitHostPort(config.Addr)
	if _, errPort := strconv.ParseUint(port, 10, 16); err != nil || errPort != nil {
		return nil, errors.New("the new primary's dsn names no host and port that a replica could reach")
	}
	secret, err := password(ctx, to.PasswordFile, to.PasswordEnv)
	if err != nil {
		return nil, err
	}
	from, err := m.replica(ctx)
	if err != nil {
		return nil, err
	}
	statements := []string{m.dialect.freeze}
	if from != nil {
		statements = append(statements, m.dialect.stop)
	}
	if !m.dialect.mariadb {
		change := fmt.Sprintf("CHANGE REPLICATION SOURCE TO SOURCE_HOST = %s, SOURCE_PORT = %s, SOURCE_USER = %s, SOURCE_PASSWORD = %s, SOURCE_AUTO_POSITION = 1, GET_SOURCE_PUBLIC_KEY = 1, SOURCE_SSL = %d",
			quoteSQL(host), port, quoteSQL(config.User), quoteSQL(secret), encrypts(config.TLSConfig, to.CAFile))
		return append(statements, change, m.dialect.start), nil
	}
	own, err := m.row(ctx, m.dialect.ends)
	if err != nil {
		return nil, err
	}
	change := fmt.Sprintf("CHANGE MASTER TO MASTER_HOST = %s, MASTER_PORT = %s, MASTER_USER = %s, MASTER_PASSWORD = %s, MASTER_USE_GTID = slave_pos, MASTER_CONNECT_RETRY = 1, MASTER_SSL = %d",
		quoteSQL(host), port, quoteSQL(config.User), quoteSQL(secret), encrypts(config.TLSConfig, to.CAFile))
	return append(statements, "SET GLOBAL gtid_slave_pos = "+quoteSQL(own["history"]), change, m.dialect.start), nil
}

// encrypts is 1 if we would reach the new primary over TLS and nothing else, as its replica then does. A file of authorities
// says so too.
func encrypts(tls, caFile string) int {
	if caFile != "" || tls != "" && tls != "false" && tls != "preferred" {
		return 1
	}
	return 0
}

// awaitReceiver waits until the replica receives, to say why if it does not.
func (m *mysql) awaitReceiver(ctx context.Context) (string, error) {
	for {
		from, err := m.following(ctx)
		if err != nil {
			return "", err
		}
		switch {
		case from.streams() && from.applies():
			return fmt.Sprintf("it follows %s:%s", from.host, from.port), nil
		case from.receiver == "No" || timeLeft(ctx) <= reserve || !from.applies():
			return "", fmt.Errorf("it does not receive: receiver %s, applier %s: %s%s", from.receiver, from.applier,
				cutText(from.sourceError, maxMySQLErrorLength), cutText(from.applierError, maxMySQLErrorLength))
		}
		if err := waitShortly(ctx, 50*time.Millisecond); err != nil {
			return "", err
		}
	}
}
