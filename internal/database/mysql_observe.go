package database

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// receiving is what a replica says of itself.
type receiving struct {
	receiver, applier string // Yes, No, or on the way: Connecting, Preparing
	source            string // what the source is known by; empty: it never spoke with it
	file              string // of the source's binary log
	position          string
	received          string // history, as a set of GTIDs
	appliedFile       string // up to where it is applied, of the source's binary log
	appliedPosition   string
	delay             string // seconds that the applier waits on purpose
	gtid              bool
	applierError      string
	sourceError       string
	host, port        string
}

func (r *receiving) streams() bool { return r != nil && r.receiver == "Yes" }
func (r *receiving) applies() bool { return r.applier == "Yes" }

// drained reports whether all that was received is applied, without GTIDs: the applier may be off.
func (r *receiving) drained() bool {
	return r.file != "" && r.appliedFile == r.file && r.appliedPosition == r.position
}

// replica asks a server whom it follows; nil: nobody.
func (m *mysql) replica(ctx context.Context) (*receiving, error) {
	if err := m.open(ctx); err != nil {
		return nil, err
	}
	rows, err := m.query(ctx, m.dialect.status)
	switch {
	case err != nil || len(rows) == 0:
		return nil, err
	case len(rows) > 1:
		return nil, fmt.Errorf("the server follows %d sources; a replica that can be promoted follows one", len(rows))
	case m.dialect.mariadb && rows[0]["Connection_name"] != "":
		return nil, errors.New("the server follows its source over a connection with a name; make it the default one: CHANGE MASTER TO without a name")
	}
	return m.dialect.receiving(rows[0]), nil
}

func (d *dialect) receiving(r record) *receiving {
	out := &receiving{
		receiver: r[d.receiver], applier: r[d.applier], file: r[d.file], position: r[d.position],
		received: strings.Join(strings.Fields(r[d.received]), ""), host: r[d.host], port: r[d.port],
		appliedFile: r[d.appliedFile], appliedPosition: r[d.appliedPosition], delay: r["SQL_Delay"],
		applierError: r[d.applierError], sourceError: r[d.sourceError],
	}
	out.gtid = d.mariadb && r["Using_Gtid"] != "No" || !d.mariadb && r["Auto_Position"] == "1"
	if id := r[d.source]; id != "" && id != "0" {
		out.source = "server " + id
	}
	return out
}

// Observe looks at role, freeze, stream, identity and position. A primary is known by its own server id (MySQL: its UUID), a
// replica by that of its source, also after the stream has stopped: so a replica of somebody else's is found out.
func (m *mysql) Observe(ctx context.Context) (failover.Observation, error) {
	seen := failover.Observation{Role: failover.RoleUnknown}
	from, err := m.replica(ctx)
	if err != nil {
		return seen, err
	}
	if seen.Frozen, err = m.frozen(ctx); err != nil {
		return seen, err
	}
	if from == nil {
		return m.observePrimary(ctx, seen)
	}
	seen.Role, seen.Streaming, seen.ID = failover.RoleReplica, from.streams(), from.source
	// A replica that does not apply cannot be promoted, however much it has received; one that tells no position is not ready.
	if from.applies() {
		seen.Position = linear(from.file, from.position)
	}
	return seen, nil
}

func (m *mysql) observePrimary(ctx context.Context, seen failover.Observation) (failover.Observation, error) {
	id, err := m.row(ctx, m.dialect.identity)
	if err != nil {
		return seen, err
	}
	end, err := m.query(ctx, m.dialect.end(m))
	if err != nil {
		return seen, err
	}
	seen.Role, seen.ID = failover.RolePrimary, id["id"]
	if len(end) == 1 {
		seen.Position = linear(end[0]["File"], end[0]["Position"])
	}
	return seen, nil
}

// end is the question for where the binary log ends. MySQL 8.4 has dropped the old words, 8.0 does not know the new ones.
func (d *dialect) end(m *mysql) string {
	if !d.mariadb && m.newWords {
		return "SHOW BINARY LOG STATUS"
	}
	return "SHOW MASTER STATUS"
}

// fileBits leaves a file of the binary log a TiB: more than any has, for one transaction does not go beyond one file.
const fileBits = 40

// linear makes file and position of a binary log one number that never falls as long as the log is written. Within a file a
// difference is bytes; over the end of a file it is far more than was written, so that nobody takes it for little.
func linear(file, position string) *uint64 {
	_, number, _ := strings.Cut(file, ".")
	if i := strings.LastIndexByte(number, '.'); i >= 0 {
		number = number[i+1:]
	}
	n, err := strconv.ParseUint(number, 10, 64-fileBits)
	at, errAt := strconv.ParseUint(position, 10, fileBits)
	if err != nil || errAt != nil {
		return nil
	}
	at += n << fileBits
	return &at
}

// setting is the value of a global setting as 0 or 1.
func (m *mysql) setting(ctx context.Context, name string) (string, error) {
	r, err := m.row(ctx, "SELECT @@global."+name+" AS value")
	if err != nil {
		return "", err
	}
	switch value := r["value"]; value {
	case "0", "OFF":
		return "0", nil
	case "1", "ON":
		return "1", nil
	default:
		return "", fmt.Errorf("cannot read %s from %q; want 0 or 1", name, value)
	}
}

func (m *mysql) frozen(ctx context.Context) (bool, error) {
	value, err := m.setting(ctx, m.dialect.settings[len(m.dialect.settings)-1])
	return value == "1", err
}
