package switchover

import (
	"strings"
	"testing"
	"time"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// planned moves the group to standby, with main's database left behind as a frozen primary.
func planned(t *testing.T, change func(*failover.Group), script func(*world)) {
	t.Helper()
	play(t, change, func(w *world) {
		defer w.lead()()
		w.request()
		want(t, "result", w.ended().Result, failover.ResultDone)
		w.see("standby", failover.VerdictUp)
		script(w)
	})
}

func (w *world) reprotect(force bool) *failover.Reprotect {
	w.t.Helper()
	w.must(failover.Command{By: "uid:0", Reprotect: &failover.ReprotectOrder{Group: group, Force: force}})
	w.until("the order has ended", func(g *failover.GroupState) bool { m := g.Apps["main"].Mark; return m == nil || !m.Reprotect.Open() })
	return w.journal.State().Groups[group].Apps["main"].Mark.Reprotect
}

func withProgram(g *failover.Group) {
	for i := range g.Apps {
		g.Apps[i].Database.Reprotect = []string{"/bin/ctl", g.Apps[i].Name, "reprotect"}
	}
}

func TestReprotectRunsTheProgramAndWaitsForTheStream(t *testing.T) {
	planned(t, withProgram, func(w *world) {
		want(t, "order", *w.reprotect(false), failover.Reprotect{Index: w.journal.State().Groups[group].Apps["main"].Mark.Reprotect.Index,
			Since: w.journal.State().Groups[group].Apps["main"].Mark.Reprotect.Since, By: "uid:0", Ended: true})
		run := w.runs("main reprotect")
		want(t, "runs", len(run), 1)
		for name, value := range map[string]string{"STEP": "reprotect", "APP": "main", "TO": "standby", "GROUP": "shop"} {
			want(t, name, run[0].env["WATCHOVER_"+name], value)
		}
		if run[0].env["WATCHOVER_TOKEN"] == "" || run[0].env["WATCHOVER_DEADLINE"] == "" {
			t.Errorf("told %v", run[0].env)
		}
		want(t, "streams", w.is("main").streaming, true)
	})
}

func TestReprotectFailsWhenNoStreamIsSeen(t *testing.T) {
	planned(t, withProgram, func(w *world) {
		w.app("main", func(a *fakeApp) { a.deaf = map[string]bool{"reprotect": true} })
		began := w.now()
		if got := w.reprotect(false); got.Error != "it was not seen to receive: it is primary" {
			t.Errorf("got %+v", got)
		}
		if took := w.now() - began; took < failover.ReprotectTimeout || took > failover.ReprotectTimeout+time.Second {
			t.Errorf("waited %s", took)
		}
	})
}

// Nobody looks while the hands are at work for a minute: a database that would not tell may have lost its freeze by then.
func TestUntoldFreezeIsMadeOnceMoreAfterAFailedReprotect(t *testing.T) {
	untold(t, withProgram, func(w *world) {
		w.app("main", func(a *fakeApp) { a.deaf = map[string]bool{"reprotect": true} })
		old := len(w.runs("main freeze"))
		w.reprotect(false)
		w.rest(20 * time.Second)
		want(t, "freezes", len(w.runs("main freeze"))-old, 1)
	})
}

func TestReprotectWithoutAWay(t *testing.T) {
	planned(t, nil, func(w *world) {
		if got := w.reprotect(false); got.Error != errNoWay.Error() {
			t.Errorf("got %+v", got)
		}
	})
}

// What would vanish on a database of kind exec only its program can know: it is run, and told when it was forced.
func TestReprotectTellsTheProgramOfForce(t *testing.T) {
	planned(t, withProgram, func(w *world) {
		w.app("main", func(a *fakeApp) { a.broken["reprotect"] = true })
		for i, kind := range []failover.Kind{failover.KindPlanned, failover.KindForced} {
			if got := w.reprotect(kind == failover.KindForced); got.Error != "/bin/ctl exited 3: broken" {
				t.Errorf("got %+v", got)
			}
			want(t, "told", w.runs("main reprotect")[i].env["WATCHOVER_KIND"], string(kind))
		}
	})
}

// A database that takes writes is fenced first: what is compared with the writer's must not move any more.
func TestReprotectWantsAFrozenDatabase(t *testing.T) {
	play(t, func(g *failover.Group) { served(g); withProgram(g) }, func(w *world) {
		onServers(w)
		told(w)
		defer w.lead()()
		w.request()
		want(t, "result", w.ended().Result, failover.ResultDone)
		w.see("standby", failover.VerdictUp)
		w.app("main", func(a *fakeApp) { a.frozen = false; a.broken["freeze"] = true })
		if got := w.reprotect(false); !strings.HasPrefix(got.Error, "its database takes writes: ") {
			t.Errorf("got %+v", got)
		}
		want(t, "runs", len(w.runs("main reprotect")), 0)
	})
}

// working moves the group and returns when the program that makes main a replica runs, to do what the change to main says.
func (w *world) working(change func(*fakeApp)) (stop func()) {
	w.t.Helper()
	stop = w.lead()
	w.request()
	w.ended()
	w.see("standby", failover.VerdictUp)
	w.app("main", change)
	w.must(failover.Command{By: "uid:0", Reprotect: &failover.ReprotectOrder{Group: group}})
	w.until("the program runs", func(g *failover.GroupState) bool {
		return g.Apps["main"].Mark.Open != nil && g.Apps["main"].Mark.Open.Part == failover.PartReprotect
	})
	return stop
}

// reprotected waits for the end of the order and returns it.
func (w *world) reprotected() failover.Reprotect {
	w.t.Helper()
	g := w.until("the order has ended", func(g *failover.GroupState) bool { return !g.Apps["main"].Mark.Reprotect.Open() })
	return *g.Apps["main"].Mark.Reprotect
}

// A leader that gives way in the middle of it has not failed: the next one makes it again.
func TestReprotectThatIsCutShortGoesOn(t *testing.T) {
	play(t, withProgram, func(w *world) {
		stop := w.working(func(a *fakeApp) { a.slow["reprotect"] = time.Hour })
		w.journal.elect()
		stop() // its farewell goes to the new leader
		want(t, "open", w.journal.State().Groups[group].Apps["main"].Mark.Reprotect.Open(), true)
		w.app("main", func(a *fakeApp) { a.slow["reprotect"] = 0 })
		defer w.lead()()
		want(t, "error", w.reprotected().Error, "")
		want(t, "runs", len(w.runs("main reprotect")), 2)
	})
}

// The leader dies in the middle of it, before or after it has taken effect: the next one waits until those hands are still,
// looks, and does what is left.
func TestReprotectIsTakenOver(t *testing.T) {
	for _, tc := range []struct {
		name string
		when func(*fakeApp)
		runs int
	}{
		{"before", func(a *fakeApp) { a.slow["reprotect"] = time.Hour }, 2},
		{"after", func(a *fakeApp) { a.half["reprotect"] = true }, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			play(t, withProgram, func(w *world) {
				w.crash(w.working(tc.when))
				w.app("main", func(a *fakeApp) { a.slow["reprotect"], a.half["reprotect"] = 0, false })
				began := w.now()
				defer w.lead()()
				want(t, "error", w.reprotected().Error, "")
				want(t, "runs", len(w.runs("main reprotect")), tc.runs)
				if waited := w.now() - began; waited < failover.ReprotectTimeout {
					t.Errorf("waited only %s", waited)
				}
			})
		})
	}
}
