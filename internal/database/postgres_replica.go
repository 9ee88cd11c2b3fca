package database

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"
)

// CatchUp waits until the replica has applied everything up to a position.
func (p *postgres) CatchUp(ctx context.Context, position string) (string, error) {
	want, err := parseLSN(position)
	if err != nil {
		return "", fmt.Errorf("cannot catch up: %w", err)
	}
	var recovering bool
	var received, applied *string
	began := time.Now()
	err = poll(ctx, func() (bool, error) {
		err := p.ask(ctx, "SELECT pg_is_in_recovery(), pg_last_wal_receive_lsn()::text, pg_last_wal_replay_lsn()::text", &recovering, &received, &applied)
		switch {
		case err != nil:
			return false, err
		case !recovering:
			return false, errors.New("it is no replica")
		case applied == nil:
			return false, nil
		}
		at, err := parseLSN(*applied)
		return at >= want, err
	})
	if err != nil {
		return "", fmt.Errorf("cannot catch up to %s (received %s, applied %s): %w", position, orNothing(received), orNothing(applied), err)
	}
	return fmt.Sprintf("applied up to %s after %s", position, time.Since(began).Round(time.Millisecond)), nil
}

func orNothing(text *string) string {
	if text == nil {
		return "nothing"
	}
	return *text
}

const conninfo = "primary_conninfo"

// What Found tells of primary_conninfo: where it stood. Its value holds a password, so it is not told; it is in the server's
// own file all the time, with something behind it that is taken off again.
const (
	foundInAuto = "postgresql.auto.conf"
	foundInFile = "another file"
)

// stopped is what StopReplication appends to primary_conninfo: of a keyword that comes twice the last one counts, so that the
// receiver calls itself by the attempt and finds nobody.
var stopped = regexp.MustCompile(` application_name=watchover_stop_[0-9]+ host=/nonexistent port=1`)

func stopSuffix(token uint64) string {
	return fmt.Sprintf(" application_name=watchover_stop_%d host=/nonexistent port=1", token)
}

// following is how a replica is told whom to follow.
type following struct {
	now  string  // in force
	auto *string // in postgresql.auto.conf, which goes before other files; in force with the next reload
	file *string // in another file
}

func (p *postgres) following(ctx context.Context) (f following, err error) {
	err = p.ask(ctx, `WITH f AS (SELECT setting, sourcefile LIKE '%/postgresql.auto.conf' AS auto, seqno FROM pg_show_all_file_settings() WHERE name = '`+conninfo+`')
		SELECT current_setting('`+conninfo+`'), (SELECT coalesce(setting, '') FROM f WHERE auto ORDER BY seqno DESC LIMIT 1),
		(SELECT coalesce(setting, '') FROM f WHERE NOT auto ORDER BY seqno DESC LIMIT 1)`, &f.now, &f.auto, &f.file)
	if err == nil && isURL(f.bare()) {
		err = errors.New("cannot stop its replication: primary_conninfo is a URL; write it with the keywords host, port and user")
	}
	return f, err
}

// next is what is in force after a reload. Hands that died between writing and reloading have left it behind that.
func (f following) next() string {
	if f.auto != nil {
		return *f.auto
	}
	return f.now
}

// bare is next without what we appended.
func (f following) bare() string { return stopped.ReplaceAllString(f.next(), "") }

// ours reports whether we appended something.
func (f following) ours() bool { return stopped.MatchString(f.next()) || stopped.MatchString(f.now) }

// where it stood before we appended anything. An earlier stop that was never taken back hides a file's value behind the same
// one in postgresql.auto.conf.
func (f following) where() string {
	if f.auto == nil || f.ours() && f.file != nil && *f.file == f.bare() {
		return foundInFile
	}
	return foundInAuto
}

func isURL(conninfo string) bool {
	return strings.HasPrefix(conninfo, "postgres://") || strings.HasPrefix(conninfo, "postgresql://")
}

// StopReplication ends the receiver for good, over a restart too. What it has received stays and is applied.
func (p *postgres) StopReplication(ctx context.Context) (string, error) {
	f, err := p.following(ctx)
	if err != nil {
		return "", err
	}
	if f.bare() == "" {
		return "it receives from nobody", nil
	}
	if !stopped.MatchString(f.next()) {
		if err := p.act(ctx, "ALTER SYSTEM SET "+conninfo+" = "+literal(f.bare()+stopSuffix(p.token))); err != nil {
			return "", hide(err)
		}
	}
	if err := p.reload(ctx); err != nil {
		return "", err
	}
	began := time.Now()
	err = poll(ctx, func() (bool, error) {
		var streams bool
		err := p.ask(ctx, "SELECT EXISTS (SELECT FROM pg_stat_wal_receiver WHERE status = 'streaming')", &streams)
		return !streams, err
	})
	if err != nil {
		return "", fmt.Errorf("the receiver does not end: %w", err)
	}
	return fmt.Sprintf("the receiver ended after %s", time.Since(began).Round(time.Millisecond)), nil
}

// hide drops what a server says of a statement that holds a password.
func hide(err error) error {
	var said *serverError
	if errors.As(err, &said) {
		return fmt.Errorf("the server refuses to change primary_conninfo (its error code is %s)", said.code)
	}
	return err
}

// ResumeReplication takes off what StopReplication appended.
func (p *postgres) ResumeReplication(ctx context.Context, found string) (string, error) {
	done, err := p.takeOff(ctx, found)
	if err != nil || !done {
		return "", err
	}
	return "", p.reload(ctx)
}

// takeOff writes primary_conninfo as it was before we appended something; done: we had.
func (p *postgres) takeOff(ctx context.Context, found string) (done bool, err error) {
	f, err := p.following(ctx)
	if err != nil || !f.ours() {
		return false, err
	}
	if found == "" {
		found = f.where()
	}
	statement := "ALTER SYSTEM RESET " + conninfo
	if found == foundInAuto {
		statement = "ALTER SYSTEM SET " + conninfo + " = " + literal(f.bare())
	}
	return true, hide(p.act(ctx, statement))
}

// Promote ends recovery. The server's own wait looks ten times a second, so the wait is here. A commit of ours, on this disk,
// proves that it takes writes. Then primary_conninfo is written as it was, for the day on which it is a replica again; a primary
// need not take it up.
func (p *postgres) Promote(ctx context.Context) (string, error) {
	var recovering bool
	if err := p.ask(ctx, "SELECT pg_is_in_recovery()", &recovering); err != nil {
		return "", err
	}
	began := time.Now()
	if recovering {
		if err := p.act(ctx, "SELECT pg_promote(false)"); err != nil {
			return "", err
		}
		if err := p.awaitPrimary(ctx); err != nil {
			return "", fmt.Errorf("recovery does not end: %w", err)
		}
	}
	took := time.Since(began)
	if err := p.act(ctx, "SELECT pg_logical_emit_message(true, 'watchover', '')"); err != nil {
		return "", fmt.Errorf("promoted, but it does not take a write: %w", err)
	}
	if _, err := p.takeOff(ctx, ""); err != nil {
		return "", fmt.Errorf("promoted, but primary_conninfo could not be put back: %w", err)
	}
	return fmt.Sprintf("recovery ended after %s", took.Round(time.Millisecond)), nil
}

// awaitPrimary waits for the end of recovery. The startup process looks for a receiver again every wal_retrieve_retry_interval,
// 5 s by default, and may have taken the signal to promote for the receiver's (it then sleeps the whole interval). A reload
// wakes it, so it is woken until it is done, less and less often: it may have much to apply.
func (p *postgres) awaitPrimary(ctx context.Context) error {
	pause := firstWake
	wake := time.Now().Add(pause)
	return poll(ctx, func() (bool, error) {
		recovering := true
		if err := p.ask(ctx, "SELECT pg_is_in_recovery()", &recovering); err != nil || !recovering {
			return !recovering, err
		}
		if time.Now().Before(wake) {
			return false, nil
		}
		pause = min(2*pause, lastWake)
		wake = time.Now().Add(pause)
		return false, p.act(ctx, "SELECT pg_reload_conf()")
	})
}

const (
	firstWake = 30 * time.Millisecond // a promotion on an idle machine takes about as long
	lastWake  = time.Second
)
