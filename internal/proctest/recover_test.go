package proctest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/watchover-ha/watchover/pkg/client"
)

// tool runs a verb that needs no daemon.
func (c *cluster) tool(args ...string) (exit int, output string) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, watcherBinary, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	text, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		c.t.Fatalf("cannot run watchover %s: %v", args, err)
	}
	c.t.Logf("$ watchover %s   (exit %d)\n%s", strings.Join(args, " "), cmd.ProcessState.ExitCode(), text)
	return cmd.ProcessState.ExitCode(), string(text)
}

// loseForGood ends watchers and takes their data away; back gives it back.
func (c *cluster) loseForGood(watchers ...string) (back func()) {
	c.t.Helper()
	for _, name := range watchers {
		c.watchers[name].kill()
		must(c.t, os.Rename(c.path(name), c.path(name+".lost")))
	}
	return func() {
		c.t.Helper()
		for _, name := range watchers {
			must(c.t, os.Rename(c.path(name+".lost"), c.path(name)))
		}
	}
}

// endsWith waits until a watcher has ended by itself, and has said why in one line.
func (c *cluster) endsWith(watcher, text string) {
	c.t.Helper()
	p := c.watchers[watcher]
	select {
	case <-p.done:
	case <-time.After(patience):
		c.t.Fatalf("%s goes on, it should end with %q", watcher, text)
	}
	log, err := os.ReadFile(c.path(watcher + ".log"))
	must(c.t, err)
	lines := strings.Split(strings.TrimSpace(string(log)), "\n")
	last := lines[len(lines)-1]
	c.t.Logf("%s ended, exit %d, with:\n%s", watcher, p.cmd.ProcessState.ExitCode(), last)
	if p.cmd.ProcessState.ExitCode() != 1 || !strings.HasPrefix(last, "watchover: cannot ") || !strings.Contains(last, text) {
		c.t.Errorf("%s ended with %d and %q, want %q", watcher, p.cmd.ProcessState.ExitCode(), last, text)
	}
}

const (
	secondGeneration = 1_000_000 // epochs are above this
	// patientSteps do not fail on a busy machine: what is tested here is what comes after the failover.
	patientSteps = "timeout: 20s, tries: 10, backoff: 100ms"
)

// The quorum is lost for good: the survivor becomes the cluster, holds still until a person has looked, and then guards the
// group alone. The old majority with its old data does not act beside it.
func TestRecoverOnTheSurvivorOfThree(t *testing.T) {
	t.Parallel()
	c := newCluster(t, settings{steps: patientSteps})
	if exit, output := c.tool("recover", "--config", c.configPath("w1"), "--yes"); exit != 3 || !strings.Contains(output, "it is in use by process") {
		t.Errorf("recover beside a running watcher: exit %d, %s", exit, output)
	}
	back := c.loseForGood("w2", "w3")
	c.watchers["w1"].kill()
	if exit, output := c.tool("recover", "--config", c.configPath("w1")); exit != 2 || !strings.Contains(output, "--yes") {
		t.Errorf("recover without a terminal: exit %d, %s", exit, output)
	}
	if exit, _ := c.tool("recover", "--config", c.configPath("w1"), "--yes"); exit != 0 {
		t.Fatalf("recover: exit %d", exit)
	}
	c.startWatcher("w1")
	s := c.on("w1", "held after the recovery", func(s *client.Status, g *client.Group) bool {
		return s.Cluster.Leader != nil && s.Cluster.Generation == 1 && len(s.Cluster.Watchers) == 1 && g.Automation.Paused && g.Automation.PausedBy == "recover" &&
			!g.Automation.Armed && appOf(g, "main").Health == "up" && appOf(g, "standby").Ready
	})
	if !s.Groups[0].Automation.Unconfirmed || s.Groups[0].Automation.Blockers[0].Code != "paused" {
		t.Errorf("automation: %+v", s.Groups[0].Automation)
	}
	t.Logf("$ watchover status\n%s", c.mustOrder("w1", "status"))
	if exit, output := c.order("w1", "resume", group); exit != 3 || !strings.Contains(output, "watchover ack "+group) {
		t.Errorf("resume: exit %d, %s", exit, output)
	}
	c.killApp("main")
	c.on("w1", "main down", func(_ *client.Status, g *client.Group) bool { return g.Phase == "down" })
	during(t, time.Second, "held, so nothing is done", func() (bool, any) {
		s := c.status("w1")
		return s == nil || s.Groups[0].Switchover == nil && s.Groups[0].LastSwitchover == nil, s
	})
	t.Logf("$ watchover ack %s\n%s", group, c.mustOrder("w1", "ack", group))
	c.waitEnded(secondGeneration + 1)
	c.waitRecord("standby")

	back()
	for _, name := range []string{"w2", "w3"} {
		c.startWatcher(name)
	}
	for _, name := range []string{"w2", "w3"} {
		c.endsWith(name, "move that directory away, then run `watchover members add "+name+"`")
	}
	c.startWatcher("w3") // as a supervisor would
	c.endsWith("w3", "left behind in generation 0 of 1")
	if exit, output := c.tool("recover", "--config", c.configPath("w3"), "--yes"); exit != 1 || !strings.Contains(output, "left behind") {
		t.Errorf("recover of one left behind: exit %d, %s", exit, output)
	}
	t.Logf("$ watchover status\n%s", c.mustOrder("w1", "status"))
	c.judge()
}

// An open switchover is shown and decided by a person: recover changes nothing until that is said.
func TestRecoverAsksAboutAnOpenSwitchover(t *testing.T) {
	t.Parallel()
	c := newCluster(t, settings{mode: "manual", steps: "timeout: 1s, tries: 100, backoff: 1s"})
	mend := c.fail("standby", "stop-replication")
	c.mustOrder("w1", "switchover", group, "--yes", "--wait=false")
	c.onAll("stop-replication tried in vain", func(_ *client.Status, g *client.Group) bool {
		return g.Switchover != nil && stepOf(g.Switchover, "stop-replication").Attempts > 0
	})
	c.loseForGood("w2", "w3")
	c.watchers["w1"].kill()
	exit, output := c.tool("recover", "--config", c.configPath("w1"), "--yes")
	if exit != 3 || !strings.Contains(output, "open: planned") || !strings.Contains(output, "--open-switchovers") {
		t.Errorf("exit %d, %s", exit, output)
	}
	if exit, output = c.tool("recover", "--config", c.configPath("w1"), "--yes", "--open-switchovers=keep"); exit != 0 {
		t.Fatalf("exit %d, %s", exit, output)
	}
	mend()
	c.startWatcher("w1")
	c.on("w1", "open and held", func(s *client.Status, g *client.Group) bool {
		return s.Cluster.Leader != nil && g.Switchover != nil && g.Automation.Unconfirmed && appOf(g, "main").Health == "up"
	})
	attempts := stepOf(c.status("w1").Groups[0].Switchover, "stop-replication").Attempts
	during(t, time.Second, "nothing is touched before ack", func() (bool, any) {
		w := c.status("w1").Groups[0].Switchover
		return w != nil && stepOf(w, "stop-replication").Attempts == attempts, w
	})
	c.mustOrder("w1", "ack", group)
	c.on("w1", "done after ack", func(_ *client.Status, g *client.Group) bool { return g.LastSwitchover != nil && g.Active == "standby" })
	c.waitRecord("standby")
	c.judge()
}

// A snapshot of a live cluster, restored into one that has just begun with the same file.
func TestSnapshotIsRestoredIntoANewCluster(t *testing.T) {
	t.Parallel()
	c := newCluster(t, settings{steps: patientSteps})
	c.killApp("main")
	c.waitEnded(1)
	file := c.path("backup.snap")
	serial := c.status("w1").Zone.Serial
	t.Logf("$ watchover snapshot save\n%s", c.mustOrder("w2", "snapshot", "save", file))
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file: %v, %v", info, err)
	}
	if exit, output := c.order("w2", "snapshot", "save", file); exit != 3 || !strings.Contains(output, "it exists") {
		t.Errorf("a second save: exit %d, %s", exit, output)
	}
	if exit, output := c.tool("snapshot", "inspect", file); exit != 0 || !strings.Contains(output, "active standby") || !strings.Contains(output, "main is marked") {
		t.Errorf("inspect: exit %d, %s", exit, output)
	}
	c.loseForGood(names...)
	for _, name := range names {
		c.startWatcher(name)
	}
	c.onAll("a new cluster", func(s *client.Status, g *client.Group) bool {
		return s.Cluster.Leader != nil && g.Active == "main" && g.Epoch == 0
	})
	if exit, output := c.order("w3", "snapshot", "restore", file); exit != 2 || !strings.Contains(output, "--yes") {
		t.Errorf("restore without a terminal: exit %d, %s", exit, output)
	}
	t.Logf("$ watchover snapshot restore\n%s", c.mustOrder("w3", "snapshot", "restore", file, "--yes"))
	c.onAll("the saved state, held", func(s *client.Status, g *client.Group) bool {
		return g.Active == "standby" && g.Automation.PausedBy == "restore" && appOf(g, "main").Marked && s.Zone.Serial > serial &&
			g.Epoch == secondGeneration && s.Cluster.Generation == 1 && appOf(g, "standby").Health == "up"
	})
	c.waitRecord("standby")
	if n := len(c.history("w1")); n != 1 {
		t.Errorf("%d switchovers in the history", n)
	}
	c.startApp("main", true) // marked, but nothing acts before ack
	eventually(t, "main serves", func() (bool, any) { return c.serves("main"), nil })
	during(t, time.Second, "not fenced before ack", func() (bool, any) { return c.serves("main"), nil })
	c.mustOrder("w1", "ack", group)
	eventually(t, "main fenced after ack", func() (bool, any) { return !c.serves("main"), fmt.Sprint(c.changes()) })
}
