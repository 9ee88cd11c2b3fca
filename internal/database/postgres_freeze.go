package database

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// readOnly is the setting that freezes a server. It is in the server's own postgresql.auto.conf, so it outlives a reboot and is
// not replicated, as what ALTER ROLE and ALTER DATABASE change would be.
const readOnly = "default_transaction_read_only"

// What Found tells of a setting: what postgresql.auto.conf had for it, which ALTER SYSTEM writes.
const (
	foundUnset = "unset"
	foundSet   = "set " // and the value
)

// Found is what stood in postgresql.auto.conf.
func (p *postgres) Found(ctx context.Context, step failover.StepName) (string, error) {
	switch step {
	case failover.StepFreeze:
		value, ok, err := p.autoConf(ctx, readOnly)
		if err != nil || !ok {
			return foundUnset, err
		}
		return foundSet + value, nil
	case failover.StepStopReplication:
		f, err := p.following(ctx)
		return f.where(), err
	}
	return "", nil
}

// autoConf is the value that postgresql.auto.conf has for a setting, if any.
func (p *postgres) autoConf(ctx context.Context, name string) (value string, ok bool, err error) {
	var found *string
	err = p.ask(ctx, `SELECT (SELECT coalesce(setting, '') FROM pg_show_all_file_settings() WHERE name = `+literal(name)+`
		AND sourcefile LIKE '%/postgresql.auto.conf' ORDER BY seqno DESC LIMIT 1)`, &found)
	if err != nil || found == nil {
		return "", false, err
	}
	return *found, true, nil
}

// literal quotes text for a statement; sessions of ours have standard_conforming_strings on.
func literal(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }

// Freeze makes every transaction that begins from now on read-only, then ends every session that may have begun one before. It
// does not stop a session that takes the setting back for itself: Position does not overlook what that writes.
func (p *postgres) Freeze(ctx context.Context) (string, error) {
	o, err := p.Observe(ctx)
	if err != nil {
		return "", err
	}
	if o.Role == failover.RoleReplica {
		return "a replica takes no writes", nil
	}
	if err := p.heeded(ctx); err != nil {
		return "", err
	}
	if err := p.act(ctx, "ALTER SYSTEM SET "+readOnly+" = on"); err != nil {
		return "", err
	}
	if err := p.reload(ctx); err != nil {
		return "", err
	}
	var now, since string
	if err := p.ask(ctx, "SELECT current_setting('"+readOnly+"'), clock_timestamp()::text", &now, &since); err != nil {
		return "", err
	}
	if now != "on" {
		return "", errors.New(readOnly + " was set and is still off: something goes before postgresql.auto.conf, perhaps the server's command line")
	}
	return p.endSessions(ctx, since)
}

// heeded refuses to call frozen what some role or database would not heed.
func (p *postgres) heeded(ctx context.Context) error {
	who, err := p.exempt(ctx)
	if err == nil && who != "" {
		err = fmt.Errorf("cannot freeze: %s has a %s of its own that goes before the server's; ALTER ... RESET it", who, readOnly)
	}
	return err
}

// exempt names the roles and databases that have a default of their own by which a freeze would not hold; empty: there are none.
func (p *postgres) exempt(ctx context.Context) (string, error) {
	var who *string
	err := p.ask(ctx, `SELECT string_agg(CASE WHEN s.setrole = 0 THEN '' ELSE 'role ' || s.setrole::regrole END
		|| CASE WHEN s.setdatabase = 0 THEN '' ELSE ' database ' || (SELECT datname FROM pg_database d WHERE d.oid = s.setdatabase) END, ', ')
		FROM `+ownDefaults+` AND lower(split_part(c, '=', 2)) NOT IN ('on', 'true', 'yes', '1')`, &who)
	if err != nil || who == nil {
		return "", err
	}
	return strings.TrimSpace(*who), nil
}

// strangers are the sessions of clients, other than Watchover's, that began before a moment.
const strangers = `FROM pg_stat_activity a LEFT JOIN pg_roles r ON r.oid = a.usesysid
	WHERE a.backend_type = 'client backend' AND a.pid <> pg_backend_pid() AND a.usename IS DISTINCT FROM current_user AND a.backend_start <= `

// endSessions ends the clients' sessions that began before a moment and waits until they are gone. Those of superusers only a
// superuser can end; one that has begun to write is told by Position.
func (p *postgres) endSessions(ctx context.Context, since string) (string, error) {
	if err := p.arm(ctx); err != nil {
		return "", err
	}
	const mine = `(NOT coalesce(r.rolsuper, false) OR (SELECT rolsuper FROM pg_roles WHERE rolname = current_user))`
	var ended, left, all int
	began := time.Now()
	if err := p.ask(ctx, "SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) "+strangers+literal(since)+" AND "+mine, &ended); err != nil {
		return "", fmt.Errorf("cannot end the clients' sessions: %w", err)
	}
	err := poll(ctx, func() (bool, error) {
		err := p.ask(ctx, "SELECT count(*) FILTER (WHERE "+mine+"), count(*) "+strangers+literal(since), &left, &all)
		return left == 0, err
	})
	if err != nil {
		return "", fmt.Errorf("%d sessions of clients do not end: %w", left, err)
	}
	text := fmt.Sprintf("read-only; %d sessions ended in %s", ended, time.Since(began).Round(time.Millisecond))
	if all > 0 {
		text += fmt.Sprintf("; %d of superusers could not be", all)
	}
	return text, nil
}

// Unfreeze puts postgresql.auto.conf back as it was. Without knowing that, it takes our own setting out.
func (p *postgres) Unfreeze(ctx context.Context, found string) (string, error) {
	statement := "ALTER SYSTEM RESET " + readOnly
	if value, ok := strings.CutPrefix(found, foundSet); ok {
		statement = "ALTER SYSTEM SET " + readOnly + " = " + literal(value)
	}
	if err := p.act(ctx, statement); err != nil {
		return "", err
	}
	return "", p.reload(ctx)
}

// Position writes a record of its own to the log and waits until that is on disk: all that was acknowledged before lies below
// the position, also commits that nobody waited for. A session that is writing all the same is an error.
func (p *postgres) Position(ctx context.Context) (string, error) {
	if err := p.act(ctx, "SELECT pg_logical_emit_message(true, 'watchover', '')"); err != nil {
		return "", err
	}
	var position string
	var writers int
	var first *string
	err := p.ask(ctx, `SELECT count(*), min(coalesce(usename, '?') || ' (process ' || pid || ')'), pg_current_wal_flush_lsn()::text FROM pg_stat_activity
		WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() AND backend_xid IS NOT NULL`, &writers, &first, &position)
	switch {
	case err != nil:
		return "", err
	case writers > 0:
		return "", fmt.Errorf("%d sessions write although the database is frozen, among them %s", writers, *first)
	}
	return position, nil
}
