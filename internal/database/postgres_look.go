package database

import (
	"context"
	"errors"
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
  EXISTS (SELECT FROM pg_stat_wal_receiver WHERE status = 'streaming' AND clock_timestamp() - last_msg_receipt_time
    <= interval '1 second' + coalesce(nullif(current_setting('wal_receiver_timeout')::interval, '0'), '1 minute') / 2),
  current_setting('default_transaction_read_only'),
  EXISTS (SELECT FROM ` + ownDefaults + ` AND setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database())) AND setrole IN (0, current_user::regrole)),
  EXISTS (SELECT FROM ` + ownDefaults + ` AND lower(split_part(c, '=', 2)) NOT IN ('on', 'true', 'yes', '1'))`

// ownDefaults are defaults that a role or a database has of its own, which go before the server's.
const ownDefaults = `pg_db_role_setting s, unnest(s.setconfig) AS c WHERE c ILIKE 'default_transaction_read_only=%'`

// Observe looks once. A primary's position is all that is in its log, a commit that nobody has waited for included; a replica's
// is what it has on its disk.
func (p *postgres) Observe(ctx context.Context) (failover.Observation, error) {
	o := failover.Observation{Role: failover.RoleUnknown}
	var recovering, streaming bool
	var id, frozen string
	var position, timeline *string
	var hidden, exempted bool
	if err := p.ask(ctx, lookPostgres, &recovering, &id, &position, &timeline, &streaming, &frozen, &hidden, &exempted); err != nil {
		return o, err
	}
	if hidden {
		return o, errors.New("cannot see whether it is frozen: default_transaction_read_only is set for the role or the database of the dsn; ALTER ROLE or ALTER DATABASE ... RESET it")
	}
	if recovering {
		o.Role = failover.RoleReplica
	} else {
		o.Role = failover.RolePrimary
	}
	o.ID, o.Streaming, o.Frozen = id, streaming && recovering, frozen == "on" && !exempted
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
