//go:build servers

package database

import (
	"context"
	"strings"
	"testing"

	"github.com/watchover-ha/watchover/internal/dbtest"
	"github.com/watchover-ha/watchover/pkg/failover"
)

// historyOf is that of a server as it is now.
func historyOf(t *testing.T, db interface {
	History(context.Context) (string, error)
}) string {
	t.Helper()
	history, err := db.History(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return history
}

// failOver promotes standby without main; what main had in its log then is received or not, as the test wants it.
func mysqlFailOver(t *testing.T, standby *dbtest.MariaDB) {
	t.Helper()
	db := mysqlOn(t, standby, plenty)
	done(t, "stop", func() (string, error) { return db.StopReplication(t.Context()) })
	done(t, "promote", func() (string, error) { return db.Promote(t.Context()) })
}

func TestMySQLReprotect(t *testing.T) {
	t.Parallel()
	main, standby := dbtest.NewMariaDBPair(t)
	ctx := t.Context()
	old := mysqlOn(t, main, plenty)
	main.Exec(t, "INSERT INTO shop.orders VALUES (1)")
	done(t, "freeze", func() (string, error) { return old.Freeze(ctx) })
	end := main.Value(t, "SELECT @@gtid_binlog_pos")
	done(t, "catch up", func() (string, error) { return mysqlOn(t, standby, plenty).CatchUp(ctx, "gtid:"+end) })
	mysqlFailOver(t, standby)
	standby.Exec(t, "INSERT INTO shop.orders VALUES (2)")

	if lost, err := old.Lost(ctx, historyOf(t, mysqlOn(t, standby, plenty))); err != nil || lost != "" {
		t.Fatalf("lost %q, %v", lost, err)
	}
	done(t, "follow", func() (string, error) {
		return old.Follow(ctx, failover.Database{DSN: standby.DSN(), PasswordEnv: inVariable(t, standby.PasswordFile(t))})
	})
	if seen := observe(t, old); seen.Role != failover.RoleReplica || !seen.Streaming || seen.ID != "server 2" || !seen.Frozen {
		t.Errorf("got %+v", seen)
	}
	dbtest.Until(t, "it has what was written meanwhile", func() bool { return main.Value(t, "SELECT COUNT(*) FROM shop.orders") == "2" })

	// And back again: the way that a group goes when it is moved to and fro.
	back := mysqlOn(t, main, plenty)
	neu := mysqlOn(t, standby, plenty)
	done(t, "freeze", func() (string, error) { return neu.Freeze(ctx) })
	position, err := neu.Position(ctx)
	if err != nil {
		t.Fatal(err)
	}
	done(t, "catch up", func() (string, error) { return back.CatchUp(ctx, position) })
	mysqlFailOver(t, main)
	done(t, "follow", func() (string, error) {
		return neu.Follow(ctx, failover.Database{DSN: main.DSN(), PasswordFile: main.PasswordFile(t)})
	})
}

// A transaction that only the old primary has is named, and nothing is done as long as it is there.
func TestMySQLReprotectRefusesErrantTransactions(t *testing.T) {
	t.Parallel()
	main, standby := dbtest.NewMariaDBPair(t)
	ctx := t.Context()
	standby.Exec(t, "STOP SLAVE IO_THREAD")
	main.Exec(t, "INSERT INTO shop.orders VALUES (1)", "INSERT INTO shop.orders VALUES (2)")
	mysqlFailOver(t, standby)
	standby.Exec(t, "INSERT INTO shop.orders VALUES (1)", "INSERT INTO shop.orders VALUES (2)", "INSERT INTO shop.orders VALUES (3)")
	old := mysqlOn(t, main, plenty)
	// The highest number of the new primary is above the old one's: only a look at each server's own transactions tells.
	lost, err := old.Lost(ctx, historyOf(t, mysqlOn(t, standby, plenty)))
	if err != nil || !strings.HasPrefix(lost, "transactions 0-1-") {
		t.Errorf("lost %q, %v", lost, err)
	}
	refused(t, "follow", lost, func() (string, error) {
		return old.Follow(ctx, failover.Database{DSN: standby.DSN(), PasswordFile: standby.PasswordFile(t)})
	})
	if is := main.Replica(t, "Master_Host"); is != "" {
		t.Errorf("it follows %s", is)
	}
	done(t, "freeze", func() (string, error) { return mysqlOn(t, standby, plenty).Freeze(ctx) })
	refused(t, "follow a frozen one", "no primary that takes writes", func() (string, error) {
		return old.Follow(ctx, failover.Database{DSN: standby.DSN(), PasswordFile: standby.PasswordFile(t)})
	})
}

func TestMySQLRehearsal(t *testing.T) {
	t.Parallel()
	main, standby := dbtest.NewMariaDBPair(t)
	for writer, server := range map[bool]*dbtest.MariaDB{true: main, false: standby} {
		for _, f := range mysqlOn(t, server, plenty).Rehearse(t.Context(), writer) {
			if !f.OK {
				t.Errorf("writer %t: %+v", writer, f)
			}
		}
	}
	standby.Exec(t, "SET GLOBAL slave_net_timeout = 60", "REVOKE RELOAD, PROCESS ON *.* FROM watchover",
		"STOP SLAVE", "CHANGE MASTER TO MASTER_USE_GTID = no, MASTER_DELAY = 7", "START SLAVE")
	var told []string
	for _, f := range mysqlOn(t, standby, plenty).Rehearse(t.Context(), false) {
		if !f.OK {
			told = append(told, f.Check+": "+f.Detail)
		}
	}
	want := "settings: slave_net_timeout is 60: it holds up a failover for as long when the primary's host is lost; set it to 4 | " +
		"settings: it follows without GTIDs: CHANGE MASTER TO MASTER_USE_GTID = slave_pos (MySQL: SOURCE_AUTO_POSITION = 1) | settings: catch-up would wait: it applies with a delay of 7 s (MASTER_DELAY) | privileges: lacks PROCESS, RELOAD on *.*"
	if got := strings.Join(told, " | "); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
