package proctest

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/watchover-ha/watchover/pkg/client"
)

// A person's signal to any watcher moves the group.
func TestSIGUSR1OnAFollowerSwitches(t *testing.T) {
	t.Parallel()
	c := newCluster(t, settings{mode: "manual"})
	_, follower := c.leader()
	c.watchers[follower].signal(t, syscall.SIGUSR1)
	c.waitEnded(1)
	c.waitRecord("standby")
	w := c.history(follower)[0]
	if w.Kind != "planned" || w.Result != "done" || w.By != "signal:"+follower {
		t.Errorf("switchover by signal is %s, %s, by %s", w.Kind, w.Result, w.By)
	}
	c.judge()
}

// Two people, or one impatient one: their signals must not switch back.
func TestSIGUSR1SentSeveralTimesSwitchesOnce(t *testing.T) {
	t.Parallel()
	c := newCluster(t, settings{mode: "manual"})
	leader, follower := c.leader()
	third := names[slices.IndexFunc(names, func(name string) bool { return name != leader && name != follower })]
	send := func(watchers ...string) {
		for _, name := range watchers {
			c.watchers[name].signal(t, syscall.SIGUSR1)
		}
	}
	send(follower, third) // to two at once
	during(t, 300*time.Millisecond, "every watcher runs", c.allRun)
	send(follower) // and once more within the second
	c.waitEnded(1)
	c.makeReplica("main")
	c.onAll("main ready to take over", func(_ *client.Status, g *client.Group) bool { return appOf(g, "main").Ready })
	send(leader, follower, third) // nothing but the rule keeps this from switching back
	c.waitLogged(leader, "signal_too_soon")
	during(t, time.Second, "one switchover", func() (bool, any) {
		s := c.status(leader)
		return s == nil || s.Groups[0].Epoch == 1 && s.Groups[0].Switchover == nil, s
	})
	if n := len(c.history(leader)); n != 1 {
		t.Errorf("%d switchovers, want 1", n)
	}
	c.judge()
}

func (c *cluster) allRun() (bool, any) { return len(c.running()) == len(names), c.running() }

// waitLogged waits for a word in a watcher's log: where the contract promises a log line, it is the only thing to see.
func (c *cluster) waitLogged(watcher, text string) {
	c.t.Helper()
	eventually(c.t, watcher+" logs "+text, func() (bool, any) {
		log, err := os.ReadFile(c.path(watcher + ".log"))
		return err == nil && strings.Contains(string(log), text), err
	})
}

func TestSIGUSR2PausesAndRepeatingItChangesNothing(t *testing.T) {
	t.Parallel()
	c := newCluster(t, settings{})
	c.watchers["w1"].signal(t, syscall.SIGUSR2)
	paused := func(_ *client.Status, g *client.Group) bool {
		return g.Automation.Paused && g.Automation.PausedBy == "signal:w1" && !g.Automation.Armed
	}
	c.onAll("paused by w1", paused)
	c.watchers["w2"].signal(t, syscall.SIGUSR2)
	c.waitLogged("w2", `"signal":"SIGUSR2"`)
	c.onAll("still paused by w1", paused)
	c.killApp("main")
	c.onAll("main down", func(_ *client.Status, g *client.Group) bool { return g.Phase == "down" })
	during(t, time.Second, "paused, so nothing is done", func() (bool, any) {
		s := c.status("w3")
		return s == nil || s.Groups[0].Epoch == 0 && paused(s, &s.Groups[0]), s
	})
	c.mustOrder("w3", "resume", group)
	c.waitEnded(1)
	c.judge()
}

// A file is a proposal: only a valid one, that was changed, and from the policy in force, is made on SIGHUP.
func TestSIGHUPProposesOnlyAChangeOfThePolicyInForce(t *testing.T) {
	t.Parallel()
	c := newCluster(t, settings{})
	revision := c.status("w1").Cluster.PolicyRevision
	reload := func(watcher, zone string) {
		t.Helper()
		c.settings.zone = zone
		c.writeConfig(watcher)
		c.watchers[watcher].signal(t, syscall.SIGHUP)
	}
	unchanged := func(want uint64) {
		t.Helper()
		if got := c.status("w1").Cluster.PolicyRevision; got != want {
			t.Errorf("policy revision %d in force, want %d", got, want)
		}
	}
	reload("w1", "  tll: 2m\n")
	c.waitLogged("w1", "tll")
	unchanged(revision)

	reload("w1", "  ttl: 2m\n")
	c.onAll("the new policy", func(s *client.Status, g *client.Group) bool {
		return s.Cluster.PolicyRevision != revision && g.TTL == 120
	})
	revision = c.status("w1").Cluster.PolicyRevision
	eventually(t, "the new TTL on w3", func() (bool, any) {
		a, err := c.ask("w3")
		return err == nil && a.ttl == 120, a
	})
	c.on("w1", "w2's file differs", func(s *client.Status, _ *client.Group) bool { return fileDiffers(s, "w2") && !fileDiffers(s, "w1") })

	reload("w2", "") // as it was when w2 started
	c.waitLogged("w2", "use watchover apply")
	unchanged(revision)

	reload("w3", "  ttl: 3m\n") // changed, but from a policy that is no longer in force
	c.waitLogged("w3", "use watchover apply")
	unchanged(revision)

	reload("w2", "  ttl: 2m\n") // the very policy in force
	c.on("w1", "w2's file differs no more", func(s *client.Status, _ *client.Group) bool { return !fileDiffers(s, "w2") })
	unchanged(revision)
}

func fileDiffers(s *client.Status, watcher string) bool {
	return slices.ContainsFunc(s.Cluster.Watchers, func(w client.Watcher) bool { return w.Name == watcher && w.FileDiffers })
}

func TestSIGTERMHandsOverLeadershipAndExitsZero(t *testing.T) {
	t.Parallel()
	c := newCluster(t, settings{})
	leader, _ := c.leader()
	before := c.status(leader).Cluster.Term
	c.watchers[leader].signal(t, syscall.SIGTERM)
	select {
	case <-c.watchers[leader].done:
	case <-time.After(patience):
		t.Fatal("the watcher goes on after SIGTERM")
	}
	if err := c.watchers[leader].err; err != nil {
		t.Errorf("the watcher ended with %v, want exit code 0", err)
	}
	now, _ := c.leader()
	if term := c.status(now).Cluster.Term; now == leader || term != before+1 {
		t.Errorf("%s leads in term %d after %s in term %d, want one election without a split", now, term, leader, before)
	}
	c.onAll("standby ready by what the other two saw", func(s *client.Status, g *client.Group) bool {
		gone := slices.ContainsFunc(s.Cluster.Watchers, func(w client.Watcher) bool { return w.Name == leader && w.Silent })
		return gone && appOf(g, "standby").Ready && appOf(g, "main").Health == "up"
	})
	c.killApp("main") // two are enough
	c.waitEnded(1)
	c.judge()
}

func TestASecondProcessOnTheSameDataDirectoryIsRefused(t *testing.T) {
	t.Parallel()
	c := newCluster(t, settings{})
	text := c.config("w1")
	for _, change := range [][2]string{
		{c.path("w1.sock"), c.path("second.sock")},
		{c.dnsAddress("w1"), fmt.Sprintf("127.0.0.1:%d", c.base+15)},
		{"watcher:\n", fmt.Sprintf("watcher:\n  listen: 127.0.0.1:%d\n", c.base+16)},
	} {
		text = strings.Replace(text, change[0], change[1], 1)
	}
	must(t, os.WriteFile(c.path("second.yaml"), []byte(text), 0o600))
	p := c.start("", "second.log", nil, watcherBinary, "run", "--config", c.path("second.yaml"))
	defer p.kill()
	select {
	case <-p.done:
	case <-time.After(patience):
		t.Fatal("the second process runs")
	}
	said, _ := os.ReadFile(c.path("second.log"))
	if code := p.cmd.ProcessState.ExitCode(); code != 1 || !strings.Contains(string(said), c.path("w1")) {
		t.Errorf("exit code %d, want 1 and a message that names the directory: %s", code, said)
	}
	c.onAll("an undisturbed cluster", func(s *client.Status, g *client.Group) bool { return s.Cluster.HasQuorum && g.Automation.Armed })
}
