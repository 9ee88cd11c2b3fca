//go:build servers

package proctest

import (
	"os"
	"strings"
	"testing"

	"github.com/watchover-ha/watchover/internal/dbtest"
)

func newMariaDBPair(t *testing.T, only map[string]string, every string) (p *serverPair, main, standby *dbtest.MariaDB) {
	t.Helper()
	main, standby = dbtest.NewMariaDBPair(t)
	dbs := map[string]*dbtest.MariaDB{"main": main, "standby": standby}
	p = &serverPair{
		db: map[string]server{"main": main, "standby": standby}, client: map[string]string{"main": main.AppDSN(), "standby": standby.AppDSN()},
		session: dbtest.MariaDBSession, frozen: func(app string) bool { return dbs[app].Value(t, "SELECT @@read_only") == "1" },
		every: every,
	}
	p.begin(t, "mysql", only)
	return p, main, standby
}

func mariadbPair(t *testing.T) *serverPair {
	t.Helper()
	p, _, _ := newMariaDBPair(t, nil, "")
	return p
}

func TestServersMariaDBMovesAndReturns(t *testing.T) { mariadbPair(t).movesAndReturns() }

func TestServersMariaDBFailsOver(t *testing.T) { mariadbPair(t).failsOver() }

func TestServersMariaDBMainAppDies(t *testing.T) { mariadbPair(t).mainAppDies() }

func TestServersMariaDBMainHangs(t *testing.T) { mariadbPair(t).mainHangs() }

// A replica that receives everything and applies it an hour late is ready and cannot catch up. All is taken back, and main's
// settings are what they were.
func TestServersMariaDBUndo(t *testing.T) {
	p, main, standby := newMariaDBPair(t, map[string]string{"catch-up": "timeout: 3s, tries: 1"}, "0s") // a rehearsal would find the delay
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

// Watchover's password is changed: the sessions that are open go on, so nobody would notice before the switchover that needs
// another one. The watchers' own rehearsals do, and so does one that is asked for; nothing is changed by them.
func TestServersMariaDBRehearsalFindsALostPassword(t *testing.T) {
	p, main, standby := newMariaDBPair(t, nil, "1s")
	before := main.Settings(t) + standby.Settings(t)
	if out := p.mustOrder("w2", "rehearse", group); !strings.HasPrefix(out, group+" is ready: every check passed") {
		t.Errorf("rehearsed: %s", out)
	}
	secret, err := os.ReadFile(standby.PasswordFile(t))
	must(t, err)
	main.Exec(t, "ALTER USER watchover IDENTIFIED BY 'another'")
	eventually(t, "standby is not ready, for the rehearsals alone", func() (bool, any) {
		a := appOf(&p.status("w1").Groups[0], "standby")
		return len(a.NotReady) == 1 && a.NotReady[0].Code == "rehearsal" && strings.Contains(a.NotReady[0].Detail, "Access denied"), shown(a)
	})
	exit, out := p.order("w3", "rehearse", group)
	if exit != 1 || !strings.Contains(out, "no_ready_target") {
		t.Errorf("exit %d: %s", exit, out)
	}
	for _, name := range names {
		if !strings.Contains(out, "no   "+name+"  privileges of standby\n") {
			t.Errorf("%s did not notice: %s", name, out)
		}
	}
	main.Exec(t, "ALTER USER watchover IDENTIFIED BY '"+strings.TrimSpace(string(secret))+"'")
	p.waitReady("standby")
	if after := main.Settings(t) + standby.Settings(t); after != before {
		t.Errorf("settings were\n%s\nand are\n%s", before, after)
	}
}
