package proctest

import (
	"bytes"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/watchover-ha/watchover/pkg/client"
)

// pointsPerCluster is how many points of one scenario a cluster works through at most, one by one. Clusters run at the
// same time.
const pointsPerCluster = 16

// scenario is a kind of switchover in the middle of which the leader is killed, again and again on the same cluster.
type scenario struct {
	settings settings
	begin    func(c *cluster, from string)                  // makes the cluster switch
	again    func(c *cluster, from, to string) (now string) // makes the group whole again and names the active app
	prepare  func(c *cluster)                               // once
}

// unhurried gives a step time for its hooks, its act and the look after it, four programs one after the other, on a machine that is
// slow for a while: one that runs out of tries ends otherwise than without a crash.
const unhurried = "timeout: 2s, tries: 10, backoff: 100ms"

var planned = scenario{
	settings: settings{mode: "manual", hooks: true, steps: unhurried},
	begin:    askSwitchover,
	again: func(c *cluster, from, to string) string {
		c.makeReplica(from)
		c.waitReady(from)
		return to
	},
}

var failedOver = scenario{
	settings: settings{hooks: true, steps: unhurried},
	begin:    func(c *cluster, from string) { c.killApp(from) },
	again: func(c *cluster, from, to string) string {
		c.makeReplica(from)
		c.startApp(from, false)
		_, follower := c.leader()
		c.mustOrder(follower, "ack", group)
		c.waitReady(from)
		return to
	},
}

// undone fails before its point of no return.
var undone = scenario{
	settings: settings{mode: "manual", only: map[string]string{"stop-replication": "timeout: 1s, tries: 2, backoff: 100ms"}},
	prepare:  func(c *cluster) { c.fail("standby", "stop-replication") },
	begin:    askSwitchover,
	again: func(c *cluster, from, to string) string {
		c.waitReady(to)
		return from
	},
}

// askSwitchover asks a follower; whether the answer outlives the leader does not matter, the status tells.
func askSwitchover(c *cluster, _ string) {
	_, follower := c.leader()
	c.order(follower, "switchover", group, "--yes", "--wait=false")
}

func TestLeaderKilledAtEveryEntryOfAPlannedSwitchover(t *testing.T) {
	t.Parallel()
	killedAtEveryEntry(t, planned, 8*4)
}

func TestLeaderKilledAtEveryEntryOfAFailover(t *testing.T) {
	t.Parallel()
	killedAtEveryEntry(t, failedOver, 2*2+5*4)
}

func TestLeaderKilledAtEveryEntryOfAnUndoneSwitchover(t *testing.T) {
	t.Parallel()
	killedAtEveryEntry(t, undone, 4*2+3*2)
}

func killedAtEveryEntry(t *testing.T, s scenario, entries int) {
	s.settings.watcher = crashBinary
	killedAtEveryPoint(t, s, "crash", 2*entries, func(c *cluster) []string {
		text, err := os.ReadFile(c.path("crash-list"))
		must(t, err)
		points := strings.Fields(string(text))
		slices.Sort(points)
		return slices.Compact(points)
	}, func(point string) string { return point })
}

func TestLeaderKilledInsideEveryHookOfAPlannedSwitchover(t *testing.T) {
	t.Parallel()
	killedInsideEveryHook(t, planned, 8*2, "maintenance-on", "freeze", "catch-up", "stop-replication", "promote", "maintenance-off")
}

func TestLeaderKilledInsideEveryHookOfAFailover(t *testing.T) {
	t.Parallel()
	killedInsideEveryHook(t, failedOver, 2+5*2, "stop-replication", "promote", "maintenance-off")
}

// killedInsideEveryHook has the hook or the action itself kill the leader that runs it, and go on for a while.
func killedInsideEveryHook(t *testing.T, s scenario, hooks int, acts ...string) {
	killedAtEveryPoint(t, s, TrapFile, hooks+2*len(acts), func(c *cluster) []string {
		var points []string
		for _, line := range c.hookLines() {
			if !line.End {
				points = append(points, "hook:"+line.Phase+":"+line.Step)
			}
		}
		for _, act := range acts {
			points = append(points, "act:"+act+":before", "act:"+act+":after")
		}
		slices.Sort(points)
		return slices.Compact(points)
	}, func(point string) string { return "kill " + point })
}

// killedAtEveryPoint runs a scenario without a crash, which tells the points and the outcome, and then once for each
// point with the leader dying there. The crash is armed by a file that disappears when it happens.
func killedAtEveryPoint(t *testing.T, s scenario, file string, most int, points func(*cluster) []string, armed func(string) string) {
	first := newScenarioCluster(t, s)
	all, want := first.rehearse(s, most, points)
	t.Logf("%d points, end without a crash: %+v", len(all), want)
	first.judge()
	first.close()
	all = sampled(all)
	shards := (len(all) + pointsPerCluster - 1) / pointsPerCluster
	for shard := range shards {
		t.Run(fmt.Sprint("shard", shard), func(t *testing.T) {
			t.Parallel()
			c := newScenarioCluster(t, s)
			active := "main"
			for i := shard; i < len(all); i += shards {
				active = c.crashOnce(s, active, file, all[i], armed(all[i]), want)
			}
			c.judge()
			c.judgeSurvivors()
		})
	}
}

// sampled is every sixth point, the first and the last among them: the simulator takes them all. PROCTEST_POINTS=all does so here, in a quarter of an
// hour on two processors.
func sampled(all []string) (some []string) {
	if os.Getenv("PROCTEST_POINTS") == "all" {
		return all
	}
	for i, point := range all {
		if i%6 == 0 || i == len(all)-1 {
			some = append(some, point)
		}
	}
	return some
}

// rehearse runs a scenario until all its points are known: once, unless leadership changes by itself, which a busy
// machine can cause, and an entry gets lost with it.
func (c *cluster) rehearse(s scenario, most int, points func(*cluster) []string) (all []string, want outcome) {
	c.t.Helper()
	active := "main"
	for epoch := uint64(1); epoch <= attemptsPerPoint; epoch++ {
		s.begin(c, active)
		c.waitEnded(epoch)
		want = c.steadyOutcome()
		if all = points(c); len(all) >= most {
			return all, want
		}
		active = s.again(c, active, other(active))
	}
	c.t.Fatalf("%d points, want %d: %v", len(all), most, all)
	return nil, want
}

// steadyOutcome waits until what can be seen of the group has not changed for a while.
func (c *cluster) steadyOutcome() (o outcome) {
	c.t.Helper()
	since := time.Now()
	eventually(c.t, "a steady end", func() (bool, any) {
		got, ok := c.outcome("w1")
		if !ok || !reflect.DeepEqual(got, o) {
			o, since = got, time.Now()
		}
		return time.Since(since) > 2*time.Second, got
	})
	return o
}

// judgeSurvivors finds programs started by a watcher that lived on after it was killed.
func (c *cluster) judgeSurvivors() {
	c.t.Helper()
	survivors, err := ReadLines[string](c.path(SurvivorsFile))
	must(c.t, err)
	for _, point := range survivors {
		if !strings.HasPrefix(point, "act:maintenance-") { // an app's own process
			c.t.Errorf("%s: the program lived on after its watcher was killed", point)
		}
	}
}

func newScenarioCluster(t *testing.T, s scenario) *cluster {
	c := prepare(t, s.settings)
	c.settings.env = []string{"WATCHOVER_TEST_CRASH=" + c.path("crash"), "WATCHOVER_TEST_CRASH_LIST=" + c.path("crash-list")}
	if s.prepare != nil {
		s.prepare(c)
	}
	c.begin()
	return c
}

// attemptsPerPoint is how often a switchover is begun that is to pass a point. A leadership that is lost for want of
// processor time just there makes it miss the point.
const attemptsPerPoint = 5

// crashOnce lets the leader die at a point and sees another watcher finish with the same end. It returns the app that is
// active then.
func (c *cluster) crashOnce(s scenario, from, file, point, armed string, want outcome) string {
	c.t.Helper()
	must(c.t, os.WriteFile(c.path(file), []byte(armed), 0o600))
	for attempt := 1; ; attempt++ {
		epoch := c.epoch()
		s.begin(c, from)
		c.waitEnded(epoch + 1)
		if _, err := os.Stat(c.path(file)); os.IsNotExist(err) {
			break
		}
		if attempt == attemptsPerPoint {
			c.t.Fatalf("%s: %d switchovers ended without passing this point", point, attempt)
		}
		from = s.again(c, from, other(from))
	}
	dead := c.died(point)
	c.startWatcher(dead)
	var got outcome
	eventually(c.t, fmt.Sprintf("%s: the end as without a crash, %+v", point, want), func() (bool, any) {
		got, _ = c.outcome(dead)
		return reflect.DeepEqual(got, want), got
	})
	return s.again(c, from, other(from))
}

// died names the one watcher that is gone.
func (c *cluster) died(point string) string {
	c.t.Helper()
	dead := ""
	eventually(c.t, point+": one dead watcher", func() (bool, any) {
		running := c.running()
		for _, name := range names {
			if !slices.Contains(running, name) {
				dead = name
			}
		}
		return len(running) == len(names)-1, running
	})
	if err := c.watchers[dead].err; err == nil || !strings.Contains(err.Error(), "killed") {
		c.t.Fatalf("%s: %s was not killed: %v", point, dead, err)
	}
	return dead
}

// epoch is the group's newest: a watcher that was just started again may not have read all of its log yet.
func (c *cluster) epoch() (newest uint64) {
	c.t.Helper()
	for _, name := range c.running() {
		if s := c.status(name); s != nil && len(s.Groups) > 0 {
			newest = max(newest, s.Groups[0].Epoch)
		}
	}
	return newest
}

// waitEnded waits until every watcher that runs knows the switchover of that epoch as ended.
func (c *cluster) waitEnded(epoch uint64) {
	c.t.Helper()
	eventually(c.t, fmt.Sprintf("the end of the switchover with epoch %d", epoch), func() (bool, any) {
		for _, name := range c.running() {
			s := c.status(name)
			if s == nil {
				return false, name + " does not answer"
			}
			g := s.Groups[0]
			if g.LastSwitchover == nil || g.LastSwitchover.Epoch != epoch || g.Switchover != nil {
				return false, shown(g)
			}
		}
		return true, nil
	})
}

// A database that does not tell its freeze still has that of the last switchover when it is a replica again. The leader dies when it
// has promoted it and not lifted the freeze yet: the next one lifts it, and promotes nothing twice.
func TestLeaderKilledBeforeItLiftsAnOldFreeze(t *testing.T) {
	t.Parallel()
	c := prepare(t, planned.settings)
	must(t, os.WriteFile(c.path("main", UntoldFile), nil, 0o600))
	c.begin()
	askSwitchover(c, "main")
	c.waitEnded(1)
	c.setDatabase("main", map[string]string{"role": "replica", "receiving": "yes"})
	c.waitReady("main")
	frozen := func() string { return (&Database{Dir: c.dir, App: "main"}).get("main", "frozen") }
	if frozen() != "yes" {
		t.Fatal("main is not frozen any more")
	}
	must(t, os.WriteFile(c.path(TrapFile), []byte("kill act:promote:after"), 0o600))
	askSwitchover(c, "standby")
	dead := c.died("act:promote:after")
	c.waitEnded(2)
	c.startWatcher(dead)
	got := c.steadyOutcome()
	if got.Result != "done" || len(got.Exceptions) > 0 || frozen() != "no" {
		t.Errorf("main frozen: %s, and ended so: %+v", frozen(), got)
	}
	c.judge()
}

// A leader that dies while it fences a marked app again: another one does it.
func TestLeaderKilledAtEveryEntryOfKeepingAMark(t *testing.T) {
	t.Parallel()
	c := prepare(t, settings{watcher: crashBinary})
	c.settings.env = []string{"WATCHOVER_TEST_CRASH=" + c.path("crash")}
	c.begin()
	c.killApp("main")
	c.waitEnded(1)
	for _, part := range []string{"maintenance", "database"} {
		for _, point := range []string{"before:start:keep:%s", "after:start:keep:%s", "before:ended:keep:%s:done", "after:ended:keep:%s:done"} {
			point = fmt.Sprintf(point, part)
			must(t, os.WriteFile(c.path("crash"), []byte(point), 0o600))
			c.startApp("main", true)
			eventually(t, point+": passed", func() (bool, any) {
				_, err := os.Stat(c.path("crash"))
				return os.IsNotExist(err), nil
			})
			dead := c.died(point)
			c.onAll(point+": main fenced", func(_ *client.Status, g *client.Group) bool {
				main := appOf(g, "main")
				return main.Marked && main.Maintenance == "on" && main.Database.Role == "primary" && g.Active == "standby"
			})
			eventually(t, point+": main frozen", func() (bool, any) {
				role := (&Database{Dir: c.dir, App: "main", Peer: "standby"}).role()
				return role == "primary frozen", role
			})
			c.startWatcher(dead)
			c.killApp("main")
			c.onAll(point+": main gone again", func(_ *client.Status, g *client.Group) bool { return appOf(g, "main").Health == "down" })
		}
	}
	c.judge()
}

// The points are for tests: a watcher as shipped has none.
func TestTheShippedWatcherHasNoCrashPoints(t *testing.T) {
	for binary, want := range map[string]bool{watcherBinary: false, crashBinary: true} {
		text, err := os.ReadFile(binary)
		must(t, err)
		if got := bytes.Contains(text, []byte("WATCHOVER_TEST_CRASH")); got != want {
			t.Errorf("%s holds the name of the crash point's variable: %t, want %t", binary, got, want)
		}
	}
}
