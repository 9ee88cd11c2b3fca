//go:build servers

package database

import (
	"fmt"
	"strings"
	"testing"
	"time"

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
		return findings(t, hands(t, replica), false) == mayAll+"settings true false wal_retrieve_retry_interval is 5000 ms: a promotion may wait that long; 100ms is better"
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

func TestRehearseMariaDB(t *testing.T) {
	primary, replica := dbtest.NewMariaDBPair(t)
	if got := findings(t, mysqlOn(t, primary, time.Minute), true); got != mayAll+noFault {
		t.Errorf("primary: %s", got)
	}
	if got := findings(t, mysqlOn(t, replica, time.Minute), false); got != mayAll+noFault {
		t.Errorf("replica: %s", got)
	}
	primary.Exec(t, "REVOKE RELOAD, PROCESS ON *.* FROM watchover@'%'")
	if got := findings(t, mysqlOn(t, primary, time.Minute), true); !strings.HasPrefix(got, "privileges false true missing: GRANT PROCESS, RELOAD ON *.*\n") {
		t.Errorf("got %s", got)
	}
	primary.Exec(t, "ALTER USER watchover@'%' IDENTIFIED BY 'another'")
	if got := findings(t, mysqlOn(t, primary, time.Minute), true); !strings.HasPrefix(got, "privileges false true Access denied") || strings.Contains(got, "\n") {
		t.Errorf("got %s", got)
	}
	primary.Kill()
	if got := findings(t, mysqlOn(t, primary, time.Minute), true); !strings.HasPrefix(got, "privileges false false ") {
		t.Errorf("a server that does not answer: %s", got)
	}
}

func TestRehearseRedis(t *testing.T) {
	primary, replica := dbtest.NewRedisPair(t)
	for _, s := range []struct {
		on     *dbtest.Redis
		writer bool
	}{{primary, true}, {replica, false}} {
		stands := func() string {
			return s.on.Do(t, "CONFIG", "GET", "min-replicas-to-write") + s.on.Info(t, "role") + s.on.Info(t, "master_replid") + s.on.Info(t, "master_port")
		}
		before := stands()
		if got := findings(t, redisOn(t, s.on, time.Minute), s.writer); got != mayAll+noFault {
			t.Errorf("writer %t: %s", s.writer, got)
		}
		if after := stands(); after != before {
			t.Errorf("before %s, after %s", before, after)
		}
	}
	replica.Do(t, "ACL", "SETUSER", "watchover", "-replicaof")
	replica.Do(t, "CONFIG", "SET", "replica-read-only", "no")
	got := findings(t, redisOn(t, replica, time.Minute), false)
	if !strings.HasPrefix(got, "privileges false true NOPERM ") || !strings.Contains(got, "'replicaof'") || !strings.Contains(got, "settings false true the replica takes writes of its own") {
		t.Errorf("got %s", got)
	}
	replica.Do(t, "ACL", "SETUSER", "watchover", "resetpass", ">another")
	if got := findings(t, redisOn(t, replica, time.Minute), false); !strings.HasPrefix(got, "privileges false true ") || strings.Contains(got, "\n") {
		t.Errorf("got %s", got)
	}
}
