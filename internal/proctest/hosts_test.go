package proctest

import (
	"fmt"
	"os"
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
	s.only = map[string]string{"maintenance-off": "timeout: 8s, tries: 5, backoff: 100ms"}
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
	told, _, _ := valuesOf(first)
	if deadline, err := time.Parse(time.RFC3339, told["Deadline"]); err != nil || time.Now().After(deadline) {
		t.Errorf("the program had time until %s (%v), and was killed no earlier", told["Deadline"], err)
	}
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
	c.judgeTurns()
	c.judge()
}

// The leader that was cut off in the middle of maintenance-off is healed before another one has gone on.
func TestHostsLeaderHealsDuringASwitchover(t *testing.T) {
	t.Parallel()
	s := hostSettings()
	s.only = map[string]string{"maintenance-off": "timeout: 6s, tries: 5, backoff: 100ms"}
	c := newCluster(t, s)
	leader, _ := c.leader()
	term := c.status(leader).Cluster.Term
	c.trap("hold turn:maintenance-off")
	c.killApp("main")
	first := c.heldHook()
	cut := time.Now()
	c.lose(cutOff, leader)
	eventually(t, "the cut-off leader's program is killed", func() (bool, any) { return !runs(first.PID), first })
	killed, attempts := time.Since(cut), 0
	c.on(leader, "not leading", func(s *client.Status, g *client.Group) bool {
		attempts = stepOf(g.Switchover, "maintenance-off").Attempts
		return s.Cluster.Leader == nil
	})
	c.heal(leader)
	healed := time.Since(cut)
	c.waitEnded(1)
	c.waitRecord("standby")
	w := c.waitDone(leader)
	next, _ := c.leader()
	t.Logf("%s led term %d; program killed %.2f s after the cut, healed at %.2f s (attempts %d), ended before %.2f s, %s, attempts %d; %s leads term %d", leader, term,
		killed.Seconds(), healed.Seconds(), attempts, time.Since(cut).Seconds(), w.Result, stepOf(&w, "maintenance-off").Attempts, next, c.highestTerm())
	c.judgeTurns()
	c.judge()
}

// judgeTakenOver judges a program that was cut short: its successor's token is higher, it has not acted, and the log of
// the watcher that had started it says that it led and no longer does.
func (c *cluster) judgeTakenOver(old string, term uint64, cut time.Time, first HookLine) {
	c.t.Helper()
	var ends []HookLine
	for _, line := range c.turns() {
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
	last := HookLine{}
	for _, line := range append(c.turns(), c.hookLines()...) {
		if line.At.After(last.At) {
			last = line
		}
	}
	return last
}

// turns is what the programs that turn the maintenance switches have done.
func (c *cluster) turns() []HookLine {
	c.t.Helper()
	list, err := ReadLines[HookLine](c.path(TurnsFile))
	must(c.t, err)
	return list
}

// judgeTurns finds programs whose token was lower than one that had begun before, and programs that ended late.
func (c *cluster) judgeTurns() {
	c.t.Helper()
	last := map[string]uint64{}
	for i, line := range c.turns() {
		key := fmt.Sprint(line.Switchover, line.Step)
		if line.Token < last[key] || !line.End && line.Token == last[key] {
			c.t.Errorf("turn %d (%+v) came after token %d", i, line.Hands, last[key])
		}
		last[key] = max(last[key], line.Token)
	}
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
	if lines := c.turns(); len(lines) > 0 {
		c.t.Errorf("somebody acted: %+v", lines)
	}
	c.judge()
}
