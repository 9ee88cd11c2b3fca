package database

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// lookPostgres is all that is to be known of a server, in one answer.
//
// The receiver's status says "streaming" also when the primary has hung for a minute. It asks the primary for a sign of life
// after half of wal_receiver_timeout, so one that has heard nothing for longer than that, and a second, does not stream. The
// timeline of a replica without a receiver is not known: the control file's is of the last restart point.
const lookPostgres = `
SELECT pg_is_in_recovery(),
  (SELECT system_identifier::text FROM pg_control_system()),
  CASE WHEN pg_is_in_recovery() THEN greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()) ELSE pg_current_wal_insert_lsn() END::text,
  CASE WHEN pg_is_in_recovery() THEN (SELECT received_tli::text FROM pg_stat_wal_receiver)
    ELSE ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::bigint::text END,
  EXISTS (SELECT FROM pg_stat_wal_receiver WHERE status = 'streaming'
    AND clock_timestamp() - last_msg_receipt_time <= interval '1 second' + (SELECT CASE WHEN setting = '0' THEN 60000 ELSE setting::int END FROM pg_settings WHERE name = 'wal_receiver_timeout') * interval '0.5 millisecond'),
  (SELECT setting FROM pg_settings WHERE name = 'default_transaction_read_only'),
  (SELECT source FROM pg_settings WHERE name = 'default_transaction_read_only'),
  ` + exempt

// exempt is who does not heed the server's default_transaction_read_only, because a default of their own goes before it.
const exempt = `(SELECT string_agg(concat_ws(' in ', nullif(coalesce('role ' || quote_ident(r.rolname), ''), ''), 'database ' || quote_ident(d.datname)), ', ')
    FROM pg_db_role_setting s LEFT JOIN pg_roles r ON r.oid = s.setrole LEFT JOIN pg_database d ON d.oid = s.setdatabase, unnest(s.setconfig) AS c
    WHERE c ILIKE 'default_transaction_read_only=%' AND lower(split_part(c, '=', 2)) NOT IN ('on', 'true', 'yes', '1'))`

// Observe looks once. A primary's position is all that is in its log, a commit that nobody has waited for included; a replica's
// is what it has on its disk.
func (p *postgres) Observe(ctx context.Context) (failover.Observation, error) {
	o := failover.Observation{Role: failover.RoleUnknown}
	var recovering, streaming bool
	var id, frozen, source string
	var position, timeline, exempted *string
	if err := p.ask(ctx, lookPostgres, &recovering, &id, &position, &timeline, &streaming, &frozen, &source, &exempted); err != nil {
		return o, err
	}
	switch source {
	case "database", "user", "database user", "client", "session":
		return o, fmt.Errorf("cannot see whether it is frozen: default_transaction_read_only is set for this %s; ALTER ... RESET it there", source)
	}
	if recovering {
		o.Role = failover.RoleReplica
	} else {
		o.Role = failover.RolePrimary
	}
	o.ID, o.Streaming, o.Frozen = id, streaming && recovering, frozen == "on" && exempted == nil
	if position != nil {
		at, err := parseLSN(*position)
		if err != nil {
			return failover.Observation{Role: failover.RoleUnknown}, err
		}
		if !recovering {
			at = withoutHeader(at)
		}
		o.Position = &at
	}
	if timeline != nil {
		o.Timeline, _ = strconv.ParseUint(*timeline, 10, 32)
	}
	return o, nil
}

// parseLSN reads PostgreSQL's form of a log sequence number, two hexadecimal numbers, as bytes.
func parseLSN(text string) (uint64, error) {
	high, low, _ := strings.Cut(text, "/")
	h, err := strconv.ParseUint(high, 16, 32)
	l, errLow := strconv.ParseUint(low, 16, 32)
	if err != nil || errLow != nil {
		return 0, fmt.Errorf("%.40q is no log sequence number", text)
	}
	return h<<32 | l, nil
}

// Sizes of the log's pages and of the headers at their beginnings (access/xlog_internal.h).
const (
	walPage        = 8192
	walHeader      = 24
	walLongHeader  = 40 // of a segment's first page
	walLeastSplice = 1 << 20
)

// withoutHeader takes the header of a page that is still empty off an insert position: no record is there, and a replica that
// has everything would look some bytes behind for as long as nothing is written.
func withoutHeader(at uint64) uint64 {
	switch {
	case at%walLeastSplice == walLongHeader:
		return at - walLongHeader
	case at%walPage == walHeader:
		return at - walHeader
	}
	return at
}
