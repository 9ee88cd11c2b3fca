package proctest

import (
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/watchover-ha/watchover/pkg/client"
)

// Main is out of reach for some of the watchers. While that is a minority, be it the leader, nothing is switched.
func TestHostsMainOutOfReachForSome(t *testing.T) {
	t.Parallel()
	c := newCluster(t, hostSettings())
	leader, follower := c.leader()
	for _, one := range []string{leader, follower} {
		cut := time.Now()
		c.lose(cutFrom("main", ""), one)
		c.on(leader, one+" says that main is down", func(_ *client.Status, g *client.Group) bool {
			return verdictOf(appOf(g, "main"), one) == "down" && g.Phase == "suspect"
		})
		took := time.Since(cut)
		c.hold(4*time.Second, func(s *client.Status) string {
			if appOf(&s.Groups[0], "main").Health != "up" {
				return "main is not up by quorum"
			}
			return ""
		})
		now, _ := c.leader()
		t.Logf("main out of reach for %s alone, %s leads: down for it after %.2f s, no switch for 4 s more; %s leads then", one, leader, took.Seconds(), now)
		c.heal(one)
		c.onAll("nobody doubts main", func(_ *client.Status, g *client.Group) bool { return g.Phase == "steady" })
		c.waitReady("standby")
	}
	c.judgeNoSwitch()
	leader, _ = c.leader()
	cut := time.Now()
	c.lose(cutFrom("main", ""), others(leader)...)
	w := c.waitDone("w1")
	c.waitRecord("standby")
	t.Logf("main out of reach for all but %s, which leads: switched %.2f s after the cut by switchover %d, %s; maintenance-on %s, freeze %s", leader,
		time.Since(cut).Seconds(), w.Epoch, w.Result, stepOf(&w, "maintenance-on").State, stepOf(&w, "freeze").State)
	if w.Kind != "failover" || c.serves("main") || !c.serves("standby") {
		t.Errorf("kind %s, main serves %t, standby serves %t", w.Kind, c.serves("main"), c.serves("standby"))
	}
	c.judgeNothingLost()
	c.judge()
}

// waitDone waits until the group was moved over, and tells by which switchover. On a busy machine an earlier one may
// have been taken back: its time to freeze main was not enough.
func (c *cluster) waitDone(watcher string) client.Switchover {
	c.t.Helper()
	s := c.on(watcher, "moved over", func(_ *client.Status, g *client.Group) bool {
		return g.Switchover == nil && g.LastSwitchover != nil && g.LastSwitchover.Result == "done"
	})
	return *s.Groups[0].LastSwitchover
}

func verdictOf(a *client.App, watcher string) string {
	for _, v := range a.Verdicts {
		if v.Watcher == watcher {
			return v.Verdict
		}
	}
	return ""
}

// judgeNothingLost judges a switchover that could freeze main: the standby had all of it when it was promoted.
func (c *cluster) judgeNothingLost() {
	c.t.Helper()
	wrote := c.written("main")
	text, err := os.ReadFile(c.path("standby", WrittenFile))
	must(c.t, err)
	c.t.Logf("main wrote %s times and is frozen; standby had %s when it was promoted", wrote, text)
	if string(text) != wrote {
		c.t.Errorf("standby was promoted with %s of %s writes", text, wrote)
	}
}

// written asks a database, from the visitor's host, how much it holds.
func (c *cluster) written(app string) string {
	c.t.Helper()
	resp, err := c.visitor().Get("http://" + c.databaseAddress(app) + "/written")
	must(c.t, err)
	defer resp.Body.Close()
	var n uint64
	_, err = fmt.Fscan(resp.Body, &n)
	must(c.t, err)
	return fmt.Sprint(n)
}

// Main is out of reach for all watchers, but lives, writes, and the standby receives it: promoting the standby would make
// two writable databases. All is taken back, and main goes on.
func TestHostsMainAliveOutOfReach(t *testing.T) {
	t.Parallel()
	s := hostSettings()
	s.only = map[string]string{"maintenance-on": "timeout: 2s, tries: 1", "freeze": "timeout: 2s, tries: 1"} // their undos run into the same wall
	c := newCluster(t, s)
	cut := time.Now()
	c.lose(cutFrom("main", ""), names...)
	c.onAll("held back: database_alive_out_of_reach", func(_ *client.Status, g *client.Group) bool {
		return g.Switchover == nil && g.LastSwitchover != nil && g.LastSwitchover.Result == "undone" &&
			slices.ContainsFunc(g.Automation.Blockers, func(b client.Reason) bool { return b.Code == "database_alive_out_of_reach" })
	})
	held := time.Since(cut)
	w := c.history("w1")[0]
	before := c.written("main")
	eventually(t, "main goes on writing", func() (bool, any) { now := c.written("main"); return now != before, now })
	if !c.serves("main") || c.serves("standby") {
		t.Errorf("main serves %t, standby serves %t", c.serves("main"), c.serves("standby"))
	}
	c.waitRecord("main")
	explained := c.mustOrder("w2", "explain", group)
	healed := time.Now()
	c.heal(names...)
	// The blocker itself stays until the next try would be due.
	c.onAll("main up, standby ready", func(_ *client.Status, g *client.Group) bool {
		return appOf(g, "main").Health == "up" && appOf(g, "standby").Ready && g.Active == "main" && g.Switchover == nil
	})
	t.Logf("held back %.2f s after the cut: %s; main up and standby ready %.2f s after healing\n%s", held.Seconds(), w.Undoing, time.Since(healed).Seconds(), explained)
	for _, change := range c.changes() {
		if change.What == "role" && change.To == "primary" && change.App == "standby" {
			t.Errorf("standby was promoted: %+v", change)
		}
	}
	if (&Database{Dir: c.dir, App: "standby"}).get("standby", "receiving") != "yes" || !c.serves("main") {
		t.Error("not all is as before")
	}
	c.judge()
}

// Main's app is out of reach for all watchers, the way to its database is open: it is frozen first, and nothing is lost.
// The app is marked, and put into maintenance as soon as it can be reached.
func TestHostsOnlyMainsDatabaseInReach(t *testing.T) {
	t.Parallel()
	c := newCluster(t, hostSettings())
	cut := time.Now()
	c.lose(cutFrom("main", appPort), names...)
	w := c.waitDone("w1")
	c.waitRecord("standby")
	took := time.Since(cut)
	on, freeze, caught := stepOf(&w, "maintenance-on"), stepOf(&w, "freeze"), stepOf(&w, "catch-up")
	t.Logf("switched %.2f s after the cut by switchover %d, %s; maintenance-on %s, freeze %s, catch-up %s, at risk %s", took.Seconds(), w.Epoch, w.Result, on.State, freeze.State, caught.State, shown(w.AtRisk))
	if on.State != "marked" || freeze.State != "done" || caught.State != "done" {
		t.Errorf("maintenance-on %s, freeze %s, catch-up %s, want marked, done, done", on.State, freeze.State, caught.State)
	}
	c.judgeNothingLost()
	healed := time.Now()
	c.heal(names...)
	c.onAll("main in maintenance", func(_ *client.Status, g *client.Group) bool { return appOf(g, "main").Maintenance == "on" })
	t.Logf("main in maintenance %.2f s after healing", time.Since(healed).Seconds())
	if c.serves("main") || !c.serves("standby") {
		t.Errorf("main serves %t, standby serves %t", c.serves("main"), c.serves("standby"))
	}
	c.judgeTurns() // not judge: an app that nobody can reach goes on being open
}

// Main was cut off from everybody, and is healed in the middle of the switchover.
func TestHostsMainHealsDuringASwitchover(t *testing.T) {
	t.Parallel()
	s := hostSettings()
	s.hooks = true
	s.steps = "timeout: 20s, tries: 5, backoff: 100ms"
	for _, when := range []struct{ name, trap, result, active string }{
		{"before the point of no return", "hold hook:before:stop-replication", "undone", "main"},
		{"after it", "hold turn:maintenance-off", "done", "standby"},
	} {
		t.Run(when.name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, s)
			c.trap(when.trap)
			cut := time.Now()
			c.lose(cutOff, "main")
			c.journal("main", "cut off")
			held := c.heldHook()
			healed := time.Now()
			c.heal("main")
			c.onAll("main up again", func(_ *client.Status, g *client.Group) bool { return appOf(g, "main").Health == "up" })
			if when.result == "done" {
				eventually(t, "main fenced while the other step still runs", func() (bool, any) {
					role := (&Database{Dir: c.dir, App: "main", Peer: "standby"}).role()
					return !c.serves("main") && role == "primary frozen", role
				})
			}
			c.journal("main", "healed")
			c.release()
			c.waitEnded(1)
			c.waitRecord(when.active)
			w := c.history("w1")[0]
			t.Logf("%s: in %s %.2f s after the cut, when main was healed; ended %.2f s after that, %s: %s%v, at risk %s", when.name, held.Step,
				healed.Sub(cut).Seconds(), time.Since(healed).Seconds(), w.Result, w.Undoing, w.Exceptions, shown(w.AtRisk))
			if w.Result != when.result {
				t.Errorf("result %s, want %s", w.Result, when.result)
			}
			eventually(t, when.active+" alone serves", func() (bool, any) {
				return c.serves(when.active) && !c.serves(other(when.active)), shown(c.changes())
			})
			eventually(t, "one writable database", func() (bool, any) {
				own, peer := (&Database{Dir: c.dir, App: when.active}).role(), (&Database{Dir: c.dir, App: other(when.active)}).role()
				return own == "primary" && peer != "primary", own + ", " + peer
			})
			c.judgeTurns()
			c.judge()
		})
	}
}
