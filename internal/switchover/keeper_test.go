package switchover

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// moved is a world whose group has failed over, with main dead and marked.
func moved(t *testing.T, change func(*failover.Group), script func(*world)) {
	t.Helper()
	play(t, change, func(w *world) {
		defer w.lead()()
		w.kill()
		w.ended()
		w.rest(w.now().Truncate(time.Second) + time.Second - w.now())
		script(w)
	})
}

// back lets main answer again, as it was before its outage.
func (w *world) back() time.Duration {
	w.app("main", func(a *fakeApp) { a.dead, a.maintenance, a.frozen = false, false, false })
	return w.now()
}

func TestMarkedAppIsFencedWithinOneRetryInterval(t *testing.T) {
	moved(t, nil, func(w *world) {
		for round := range 3 { // killed and started three times: each time again
			old := len(w.called(0))
			w.back()
			w.rest(500 * time.Millisecond)
			main := w.is("main")
			if !main.maintenance || !main.frozen {
				t.Errorf("round %d: not fenced: %+v", round, main)
			}
			wantCalls(t, w.called(old), "main on", "main freeze")
			w.app("main", func(a *fakeApp) { a.dead = true })
			w.rest(5 * time.Second)
		}
	})
}

func TestFencedAppIsLeftAlone(t *testing.T) {
	moved(t, nil, func(w *world) {
		w.back()
		w.rest(500 * time.Millisecond)
		old, index := len(w.called(0)), w.journal.State().Index
		w.rest(time.Minute)
		wantCalls(t, w.called(old))
		want(t, "index while nothing is owed", w.journal.State().Index, index)
	})
}

// A database that does not tell its freeze is believed until it stops answering; then it may have been started anew.
func TestUntoldFreezeIsBelievedUntilTheDatabaseIsGone(t *testing.T) {
	moved(t, nil, func(w *world) {
		w.app("main", func(a *fakeApp) { a.tells = false })
		w.back()
		w.rest(10 * time.Second)
		want(t, "freezes", len(w.runs("main freeze")), 2) // the failover's own try and the keeper's
		w.app("main", func(a *fakeApp) { a.dead = true })
		w.rest(10 * time.Second)
		w.back()
		w.rest(10 * time.Second)
		want(t, "freezes", len(w.runs("main freeze")), 3)
	})
}

// The step's word is not the keeper's: a reboot may have come in between, and such a database would not tell.
func TestUntoldFreezeOfTheStepIsMadeOnceMore(t *testing.T) {
	play(t, nil, func(w *world) {
		w.app("main", func(a *fakeApp) { a.tells = false })
		defer w.lead()()
		w.request()
		want(t, "result", w.ended().Result, failover.ResultDone)
		w.rest(10 * time.Second)
		want(t, "freezes", len(w.runs("main freeze")), 2)
	})
}

// A freeze that failed half-way is made again, though the database tells that it is frozen.
func TestHalfAFreezeIsNotKept(t *testing.T) {
	moved(t, nil, func(w *world) {
		w.app("main", func(a *fakeApp) { a.half["freeze"] = true })
		w.back()
		w.rest(11 * time.Second) // its whole time
		want(t, "tells that it is frozen", w.is("main").frozen, true)
		old := len(w.runs("main freeze"))
		w.app("main", func(a *fakeApp) { a.half["freeze"] = false })
		w.rest(20 * time.Second)
		want(t, "freezes", len(w.runs("main freeze"))-old, 1)
	})
}

func TestDatabaseThatTellsIsFrozenAgainWhenItIsNot(t *testing.T) {
	moved(t, nil, func(w *world) {
		w.app("main", func(a *fakeApp) { a.tells = true })
		w.back()
		w.rest(10 * time.Second)
		want(t, "main frozen", w.is("main").frozen, true)
	})
}

func TestWithoutACheckMaintenanceIsTurnedOncePerComeBack(t *testing.T) {
	without := func(g *failover.Group) {
		for i := range g.Apps {
			g.Apps[i].Maintenance.Check, g.Apps[i].Database = nil, nil
		}
	}
	moved(t, without, func(w *world) {
		old := len(w.runs("main on"))
		for round := 1; round <= 3; round++ {
			w.back()
			w.setUp("main", time.Now())
			w.rest(20 * time.Second)
			want(t, "turned", len(w.runs("main on"))-old, round)
			w.setUp("main", time.Time{})
			w.app("main", func(a *fakeApp) { a.dead = true })
			w.rest(20 * time.Second)
			want(t, "turned while it is down", len(w.runs("main on"))-old, round)
		}
	})
}

func TestWriterIsNeverFenced(t *testing.T) {
	moved(t, nil, func(w *world) {
		old := len(w.called(0))
		w.rest(time.Minute)
		for _, c := range w.called(old) {
			if c == "standby on" || c == "standby freeze" {
				t.Errorf("the writer was touched: %s", c)
			}
		}
		want(t, "standby", w.is("standby").maintenance || w.is("standby").frozen, false)
	})
}

func TestSlowMarkedAppDoesNotDelayAnother(t *testing.T) {
	third := func(g *failover.Group) {
		a := g.Apps[0]
		a.Name, a.Database, a.Maintenance = "third", nil, nil
		for i := range g.Apps {
			g.Apps[i].Database = nil
		}
		a.Maintenance = &failover.Maintenance{On: failover.Action{Exec: []string{"/bin/ctl", "third", "on"}}, Off: failover.Action{Exec: []string{"/bin/ctl", "third", "off"}},
			Check: &failover.Action{Exec: []string{"/bin/ctl", "third", "check"}}}
		g.Apps = append(g.Apps, a)
		g.Failover.Cooldown = 0
	}
	play(t, third, func(w *world) {
		w.app("main", func(*fakeApp) {
			w.apps["third"] = &fakeApp{maintenance: true, slow: map[string]time.Duration{}, broken: map[string]bool{}, half: map[string]bool{}}
		})
		w.see("third", failover.VerdictUp)
		defer w.lead()()
		w.kill()
		w.ended()
		w.app("standby", func(a *fakeApp) { a.dead = true })
		w.see("third", failover.VerdictUp)
		w.see("standby", failover.VerdictUp)
		w.see("standby", failover.VerdictDown)
		w.until("third is active", func(g *failover.GroupState) bool { return g.Active == "third" && !g.Switchover.Open() })
		w.app("main", func(a *fakeApp) { a.dead = false; a.hangs = true })
		w.rest(3 * time.Second)
		w.app("standby", func(a *fakeApp) { a.dead, a.maintenance = false, false })
		w.rest(500 * time.Millisecond)
		want(t, "standby fenced", w.is("standby").maintenance, true)
	})
}

func TestKeeperAndStepNeverTouchAnAppTogether(t *testing.T) {
	moved(t, nil, func(w *world) {
		w.app("main", func(a *fakeApp) {
			a.slow["on"], a.slow["freeze"], a.slow["off"] = time.Second, time.Second, time.Second
		})
		w.see("main", failover.VerdictUp)
		w.back()
		w.app("main", func(a *fakeApp) { a.role = failover.RoleReplica })
		w.rest(600 * time.Millisecond) // the keeper's hands are on main
		want(t, "hands of the keeper", w.busy["main"], 1)
		w.most["main"] = 0
		w.must(failover.Command{By: "uid:0", Request: &failover.Request{Group: group, Force: true}})
		want(t, "result", w.ended().Result, failover.ResultDone)
		want(t, "hands on main at a time", w.most["main"], 1)
		want(t, "main in maintenance", w.is("main").maintenance, false)
	})
}

// An undo that could not be done is an obligation to open the app again.
func released(t *testing.T, check bool, script func(*world)) {
	t.Helper()
	play(t, func(g *failover.Group) {
		for i := range g.Apps {
			if !check {
				g.Apps[i].Maintenance.Check = nil
			}
		}
	}, func(w *world) {
		defer w.lead()()
		w.app("main", func(a *fakeApp) { a.broken["off"], a.broken["unfreeze"] = true, true })
		w.app("standby", func(a *fakeApp) { a.broken["catch_up"] = true })
		w.request()
		want(t, "result", w.ended().Result, failover.ResultUndone)
		if w.journal.State().Groups[group].Apps["main"].Release == nil {
			t.Fatal("no release is owed")
		}
		script(w)
	})
}

func TestReleaseIsTriedUntilItIsDone(t *testing.T) {
	for _, check := range []bool{true, false} {
		released(t, check, func(w *world) {
			w.rest(5 * time.Second)
			main := w.is("main")
			want(t, "main is still closed", main.maintenance && main.frozen, true)
			r := w.journal.State().Groups[group].Apps["main"].Release
			if r == nil {
				t.Fatal("the release was settled though nothing was opened")
			}
			if most := 2 * 6; r.Attempts > most { // two parts; waits that double from the retry interval
				t.Errorf("%d failing attempts in five seconds, want %d at most", r.Attempts, most)
			}
			w.app("main", func(a *fakeApp) { a.broken["off"], a.broken["unfreeze"] = false, false })
			w.rest(keeperPatience + time.Second)
			main = w.is("main")
			want(t, "main is open", !main.maintenance && !main.frozen, true)
			if r = w.journal.State().Groups[group].Apps["main"].Release; r != nil {
				t.Errorf("still owed: %+v", r)
			}
		})
	}
}

// As long as the end of a keeping is not in the log nobody else may touch the app: it is told until it is.
func TestEndOfAKeepingIsToldUntilItIsJournaled(t *testing.T) {
	moved(t, nil, func(w *world) {
		left := 4
		w.journal.set(func(j *fakeJournal) {
			j.refuse = func(c failover.Command) error {
				if c.Journal != nil && len(c.Journal.Ended) > 0 && left > 0 {
					left--
					return errQueue
				}
				return nil
			}
		})
		w.back()
		w.rest(20 * time.Second)
		want(t, "open attempt", w.journal.State().Groups[group].Apps["main"].Mark.Open == nil, true)
		main := w.is("main")
		want(t, "fenced whole", main.maintenance && main.frozen, true)
	})
}

func TestKeepingThatIsJournaledTooLateDoesNothing(t *testing.T) {
	moved(t, nil, func(w *world) {
		w.journal.set(func(j *fakeJournal) { j.delay = 11 * time.Second })
		old := len(w.called(0))
		w.back()
		w.rest(12 * time.Second)
		wantCalls(t, w.called(old))
		w.journal.set(func(j *fakeJournal) { j.delay = 0 })
		w.rest(30 * time.Second)
		want(t, "fenced in the end", w.is("main").maintenance, true)
	})
}

func TestKeeperSurvivesAPolicyWithoutItsGroup(t *testing.T) {
	play(t, nil, func(w *world) {
		k := newKeeper(w.runner, w.journal, group, time.Now(), w.journal.State().Term)
		task := failover.Task{Group: group, App: "main", Part: failover.PartMaintenance}
		policy := *w.journal.State().Policy
		policy.Groups = nil
		w.must(failover.Command{SetPolicy: &failover.SetPolicy{Revision: w.journal.State().PolicyRevision, Policy: policy}})
		k.keep(t.Context(), task)
		synctest.Wait()
		want(t, "calls", len(w.runs("main check")), 0)
	})
}

// The hands with which an earlier leader kept a mark may still move: its attempt is waited out, and not replaced before.
func TestKeeperWaitsOutAForeignKeeper(t *testing.T) {
	play(t, nil, func(w *world) {
		stop := w.lead()
		w.kill()
		w.ended() // main is marked
		w.app("main", func(a *fakeApp) { a.dead = false; a.slow["on"] = time.Hour })
		w.until("the keeper's hands are there", func(g *failover.GroupState) bool { return g.Apps["main"].Mark.Open != nil })
		w.crash(stop)
		w.app("main", func(a *fakeApp) { a.slow["on"] = 0 })
		began, old := w.now(), len(w.called(0))
		defer w.lead()()
		w.rest(10*time.Second - time.Millisecond)
		wantCalls(t, w.called(old))
		w.rest(time.Second)
		main := w.is("main")
		want(t, "fenced whole", main.maintenance && main.frozen, true)
		want(t, "not before", w.runs("main on")[2].at-began >= 10*time.Second, true)
	})
}

// An attempt that this same term left open, and nobody's hands are on, must not keep steps off the app for the rest of the
// term, though the app does not answer and the keeper has nothing to do there.
func TestKeeperGivesUpAnOrphanOfItsOwnTerm(t *testing.T) {
	play(t, nil, func(w *world) {
		stop := w.lead()
		w.kill()
		w.ended()
		stop()
		task := failover.Task{Group: group, App: "main", Part: failover.PartMaintenance}
		w.must(failover.Command{Journal: &failover.Journal{Start: &failover.Start{Task: task}}}) // commits late
		defer w.lead()()
		w.rest(11 * time.Second)
		if m := w.journal.State().Groups[group].Apps["main"].Mark; m.Open != nil || m.Error != errOrphan.Error() {
			t.Errorf("still open: %+v", m)
		}
	})
}

// The old leader was called off in the middle of fencing main, and tells nothing; main did it all the same. There is nothing
// left to be done there, and still the attempt must end: a mark with an open attempt is never lifted, and holds up every step on the app.
func TestKeeperEndsWhatAnEarlierLeaderLeftOpen(t *testing.T) {
	play(t, nil, func(w *world) {
		stop := w.lead()
		w.keeperIsStuck()
		w.journal.deposed(true)
		w.journal.elect()
		stop()
		w.app("main", func(a *fakeApp) { a.slow["on"] = 0; a.maintenance = true })
		defer w.lead()()
		w.rest(9 * time.Second)
		want(t, "open until its time is over", w.journal.State().Groups[group].Apps["main"].Mark.Open != nil, true)
		w.rest(2 * time.Second)
		if m := w.journal.State().Groups[group].Apps["main"].Mark; m == nil || m.Open != nil {
			t.Errorf("still open: %+v", m)
		}
	})
}

// Another watcher leads and fences main, and this one has not noticed yet that it leads no more: those hands are moving.
func TestKeeperLeavesTheNextLeadersAttemptAlone(t *testing.T) {
	play(t, nil, func(w *world) {
		stop := w.lead()
		w.kill()
		w.ended()
		defer stop()
		w.rest(time.Minute) // so that its own waiting is over
		w.journal.elect()
		task := failover.Task{Group: group, App: "main", Part: failover.PartMaintenance}
		w.must(failover.Command{Journal: &failover.Journal{Start: &failover.Start{Task: task}}})
		w.rest(5 * time.Second)
		want(t, "the attempt is open", w.journal.State().Groups[group].Apps["main"].Mark.Open != nil, true)
	})
}

// One fencing has one key, however often it is tried; the next one has another.
func TestKeyIsEqualAcrossAttempts(t *testing.T) {
	moved(t, nil, func(w *world) {
		task := failover.Task{Group: group, App: "main", Part: failover.PartMaintenance}
		k := newKeeper(w.runner, w.journal, group, time.Now(), w.journal.State().Term)
		key := func() string { return k.identity(w.journal.State(), task).key }
		first := key()
		w.app("main", func(a *fakeApp) { a.broken["on"] = true })
		w.back()
		w.rest(5 * time.Second)
		if n := w.journal.State().Groups[group].Apps["main"].Mark.Attempts; n < 2 {
			t.Fatalf("%d attempts", n)
		}
		want(t, "key while it fails", key(), first)
		want(t, "output", w.journal.State().Groups[group].Apps["main"].Mark.Output, "broken\n")
		w.app("main", func(a *fakeApp) { a.broken["on"] = false })
		w.rest(keeperPatience + time.Second)
		want(t, "fenced", w.is("main").maintenance, true)
		want(t, "the next one's is another", key() == first, false)
	})
}

// onceEach leaves a group without databases whose steps are tried once.
func onceEach(g *failover.Group) {
	withoutDatabase(g)
	for name, s := range g.Steps {
		s.Tries = 1
		g.Steps[name] = s
	}
}

// mainBeingOpened leaves the keeper in the middle of opening main: a planned switchover failed, and so did its undo.
func (w *world) mainBeingOpened() {
	w.app("main", func(a *fakeApp) { a.half["on"], a.broken["off"] = true, true })
	w.request()
	w.until("release", func(g *failover.GroupState) bool { return !g.Switchover.Open() && g.Apps["main"].Release != nil })
	w.app("main", func(a *fakeApp) { a.half["on"], a.broken["off"], a.slow["off"] = false, false, 8*time.Second })
	w.until("keeper opens main", func(g *failover.GroupState) bool { return g.Apps["main"].Release.Open != nil })
}

func TestMainIsNotOpenedBesideStandby(t *testing.T) {
	play(t, func(g *failover.Group) { onceEach(g); g.Apps[1].Maintenance = nil }, func(w *world) {
		defer w.lead()()
		w.mainBeingOpened()
		w.see("main", failover.VerdictDown)
		want(t, "result", w.ended().Result, failover.ResultDone)
		w.rest(30 * time.Second)
		want(t, "main in maintenance", w.is("main").maintenance, true)
		want(t, "hands on main at once", w.most["main"], 1)
	})
}

func TestTakeoverWaitsOutAReleaseBeforeStandbyIsOpened(t *testing.T) {
	play(t, onceEach, func(w *world) {
		stop := w.lead()
		w.mainBeingOpened()
		w.see("main", failover.VerdictDown)
		w.crash(stop) // what it asked of main may take effect until its 10 s are over
		began := w.now()
		defer w.lead()()
		w.ended()
		runs := w.runs("standby off")
		if at := runs[len(runs)-1].at - began; at < 10*time.Second {
			t.Errorf("standby was opened %s after the takeover", at)
		}
	})
}
