package switchover

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// stuckAt opens a planned switchover and returns when an attempt of a step is open whose hands never end.
func (w *world) stuckAt(app, verb string, step failover.StepName) {
	w.app(app, func(a *fakeApp) { a.slow[verb] = time.Hour })
	w.request()
	w.until(string(step)+" begins", func(g *failover.GroupState) bool { return g.Switchover.Open() && g.Switchover.Step(step).Open != "" })
	synctest.Wait()
}

// keeperIsStuck lets main be marked and come back, and returns when the keeper's hands are on it and never end.
func (w *world) keeperIsStuck() {
	w.kill()
	w.ended()
	w.see("main", failover.VerdictUp)
	w.app("main", func(a *fakeApp) { a.dead = false; a.role = failover.RoleReplica; a.slow["on"] = time.Hour })
	w.until("the keeper's hands are there", func(g *failover.GroupState) bool { return g.Apps["main"].Mark.Open != nil })
}

// crash ends a leader as SIGKILL would: nothing of it is heard any more. Its hands die with it.
func (w *world) crash(stop func()) {
	w.journal.set(func(j *fakeJournal) { j.refuse = func(failover.Command) error { return errLost } })
	stop()
	w.journal.set(func(j *fakeJournal) { j.refuse = nil })
	w.journal.elect()
}

func TestTakeoverWaitsOutTheForeignAttempt(t *testing.T) {
	for _, tc := range []struct {
		app, verb string
		step      failover.StepName
		wait      time.Duration
	}{
		{"main", "on", failover.StepMaintenanceOn, 10 * time.Second},
		{"standby", "catch_up", failover.StepCatchUp, 30 * time.Second},
		{"standby", "promote", failover.StepPromote, time.Minute},
	} {
		t.Run(tc.verb, func(t *testing.T) {
			play(t, nil, func(w *world) {
				stop := w.lead()
				w.stuckAt(tc.app, tc.verb, tc.step)
				w.rest(3 * time.Second)
				old := len(w.called(0))
				w.crash(stop)
				w.app(tc.app, func(a *fakeApp) { a.slow[tc.verb] = 0 })
				began := w.now()
				defer w.lead()()
				w.rest(tc.wait - time.Millisecond)
				wantCalls(t, w.called(old))
				o := w.ended()
				want(t, "result", o.Result, failover.ResultDone)
				want(t, "waited", w.runs(tc.app + " " + tc.verb)[1].at-began, tc.wait)
				want(t, "attempts", o.Step(tc.step).Attempts, 2)
			})
		})
	}
}

// Of what only waits or runs on the watcher itself the old leader knows that it is over.
func TestTakeoverIsAtOnceWhenTheOldLeaderTells(t *testing.T) {
	play(t, nil, func(w *world) {
		stop := w.lead()
		w.stuckAt("standby", "catch_up", failover.StepCatchUp)
		w.journal.deposed(true)
		w.journal.elect()
		stop() // its farewell goes to the new leader
		step := w.journal.State().Groups[group].Switchover.Step(failover.StepCatchUp)
		want(t, "open attempt", step.Open, "")
		list, _ := w.journal.journaled()
		last := list[len(list)-1]
		want(t, "farewell", last.Ended[0].Outcome, failover.OutcomeInterrupted)
		w.app("standby", func(a *fakeApp) { a.slow["catch_up"] = 0 })
		began := w.now()
		defer w.lead()()
		want(t, "result", w.ended().Result, failover.ResultDone)
		want(t, "waited", w.runs("standby catch_up")[1].at-began, 0)
	})
}

// What an app was asked before the old leader was called off it may do any time until the deadline, after the new one has
// undone it or done it with a higher token: the old leader tells nothing, and the new one waits.
func TestTakeoverWaitsOutAnActThatWasCalledOff(t *testing.T) {
	play(t, nil, func(w *world) {
		stop := w.lead()
		w.stuckAt("standby", "promote", failover.StepPromote)
		w.journal.deposed(true)
		w.journal.elect()
		stop()
		want(t, "open attempt", w.journal.State().Groups[group].Switchover.Step(failover.StepPromote).Open, failover.WorkAct)
		w.app("standby", func(a *fakeApp) { a.slow["promote"] = 0 })
		began := w.now()
		defer w.lead()()
		want(t, "result", w.ended().Result, failover.ResultDone)
		want(t, "waited", w.runs("standby promote")[1].at-began, time.Minute)
	})
}

func TestKeeperTellsNothingOfAnActThatWasCalledOff(t *testing.T) {
	play(t, nil, func(w *world) {
		stop := w.lead()
		w.keeperIsStuck()
		n := len(w.runs("main on"))
		w.journal.deposed(true)
		w.journal.elect()
		stop()
		want(t, "the attempt is open", w.journal.State().Groups[group].Apps["main"].Mark.Open != nil, true)
		w.app("main", func(a *fakeApp) { a.slow["on"] = 0 })
		began := w.now()
		defer w.lead()()
		w.rest(9 * time.Second)
		want(t, "early acts", len(w.runs("main on"))-n, 0)
		w.rest(2 * time.Second)
		want(t, "acts", len(w.runs("main on"))-n, 1)
		if at := w.runs("main on")[n].at - began; at < 10*time.Second {
			t.Errorf("fenced again after %s, while the old leader's request may still take effect", at)
		}
	})
}

func TestHandsAreStillBeforeLeadReturns(t *testing.T) {
	play(t, func(g *failover.Group) { hook(g, failover.StepFreeze, "before", "stubborn") }, func(w *world) {
		moving := false
		w.onHook("stubborn", func(ctx context.Context) (int, error) { // takes a second to die
			moving = true
			<-ctx.Done()
			<-time.After(time.Second)
			moving = false
			return -1, ctx.Err()
		})
		stop := w.lead()
		w.request()
		w.until("freeze begins", func(g *failover.GroupState) bool { return g.Switchover.Step(failover.StepFreeze).Open != "" })
		synctest.Wait()
		want(t, "hook runs", moving, true)
		stop()
		want(t, "hands move after Lead", moving, false)
		step := w.journal.State().Groups[group].Switchover.Step(failover.StepFreeze)
		want(t, "open attempt", step.Open, "")
		want(t, "tries", step.Tries, 0)
		if !strings.HasPrefix(step.Error, "called off") {
			t.Errorf("error is %q", step.Error)
		}
	})
}

// The start is in the log, but leadership ends before its answer is back: it is given up in the log as well, so that the
// next leader, or this one again in the same term, goes on at once.
func TestStartThatCommitsWhileLeadershipEndsIsGivenUp(t *testing.T) {
	play(t, nil, func(w *world) {
		stop := w.lead()
		w.journal.set(func(j *fakeJournal) { j.delay = 100 * time.Millisecond })
		w.journal.Begin(failover.Command{By: "uid:0", Request: &failover.Request{Group: group}})
		w.until("open", func(g *failover.GroupState) bool { return g.Switchover.Open() })
		w.rest(50 * time.Millisecond) // the first start is on its way
		stop()
		step := w.journal.State().Groups[group].Switchover.Step(failover.StepMaintenanceOn)
		want(t, "attempts", step.Attempts, 1)
		want(t, "open attempt", step.Open, "")
		want(t, "calls of on", len(w.runs("main on")), 0)
		w.journal.set(func(j *fakeJournal) { j.delay = 0 })
		defer w.lead()()
		want(t, "result", w.ended().Result, failover.ResultDone)
	})
}

func TestLeadReturnsThoughTheLogHangs(t *testing.T) {
	play(t, nil, func(w *world) {
		stop := w.lead()
		w.journal.set(func(j *fakeJournal) { j.delay = time.Hour })
		w.journal.Begin(failover.Command{By: "uid:0", Request: &failover.Request{Group: group}})
		w.rest(time.Hour + time.Second) // the request is in, the first start is on its way
		began := w.now()
		stop()
		if took := w.now() - began; took > 2*farewell {
			t.Errorf("Lead returned after %s", took)
		}
	})
}

// An earlier leader's hands may still be fencing the app that a switchover is about to open.
func TestTakeoverWaitsOutAForeignKeeper(t *testing.T) {
	play(t, nil, func(w *world) {
		stop := w.lead()
		w.keeperIsStuck()
		w.crash(stop)
		w.app("main", func(a *fakeApp) { a.slow["on"] = 0; a.maintenance = true })
		began := w.now()
		w.must(failover.Command{By: "uid:0", Request: &failover.Request{Group: group, Force: true}})
		g := w.journal.State().Groups[group]
		want(t, "target", g.Switchover.To, "main")
		old := len(w.called(0))
		defer w.lead()()
		w.ended()
		for _, c := range w.called(old) {
			if strings.HasPrefix(c, "main ") && w.runs(c)[0].at < began+10*time.Second {
				t.Errorf("%s while the old keeper's hands may move", c)
			}
		}
	})
}

// This watcher gives up leading and leads again in the same term. A start of its earlier time gets into the log only then:
// nobody's hands follow it, and it must not block the switchover, nor its undo, for the rest of the term.
func TestStartThatCommitsAfterLeadWasLeftIsGivenUp(t *testing.T) {
	for _, abort := range []bool{false, true} {
		play(t, nil, func(w *world) {
			id := w.request()
			w.app("main", func(a *fakeApp) { a.slow["check"], a.slow["role"] = time.Hour, time.Hour }) // so that it begins nothing in that moment
			w.lead()()                                                                                 // leads for a moment, and its hands are still
			w.app("main", func(a *fakeApp) { a.slow["check"], a.slow["role"] = 0, 0 })
			step := w.journal.State().Groups[group].Switchover.Step(failover.StepMaintenanceOn)
			if step.Open != "" {
				t.Fatalf("%+v", step)
			}
			task := failover.Task{Group: group, App: "main", Switchover: id, Step: failover.StepMaintenanceOn, Work: failover.WorkAct}
			w.must(failover.Command{Journal: &failover.Journal{Start: &failover.Start{Task: task}}})
			if abort {
				w.must(failover.Command{By: "uid:0", Abort: &failover.GroupOrder{Group: group}})
			}
			began := w.now()
			defer w.lead()()
			o := w.ended()
			want(t, "result", o.Result, map[bool]failover.SwitchoverResult{false: failover.ResultDone, true: failover.ResultAborted}[abort])
			want(t, "its whole time is waited out first", w.now()-began, 10*time.Second)
		})
	}
}

// A look that leadership's end cut off has seen nothing: it is not journaled as a target that does not tell.
func TestLookThatWasCalledOffIsNotJournaled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	p := &performer{starts: make(chan startRequest, 100), log: zerolog.Nop()}
	for range 100 {
		a := &attempt{p: p, answer: make(chan startAnswer, 1)}
		a.answer <- startAnswer{err: context.Canceled}
		if _, err := a.ask(ctx, failover.Start{Unseen: true}); err == nil {
			t.Error("permitted")
		}
	}
	want(t, "starts asked for", len(p.starts), 0)
}
