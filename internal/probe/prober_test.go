package probe

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/watchover-ha/watchover/pkg/failover"
)

func TestOutageAndReturn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 0)
		w.targets(execTarget("main"))
		w.expect("main", failover.VerdictUnknown, "no full round of probes yet")
		w.run()
		defer w.stop()
		w.pass(firstSpread)
		w.expect("main", failover.VerdictUp, "")
		w.pass(5 * time.Second)
		if calm := w.times("main"); len(calm) < 5 || len(calm) > 7 {
			t.Fatalf("%d probes in 5 calm seconds: %v", len(calm), calm)
		}
		w.set("main", exits(1))
		before := len(w.times("main"))
		w.pass(time.Second + 2*rhythm.RetryInterval)
		w.expect("main", failover.VerdictDown, "exit says main")
		asked := w.times("main")[before:]
		if asked[2]-asked[0] != 2*rhythm.RetryInterval {
			t.Errorf("failing probes at %v, want them retry_interval apart", asked)
		}
		if got, want := w.told(), "[main:unknown main:up main:down] [main]"; got != want {
			t.Errorf("told %s, want %s", got, want)
		}
		w.set("main", nil)
		w.pass(rhythm.RetryInterval)
		w.expect("main", failover.VerdictDown, "exit says main")
		w.pass(rhythm.RetryInterval)
		w.expect("main", failover.VerdictUp, "")
	})
}

// Once settled again, the probe returns to its own place within the interval.
func TestPlaceIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 0)
		w.targets(execTarget("main"))
		w.run()
		defer w.stop()
		w.pass(3 * time.Second)
		asked := w.times("main")
		place := asked[len(asked)-1] % time.Second
		w.set("main", exits(1))
		w.pass(1500 * time.Millisecond)
		w.set("main", nil)
		w.pass(5 * time.Second)
		asked = w.times("main")
		if got := asked[len(asked)-1] % time.Second; got != place {
			t.Errorf("probed at %v of the second, before the outage at %v", got, place)
		}
	})
}

func TestWatchersAreSpread(t *testing.T) {
	now := time.Unix(1e9, 123)
	places := make(map[time.Duration]bool)
	for _, watcher := range []string{"w1", "w2", "w3", "w4", "w5"} {
		a := &app{target: execTarget("main")}
		a.spread(watcher, now)
		place := time.Duration(a.grid.UnixNano() % int64(time.Second))
		for other := range places {
			if (place - other).Abs() < time.Millisecond {
				t.Errorf("%s probes at %v of the second like another", watcher, place)
			}
		}
		places[place] = true
	}
}

func TestSlowTargetDelaysNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 0)
		w.set("slow", hangs)
		w.targets(execTarget("slow"), execTarget("quick"))
		w.run()
		defer w.stop()
		w.pass(10 * time.Second)
		if n := len(w.times("quick")); n < 10 || n > 12 {
			t.Errorf("the quick app was probed %d times in 10 s", n)
		}
		w.expect("quick", failover.VerdictUp, "")
		w.expect("slow", failover.VerdictDown, "no answer within 500ms")
		asked := w.times("slow")
		for i := 1; i < len(asked); i++ {
			if asked[i]-asked[i-1] < rhythm.RetryInterval {
				t.Fatalf("checks of one probe closer together than retry_interval: %v", asked)
			}
		}
		if late := w.prober.Overdue(); late != 0 {
			t.Errorf("overdue by %v", late)
		}
	})
}

// With one slot, a hanging app makes the others wait: that is overdue, and no failure.
func TestWaitingForASlotIsNoFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		slow, quick := execTarget("slow"), execTarget("quick")
		slow.Probing.Timeout = 20 * time.Second
		quick.Probing.Timeout = time.Millisecond
		w.targets(slow)
		w.set("slow", hangs)
		w.run()
		defer w.stop()
		w.pass(firstSpread)
		w.targets(slow, quick)
		w.pass(10 * time.Second)
		w.expect("quick", failover.VerdictUnknown, "no full round of probes yet")
		if late := w.prober.Overdue(); late < 9*time.Second || late > 10*time.Second {
			t.Errorf("overdue by %v after 10 s without a slot", late)
		}
		w.pass(11 * time.Second)
		w.expect("quick", failover.VerdictUp, "")
	})
}

func TestPoke(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 0)
		target := execTarget("main")
		target.Probing.Interval = time.Hour
		w.targets(target)
		w.run()
		defer w.stop()
		w.pass(time.Second)
		before := len(w.times("main"))
		w.prober.Poke("shop", "main")
		synctest.Wait()
		if n := len(w.times("main")) - before; n != 1 {
			t.Fatalf("%d probes after a poke", n)
		}
		for range 10 {
			w.prober.Poke("shop", "main")
			synctest.Wait()
		}
		if n := len(w.times("main")) - before; n != 1 {
			t.Fatalf("%d probes after more pokes at once", n)
		}
		w.pass(time.Second)
		if asked := w.times("main")[before:]; len(asked) != 2 || asked[1]-asked[0] != rhythm.RetryInterval {
			t.Errorf("probed at %v, want two checks retry_interval apart", asked)
		}
		w.prober.Poke("shop", "nobody")
	})
}

func TestTargetsChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 0)
		w.targets(execTarget("main"), execTarget("standby"))
		w.run()
		defer w.stop()
		w.pass(3 * time.Second)
		since := w.verdict("main").Since
		w.pass(time.Second)

		again := execTarget("standby")
		again.Revision = 2
		w.set("standby", hangs)
		w.targets(execTarget("main"), again)
		if v := w.verdict("main"); v.Verdict != failover.VerdictUp || !v.Since.Equal(since) {
			t.Errorf("an unchanged target lost its state: %+v", v)
		}
		if v := w.verdict("standby"); v.Verdict != failover.VerdictUnknown || v.Revision != 2 {
			t.Errorf("a new revision begins as %+v", v)
		}
		w.set("standby", nil)
		w.pass(time.Second)
		w.expect("standby", failover.VerdictUp, "")

		w.targets(execTarget("main"))
		w.pass(time.Second)
		before := len(w.times("standby"))
		w.pass(3 * time.Second)
		if len(w.times("standby")) != before {
			t.Error("a removed target is still probed")
		}
		if len(w.prober.Verdicts()) != 1 {
			t.Error("a removed target still has a verdict")
		}
	})
}

// A result that was under way for the old revision must not count for the new one.
func TestLateResultOfAnOldRevision(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 0)
		target := execTarget("main")
		target.Probing.Fall = 1
		release := make(chan struct{})
		w.set("main", func(context.Context) (int, error) { <-release; return 1, nil })
		w.targets(target)
		w.run()
		defer w.stop()
		w.pass(firstSpread)
		w.set("main", nil)
		target.Revision = 2
		w.targets(target)
		w.pass(firstSpread)
		close(release)
		synctest.Wait()
		w.expect("main", failover.VerdictUp, "")
	})
}

// Between the end of a check and its report, its app may be replaced.
func TestReportOfAClosedApp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 0)
		w.targets(execTarget("main"))
		one := w.prober.apps[0].probes[0]
		w.targets()
		f := flight{number: 1, began: time.Now(), check: one.check}
		w.prober.report(one, f, answer{}, nil)
		if !one.last.At.IsZero() || one.app.verdict != failover.VerdictUnknown || one.series.up != nil {
			t.Errorf("a removed app took in a result: %+v", one.last)
		}
	})
}

// Only an app that was up is worth the other watchers' attention.
func TestNoAlarmForAnAppThatWasNeverUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 0)
		w.set("main", exits(1))
		w.targets(execTarget("main"))
		w.run()
		defer w.stop()
		w.pass(10 * time.Second)
		if got, want := w.told(), "[main:unknown main:down] []"; got != want {
			t.Errorf("told %s, want %s", got, want)
		}
	})
}

// dropCounter counts how often a checker was told to begin afresh.
type dropCounter struct {
	checker
	drops atomic.Int32
}

func (d *dropCounter) drop() { d.drops.Add(1) }

func TestConnectionsDoNotOutliveDistrust(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 0)
		w.targets(execTarget("main"))
		one := w.prober.apps[0].probes[0]
		counter := &dropCounter{checker: one.check}
		one.check = counter
		w.run()
		defer w.stop()
		w.pass(3 * time.Second)
		w.mu.Lock()
		w.offset.suspended += time.Minute
		w.mu.Unlock()
		w.pass(2 * time.Second)
		if n := counter.drops.Load(); n != 1 {
			t.Errorf("connections were dropped %d times", n)
		}
	})
}

func TestFrozenWatcherStartsAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 0)
		target := execTarget("main")
		target.Probing.Fall = 1
		w.targets(target)
		w.run()
		defer w.stop()
		w.pass(3 * time.Second)
		w.expect("main", failover.VerdictUp, "")
		// The check under way when the watcher freezes fails for no fault of the app.
		w.set("main", func(ctx context.Context) (int, error) {
			w.mu.Lock()
			w.offset.monotonic += 7 * time.Second
			w.offset.wall = w.offset.wall.Add(7 * time.Second)
			w.behaviour["main"] = hangs
			w.mu.Unlock()
			return 1, nil
		})
		for w.verdict("main").Verdict == failover.VerdictUp {
			w.pass(10 * time.Millisecond)
		}
		v := w.verdict("main")
		if v.Verdict != failover.VerdictUnknown || v.Reason != "distrusts itself: frozen for 7s" && v.Reason != "distrusts itself: frozen for 8s" {
			t.Fatalf("after a freeze: %s, %q", v.Verdict, v.Reason)
		}
		w.pass(rhythm.Timeout)
		w.expect("main", failover.VerdictDown, "no answer within 500ms")
	})
}

func TestClockJump(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 0)
		target := execTarget("main")
		target.Probing.Interval = time.Minute
		target.Probing.Fall = 100
		w.targets(target)
		w.run()
		defer w.stop()
		w.pass(3 * time.Second)
		w.mu.Lock()
		w.offset.wall = w.offset.wall.Add(7 * time.Second)
		w.behaviour["main"] = exits(1)
		w.mu.Unlock()
		// Verdicts from before are being taken back; until that is told, nobody may count on this watcher.
		if late := w.prober.Overdue(); late != distrustTold {
			t.Errorf("overdue by %s right after the jump", late)
		}
		w.pass(tickPeriod)
		w.expect("main", failover.VerdictUnknown, "distrusts itself: clock jump of 7s")
		if late := w.prober.Overdue(); late != 0 {
			t.Errorf("overdue by %s after it was told", late)
		}
		w.set("main", nil)
		w.pass(time.Second)
		w.expect("main", failover.VerdictUp, "")
	})
}

func TestLocalFaultIsUnknown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 0)
		w.targets(execTarget("main"))
		w.run()
		defer w.stop()
		w.set("main", func(context.Context) (int, error) { return 0, fmt.Errorf("no such program") })
		w.pass(10 * time.Second)
		w.expect("main", failover.VerdictUnknown, "cannot run main: no such program")
		if v := w.verdict("main"); v.Probe != "run" || v.Probes["run"].Verdict != failover.VerdictUnknown {
			t.Errorf("%+v", v)
		}
	})
}

func TestRefusedTargets(t *testing.T) {
	probes := func(p ...failover.Probe) Target { return Target{Group: "g", App: "a", Probing: rhythm, Probes: p} }
	slack := probes()
	slack.Probing.Fall = 0
	hasty := probes()
	hasty.Probing.RetryInterval = 0
	tests := []struct {
		name    string
		targets []Target
		want    string
	}{
		{"no dsn", []Target{probes(failover.Probe{Kind: "redis"})}, `cannot probe g/a: probe "redis": cannot ask a server without a dsn`},
		{"unknown kind", []Target{probes(failover.Probe{Kind: "smtp", Name: "mail"})},
			`cannot probe g/a: probe "mail": probe kind "smtp" is unknown; use http, tcp, tls, dns, grpc, icmp, exec, postgres, mysql or redis`},
		{"twice", []Target{probes(), probes()}, "cannot probe g/a: it is named twice"},
		{"same probe name", []Target{probes(failover.Probe{Kind: "exec", Exec: []string{"x"}}, failover.Probe{Kind: "exec", Exec: []string{"y"}})},
			`cannot probe g/a: two probes are named "exec"; give each its own name`},
		{"fall", []Target{slack}, "cannot probe g/a: fall and rise must be at least 1"},
		{"retry", []Target{hasty}, "cannot probe g/a: interval, retry_interval and timeout must be above zero"},
		{"empty exec", []Target{probes(failover.Probe{Kind: "exec"})}, `cannot probe g/a: probe "exec": cannot run an empty command: exec needs a program`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, 0)
			w.targets(execTarget("kept"))
			err := w.prober.SetTargets(tt.targets)
			if err == nil || err.Error() != tt.want {
				t.Errorf("error %v\nwant  %s", err, tt.want)
			}
			if v := w.prober.Verdicts(); len(v) != 1 || v[0].App != "kept" {
				t.Errorf("refused targets changed what is probed: %+v", v)
			}
		})
	}
}

func TestRunTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 0)
		w.run()
		synctest.Wait()
		if err := w.prober.Run(t.Context()); err == nil {
			t.Error("a second Run was accepted")
		}
		w.stop()
	})
}
