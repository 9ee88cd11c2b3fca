package proctest

import (
	"context"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/watchover-ha/watchover/pkg/client"
)

// A minority opens nothing, and says with each answer that it may be stale.
func TestOneWatcherOfThreeOpensNothingAndClampsTheTTL(t *testing.T) {
	t.Parallel()
	c := newCluster(t, settings{zone: "  isolation: {after: 1s, ttl: 30s}\n"})
	leader, follower := c.leader()
	c.freeze(leader, follower)
	alone := c.running()[0]
	c.killApp("main")
	eventually(t, "a stale answer", func() (bool, any) {
		a, err := c.ask(alone)
		return err == nil && a.address == addresses["main"] && a.ttl <= 30 && a.ede == 3, a
	})
	during(t, 3*time.Second, "no switch, the old record, marked as stale", func() (bool, any) {
		s := c.status(alone)
		a, err := c.ask(alone)
		return s != nil && s.Groups[0].Epoch == 0 && err == nil && a.address == addresses["main"] && a.ttl <= 30 && a.ede == 3, a
	})
	c.thaw(leader, follower)
	c.waitEnded(1)
	c.waitRecord("standby")
	for _, name := range names {
		eventually(t, name+" answers with the full TTL", func() (bool, any) {
			a, err := c.ask(name)
			return err == nil && a.ttl == 300 && a.ede == -1, a
		})
	}
	c.judge()
}

// Fencing is a mark: a reboot does not wash it off.
func TestAMainThatReturnsIsFencedAgainEachTime(t *testing.T) {
	t.Parallel()
	c := newCluster(t, settings{})
	c.killApp("main")
	c.waitEnded(1)
	if !appOf(&c.status("w1").Groups[0], "main").Marked {
		t.Fatal("main is not marked")
	}
	cached := c.visit("main")
	for round := 1; round <= 3; round++ {
		through := cached.through.Load()
		c.startApp("main", true)
		c.onAll("main in maintenance", func(_ *client.Status, g *client.Group) bool { return appOf(g, "main").Maintenance == "on" })
		eventually(t, "main frozen", func() (bool, any) {
			role := (&Database{Dir: c.dir, App: "main", Peer: "standby"}).role()
			return role == "primary frozen", role
		})
		if c.serves("main") {
			t.Error("main serves though it is in maintenance")
		}
		t.Logf("round %d: %d requests of a client with the old address got through", round, cached.through.Load()-through)
		c.killApp("main")
		c.onAll("main gone", func(_ *client.Status, g *client.Group) bool { return appOf(g, "main").Health == "down" })
	}
	cached.leave()
	if n := len(c.history("w1")); n != 1 {
		t.Errorf("%d switchovers, want 1", n)
	}
	c.judge()
}

// visitor is a client that has an app's address in its cache and asks for its page without a pause.
type visitor struct {
	through atomic.Int64
	leave   func()
}

func (c *cluster) visit(app string) *visitor {
	ctx, cancel := context.WithCancel(context.Background())
	v := &visitor{}
	var visiting sync.WaitGroup
	v.leave = func() { cancel(); visiting.Wait() }
	c.t.Cleanup(v.leave)
	cl := http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	visiting.Go(func() {
		pause := time.NewTicker(5 * time.Millisecond)
		defer pause.Stop()
		for ctx.Err() == nil {
			if req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.appAddress(app)+"/", nil); err == nil {
				if resp, err := cl.Do(req); err == nil {
					resp.Body.Close()
					if resp.StatusCode == http.StatusOK {
						v.through.Add(1)
					}
				}
			}
			select {
			case <-pause.C:
			case <-ctx.Done():
			}
		}
	})
	return v
}

// A typo on day one does not fail over.
func TestAWrongProbeURLFromTheStartNeverSwitches(t *testing.T) {
	t.Parallel()
	c := prepare(t, settings{probePath: "/no-such-page"})
	c.startApp("main", true)
	c.startApp("standby", false)
	for _, name := range names {
		c.startWatcher(name)
	}
	c.onAll("main down, standby up", func(_ *client.Status, g *client.Group) bool {
		return appOf(g, "main").Health == "down" && appOf(g, "standby").Health == "up"
	})
	during(t, 3*time.Second, "no switch", func() (bool, any) {
		s := c.status("w1")
		return s == nil || s.Groups[0].Epoch == 0, s
	})
	cl := c.client("w2")
	defer cl.Close()
	e, err := cl.Explain(t.Context(), group)
	must(t, err)
	for _, condition := range e.Conditions {
		// Whether the standby's lag was told before main's first failed probe, which begins an outage, is a matter of luck.
		if condition.Code != "no_ready_target" && condition.Met == (condition.Code == "never_up") {
			t.Errorf("condition %s: met %t: %s", condition.Code, condition.Met, condition.Evidence)
		}
	}
	if e.WouldSwitch || !c.serves("main") {
		t.Error("main is to go on serving")
	}
	c.judge()
}

// No flapping within the cooldown: neither when main comes and goes, nor when the new active app dies too.
func TestAFlappingMainSwitchesOnce(t *testing.T) {
	t.Parallel()
	c := newCluster(t, settings{})
	rounds := 4
	if n, err := strconv.Atoi(os.Getenv("PROCTEST_FLAPS")); err == nil { // 24 are two minutes
		rounds = n
	}
	for range rounds {
		c.killApp("main")
		// Long enough for a switchover: a main that is back before its point of no return has it undone.
		during(t, 4*time.Second, "every watcher runs", c.allRun)
		c.startApp("main", true)
		during(t, time.Second, "every watcher runs", c.allRun)
	}
	c.waitEnded(1)
	c.killApp("main")
	c.makeReplica("main")
	c.startApp("main", false)
	c.onAll("main ready to take over", func(_ *client.Status, g *client.Group) bool {
		return appOf(g, "main").Ready && !appOf(g, "main").Marked && appOf(g, "standby").Health == "up"
	})
	c.killApp("standby")
	c.onAll("standby down, held back by the cooldown alone", func(_ *client.Status, g *client.Group) bool {
		return g.Phase == "down" && len(g.Automation.Blockers) == 1 && g.Automation.Blockers[0].Code == "cooldown"
	})
	during(t, 2*time.Second, "one switchover", func() (bool, any) {
		s := c.status("w1")
		return s == nil || s.Groups[0].Epoch == 1, s
	})
	c.judge()
}
