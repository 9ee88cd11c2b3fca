//go:build servers

package database

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/watchover-ha/watchover/internal/dbtest"
)

// findings are what a rehearsal says, one line each.
func findings(t *testing.T, d Driver, writer bool) string {
	t.Helper()
	var lines []string
	for _, f := range d.Rehearse(t.Context(), writer) {
		lines = append(lines, fmt.Sprintf("%s %t %t %s", f.Check, f.OK, f.Certain, f.Detail))
	}
	return strings.Join(lines, "\n")
}

const (
	mayAll  = "privileges true false all that the plan needs\n"
	noFault = "settings true false nothing that stands in the plan's way"
)

func TestRehearsePostgres(t *testing.T) {
	primary, replica := dbtest.NewPostgresPair(t)
	before := see(t, replica)
	if got := findings(t, hands(t, primary), true); got != mayAll+noFault {
		t.Errorf("primary: %s", got)
	}
	replica.Exec(t, "ALTER SYSTEM SET wal_retrieve_retry_interval = '5s'", "SELECT pg_reload_conf()")
	dbtest.Until(t, "the note", func() bool {
		return findings(t, hands(t, replica), false) == mayAll+"settings true false wal_retrieve_retry_interval is 5s: a promotion may wait that long; 100ms is better"
	})
	if got := see(t, replica); got.Role != before.Role || !got.Streaming || got.Frozen {
		t.Errorf("something was changed: %+v", got)
	}
	primary.Exec(t, "REVOKE EXECUTE ON FUNCTION pg_promote(boolean, integer) FROM watchover", "ALTER ROLE app SET default_transaction_read_only = off")
	if got := findings(t, hands(t, primary), true); !strings.Contains(got, "privileges false true missing: GRANT EXECUTE ON FUNCTION pg_promote(boolean, integer)\n") ||
		!strings.Contains(got, "settings false true a freeze would not hold: role app has") {
		t.Errorf("got %s", got)
	}
	dbtest.Until(t, "the standby tells of the role, which is no fault of a target", func() bool {
		return strings.Contains(findings(t, hands(t, replica), false), "settings true false a freeze would not hold: role app has")
	})
	replica.Exec(t, "ALTER SYSTEM SET wal_receiver_timeout = 0", "SELECT pg_reload_conf()", "SELECT pg_wal_replay_pause()")
	dbtest.Until(t, "the faults of a standby", func() bool {
		return strings.Contains(findings(t, hands(t, replica), false), "settings false true catch-up would wait: replay is paused; SELECT pg_wal_replay_resume(); nobody can tell whether it still receives: wal_receiver_timeout is 0; set it to 10s")
	})
	replica.Exec(t, "SELECT pg_wal_replay_resume()")
	primary.Exec(t, "ALTER SYSTEM SET max_connections = 51") // cannot be applied without a restart, and does not matter
	if err := spoil(primary.Dir + "/postgresql.conf"); err != nil {
		t.Fatal(err)
	}
	if got := findings(t, hands(t, primary), true); !strings.Contains(got, "settings false true no setting would be taken up, for its files have errors: ") ||
		!strings.Contains(got, "syntax error; a freeze would not hold") || strings.Contains(got, "applied") {
		t.Errorf("got %s", got)
	}
	primary.Exec(t, "ALTER ROLE watchover PASSWORD 'another'")
	if got := findings(t, hands(t, primary), true); !strings.HasPrefix(got, "privileges false true fatal: password authentication failed") || strings.Contains(got, "\n") {
		t.Errorf("got %s", got)
	}
	primary.Stop(t)
	if got := findings(t, hands(t, primary), true); !strings.HasPrefix(got, "privileges false false ") {
		t.Errorf("a server that does not answer: %s", got)
	}
}

// spoil appends what is no setting.
func spoil(file string) error {
	f, err := os.OpenFile(file, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString("\nno setting at all\n")
	return errors.Join(err, f.Close())
}
