//go:build servers

package proctest

import (
	"strings"
	"testing"

	"github.com/watchover-ha/watchover/internal/dbtest"
)

func newMariaDBPair(t *testing.T, only map[string]string) (p *serverPair, main, standby *dbtest.MariaDB) {
	t.Helper()
	main, standby = dbtest.NewMariaDBPair(t)
	dbs := map[string]*dbtest.MariaDB{"main": main, "standby": standby}
	p = &serverPair{
		db: map[string]server{"main": main, "standby": standby}, client: map[string]string{"main": main.AppDSN(), "standby": standby.AppDSN()},
		session: dbtest.MariaDBSession, frozen: func(app string) bool { return dbs[app].Value(t, "SELECT @@read_only") == "1" },
	}
	p.begin(t, "mysql", only)
	return p, main, standby
}

func mariadbPair(t *testing.T) *serverPair {
	t.Helper()
	p, _, _ := newMariaDBPair(t, nil)
	return p
}

func TestServersMariaDBMovesAndReturns(t *testing.T) { mariadbPair(t).movesAndReturns() }

func TestServersMariaDBFailsOver(t *testing.T) { mariadbPair(t).failsOver() }

func TestServersMariaDBMainAppDies(t *testing.T) { mariadbPair(t).mainAppDies() }

func TestServersMariaDBMainHangs(t *testing.T) { mariadbPair(t).mainHangs() }

// A replica that receives everything and applies it an hour late is ready and cannot catch up. All is taken back, and main's
// settings are what they were.
func TestServersMariaDBUndo(t *testing.T) {
	p, main, standby := newMariaDBPair(t, map[string]string{"catch-up": "timeout: 3s, tries: 1"})
	standby.Exec(t, "STOP SLAVE", "CHANGE MASTER TO MASTER_DELAY=3600", "START SLAVE")
	p.waitReady("standby")
	before := main.Settings(t) + standby.Settings(t)
	w := p.write()
	exit, output := p.order("w1", "switchover", group, "--yes")
	if exit != 1 || !strings.Contains(output, "not all of that is applied") {
		t.Fatalf("exit %d: %s", exit, output)
	}
	t.Logf("%s", output)
	p.writesOn(w, "main")
	w.Stop()
	if after := main.Settings(t) + standby.Settings(t); after != before {
		t.Errorf("settings were\n%s\nand are\n%s", before, after)
	}
	if is := standby.Replica(t, "Slave_IO_Running"); is != "Yes" {
		t.Errorf("the replica's receiver: %s", is)
	}
	if lost := dbtest.Lost(w.Acks(), main.Stored(t)); len(lost) > 0 {
		t.Errorf("%d acknowledged writes are lost", len(lost))
	}
}
