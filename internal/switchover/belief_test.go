package switchover

import (
	"context"
	"testing"
	"time"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// The program may have restarted the database before it failed, without the freeze.
func TestUntoldFreezeIsMadeOnceMoreAfterAReprotectThatFailsAtOnce(t *testing.T) {
	play(t, withProgram, func(w *world) {
		w.app("main", func(a *fakeApp) { a.tells, a.broken["reprotect"] = false, true })
		defer w.lead()()
		w.request()
		want(t, "result", w.ended().Result, failover.ResultDone)
		w.rest(10 * time.Second)
		w.see("standby", failover.VerdictUp)
		old := len(w.runs("main freeze"))
		w.app("main", func(a *fakeApp) { a.slow["reprotect"] = 300 * time.Millisecond })
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
	play(t, nil, func(w *world) {
		w.app("main", func(a *fakeApp) { a.tells = false })
		defer w.lead()()
		w.request()
		want(t, "result", w.ended().Result, failover.ResultDone)
		w.rest(10 * time.Second)
		w.app("main", func(a *fakeApp) { a.role, a.frozen = failover.RoleReplica, false })
		w.rest(time.Hour)
		w.app("main", func(a *fakeApp) { a.role = failover.RolePrimary })
		w.rest(time.Minute)
		want(t, "frozen", w.is("main").frozen, true)
	})
}

// The policy names another database for the marked app: that one was never frozen.
func TestUntoldFreezeIsNotAnotherDatabases(t *testing.T) {
	play(t, nil, func(w *world) {
		w.app("main", func(a *fakeApp) { a.tells = false })
		w.apps["other"] = &fakeApp{role: failover.RolePrimary, slow: map[string]time.Duration{}, broken: map[string]bool{}, half: map[string]bool{}}
		defer w.lead()()
		w.request()
		want(t, "result", w.ended().Result, failover.ResultDone)
		w.rest(10 * time.Second)
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
		w.app("main", func(a *fakeApp) { a.frozen = false; a.broken["freeze"] = true })
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
		w.app("main", func(a *fakeApp) { a.tells, a.near = false, true })
		defer w.lead()()
		w.request()
		want(t, "result", w.ended().Result, failover.ResultDone)
		w.rest(10 * time.Second)
		w.see("standby", failover.VerdictUp)
		w.must(failover.Command{By: "uid:0", Reprotect: &failover.ReprotectOrder{Group: group}})
		w.until("ended", func(g *failover.GroupState) bool { return !g.Apps["main"].Mark.Reprotect.Open() })
		w.see("main", failover.VerdictUp)
		want(t, "unmarked", w.journal.State().Groups[group].Apps["main"].Mark == nil, true)
		w.request()
		want(t, "result", w.ended().Result, failover.ResultDone)
		want(t, "writer", w.journal.State().Groups[group].Writer, "main")
		w.rest(time.Minute)
		want(t, "the writer is frozen", w.is("main").frozen, false)
	})
}
