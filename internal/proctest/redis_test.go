//go:build servers

package proctest

import (
	"strings"
	"testing"

	"github.com/watchover-ha/watchover/internal/dbtest"
)

func newRedisPair(t *testing.T) *serverPair {
	t.Helper()
	main, standby := dbtest.NewRedisPair(t)
	dbs := map[string]*dbtest.Redis{"main": main, "standby": standby}
	p := &serverPair{
		db: map[string]server{"main": main, "standby": standby}, client: map[string]string{"main": main.Address(), "standby": standby.Address()},
		session: dbtest.RedisSession,
		frozen: func(app string) bool {
			return strings.HasSuffix(dbs[app].Do(t, "CONFIG", "GET", "min-replicas-to-write"), "\n1000000")
		},
	}
	p.begin(t, "redis", nil)
	return p
}

func TestServersRedisMovesAndReturns(t *testing.T) { newRedisPair(t).movesAndReturns() }

func TestServersRedisFailsOver(t *testing.T) { newRedisPair(t).failsOver() }

func TestServersRedisMainAppDies(t *testing.T) { newRedisPair(t).mainAppDies() }

func TestServersRedisMainHangs(t *testing.T) { newRedisPair(t).mainHangs() }
