package database

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// Found is the settings that a freeze changes, or whether the receiver was on.
func (m *mysql) Found(ctx context.Context, step failover.StepName) (string, error) {
	if err := m.open(ctx); err != nil {
		return "", err
	}
	switch step {
	case failover.StepFreeze:
		return m.foundSettings(ctx)
	case failover.StepStopReplication:
		return m.foundReceiver(ctx)
	}
	return "", fmt.Errorf("cannot tell what %s would change: it changes nothing", step)
}

func (m *mysql) foundSettings(ctx context.Context) (string, error) {
	var words []string
	for _, name := range m.dialect.settings {
		value, err := m.setting(ctx, name)
		if err != nil {
			return "", err
		}
		words = append(words, name+"="+value)
	}
	return strings.Join(words, " "), nil
}

// blockedFor is how long a freeze waits for statements that are running before it ends their sessions. It holds up all other
// writers meanwhile, so it is short.
const blockedFor = 200 * time.Millisecond

// Freeze makes the server read_only, then ends all sessions but those of replicas and our own: clients look for the new
// address then, and users whom read_only does not stop stop writing. FLUSH TABLES WITH READ LOCK would do neither: it dies
// with its connection.
//
// Setting read_only waits for statements that write and for LOCK TABLES. What takes longer than a moment is ended.
func (m *mysql) Freeze(ctx context.Context) (string, error) {
	if err := m.open(ctx); err != nil {
		return "", err
	}
	for {
		err := m.setReadOnly(ctx)
		if err == nil {
			break
		}
		if !saidMySQL(err, statementTimeout, lockWaitTimeout) {
			return "", fmt.Errorf("cannot set read_only: %w", err)
		}
		if _, err := m.endSessions(ctx); err != nil {
			return "", fmt.Errorf("cannot end the sessions that hold up read_only: %w", err)
		}
	}
	frozen, err := m.frozen(ctx)
	if err != nil || !frozen {
		return "", orElse(err, "the server says that it is not read_only after it was set")
	}
	ended, err := m.endSessions(ctx)
	if err != nil {
		return "", fmt.Errorf("read_only is set, but cannot end the sessions: %w", err)
	}
	return fmt.Sprintf("read_only is on, %d sessions ended", ended), nil
}

// setReadOnly gives up after a moment when something holds it up.
func (m *mysql) setReadOnly(ctx context.Context) error {
	if !m.dialect.mariadb {
		return m.act(ctx, m.dialect.freeze) // its lock_wait_timeout is a second
	}
	if err := m.limitStatements(ctx, min(blockedFor, m.left())); err != nil {
		return err
	}
	err := m.act(ctx, m.dialect.freeze)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if lifted := m.limitStatements(ctx, m.left()); err == nil {
		err = lifted
	}
	return err
}

// limitStatements sets MariaDB's limit for each statement of this session.
func (m *mysql) limitStatements(ctx context.Context, d time.Duration) error {
	return m.exec(ctx, fmt.Sprintf("SET SESSION max_statement_time = %f", max(d, time.Millisecond).Seconds()))
}

// foreign chooses the sessions that a freeze ends. Those of our own user are other watchers', who only look.
const foreign = `SELECT ID AS id FROM information_schema.PROCESSLIST WHERE ID <> CONNECTION_ID()
 AND USER <> SUBSTRING_INDEX(CURRENT_USER(), '@', 1)
 AND USER NOT IN ('system user', 'event_scheduler', 'unauthenticated user')
 AND COMMAND NOT LIKE 'Binlog Dump%' AND COMMAND NOT IN ('Daemon', 'Slave_IO', 'Slave_SQL', 'Slave_worker')`

// dying is how long a freeze waits for sessions that it has ended. One that undoes a large transaction takes longer, but
// commits nothing any more.
const dying = time.Second

func (m *mysql) endSessions(ctx context.Context) (ended int, err error) {
	rows, err := m.query(ctx, foreign)
	if err != nil || len(rows) == 0 {
		return 0, err
	}
	if m.dialect.mariadb {
		err = m.act(ctx, endAllMariaDB)
	} else {
		err = m.endEach(ctx, rows)
	}
	if err != nil {
		return 0, err
	}
	return len(rows), m.awaitDeath(ctx)
}

// endAllMariaDB ends the sessions in one round trip, whatever their number.
const endAllMariaDB = `BEGIN NOT ATOMIC
 DECLARE CONTINUE HANDLER FOR 1094 BEGIN END;
 FOR session IN (` + foreign + `) DO EXECUTE IMMEDIATE CONCAT('KILL ', session.id); END FOR;
END`

func (m *mysql) endEach(ctx context.Context, rows []record) error {
	for _, r := range rows {
		if err := m.act(ctx, "KILL "+r["id"]); err != nil && !saidMySQL(err, unknownSession) {
			return err
		}
	}
	return nil
}

func (m *mysql) awaitDeath(ctx context.Context) error {
	until := time.Now().Add(dying)
	for pause := time.Millisecond; ; pause = min(2*pause, 20*time.Millisecond) {
		left, err := m.query(ctx, foreign+" AND COMMAND = 'Killed'")
		if err != nil || len(left) == 0 || time.Now().After(until) {
			return err
		}
		if err := waitShortly(ctx, pause); err != nil {
			return err
		}
	}
}

func waitShortly(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

func orElse(err error, text string) error {
	if err != nil {
		return err
	}
	return errors.New(text)
}

// Unfreeze puts the settings back as they were found; if that is not known, the server takes writes again.
func (m *mysql) Unfreeze(ctx context.Context, found string) (string, error) {
	if err := m.open(ctx); err != nil {
		return "", err
	}
	wanted, err := m.wanted(found)
	if err != nil {
		return "", err
	}
	for _, name := range m.dialect.settings { // read_only first: turning it off turns super_read_only off as well
		if err := m.act(ctx, "SET GLOBAL "+name+" = "+wanted[name]); err != nil {
			return "", fmt.Errorf("cannot set %s: %w", name, err)
		}
	}
	now, err := m.foundSettings(ctx)
	if err == nil && found != "" && now != found {
		err = fmt.Errorf("the server says %s after it was set to %s", now, found)
	}
	return now, err
}

// wanted reads what Found has told. It comes from the journal, so nothing in it becomes a part of a statement unchecked.
func (m *mysql) wanted(found string) (map[string]string, error) {
	wanted := map[string]string{}
	for _, name := range m.dialect.settings {
		wanted[name] = "0"
	}
	for _, word := range strings.Fields(found) {
		name, value, _ := strings.Cut(word, "=")
		if !slices.Contains(m.dialect.settings, name) || value != "0" && value != "1" {
			return nil, fmt.Errorf("cannot put back %q: not a setting that a freeze changes", found)
		}
		wanted[name] = value
	}
	return wanted, nil
}

// historyWord stands before a position, so that the one of an empty log is not taken for none.
const historyWord = "gtid:"

// Position is the history of the server's own binary log. Setting read_only has waited for the commits that were under way.
func (m *mysql) Position(ctx context.Context) (string, error) {
	if err := m.open(ctx); err != nil {
		return "", err
	}
	r, err := m.row(ctx, m.dialect.ends)
	if err != nil {
		return "", err
	}
	if r["on_"] != "1" {
		return "", errors.New("the server writes no binary log; set log_bin and log_slave_updates")
	}
	return historyWord + strings.Join(strings.Fields(r["history"]), ""), nil
}
