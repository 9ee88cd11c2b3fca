//go:build servers

package database

import (
	"fmt"
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
	primary.Exec(t, "ALTER ROLE watchover PASSWORD 'another'")
	if got := findings(t, hands(t, primary), true); !strings.HasPrefix(got, "privileges false true fatal: password authentication failed") || strings.Contains(got, "\n") {
		t.Errorf("got %s", got)
	}
	primary.Stop(t)
	if got := findings(t, hands(t, primary), true); !strings.HasPrefix(got, "privileges false false ") {
		t.Errorf("a server that does not answer: %s", got)
	}
}
