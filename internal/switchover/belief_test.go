package switchover

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// untold moves the group to standby, with main's database left behind as a frozen primary that does not tell so, and that its
// keeper has frozen once more.
func untold(t *testing.T, change func(*failover.Group), script func(*world)) {
	t.Helper()
	play(t, change, func(w *world) {
		w.app("main", func(a *fakeApp) { a.tells = false })
		defer w.lead()()
		w.request()
		want(t, "result", w.ended().Result, failover.ResultDone)
		w.rest(10 * time.Second)
		w.see("standby", failover.VerdictUp)
		script(w)
	})
}

// wayBack moves the group to standby and makes main, whose freeze is not told, a verified replica of it.
func (w *world) wayBack() {
	w.app("main", func(a *fakeApp) { a.tells, a.near = false, true })
	w.request()
	want(w.t, "result", w.ended().Result, failover.ResultDone)
	w.rest(10 * time.Second)
	w.see("standby", failover.VerdictUp)
	w.reprotect(false)
	w.see("main", failover.VerdictUp)
	want(w.t, "unmarked", w.journal.State().Groups[group].Apps["main"].Mark == nil, true)
}

// The program may have restarted the database before it failed, without the freeze.
func TestUntoldFreezeIsMadeOnceMoreAfterAReprotectThatFailsAtOnce(t *testing.T) {
	untold(t, withProgram, func(w *world) {
		w.app("main", func(a *fakeApp) { a.broken["reprotect"], a.slow["reprotect"] = true, 300*time.Millisecond })
		old := len(w.runs("main freeze"))
		w.must(failover.Command{By: "uid:0", Reprotect: &failover.ReprotectOrder{Group: group}})
		w.until("program runs", func(g *failover.GroupState) bool { return g.Apps["main"].Mark.Open != nil })
		w.app("main", func(a *fakeApp) { a.frozen = false }) // what the program does
		w.until("ended", func(g *failover.GroupState) bool { return !g.Apps["main"].Mark.Reprotect.Open() })
		w.rest(5 * time.Minute)
		want(t, "freezes", len(w.runs("main freeze"))-old, 1)
		want(t, "frozen", w.is("main").frozen, true)
	})
}

// A primary again after it was a replica is not the one that was frozen.
func TestUntoldFreezeIsMadeOnceMoreOnWhatWasAReplica(t *testing.T) {
	untold(t, nil, func(w *world) {
		w.app("main", func(a *fakeApp) { a.role, a.frozen = failover.RoleReplica, false })
		w.rest(time.Second) // shorter than what makes a gap in the looks
		w.app("main", func(a *fakeApp) { a.role = failover.RolePrimary })
		w.rest(time.Minute)
		want(t, "frozen", w.is("main").frozen, true)
	})
}

// The policy names another database for the marked app: that one was never frozen.
func TestUntoldFreezeIsNotAnotherDatabases(t *testing.T) {
	untold(t, nil, func(w *world) {
		w.apps["other"] = &fakeApp{role: failover.RolePrimary, slow: map[string]time.Duration{}, broken: map[string]bool{}, half: map[string]bool{}}
		p := shop()
		ctl := func(app, verb string) []string { return []string{"/bin/ctl", app, verb} }
		p.Groups[0].Apps[0].Database = &failover.Database{Kind: "exec", Exec: &failover.DatabaseExec{
			Role: ctl("other", "role"), Freeze: ctl("other", "freeze"), Unfreeze: ctl("other", "unfreeze"), CatchUp: ctl("other", "catch_up"),
			StopReplication: ctl("other", "stop"), ResumeReplication: ctl("other", "resume"), Promote: ctl("other", "promote")}}
		w.must(failover.Command{SetPolicy: &failover.SetPolicy{Revision: w.journal.State().PolicyRevision, Policy: p}})
		w.rest(time.Minute)
		want(t, "frozen", w.is("other").frozen, true)
	})
}

// Programs that have told a freeze are taken at their word when they tell none: what takes writes is fenced first.
func TestReprotectOfOneThatTookWritesAgain(t *testing.T) {
	planned(t, withProgram, func(w *world) {
		w.rest(5 * time.Second)
		g := w.journal.State().Groups[group]
		var list []failover.Report
		for _, m := range w.journal.State().Members { // what the watchers see of it
			list = append(list, failover.Report{Group: group, App: "main", Watcher: m.Name, Boot: 1, Seq: w.number(), Revision: g.Apps["main"].Revision, Verdict: failover.VerdictUp,
				Database: &failover.Observation{Role: failover.RolePrimary, Frozen: true, ID: "db1"}})
		}
		w.must(failover.Command{Reports: &failover.Reports{Reports: list}})
		want(t, "it is known to tell", w.journal.State().Groups[group].Apps["main"].TellsFrozen, true)
		w.app("main", func(a *fakeApp) { a.frozen = false }) // and its keeper has not looked yet
		text, err := w.journal.State().Encode()
		if err != nil {
			t.Fatal(err)
		}
		state, err := failover.DecodeState(text)
		if err != nil {
			t.Fatal(err)
		}
		state.Groups[group].Apps["main"].Mark.Reprotect = &failover.Reprotect{}
		task := failover.Task{Group: group, App: "main", Part: failover.PartReprotect}
		d := w.runner.reprotect(context.Background(), state, task, identity{group: group, app: "main", step: stepReprotect})
		if d.err == nil || !strings.Contains(d.err.Error(), "takes writes") {
			t.Errorf("got %v", d.err)
		}
		want(t, "runs", len(w.runs("main reprotect")), 0)
	})
}

// The same of one that tells nothing, and that its keeper cannot freeze any more.
func TestReprotectOfOneWhoseFreezeFails(t *testing.T) {
	untold(t, withProgram, func(w *world) {
		w.app("main", func(a *fakeApp) { a.dead = true })
		w.rest(5 * time.Second)
		w.app("main", func(a *fakeApp) { a.dead, a.frozen, a.broken["freeze"] = false, false, true })
		w.rest(5 * time.Second)
		w.reprotect(false)
		want(t, "runs", len(w.runs("main reprotect")), 0)
	})
}

// The step's freeze was cut off half-way and main was out of reach until the promotion was over.
func TestHalfAFreezeOfTheStepIsNotKept(t *testing.T) {
	play(t, nil, func(w *world) {
		defer w.lead()()
		w.app("main", func(a *fakeApp) { a.half["freeze"] = true; a.broken["on"] = true })
		w.app("standby", func(a *fakeApp) { a.streaming = false })
		w.see("main", failover.VerdictDown)
		w.rest(950 * time.Millisecond) // the step has a second
		w.app("main", func(a *fakeApp) { a.dead = true })
		w.ended()
		w.app("main", func(a *fakeApp) { a.dead, a.half["freeze"], a.broken["on"] = false, false, false })
		old := len(w.runs("main freeze"))
		w.rest(time.Minute)
		want(t, "freezes", len(w.runs("main freeze"))-old, 1)
	})
}

// The keeper's freeze failed half-way and its leader died.
func TestHalfAFreezeIsNotForgottenWithItsLeader(t *testing.T) {
	play(t, nil, func(w *world) {
		stop := w.lead()
		w.kill()
		w.ended()
		w.app("main", func(a *fakeApp) { a.dead = false; a.half["freeze"] = true })
		w.until("freeze failed once", func(g *failover.GroupState) bool { return g.Apps["main"].Mark.Error != "" })
		w.crash(stop)
		w.app("main", func(a *fakeApp) { a.half["freeze"] = false })
		old := len(w.runs("main freeze"))
		defer w.lead()()
		w.rest(time.Minute)
		want(t, "freezes", len(w.runs("main freeze"))-old, 1)
	})
}

// In the restored state the app under its hands may be the writer.
func TestRestoreWaitsForTheKeepersHands(t *testing.T) {
	play(t, nil, func(w *world) {
		saved := w.journal.State()
		defer w.lead()()
		w.kill()
		w.ended()
		w.app("main", func(a *fakeApp) { a.dead = false; a.slow["freeze"] = 8 * time.Second })
		w.until("freezing", func(g *failover.GroupState) bool {
			m := g.Apps["main"].Mark
			return m.Open != nil && m.Open.Part == failover.PartDatabase
		})
		r, err := failover.NewRestore(saved, failover.OpenUnsaid)
		if err != nil {
			t.Fatal(err)
		}
		restore := failover.Command{By: "uid:0", Restore: r}
		answer, err := w.journal.Propose(context.Background(), restore)
		if err != nil || answer.Rule != "hands" {
			t.Errorf("answered %+v, %v", answer, err)
		}
		w.until("frozen", func(g *failover.GroupState) bool { return g.Apps["main"].Mark.Open == nil })
		w.must(restore)
	})
}

// Main was frozen by its keeper, restarted without it, and cannot be frozen any more.
func TestPromotionWaitsForAFreezeThatFailsNow(t *testing.T) {
	play(t, nil, func(w *world) {
		defer w.lead()()
		w.app("main", func(a *fakeApp) { a.tells = false })
		w.app("standby", func(a *fakeApp) { a.broken["promote"] = true })
		w.kill()
		w.until("halted", func(g *failover.GroupState) bool {
			return g.Switchover.Open() && g.Switchover.Result == failover.ResultHalted
		})
		w.app("main", func(a *fakeApp) { a.dead, a.maintenance, a.frozen = false, false, false })
		w.rest(5 * time.Second)
		want(t, "frozen by its keeper", w.is("main").frozen, true)
		w.app("main", func(a *fakeApp) { a.dead = true })
		w.rest(5 * time.Second)
		w.app("main", func(a *fakeApp) { a.dead, a.frozen, a.broken["freeze"] = false, false, true })
		w.rest(5 * time.Minute) // the keeper tries to freeze it, and fails
		want(t, "keeper failed", w.journal.State().Groups[group].Apps["main"].Mark.Error != "", true)
		w.app("standby", func(a *fakeApp) { a.broken["promote"] = false })
		w.rest(2 * time.Minute)
		want(t, "standby promoted beside a writable main", w.is("standby").role == failover.RolePrimary && !w.is("main").frozen, false)
	})
}

// A freeze that the database does not tell would outlive its being made a replica and promoted again.
func TestUntoldFreezeIsLiftedOnTheWayBack(t *testing.T) {
	play(t, withProgram, func(w *world) {
		defer w.lead()()
		w.wayBack()
		want(t, "frozen", w.is("main").frozen, true)
		w.request()
		w.ended()
		w.movedBack(failover.ResultDone)
		want(t, "the writer is frozen", w.is("main").frozen, false)
	})
}

// An unfreeze that is cut off has not been tried: it is tried again, and is no exception.
func TestUnfreezeThatHangsIsTriedAgain(t *testing.T) {
	play(t, withProgram, func(w *world) {
		defer w.lead()()
		w.wayBack()
		w.app("main", func(a *fakeApp) { a.slow["unfreeze"] = time.Hour })
		w.request()
		w.rest(90 * time.Second) // the step has a minute
		w.app("main", func(a *fakeApp) { a.slow["unfreeze"] = 0 })
		w.ended()
		w.movedBack(failover.ResultDone)
		want(t, "the writer is frozen", w.is("main").frozen, false)
	})
}

// movedBack wants main to have become the writer.
func (w *world) movedBack(result failover.SwitchoverResult) {
	w.t.Helper()
	g := w.journal.State().Groups[group]
	want(w.t, "active", g.Active, "main")
	want(w.t, "result", g.History[len(g.History)-1].Result, result)
}

// Some programs fail when there is nothing to lift (iptables -D).
func TestUnfreezeThatHasNothingToLiftIsAnException(t *testing.T) {
	play(t, withProgram, func(w *world) {
		defer w.lead()()
		w.wayBack()
		w.app("main", func(a *fakeApp) { a.frozen = false; a.broken["unfreeze"] = true }) // rebuilt: no freeze is there
		w.request()
		w.rest(4 * time.Minute)
		w.movedBack(failover.ResultDoneWithExceptions)
	})
}

// The leader dies between the promotion and its outcome, and the program refuses what is a primary already.
func TestNobodyIsPromotedTwiceToLiftAFreeze(t *testing.T) {
	play(t, withProgram, func(w *world) {
		stop := w.lead()
		w.wayBack()
		w.app("main", func(a *fakeApp) { a.slow["promote"] = 5 * time.Second })
		w.request()
		w.until("promoting", func(g *failover.GroupState) bool {
			return g.Switchover.Open() && g.Switchover.Step(failover.StepPromote).Open != ""
		})
		w.rest(time.Second)
		w.crash(stop)
		// pg_ctl promote: "cannot promote server; server is not in standby mode"
		w.app("main", func(a *fakeApp) { a.take("promote"); a.broken["promote"] = true; a.slow["promote"] = 0 })
		defer w.lead()()
		w.rest(4 * time.Minute)
		w.movedBack(failover.ResultDone)
		want(t, "the writer is frozen", w.is("main").frozen, false)
	})
}

// restarting has main's freeze restart the database for 1.3 s, in which it answers nobody: whoever asks meanwhile hears nothing
// until his time is over. Three watchers look at it each 2 s (probe.interval) for 1 s at most (probe.timeout), and tell what is new.
func (w *world) restarting(ctx context.Context) {
	var mu sync.Mutex
	var down time.Time
	w.runner = New(Options{Watcher: "w1", Dir: "/etc/watchover", Log: zerolog.Nop(), UpSince: w.upSince, Run: func(ctx context.Context, p Process) ([]byte, int, error) {
		mu.Lock()
		silent := time.Now().Before(down)
		if p.Argv[1] == "main" && p.Argv[2] == "freeze" {
			down = time.Now().Add(1300 * time.Millisecond)
		}
		mu.Unlock()
		switch {
		case p.Argv[1] == "main" && p.Argv[2] == "role" && silent:
			<-ctx.Done()
			return nil, -1, ctx.Err()
		case p.Argv[1] == "main" && p.Argv[2] == "freeze":
			if !waitFor(ctx, 1300*time.Millisecond) {
				return nil, -1, ctx.Err()
			}
		}
		return w.run(ctx, p)
	}})
	for i, m := range w.journal.State().Members {
		go func() {
			last, revision, told := failover.Role(""), uint64(0), uint64(0)
			waitFor(ctx, time.Duration(i)*667*time.Millisecond)
			for {
				app := w.journal.State().Policy.Group(group).App("main")
				undone := w.journal.State().Groups[group].Apps["main"].Undone
				look, cancel := context.WithTimeout(ctx, time.Second)
				o, err := w.runner.out.look(look, app.Database, identity{group: group, app: "main"})
				cancel()
				if err != nil {
					o = failover.Observation{Role: failover.RoleUnknown, ID: "db1"}
				}
				a := w.journal.State().Groups[group].Apps["main"]
				if ctx.Err() == nil && (o.Role != last || a.Revision != revision || undone != told) {
					last, revision, told = o.Role, a.Revision, undone
					_, _ = w.journal.Propose(ctx, failover.Command{Reports: &failover.Reports{Reports: []failover.Report{{Group: group, App: "main", Watcher: m.Name, Boot: 1, Seq: w.number(),
						Revision: a.Revision, Undone: undone, Verdict: failover.VerdictUp, Database: &o}}}})
				}
				if !waitFor(ctx, 2*time.Second) {
					return
				}
			}
		}()
	}
}

// Freezing restarts the database: watchers tell a moment later that it did not answer. Begun at 20 different moments.
func TestFreezeThatRestartsTheDatabaseIsBelieved(t *testing.T) {
	results, freezes := map[failover.SwitchoverResult]int{}, 0
	for i := range 20 {
		play(t, nil, func(w *world) {
			ctx, cancel := context.WithCancel(context.Background())
			defer func() { cancel(); w.rest(5 * time.Second) }()
			w.app("main", func(a *fakeApp) { a.tells = false })
			w.app("standby", func(a *fakeApp) { a.slow["catch_up"] = 5 * time.Second })
			w.restarting(ctx)
			w.rest(10*time.Second + time.Duration(i)*100*time.Millisecond)
			defer w.lead()()
			w.request()
			results[w.ended().Result]++
			freezes += len(w.runs("main freeze"))
		})
	}
	want(t, "done", results[failover.ResultDone], 20)
	want(t, "freezes", freezes, 20)
}

// sees has all watchers tell the role of an app's database, by looks that began when its state had that index.
func (w *world) sees(app string, role failover.Role, undone uint64) {
	s := w.journal.State()
	var list []failover.Report
	for _, m := range s.Members {
		list = append(list, failover.Report{Group: group, App: app, Watcher: m.Name, Boot: 1, Seq: w.number(), Revision: s.Groups[group].Apps[app].Revision, Undone: undone,
			Verdict: failover.VerdictUp, Database: &failover.Observation{Role: role, ID: "db1"}})
	}
	w.must(failover.Command{Reports: &failover.Reports{Reports: list}})
}

// A majority sees a replica, the leader a primary.
func TestWatchersThatDisagreeHaveItFrozenOnce(t *testing.T) {
	untold(t, nil, func(w *world) {
		old := len(w.runs("main freeze"))
		for range 60 {
			w.sees("main", failover.RoleReplica, w.journal.State().Groups[group].Apps["main"].Undone)
			w.rest(time.Second)
		}
		want(t, "freezes", len(w.runs("main freeze"))-old, 1)
	})
}

// Watchers tell late that main's database was silent, by looks that began before its keeper froze it.
func TestLooksFromBeforeTheKeepersFreezeAreNoDoubt(t *testing.T) {
	untold(t, nil, func(w *world) {
		w.sees("main", failover.RolePrimary, w.journal.State().Groups[group].Apps["main"].Undone)
		w.app("main", func(a *fakeApp) { a.dead = true })
		w.rest(5 * time.Second)
		w.app("main", func(a *fakeApp) { a.dead, a.frozen = false, false })
		old, before := len(w.runs("main freeze")), w.journal.State().Groups[group].Apps["main"].Undone
		w.rest(5 * time.Second)
		want(t, "freezes of what came back", len(w.runs("main freeze"))-old, 1)
		w.sees("main", failover.RoleUnknown, before)
		w.rest(time.Minute)
		want(t, "freezes", len(w.runs("main freeze"))-old, 1)
	})
}

// The same of a database that tells: what it says is enough.
func TestOneThatTellsIsNotFrozenForHavingBeenSilent(t *testing.T) {
	planned(t, nil, func(w *world) {
		s := w.journal.State()
		w.must(failover.Command{Reports: &failover.Reports{Reports: []failover.Report{{Group: group, App: "main", Watcher: s.Members[0].Name, Boot: 1, Seq: w.number(),
			Revision: s.Groups[group].Apps["main"].Revision, Verdict: failover.VerdictUp, Database: &failover.Observation{Role: failover.RolePrimary, Frozen: true, ID: "db1"}}}}})
		w.app("main", func(a *fakeApp) { a.frozen = false })
		w.rest(10 * time.Second)
		old := len(w.runs("main freeze"))
		for _, role := range []failover.Role{failover.RolePrimary, failover.RoleUnknown, failover.RolePrimary} {
			w.sees("main", role, w.journal.State().Groups[group].Apps["main"].Undone)
			w.rest(5 * time.Second)
		}
		want(t, "kept", w.journal.State().Groups[group].Apps["main"].Mark.Kept[failover.PartDatabase], 1)
		want(t, "freezes", len(w.runs("main freeze"))-old, 0)
	})
}

// While the keeper's hands were on another part nobody looked, and no watcher noticed anything.
func TestUntoldFreezeIsMadeOnceMoreAfterAGapInTheLooks(t *testing.T) {
	untold(t, nil, func(w *world) {
		old := len(w.runs("main freeze"))
		w.app("main", func(a *fakeApp) { a.maintenance, a.slow["on"] = false, 8*time.Second })
		w.rest(4 * time.Second)
		w.app("main", func(a *fakeApp) { a.frozen = false })
		w.rest(time.Minute)
		want(t, "freezes", len(w.runs("main freeze"))-old, 1)
		want(t, "frozen", w.is("main").frozen, true)
	})
}

// Its maintenance cannot be turned on; its database is well.
func TestAPartThatFailsHoldsUpNoLookAtAnother(t *testing.T) {
	untold(t, nil, func(w *world) {
		old := len(w.runs("main freeze"))
		w.app("main", func(a *fakeApp) { a.maintenance = false; a.broken["on"] = true })
		w.rest(time.Hour)
		want(t, "freezes", len(w.runs("main freeze"))-old, 0)
	})
}

// A person has frozen it by hand, since the program fails; it tells so.
func TestReprotectOfOneThatWasFrozenByHand(t *testing.T) {
	play(t, withProgram, func(w *world) {
		defer w.lead()()
		w.kill()
		w.ended()
		w.app("main", func(a *fakeApp) { a.dead = false; a.broken["freeze"] = true })
		w.rest(30 * time.Second)
		w.app("main", func(a *fakeApp) { a.frozen = true })
		w.see("standby", failover.VerdictUp)
		w.rest(30 * time.Second)
		w.reprotect(false)
		want(t, "reprotects run", len(w.runs("main reprotect")), 1)
	})
}

// The operator names another program (here: reprotect) after the way back; the freeze of the database stays.
func TestAFreezeOutlivesAChangeOfPolicy(t *testing.T) {
	play(t, withProgram, func(w *world) {
		defer w.lead()()
		w.wayBack()
		want(t, "frozen", w.is("main").frozen, true)
		p := shop()
		withProgram(&p.Groups[0])
		p.Groups[0].Apps[0].Database.Reprotect = append(p.Groups[0].Apps[0].Database.Reprotect, "--verbose")
		w.must(failover.Command{SetPolicy: &failover.SetPolicy{Revision: w.journal.State().PolicyRevision, Policy: p}})
		w.see("standby", failover.VerdictUp)
		w.see("main", failover.VerdictUp)
		w.request()
		want(t, "result", w.ended().Result, failover.ResultDone)
		w.rest(time.Minute)
		want(t, "the writer is frozen", w.is("main").frozen, false)
	})
}

// Recovered in the middle of a keeper's freeze, which was half done.
func TestHalfAFreezeIsNotForgottenByARecovery(t *testing.T) {
	play(t, nil, func(w *world) {
		stop := w.lead()
		w.kill()
		w.ended()
		w.app("main", func(a *fakeApp) { a.dead = false })
		w.rest(20 * time.Second) // frozen whole once
		want(t, "kept", w.journal.State().Groups[group].Apps["main"].Mark.Kept[failover.PartDatabase], 1)
		w.app("main", func(a *fakeApp) { a.frozen = false; a.half["freeze"] = true }) // restarted without, and half frozen
		w.until("freezing", func(g *failover.GroupState) bool {
			m := g.Apps["main"].Mark
			return m.Open != nil && m.Open.Part == failover.PartDatabase
		})
		n, r := w.journal.State().Recover(failover.RecoverOrder{ID: "r", Keep: []string{"w1"}})
		stop()
		if !r.Accepted {
			t.Fatalf("%+v", r)
		}
		m := n.Groups[group].Apps["main"].Mark
		want(t, "refreeze after recover", m.Refreeze, true)
	})
}

// A reprotection whose leader dies may have restarted the database.
func TestInterruptedReprotectIsADoubt(t *testing.T) {
	play(t, withProgram, func(w *world) {
		w.app("main", func(a *fakeApp) { a.tells = false; a.slow["reprotect"] = 5 * time.Second })
		stop := w.lead()
		w.request()
		want(t, "result", w.ended().Result, failover.ResultDone)
		w.rest(10 * time.Second)
		w.see("standby", failover.VerdictUp)
		w.must(failover.Command{By: "uid:0", Reprotect: &failover.ReprotectOrder{Group: group}})
		w.until("program runs", func(g *failover.GroupState) bool {
			return g.Apps["main"].Mark.Open != nil && g.Apps["main"].Mark.Open.Part == failover.PartReprotect
		})
		w.rest(time.Second)
		m := w.journal.State().Groups[group].Apps["main"].Mark
		w.must(failover.Command{Journal: &failover.Journal{Ended: []failover.Ended{{Task: failover.Task{Group: group, App: "main", Part: failover.PartReprotect}, Token: m.Open.Token, Outcome: failover.OutcomeInterrupted}}}})
		want(t, "doubted", w.journal.State().Groups[group].Apps["main"].Mark.Refreeze, true)
		stop()
	})
}

func TestAppsWithoutADatabaseAreNoPrimariesThatWent(t *testing.T) {
	play(t, func(g *failover.Group) {
		for i := range g.Apps {
			g.Apps[i].Database = nil
		}
	}, func(w *world) {
		want(t, "no primary", w.journal.State().Groups[group].Apps["main"].NoPrimary, false)
	})
}
