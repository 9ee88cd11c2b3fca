package proctest

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/watchover-ha/watchover/pkg/client"
)

// soon bounds how long a cluster may be without a leader: the elections take about a second, the rest is for a busy
// machine.
const soon = 15 * time.Second

// hostSettings are those of all tests on hosts: TLS, and answers marked as stale early enough to be seen.
func hostSettings() settings {
	return settings{hosts: true, tls: true, zone: "  isolation: {after: 2s, ttl: 30s}\n", steps: "timeout: 3s, tries: 5, backoff: 100ms"}
}

// The leader is cut off from everything in the middle of maintenance-off, with its program running. The program is
// killed, another watcher finishes, DNS is answered all the while, and the old leader comes back as a follower.
func TestHostsLeaderCutOffInMaintenanceOff(t *testing.T) {
	t.Parallel()
	s := hostSettings()
	s.only = map[string]string{"maintenance-off": "timeout: 6s, tries: 5, backoff: 100ms"}
	c := newCluster(t, s)
	leader, _ := c.leader()
	reachable := others(leader)
	term := c.status(leader).Cluster.Term
	askers := map[string]*asker{"inside": c.askFrom(leader, leader)}
	for _, name := range names {
		askers[name] = c.askFrom("visitor", name)
	}
	c.trap("hold turn:maintenance-off")
	begin := time.Now()
	c.killApp("main")
	first := c.heldHook()
	cut := time.Now()
	c.lose(cutOff, leader)
	c.away(leader)
	t.Logf("term %d, led by %s; main killed at 0 s; %s cut off at %.2f s with its program (process %d, token %d, attempt %d) running",
		term, leader, leader, cut.Sub(begin).Seconds(), first.PID, first.Token, first.Attempt)
	eventually(t, "the cut-off leader's program is killed", func() (bool, any) { return !runs(first.PID), first })
	t.Logf("the program was gone %.2f s after the cut", time.Since(cut).Seconds())
	c.waitEnded(1)
	c.waitRecord("standby")
	ended := time.Now()
	next, _ := c.leader()
	eventually(t, "the cut-off watcher marks its answers as stale", func() (bool, any) {
		a, err := c.ask(leader)
		return err == nil && a.ttl <= 30 && a.ede == 3 && a.address == addresses["main"], fmt.Sprint(a, err)
	})
	for _, name := range reachable {
		askers[name].judgeAnswered(t)
	}
	askers["inside"].judgeAnswered(t)
	healed := time.Now()
	c.heal(leader)
	c.back(leader)
	c.onAll("the new leader is followed", func(s *client.Status, g *client.Group) bool {
		return s.Cluster.Leader != nil && *s.Cluster.Leader == next && g.Active == "standby"
	})
	c.waitRecord("standby")
	eventually(t, "the old leader's answer is whole again", func() (bool, any) {
		a, err := c.ask(leader)
		return err == nil && a.ttl == 300 && a.ede == -1, a
	})
	t.Logf("switchover ended %.2f s after the cut, healed at %.2f s, whole again %.2f s later; %s leads term %d",
		ended.Sub(cut).Seconds(), healed.Sub(begin).Seconds(), time.Since(healed).Seconds(), next, c.status(next).Cluster.Term)
	for _, a := range askers {
		a.stop()
	}
	c.transcript(begin, askers["inside"], askers[reachable[0]], askers[reachable[1]])
	c.judgeTakenOver(leader, term, cut, first)
	c.judge()
}

// judgeTakenOver judges a program that was cut short: its successor's token is higher, it has not acted, and the log of
// the watcher that had started it says that it led and no longer does.
func (c *cluster) judgeTakenOver(old string, term uint64, cut time.Time, first HookLine) {
	c.t.Helper()
	var ends []HookLine
	for _, line := range c.hookLines() {
		if line.Step == "maintenance-off" && line.End {
			ends = append(ends, line)
		}
	}
	if len(ends) != 1 || ends[0].Watcher == old || ends[0].Token <= first.Token || ends[0].Attempt <= first.Attempt {
		c.t.Errorf("the program ended for %+v, want once, for another watcher than %s, with a token above %d", ends, old, first.Token)
	}
	gave, ok := c.said(old, "no longer leading", cut)
	if !ok || gave.Term != term {
		c.t.Errorf("%s did not log that it no longer leads term %d: %q", old, term, gave.text)
	}
	if w := c.history(old)[0]; w.Result != "done" && w.Result != "done_with_exceptions" {
		c.t.Errorf("the switchover ended %s: %v", w.Result, w.Exceptions)
	}
}

// trap sets the stage's trap.
func (c *cluster) trap(text string) {
	c.t.Helper()
	must(c.t, os.WriteFile(c.path(TrapFile), []byte(text), 0o600))
}

// heldHook waits until the trap holds a program, and tells which.
func (c *cluster) heldHook() HookLine {
	c.t.Helper()
	eventually(c.t, "a program in the trap", func() (bool, any) {
		_, err := os.Stat(c.path(TrapFile))
		return os.IsNotExist(err), nil
	})
	lines := c.hookLines()
	return lines[len(lines)-1]
}

func (c *cluster) release() {
	c.t.Helper()
	must(c.t, os.WriteFile(c.path(ReleaseFile), nil, 0o600))
}

// runs reports whether a program of the stage still runs.
func runs(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && strings.Contains(string(stat), "(stage)") && !strings.Contains(string(stat), ") Z ")
}

// A watcher, leader or not, that can send but not hear, or hear but not send. There is a leader within seconds, nothing
// is switched, and leadership does not go on changing, neither meanwhile nor after it is healed.
func TestHostsOneWayLoss(t *testing.T) {
	t.Parallel()
	c := newCluster(t, hostSettings())
	for _, whom := range []string{"leader", "follower"} {
		for what, l := range map[string]loss{"can send, not hear": deaf, "can hear, not send": mute} {
			leader, follower := c.leader()
			victim := map[string]string{"leader": leader, "follower": follower}[whom]
			before := c.highestTerm()
			cut := time.Now()
			c.lose(l, victim)
			c.away(victim)
			c.judgeLedAgain(cut, victim)
			led, _ := c.leader()
			took := time.Since(cut)
			settled := c.highestTerm()
			c.hold(4*time.Second, func(s *client.Status) string {
				if s.Cluster.Leader == nil || *s.Cluster.Leader != led {
					return "another leader than " + led
				}
				return ""
			})
			during := c.highestTerm()
			healed := time.Now()
			c.heal(victim)
			c.back(victim)
			after, _ := c.leader()
			c.waitReady("standby")
			whole := time.Since(healed)
			end := c.highestTerm()
			t.Logf("%-8s %s: %s led, then %s after %.2f s; after healing %s, whole after %.2f s; terms %d, %d, %d, %d", whom, what,
				leader, led, took.Seconds(), after, whole.Seconds(), before, settled, during, end)
			if during != settled {
				t.Errorf("%s %s: terms went on from %d to %d", whom, what, settled, during)
			}
			if end > before+4 {
				t.Errorf("%s %s: terms went from %d to %d, leadership flaps", whom, what, before, end)
			}
		}
	}
	c.judgeNoSwitch()
}

// judgeLedAgain waits until the watchers that are left have a leader among them, and judges how long that took.
func (c *cluster) judgeLedAgain(cut time.Time, victim string) {
	c.t.Helper()
	eventually(c.t, "a leader that is not cut off", func() (bool, any) {
		for _, name := range c.running() {
			s := c.status(name)
			if s == nil || s.Cluster.Leader == nil || *s.Cluster.Leader == victim || !s.Cluster.HasQuorum {
				return false, shown(s)
			}
		}
		return true, nil
	})
	if took := time.Since(cut); took > soon {
		c.t.Errorf("a leader after %s, want one within %s", took, soon)
	}
}

// hold checks for a while that nothing is wrong with what the running watchers say, and that nothing was switched.
func (c *cluster) hold(d time.Duration, wrong func(*client.Status) string) {
	c.t.Helper()
	during(c.t, d, "steady", func() (bool, any) {
		for _, name := range c.running() {
			s := c.status(name)
			if s == nil {
				continue
			}
			if s.Groups[0].Epoch != 0 {
				return false, "a switchover: " + shown(s.Groups[0])
			}
			if text := wrong(s); text != "" {
				return false, name + ": " + text + ": " + shown(s.Cluster)
			}
		}
		return true, nil
	})
}

func (c *cluster) highestTerm() (term uint64) {
	c.t.Helper()
	for _, name := range names {
		if s := c.status(name); s != nil {
			term = max(term, s.Cluster.Term)
		}
	}
	return term
}

func (c *cluster) judgeNoSwitch() {
	c.t.Helper()
	c.onAll("main active, never switched", func(_ *client.Status, g *client.Group) bool { return g.Active == "main" && g.Epoch == 0 })
	if !c.serves("main") {
		c.t.Error("main does not serve")
	}
	if lines := c.hookLines(); len(lines) > 0 {
		c.t.Errorf("somebody acted: %+v", lines)
	}
	c.judge()
}

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
	c.waitEnded(1)
	c.waitRecord("standby")
	w := c.history(leader)[0]
	t.Logf("main out of reach for all but %s, which leads: switched %.2f s after the cut, %s; maintenance-on %s, freeze %s", leader,
		time.Since(cut).Seconds(), w.Result, stepOf(&w, "maintenance-on").State, stepOf(&w, "freeze").State)
	if w.Kind != "failover" || c.serves("main") || !c.serves("standby") {
		t.Errorf("kind %s, main serves %t, standby serves %t", w.Kind, c.serves("main"), c.serves("standby"))
	}
	c.judgeNothingLost()
	c.judge()
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
	c := newCluster(t, hostSettings())
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
	c.waitReady("standby")
	t.Logf("held back %.2f s after the cut: %s; after healing ready again in %.2f s\n%s", held.Seconds(), w.Undoing, time.Since(healed).Seconds(), explained)
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
	c.waitEnded(1)
	c.waitRecord("standby")
	took := time.Since(cut)
	w := c.history("w1")[0]
	on, freeze, caught := stepOf(&w, "maintenance-on"), stepOf(&w, "freeze"), stepOf(&w, "catch-up")
	t.Logf("switched %.2f s after the cut, %s; maintenance-on %s, freeze %s, catch-up %s, at risk %s", took.Seconds(), w.Result, on.State, freeze.State, caught.State, shown(w.AtRisk))
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
			held := c.heldHook()
			healed := time.Now()
			c.heal("main")
			c.onAll("main up again", func(_ *client.Status, g *client.Group) bool { return appOf(g, "main").Health == "up" })
			c.release()
			c.waitEnded(1)
			c.waitRecord(when.active)
			w := c.history("w1")[0]
			t.Logf("%s: in %s %.2f s after the cut, when main was healed; ended %.2f s after that, %s: %s%v", when.name, held.Step,
				healed.Sub(cut).Seconds(), time.Since(healed).Seconds(), w.Result, w.Undoing, w.Exceptions)
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
			c.judge()
		})
	}
}
