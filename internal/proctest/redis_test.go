//go:build servers

package proctest

import (
	"os"
	"strings"
	"testing"

	"github.com/watchover-ha/watchover/internal/dbtest"
)

func newRedisPair(t *testing.T) *serverPair {
	t.Helper()
	main, standby := dbtest.NewRedisPair(t)
	return watchedRedisPair(t, main, standby, "")
}

func watchedRedisPair(t *testing.T, main, standby *dbtest.Redis, every string) *serverPair {
	t.Helper()
	dbs := map[string]*dbtest.Redis{"main": main, "standby": standby}
	p := &serverPair{
		db: map[string]server{"main": main, "standby": standby}, client: map[string]string{"main": main.Address(), "standby": standby.Address()},
		session: dbtest.RedisSession, every: every,
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

// A standby whose password was changed: the sessions that are open go on, so nobody would notice before the switchover that
// needs another one. The watchers' own rehearsals do, and so does one that is asked for; nothing is changed by them.
func TestServersRedisRehearsalFindsALostPassword(t *testing.T) {
	main, standby := dbtest.NewRedisPair(t)
	p := watchedRedisPair(t, main, standby, "1s")
	if out := p.mustOrder("w2", "rehearse", group); !strings.HasPrefix(out, group+" is ready: every check passed") {
		t.Errorf("rehearsed: %s", out)
	}
	secret, err := os.ReadFile(standby.PasswordFile(t))
	must(t, err)
	standby.Do(t, "ACL", "SETUSER", "watchover", "resetpass", ">another")
	eventually(t, "standby is not ready", func() (bool, any) {
		a := appOf(&p.status("w1").Groups[0], "standby")
		return !a.Ready && len(a.NotReady) == 1 && a.NotReady[0].Code == "rehearsal" && strings.Contains(a.NotReady[0].Detail, "WRONGPASS"), shown(a)
	})
	exit, out := p.order("w3", "rehearse", group)
	if exit != 1 || strings.Count(out, "privileges of standby") != 3 || !strings.Contains(out, "no_ready_target") {
		t.Errorf("exit %d: %s", exit, out)
	}
	standby.Do(t, "ACL", "SETUSER", "watchover", "resetpass", ">"+strings.TrimSpace(string(secret)))
	p.waitReady("standby")
	if info := standby.Info(t, "role"); info != "slave" || p.frozen("main") {
		t.Errorf("something was changed: standby is %s", info)
	}
}
