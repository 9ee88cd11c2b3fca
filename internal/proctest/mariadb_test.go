//go:build servers

package proctest

import (
	"testing"

	"github.com/watchover-ha/watchover/internal/dbtest"
)

func newMariaDBPair(t *testing.T) *serverPair {
	t.Helper()
	main, standby := dbtest.NewMariaDBPair(t)
	dbs := map[string]*dbtest.MariaDB{"main": main, "standby": standby}
	p := &serverPair{
		db: map[string]server{"main": main, "standby": standby}, client: map[string]string{"main": main.AppDSN(), "standby": standby.AppDSN()},
		session: dbtest.MariaDBSession, frozen: func(app string) bool { return dbs[app].Value(t, "SELECT @@read_only") == "1" },
	}
	p.begin(t, "mysql")
	return p
}

func TestServersMariaDBMovesAndReturns(t *testing.T) { newMariaDBPair(t).movesAndReturns() }

func TestServersMariaDBFailsOver(t *testing.T) { newMariaDBPair(t).failsOver() }
