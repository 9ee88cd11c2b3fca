package database

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// mayPostgres asks for each privilege that examples/postgres/watchover.sql grants, and names those that are missing. Before
// version 15 only a superuser may change the server's settings.
const mayPostgres = `SELECT coalesce(string_agg(what, ', '), '') FROM (VALUES
  (pg_has_role('pg_read_all_settings', 'USAGE'), 'GRANT pg_read_all_settings'),
  (pg_has_role('pg_read_all_stats', 'USAGE'), 'GRANT pg_read_all_stats'),
  (pg_has_role('pg_signal_backend', 'USAGE'), 'GRANT pg_signal_backend'),
  (has_function_privilege('pg_reload_conf()', 'EXECUTE'), 'GRANT EXECUTE ON FUNCTION pg_reload_conf()'),
  (has_function_privilege('pg_promote(boolean, integer)', 'EXECUTE'), 'GRANT EXECUTE ON FUNCTION pg_promote(boolean, integer)'),
  (has_function_privilege('pg_show_all_file_settings()', 'EXECUTE'), 'GRANT EXECUTE ON FUNCTION pg_show_all_file_settings()'),
  %s) AS p(may, what) WHERE NOT may`

const (
	mayAlterSystem = `(has_parameter_privilege('default_transaction_read_only', 'ALTER SYSTEM'), 'GRANT ALTER SYSTEM ON PARAMETER default_transaction_read_only'),
  (has_parameter_privilege('primary_conninfo', 'ALTER SYSTEM'), 'GRANT ALTER SYSTEM ON PARAMETER primary_conninfo')`
	maySuperuser = `((SELECT rolsuper FROM pg_roles WHERE rolname = current_user), 'superuser (before PostgreSQL 15 only that may use ALTER SYSTEM)')`
)

// Rehearse looks at privileges, and at settings that would make a step fail or slow.
func (p *postgres) Rehearse(ctx context.Context, writer bool) []failover.Finding {
	privileges := p.rehearsePrivileges(ctx)
	if p.broken != nil {
		return []failover.Finding{privileges} // it would only be said twice
	}
	return []failover.Finding{privileges, p.rehearseSettings(ctx, writer)}
}

func (p *postgres) rehearsePrivileges(ctx context.Context) failover.Finding {
	var version int
	var missing string
	err := p.ask(ctx, "SELECT current_setting('server_version_num')::int", &version)
	if err == nil {
		may := mayAlterSystem
		if version < 150000 {
			may = maySuperuser
		}
		err = p.ask(ctx, fmt.Sprintf(mayPostgres, may), &missing)
	}
	var faults []string
	if missing != "" {
		faults = []string{"missing: " + missing}
	}
	return finding(checkPrivileges, "all that the plan needs", faults, err)
}

// slowRetry is what wal_retrieve_retry_interval should not exceed: a promotion just after the old primary stopped may wait
// that long (its default is 5 s).
const slowRetry = 500 * time.Millisecond

// settingsPostgres is what rehearseSettings looks at. A file that cannot be read keeps the server from taking up any setting,
// ours too; a value that cannot be applied does not.
const settingsPostgres = `SELECT (SELECT source FROM pg_settings WHERE name = 'default_transaction_read_only'),
  (SELECT setting::bigint FROM pg_settings WHERE name = 'wal_retrieve_retry_interval'),
  (SELECT setting::bigint FROM pg_settings WHERE name = 'recovery_min_apply_delay'),
  (SELECT setting::bigint FROM pg_settings WHERE name = 'wal_receiver_timeout'),
  CASE WHEN pg_is_in_recovery() THEN pg_is_wal_replay_paused() ELSE false END,
  coalesce(current_setting('allow_alter_system', true), 'on') = 'off',
  (SELECT coalesce(string_agg(concat(sourcefile, ':', sourceline, ' ', error), '; ' ORDER BY seqno), '') FROM pg_show_all_file_settings()
    WHERE error <> 'setting could not be applied')`

// settings is its answer; times are in milliseconds.
type settings struct {
	source                 string
	retry, delay, patience int64
	paused, unalterable    bool
	unreadable             string
}

func (p *postgres) rehearseSettings(ctx context.Context, writer bool) failover.Finding {
	var s settings
	who, err := p.exempt(ctx)
	if err == nil {
		err = p.ask(ctx, settingsPostgres, &s.source, &s.retry, &s.delay, &s.patience, &s.paused, &s.unalterable, &s.unreadable)
	}
	if err != nil {
		return finding(checkSettings, "", nil, err)
	}
	faults, notes := s.faults(), []string(nil)
	if freeze := freezeFaults(who, s.source); writer {
		faults = append(faults, freeze...)
	} else { // of a failover's target, which is not to be frozen
		notes = freeze
		faults = append(append(faults, s.standbyFaults()...), p.sourceFaults(ctx)...)
	}
	if wait := time.Duration(s.retry) * time.Millisecond; !writer && wait > slowRetry {
		notes = append(notes, fmt.Sprintf("wal_retrieve_retry_interval is %s: a promotion may wait that long; 100ms is better", wait))
	}
	return finding(checkSettings, orNone(strings.Join(notes, "; ")), faults, nil)
}

// freezeFaults would make a freeze fail.
func freezeFaults(who, source string) (faults []string) {
	if who != "" {
		faults = append(faults, fmt.Sprintf("a freeze would not hold: %s has a default_transaction_read_only of its own; ALTER ... RESET it", who))
	}
	if source == "command line" {
		faults = append(faults, "a freeze would not take: default_transaction_read_only is on the server's command line")
	}
	return faults
}

// faults would make every step fail that changes a setting.
func (s *settings) faults() (faults []string) {
	if s.unreadable != "" {
		faults = append(faults, "no setting would be taken up, for its files have errors: "+cutText(s.unreadable, maxFileErrors))
	}
	if s.unalterable {
		faults = append(faults, "no setting could be changed: allow_alter_system is off")
	}
	return faults
}

// maxFileErrors is how much is told of errors in configuration files, in bytes.
const maxFileErrors = 500

func (s *settings) standbyFaults() (faults []string) {
	if s.delay > 0 {
		faults = append(faults, fmt.Sprintf("catch-up would wait: recovery_min_apply_delay is %d ms", s.delay))
	}
	if s.paused {
		faults = append(faults, "catch-up would wait: replay is paused; SELECT pg_wal_replay_resume()")
	}
	if s.patience == 0 {
		faults = append(faults, "nobody can tell whether it still receives: wal_receiver_timeout is 0; set it to 10s")
	}
	return faults
}

// sourceFaults are about whom a standby follows.
func (p *postgres) sourceFaults(ctx context.Context) []string {
	f, unusable := p.following(ctx)
	switch {
	case unusable != nil && isURL(f.bare()):
		return []string{unusable.Error()}
	case unusable == nil && f.ours():
		return []string{"its replication was stopped by an earlier switchover and is not resumed: take what begins with application_name=watchover_stop_ off primary_conninfo"}
	}
	return nil
}

func orNone(notes string) string {
	if notes == "" {
		return "nothing that stands in the plan's way"
	}
	return notes
}
