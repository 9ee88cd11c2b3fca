//go:build servers

package proctest

import (
	"os"
	"testing"
	"time"

	"github.com/watchover-ha/watchover/internal/dbtest"
	"github.com/watchover-ha/watchover/pkg/client"
)

// postgresPoints are places of the plan at which the leader dies, those that leave most to guess for the next one.
// PROCTEST_POINTS=all takes every entry of the steps that touch a database.
func postgresPoints() []string {
	if os.Getenv("PROCTEST_POINTS") != "all" {
		return []string{"after:start:stop-replication", "after:start:promote", "before:ended:promote:done"}
	}
	var all []string
	for _, step := range []string{"freeze", "catch-up", "stop-replication", "promote"} {
		all = append(all, "before:start:"+step, "after:start:"+step, "before:ended:"+step+":done", "after:ended:"+step+":done")
	}
	return all
}

// Whoever takes over comes to the same end: promoted once, never two that take writes, nothing lost.
func TestServersPostgresLeaderKilled(t *testing.T) {
	t.Parallel()
	for _, point := range postgresPoints() {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			for range attemptsPerPoint {
				if killedAtPostgres(t, point) {
					return
				}
			}
			t.Errorf("%d switchovers ended without passing this point", attemptsPerPoint)
		})
	}
}

// killedAtPostgres moves a new pair while the leader dies at a point. False: the point was not passed; a leadership that is lost
// for want of processor time just there misses it.
func killedAtPostgres(t *testing.T, point string) bool {
	p := preparePostgresPair(t, settings{watcher: crashBinary, steps: "timeout: 3s, tries: 3, backoff: 200ms"})
	defer p.close()
	p.settings.env = []string{"WATCHOVER_TEST_CRASH=" + p.path("crash")}
	p.begin()
	w := p.write()
	defer w.Stop()
	must(t, os.WriteFile(p.path("crash"), []byte(point), 0o600))
	askSwitchover(p.cluster, "main")
	p.writesOn(w, "standby")
	p.waitEnded(1)
	if _, err := os.Stat(p.path("crash")); err == nil {
		return false
	}
	p.startWatcher(p.died(point))
	p.waitEnded(1)
	w.Stop()
	p.judgeMoved(w)
	return true
}

// judgeMoved holds the two servers against a switchover that was done once and whole.
func (p *postgresPair) judgeMoved(w *dbtest.Writer) {
	p.t.Helper()
	o := p.history(p.running()[0])[0]
	p.t.Logf("%s %s: %s", o.Kind, o.Result, outputs(&o))
	if o.Result != "done" {
		p.t.Errorf("%s", shown(o))
	}
	if lost := dbtest.Lost(w.Acks(), p.db["standby"].Stored(p.t)); len(lost) > 0 {
		p.t.Errorf("%d acknowledged writes are lost, among them %+v", len(lost), lost[0])
	}
	timeline := "SELECT ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int"
	if main, standby := p.db["main"].Query(p.t, timeline), p.db["standby"].Query(p.t, timeline); main != "1" || standby != "2" {
		p.t.Errorf("main is on timeline %s and standby on %s", main, standby)
	}
	p.frozenBy(p.t, "main")
	if err := p.insert("standby"); err != nil {
		p.t.Errorf("standby takes no writes: %v", err)
	}
}

// A leader that is frozen between the promotion's entry and the promotion is overtaken. When it goes on, its time is over and
// the server has ended its session: it does nothing.
func TestServersPostgresLeaderFrozenInPromote(t *testing.T) {
	t.Parallel()
	p := newPostgresPair(t, settings{hooks: true, steps: "timeout: 3s, tries: 3, backoff: 200ms"})
	w := p.write()
	leader, _ := p.leader()
	must(t, os.WriteFile(p.path(TrapFile), []byte("stop hook:before:promote"), 0o600))
	askSwitchover(p.cluster, "main")
	eventually(t, "the leader is frozen", func() (bool, any) {
		_, err := os.Stat(p.path(TrapFile))
		return os.IsNotExist(err), nil
	})
	p.frozen[leader] = true
	began := time.Now()
	p.writesOn(w, "standby")
	p.waitEnded(1)
	t.Logf("overtaken after %s", time.Since(began).Round(time.Millisecond))
	p.thaw(leader)
	p.on(leader, "the thawed leader follows", func(s *client.Status, g *client.Group) bool {
		return s.Cluster.Leader != nil && *s.Cluster.Leader != leader && g.Active == "standby" && g.Switchover == nil
	})
	during(t, 2*time.Second, "one switchover", func() (bool, any) {
		n := len(p.history(leader))
		return n == 1, n
	})
	w.Stop()
	p.judgeMoved(w)
}
