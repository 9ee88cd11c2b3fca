package switchover

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/watchover-ha/watchover/pkg/failover"
)

func want[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func wantCalls(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("calls:\n got %s\nwant %s", strings.Join(got, ", "), strings.Join(want, ", "))
	}
}

func TestPlannedSwitchoverDoesAllEightSteps(t *testing.T) {
	play(t, nil, func(w *world) {
		defer w.lead()()
		began := w.now()
		w.request()
		o := w.ended()
		want(t, "result", o.Result, failover.ResultDone)
		want(t, "kind", o.Kind, failover.KindPlanned)
		want(t, "steps", states(o), "maintenance-on=done freeze=done catch-up=done stop-replication=done promote=done maintenance-off=done switch-dns=done verify=done")
		wantCalls(t, w.called(0), "main on", "main freeze", "standby catch_up", "standby stop", "standby promote", "standby off")
		want(t, "hands at a time", w.most["main"]+w.most["standby"], 2)
		want(t, "time that steps without duration take", w.now()-began, 0)
		main, standby := w.is("main"), w.is("standby")
		want(t, "main", main.maintenance && main.frozen, true)
		want(t, "standby", !standby.maintenance && standby.role == failover.RolePrimary, true)
	})
}

func TestFailoverMarksWhatItCannotReach(t *testing.T) {
	play(t, nil, func(w *world) {
		defer w.lead()()
		w.kill()
		o := w.ended()
		want(t, "result", o.Result, failover.ResultDone)
		want(t, "steps", states(o), "maintenance-on=marked freeze=marked catch-up=skipped stop-replication=done promote=done maintenance-off=done switch-dns=done verify=done")
		if g := w.journal.State().Groups[group]; g.Apps["main"].Mark == nil || g.Active != "standby" {
			t.Errorf("main is not marked or standby not active: %+v", g)
		}
	})
}

func TestFailoverFromAFrozenMainHoldsUpForOneProbeTimeout(t *testing.T) {
	play(t, nil, func(w *world) {
		defer w.lead()()
		began := w.now()
		w.app("main", func(a *fakeApp) { a.hangs = true })
		w.app("standby", func(a *fakeApp) { a.streaming = false })
		w.see("main", failover.VerdictDown)
		w.until("stop-replication begins", func(g *failover.GroupState) bool {
			return g.Switchover.Open() && g.Switchover.Step(failover.StepMaintenanceOn).State == failover.StepMarked
		})
		want(t, "steps 1 and 2 together", w.now()-began, time.Second+flushAfter)
		want(t, "result", w.ended().Result, failover.ResultDone)
		want(t, "one more probe timeout for the last look", w.runs("standby stop")[0].at-began, 2*time.Second)
	})
}

func TestMaintenanceIsReadBack(t *testing.T) {
	play(t, nil, func(w *world) {
		defer w.lead()()
		w.app("main", func(a *fakeApp) { a.deaf = map[string]bool{"on": true} })
		w.request()
		o := w.ended()
		want(t, "result", o.Result, failover.ResultUndone)
		if !strings.Contains(o.Undoing, "still reads off after it was turned on") {
			t.Errorf("undone because of %q", o.Undoing)
		}
	})
}

func TestFailedStepIsTriedByItsTriesAndBackoff(t *testing.T) {
	play(t, nil, func(w *world) {
		defer w.lead()()
		w.app("standby", func(a *fakeApp) { a.broken["off"] = true })
		w.request()
		w.until("halted", func(g *failover.GroupState) bool {
			return g.Switchover.Open() && g.Switchover.Result == failover.ResultHalted
		})
		runs := w.runs("standby off")
		want(t, "tries", len(runs), 3)
		want(t, "backoff", runs[2].at-runs[0].at, 2*time.Second)
		w.app("standby", func(a *fakeApp) { a.broken["off"] = false })
		o := w.ended()
		want(t, "result", o.Result, failover.ResultDone)
		runs = w.runs("standby off")
		want(t, "tries in all", len(runs), 4)
		want(t, "halted retry", runs[3].at-runs[2].at, 30*time.Second)
		step := o.Step(failover.StepMaintenanceOff)
		want(t, "attempts", step.Attempts, 4)
		for i, r := range runs {
			want(t, "attempt told", r.env["WATCHOVER_ATTEMPT"], string(rune('1'+i)))
			if i > 0 && r.env["WATCHOVER_TOKEN"] <= runs[i-1].env["WATCHOVER_TOKEN"] {
				t.Errorf("token %s follows %s", r.env["WATCHOVER_TOKEN"], runs[i-1].env["WATCHOVER_TOKEN"])
			}
		}
	})
}

func TestUndoGoesBackInReverse(t *testing.T) {
	play(t, nil, func(w *world) {
		defer w.lead()()
		w.app("standby", func(a *fakeApp) { a.broken["stop"] = true })
		w.request()
		o := w.ended()
		want(t, "result", o.Result, failover.ResultUndone)
		calls := w.called(0)
		wantCalls(t, calls[len(calls)-3:], "standby resume", "main unfreeze", "main off")
		main, standby := w.is("main"), w.is("standby")
		want(t, "main as before", !main.maintenance && !main.frozen, true)
		want(t, "standby as before", standby.maintenance && standby.streaming, true)
	})
}

func TestUndoRespectsWhatWasBefore(t *testing.T) {
	play(t, nil, func(w *world) {
		defer w.lead()()
		w.app("main", func(a *fakeApp) { a.maintenance, a.frozen, a.tells = true, true, true })
		w.app("standby", func(a *fakeApp) { a.broken["catch_up"] = true })
		w.request()
		want(t, "result", w.ended().Result, failover.ResultUndone)
		wantCalls(t, w.called(0), "standby catch_up")
		main := w.is("main")
		want(t, "main stays in maintenance and frozen", main.maintenance && main.frozen, true)
	})
}

// A freeze that took effect and then hung has failed; of a database that does not tell it, only unfreeze makes sure.
func TestUndoLiftsAFreezeThatFailedHalfWay(t *testing.T) {
	for _, tells := range []bool{false, true} {
		play(t, nil, func(w *world) {
			defer w.lead()()
			w.app("main", func(a *fakeApp) { a.half["freeze"], a.tells = true, tells })
			w.request()
			want(t, "result", w.ended().Result, failover.ResultUndone)
			want(t, "main frozen", w.is("main").frozen, false)
		})
	}
}

func TestAbortCallsTheActOff(t *testing.T) {
	play(t, nil, func(w *world) {
		defer w.lead()()
		w.app("standby", func(a *fakeApp) { a.slow["catch_up"] = 20 * time.Second })
		w.request()
		w.until("catch-up begins", func(g *failover.GroupState) bool { return g.Switchover.Step(failover.StepCatchUp).Open != "" })
		w.rest(3 * time.Second)
		began := w.now()
		w.must(failover.Command{By: "uid:0", Abort: &failover.GroupOrder{Group: group}})
		o := w.ended()
		want(t, "result", o.Result, failover.ResultAborted)
		if took := w.now() - began; took > 2*time.Second {
			t.Errorf("the abort took %s: the act was waited for", took)
		}
		main := w.is("main")
		want(t, "main as before", !main.maintenance && !main.frozen, true)
	})
}

// An app that was asked for maintenance may go there although nobody waits for its answer any more: it is taken out again
// only when the time for that is over.
func TestAbortWaitsForWhatTheActMayStillDo(t *testing.T) {
	play(t, nil, func(w *world) {
		defer w.lead()()
		w.app("main", func(a *fakeApp) { a.slow["on"] = 20 * time.Second })
		w.request()
		w.until("maintenance-on begins", func(g *failover.GroupState) bool {
			return g.Switchover.Step(failover.StepMaintenanceOn).Open != ""
		})
		asked := w.runs("main on")[0].at
		w.rest(3 * time.Second)
		w.must(failover.Command{By: "uid:0", Abort: &failover.GroupOrder{Group: group}})
		go func() { // the app does it, late
			<-time.After(6 * time.Second)
			w.app("main", func(a *fakeApp) { a.maintenance = true })
		}()
		want(t, "result", w.ended().Result, failover.ResultAborted)
		want(t, "main out of maintenance", w.is("main").maintenance, false)
		off := w.runs("main off")
		if len(off) == 0 || off[0].at-asked < 10*time.Second {
			t.Errorf("asked at %s, undone by %+v", asked, off)
		}
	})
}

func TestEndAndNextStartShareOneEntry(t *testing.T) {
	for _, tc := range []struct {
		name  string
		look  time.Duration // that the look before stop-replication takes
		alone bool          // catch-up's end is journaled by itself
		after time.Duration
	}{
		{"quick look", time.Millisecond, false, time.Millisecond},
		{"slow look", 500 * time.Millisecond, true, flushAfter},
	} {
		t.Run(tc.name, func(t *testing.T) {
			play(t, nil, func(w *world) {
				defer w.lead()()
				w.app("standby", func(a *fakeApp) { a.slow["role"] = tc.look; a.slow["catch_up"] = time.Second })
				w.request()
				w.ended()
				caught := w.runs("standby catch_up")[0].at + time.Second
				list, at := w.journal.journaled()
				for i, j := range list {
					for _, e := range j.Ended {
						if e.Step != failover.StepCatchUp {
							continue
						}
						want(t, "alone", j.Start == nil, tc.alone)
						want(t, "journaled after", at[i]-caught, tc.after)
						return
					}
				}
				t.Error("the end of catch-up was not journaled")
			})
		})
	}
}

func TestRefusedStartsDoNotSpin(t *testing.T) {
	play(t, nil, func(w *world) {
		defer w.lead()()
		refused := 0
		w.journal.set(func(j *fakeJournal) {
			j.refuse = func(c failover.Command) error {
				if c.Journal != nil && c.Journal.Start != nil {
					refused++
					return errQueue
				}
				return nil
			}
		})
		w.request()
		w.rest(10 * time.Second)
		if refused < 5 || refused > 12 {
			t.Errorf("%d proposals in ten seconds, want about one a second", refused)
		}
		w.journal.set(func(j *fakeJournal) { j.refuse = nil })
		want(t, "result", w.ended().Result, failover.ResultDone)
	})
}

// An outcome that did not reach the log left its step open: no new attempt is taken in this term.
func TestOutcomeThatCannotBeJournaledIsProposedAgain(t *testing.T) {
	play(t, nil, func(w *world) {
		defer w.lead()()
		left := 3
		w.journal.set(func(j *fakeJournal) {
			j.refuse = func(c failover.Command) error {
				if c.Journal != nil && len(c.Journal.Ended) > 0 && c.Journal.Ended[0].Step == failover.StepFreeze && left > 0 {
					left--
					return errQueue
				}
				return nil
			}
		})
		w.request()
		o := w.ended()
		want(t, "result", o.Result, failover.ResultDone)
		want(t, "freezes", len(w.runs("main freeze")), 1)
		want(t, "attempts of freeze", o.Step(failover.StepFreeze).Attempts, 1)
	})
}

func TestActWhoseTimeIsOverDoesNothing(t *testing.T) {
	play(t, nil, func(w *world) {
		defer w.lead()()
		w.journal.set(func(j *fakeJournal) { j.delay = 11 * time.Second })
		w.journal.Begin(failover.Command{By: "uid:0", Request: &failover.Request{Group: group}})
		w.until("a first failed try", func(g *failover.GroupState) bool {
			return g.Switchover.Open() && g.Switchover.Step(failover.StepMaintenanceOn).Error != ""
		})
		want(t, "error", w.journal.State().Groups[group].Switchover.Step(failover.StepMaintenanceOn).Error, errNoTime.Error())
		want(t, "calls of on", len(w.runs("main on")), 0)
		w.journal.set(func(j *fakeJournal) { j.delay = 0 })
		w.ended()
	})
}

func TestDelayedLogGivesTheSameEnd(t *testing.T) {
	play(t, nil, func(w *world) {
		defer w.lead()()
		w.journal.set(func(j *fakeJournal) { j.delay = 20 * time.Millisecond })
		w.request()
		o := w.ended()
		want(t, "result", o.Result, failover.ResultDone)
		for _, s := range o.Steps {
			want(t, "attempts of "+string(s.Name), s.Attempts, 1)
		}
		wantCalls(t, w.called(0), "main on", "main freeze", "standby catch_up", "standby stop", "standby promote", "standby off")
	})
}

// Steps 1 and 2 could not be done, then the old database turns out to answer: it is frozen and caught up with first.
func TestOldDatabaseThatAnswersIsFrozenFirst(t *testing.T) {
	play(t, nil, func(w *world) {
		defer w.lead()()
		w.app("standby", func(a *fakeApp) { a.slow["role"] = 200 * time.Millisecond })
		w.app("main", func(a *fakeApp) { a.broken["on"], a.broken["freeze"] = true, true })
		w.see("main", failover.VerdictDown)
		w.until("freeze is marked", func(g *failover.GroupState) bool {
			return g.Switchover.Open() && g.Switchover.Step(failover.StepFreeze).State == failover.StepMarked
		})
		w.app("main", func(a *fakeApp) { a.broken["freeze"] = false })
		o := w.ended()
		want(t, "result", o.Result, failover.ResultDone)
		want(t, "freeze", o.Step(failover.StepFreeze).State, failover.StepDone)
		wantCalls(t, w.called(0)[2:6], "main freeze", "standby catch_up", "standby stop", "standby promote")
		want(t, "main frozen", w.is("main").frozen, true)
	})
}

func TestOldDatabaseOutOfReachHoldsThePromotionBack(t *testing.T) {
	play(t, nil, func(w *world) {
		defer w.lead()()
		w.app("main", func(a *fakeApp) { a.hangs = true })                             // nobody reaches it, yet standby receives
		w.app("standby", func(a *fakeApp) { a.slow["role"] = 700 * time.Millisecond }) // the time cuts the last look off
		w.see("main", failover.VerdictDown)
		o := w.ended()
		want(t, "result", o.Result, failover.ResultUndone)
		if !strings.HasPrefix(o.Undoing, failover.BlockOutOfReach) {
			t.Errorf("undone because of %q", o.Undoing)
		}
		want(t, "promotions", len(w.runs("standby promote"))+len(w.runs("standby stop")), 0)
	})
}

func TestHooks(t *testing.T) {
	for _, tc := range []struct {
		name, when, fails string
		times             int // that the hook fails; -1: always
		result            failover.SwitchoverResult
		hooks             int
	}{
		{"before runs before", "before", "", 0, failover.ResultDone, 1},
		{"before fails once", "before", "h", 1, failover.ResultDone, 2},
		{"before fails always", "before", "h", -1, failover.ResultUndone, 3},
		{"after runs after", "after", "", 0, failover.ResultDone, 1},
		{"after fails once", "after", "h", 1, failover.ResultDone, 2},
		{"after fails always", "after", "h", -1, failover.ResultDoneWithExceptions, 3},
	} {
		t.Run(tc.name, func(t *testing.T) {
			play(t, func(g *failover.Group) { hook(g, failover.StepFreeze, tc.when, "h") }, func(w *world) {
				defer w.lead()()
				left := tc.times
				w.onHook("h", func(context.Context) (int, error) {
					if left == 0 {
						return 0, nil
					}
					left--
					return 1, nil
				})
				w.request()
				o := w.ended()
				want(t, "result", o.Result, tc.result)
				want(t, "runs of the hook", len(w.runs("hook h")), tc.hooks)
				froze := w.runs("main freeze")
				switch {
				case tc.when == "before" && tc.times < 0:
					want(t, "freezes", len(froze), 0)
				case tc.when == "before":
					calls := w.called(0)
					want(t, "hook then freeze", slices.Index(calls, "main freeze"), slices.Index(calls, "hook h")+tc.hooks)
				default:
					want(t, "freezes", len(froze), 1)
				}
			})
		})
	}
}

func TestOutputOfHooksAndActIsKeptAndBounded(t *testing.T) {
	play(t, func(g *failover.Group) {
		for range 500 {
			hook(g, failover.StepPromote, "after", "talk")
		}
	}, func(w *world) {
		defer w.lead()()
		w.request()
		w.ended()
		list, _ := w.journal.journaled()
		for _, j := range list {
			for _, e := range j.Ended {
				if len(e.Output) > failover.MaxOutput {
					t.Errorf("output of %s has %d bytes", e.Step, len(e.Output))
				}
				if e.Work == failover.WorkAfter {
					want(t, "bytes", len(e.Output), failover.MaxOutput)
				}
			}
		}
	})
}

// A group that is removed while the answer to a proposal is on its way is left at once, so that it can come back.
func TestGroupRemovedWhileAnAnswerIsOnItsWay(t *testing.T) {
	play(t, nil, func(w *world) {
		answer, gone := make(chan struct{}), make(chan struct{})
		p := newPerformer(w.runner, slowAnswers{w.journal, answer}, group, time.Now(), w.journal.State().Term)
		p.outcomes = []failover.Ended{{Task: failover.Task{Group: group, Switchover: 1}}}
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		go func() {
			defer close(gone)
			p.run(ctx)
		}()
		synctest.Wait()
		policy := *w.journal.State().Policy
		policy.Groups = nil
		w.must(failover.Command{SetPolicy: &failover.SetPolicy{Revision: w.journal.State().PolicyRevision, Policy: policy}})
		synctest.Wait()
		close(answer)
		synctest.Wait()
		if !isClosed(gone) {
			t.Error("the performer of a removed group hangs")
		}
	})
}

// slowAnswers is a journal that applies at once and answers late.
type slowAnswers struct {
	*fakeJournal
	answer chan struct{}
}

func (j slowAnswers) Begin(c failover.Command) func(context.Context) (failover.Result, error) {
	wait := j.fakeJournal.Begin(c)
	return func(ctx context.Context) (failover.Result, error) {
		<-j.answer
		return wait(ctx)
	}
}

// Whether the target still receives from a main that only this leader cannot reach can be told before its replication is
// stopped and never after: a look that fails is no look.
func TestNothingIsStoppedForATargetThatDoesNotTell(t *testing.T) {
	play(t, nil, func(w *world) {
		defer w.lead()()
		w.app("main", func(a *fakeApp) { a.hangs = true })
		w.app("standby", func(a *fakeApp) { a.broken["role"] = true })
		w.see("main", failover.VerdictDown)
		w.until("a try is refused", func(g *failover.GroupState) bool {
			return g.Switchover.Open() && g.Switchover.Step(failover.StepStopReplication).Tries == 1
		})
		w.app("standby", func(a *fakeApp) { a.broken["role"] = false }) // and it still receives
		o := w.ended()
		want(t, "result", o.Result, failover.ResultUndone)
		if !strings.HasPrefix(o.Undoing, failover.BlockOutOfReach) {
			t.Errorf("undone because of %q", o.Undoing)
		}
		want(t, "stops and promotions", len(w.runs("standby promote"))+len(w.runs("standby stop")), 0)
	})
}

// One look that fails is looked again within the same try.
func TestTargetThatDoesNotTellOnceIsAskedAgain(t *testing.T) {
	play(t, nil, func(w *world) {
		w.app("standby", func(a *fakeApp) { a.broken["role"] = true })
		w.app("main", func(a *fakeApp) { a.dead = true })
		w.see("main", failover.VerdictDown)
		defer w.lead()()
		w.rest(3 * time.Second)
		w.app("standby", func(a *fakeApp) { a.broken["role"], a.streaming = false, false })
		o := w.ended()
		want(t, "result", o.Result, failover.ResultDone)
		want(t, "attempts", o.Step(failover.StepStopReplication).Attempts, 1)
		want(t, "failed tries", strings.Contains(w.story(), "step_failed stop"), false)
	})
}

func TestPointOfNoReturnIsNotPassedBlindly(t *testing.T) {
	t.Run("database", func(t *testing.T) {
		play(t, func(g *failover.Group) { hook(g, failover.StepStopReplication, "after", "die") }, func(w *world) {
			defer w.lead()()
			w.onHook("die", func(context.Context) (int, error) {
				w.app("standby", func(a *fakeApp) { a.dead = true })
				return 0, nil
			})
			w.kill()
			o := w.ended()
			want(t, "result", o.Result, failover.ResultUndone)
			want(t, "writer", w.journal.State().Groups[group].Writer, "main")
			want(t, "promotions", len(w.runs("standby promote")), 0)
		})
	})
	t.Run("maintenance", func(t *testing.T) {
		play(t, withoutDatabase, func(w *world) {
			defer w.lead()()
			w.app("standby", func(a *fakeApp) { a.broken["check"] = true })
			w.kill()
			o := w.ended()
			want(t, "result", o.Result, failover.ResultUndone)
			want(t, "writer", w.journal.State().Groups[group].Writer, "main")
			want(t, "turned off", len(w.runs("standby off")), 0)
		})
	})
	t.Run("no check to ask", func(t *testing.T) {
		play(t, func(g *failover.Group) {
			withoutDatabase(g)
			for i := range g.Apps {
				g.Apps[i].Maintenance.Check = nil
			}
		}, func(w *world) {
			defer w.lead()()
			w.kill()
			want(t, "result", w.ended().Result, failover.ResultDone)
		})
	})
}

func withoutDatabase(g *failover.Group) {
	for i := range g.Apps {
		g.Apps[i].Database = nil
	}
}

// A freeze that is asked for again, because the database answers after all, gets its own timeout and not a probe's: else
// the database is frozen half and opened again, for ever.
func TestRepeatedFreezeGetsItsOwnTime(t *testing.T) {
	play(t, nil, func(w *world) {
		defer w.lead()()
		w.app("standby", func(a *fakeApp) { a.slow["role"] = 200 * time.Millisecond })
		w.app("main", func(a *fakeApp) { a.broken["on"], a.slow["freeze"] = true, 3*time.Second })
		w.see("main", failover.VerdictDown)
		o := w.ended()
		want(t, "result", o.Result, failover.ResultDone)
		want(t, "freeze", o.Step(failover.StepFreeze).State, failover.StepDone)
		want(t, "main frozen", w.is("main").frozen, true)
	})
}

// A freeze that exits 0 without effect is not believed of a database that is known to tell its freeze.
func TestFreezeWithoutEffectOfADatabaseThatTells(t *testing.T) {
	play(t, nil, func(w *world) {
		defer w.lead()()
		told := failover.Report{Group: group, App: "main", Watcher: "w1", Boot: 1, Seq: w.number(), Revision: w.journal.State().Groups[group].Apps["main"].Revision,
			Verdict: failover.VerdictUp, Database: &failover.Observation{Role: failover.RolePrimary, Frozen: true, ID: "db1"}}
		w.must(failover.Command{Reports: &failover.Reports{Reports: []failover.Report{told}}})
		w.see("main", failover.VerdictUp)
		w.app("main", func(a *fakeApp) { a.tells, a.deaf = true, map[string]bool{"freeze": true} })
		w.request()
		o := w.ended()
		want(t, "result", o.Result, failover.ResultUndone)
		want(t, "because", strings.Contains(o.Undoing, "still takes writes"), true)
		want(t, "catch-ups", len(w.runs("standby catch_up")), 0)
	})
}

func TestOutputOfBeforeHooksIsKept(t *testing.T) {
	play(t, func(g *failover.Group) { hook(g, failover.StepFreeze, "before", "talk") }, func(w *world) {
		defer w.lead()()
		w.request()
		want(t, "output", w.ended().Step(failover.StepFreeze).Output, "hook talk ranmain freeze done")
	})
}
