package proctest

import (
	"strings"
	"testing"
	"time"

	"github.com/watchover-ha/watchover/pkg/client"
)

// A required step that fails before the point of no return: everything is taken back.
func TestAFailureBeforeTheNoReturnLeavesTheGroupAsItWas(t *testing.T) {
	t.Parallel()
	c := newCluster(t, settings{mode: "manual", only: map[string]string{"stop-replication": "timeout: 2s, tries: 2, backoff: 100ms"}})
	c.fail("standby", "stop-replication")
	askSwitchover(c, "main")
	c.waitEnded(1)
	w := c.history("w1")[0]
	if w.Result != "undone" || !strings.Contains(w.Undoing, "made to fail") {
		t.Errorf("result %s, because: %s", w.Result, w.Undoing)
	}
	for step, want := range map[string]string{"maintenance-on": "undone", "freeze": "undone", "stop-replication": "undone", "promote": "pending"} {
		if got := stepOf(&w, step).State; got != want {
			t.Errorf("%s is %s, want %s", step, got, want)
		}
	}
	if !c.serves("main") || c.serves("standby") {
		t.Error("main is to serve again, and standby not")
	}
	for app, want := range map[string]string{"main": "primary", "standby": "replica streaming lag_bytes=0"} {
		if got := (&Database{Dir: c.dir, App: app, Peer: other(app)}).role(); got != want {
			t.Errorf("the database of %s is %s, want %s", app, got, want)
		}
	}
	c.waitRecord("main")
	c.waitReady("standby")
	c.judge()
}

// halt makes a failover that stands still after its point of no return.
func halt(t *testing.T) (c *cluster, mend func()) {
	t.Helper()
	c = newCluster(t, settings{only: map[string]string{"maintenance-off": "timeout: 2s, tries: 2, backoff: 100ms"}})
	mend = c.fail("standby", "maintenance-off")
	c.killApp("main")
	c.onAll("halted at maintenance-off", func(_ *client.Status, g *client.Group) bool {
		step := stepOf(g.Switchover, "maintenance-off")
		return g.Phase == "halted" && g.Switchover.Result == "halted" && step.Attempts >= 2 && strings.Contains(step.Error, "made to fail") &&
			g.Writer == "standby" && g.Active == "main"
	})
	return c, mend
}

// After the point of no return nothing is undone: the step is tried on, and status and explain say what is wrong.
func TestAHaltedSwitchoverIsTriedEvery30SecondsAndAtOnceByRetry(t *testing.T) {
	t.Parallel()
	c, mend := halt(t)
	explained := c.mustOrder("w1", "explain", group)
	shownStatus := c.mustOrder("w2", "status", group)
	for verb, text := range map[string]string{"explain": explained, "status": shownStatus} {
		for _, word := range []string{"halted", "maintenance-off", "made to fail"} {
			if !strings.Contains(text, word) {
				t.Errorf("%s does not say %q:\n%s", verb, word, text)
			}
		}
	}
	if exit, text := c.order("w3", "check", group); exit != 2 || !strings.Contains(text, "CRITICAL") {
		t.Errorf("check exits %d: %s", exit, text)
	}
	if exit, text := c.order("w1", "abort", group); exit != 3 {
		t.Errorf("abort past the point of no return exits %d, want 3: %s", exit, text)
	}
	failed := *stepOf(c.status("w1").Groups[0].Switchover, "maintenance-off")
	var again client.Step
	c.on("w1", "the next try by itself", func(_ *client.Status, g *client.Group) bool {
		again = *stepOf(g.Switchover, "maintenance-off")
		return again.Attempts > failed.Attempts && again.EndedAt != nil
	})
	if pause := again.StartedAt.Sub(failed.EndedAt.Time); pause < 29*time.Second {
		t.Errorf("tried again after %s, want 30 s", pause)
	}
	mend()
	c.mustOrder("w2", "retry", group)
	c.waitEnded(1)
	if w := c.history("w1")[0]; w.Result != "done" {
		t.Errorf("result %s, want done: %v", w.Result, w.Exceptions)
	}
	c.waitRecord("standby")
	c.judge()
}

func TestRetrySkipStepLeavesTheHaltedStepOut(t *testing.T) {
	t.Parallel()
	c, _ := halt(t)
	c.mustOrder("w1", "retry", group, "--skip-step")
	c.waitEnded(1)
	w := c.history("w2")[0]
	if w.Result != "done_with_exceptions" || stepOf(&w, "maintenance-off").State != "skipped" ||
		len(w.Exceptions) == 0 || !strings.Contains(w.Exceptions[0], "left out by uid:") {
		t.Errorf("result %s, exceptions %q", w.Result, w.Exceptions)
	}
	c.waitRecord("standby")
	c.judge()
}
