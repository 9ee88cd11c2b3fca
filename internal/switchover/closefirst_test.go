package switchover

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// returning is a switchover of a world in which main, closed or not before, answers open from the moment on at which standby has been
// promoted. Change is made to main in that moment too.
func returning(t *testing.T, kill bool, group func(*failover.Group), change func(*fakeApp), script func(*world, *failover.Switchover)) {
	t.Helper()
	play(t, func(g *failover.Group) {
		hook(g, failover.StepPromote, "after", "promoted")
		if group != nil {
			group(g)
		}
	}, func(w *world) {
		defer w.lead()()
		w.onHook("promoted", func(context.Context) (int, error) {
			w.app("main", func(a *fakeApp) {
				a.dead, a.maintenance = false, false
				if change != nil {
					change(a)
				}
			})
			w.setUp("main", time.Now())
			return 0, nil
		})
		if kill {
			w.kill()
		} else {
			w.request()
		}
		script(w, w.ended())
	})
}

// opened is what happened to main's switch from the promotion's hook to the opening of standby, and how long that took.
func (w *world) opened() (main []string, took time.Duration) {
	w.t.Helper()
	calls := w.called(0)
	promoted, off := slices.Index(calls, "hook promoted"), slices.Index(calls, "standby off")
	if promoted < 0 || off < promoted {
		w.t.Fatalf("standby was not opened after the hook: %q", calls)
	}
	for _, call := range calls[promoted:off] {
		if call == "main on" {
			main = append(main, call)
		}
	}
	return main, w.runs("standby off")[0].at - w.runs("hook promoted")[0].at
}

func TestOldAppThatAnswersOpenIsClosedBeforeTheOther(t *testing.T) {
	unchecked := func(g *failover.Group) { g.Apps[0].Maintenance.Check = nil }
	for _, tc := range []struct {
		name  string
		kill  bool
		group func(*failover.Group)
	}{
		{"failover, main is back", true, nil},
		{"planned, main has forgotten its maintenance", false, nil},
		{"failover, without a check", true, unchecked},
	} {
		t.Run(tc.name, func(t *testing.T) {
			returning(t, tc.kill, tc.group, nil, func(w *world, o *failover.Switchover) {
				want(t, "result", o.Result, failover.ResultDone)
				main, took := w.opened()
				if len(main) == 0 || took > refusedPause+flushAfter {
					t.Errorf("main was turned %q, standby opened after %s", main, took)
				}
				want(t, "step", o.Step(failover.StepMaintenanceOn).State, failover.StepDone)
				for _, look := range w.runs("main check") {
					want(t, "whom a look is about", look.env["WATCHOVER_APP"], "main")
				}
			})
		})
	}
}

// What cannot be closed does not keep the new app closed as well, for longer than one try. It is an exception, for a person to read.
func TestOldAppThatCannotBeClosedIsAnException(t *testing.T) {
	for _, kill := range []bool{true, false} {
		for how, change := range map[string]func(*fakeApp){
			"exited 3: broken":    func(a *fakeApp) { a.broken["on"] = true },
			"still reads off":     func(a *fakeApp) { a.deaf = map[string]bool{"on": true} },
			"did not end in time": func(a *fakeApp) { a.slow["on"] = time.Hour },
		} {
			returning(t, kill, nil, change, func(w *world, o *failover.Switchover) {
				want(t, "result", o.Result, failover.ResultDoneWithExceptions)
				if text := strings.Join(o.Exceptions, "; "); text != "main was not closed: it answered out of maintenance when standby was opened" {
					t.Errorf("the exceptions are %q", text)
				}
				if err := o.Step(failover.StepMaintenanceOn).Error; !strings.Contains(err, how) {
					t.Errorf("the step says %q, want %q", err, how)
				}
				if _, took := w.opened(); took > 2*time.Second {
					t.Errorf("standby was kept closed for %s", took)
				}
				mark := w.journal.State().Groups[group].Apps["main"].Mark
				want(t, "main is marked", mark != nil && mark.Maintenance, true)
			})
		}
	}
}

// An old app that does not answer keeps the new one waiting for one look, and one that the probes find down for none.
func TestOldAppThatDoesNotAnswerDoesNotHoldUpTheOther(t *testing.T) {
	returning(t, true, nil, func(a *fakeApp) { a.hangs = true }, func(w *world, o *failover.Switchover) {
		want(t, "result", o.Result, failover.ResultDone)
		if main, took := w.opened(); took > 1100*time.Millisecond {
			t.Errorf("standby was kept closed for %s: %q", took, main)
		}
	})
	play(t, nil, func(w *world) {
		defer w.lead()()
		w.kill()
		w.ended()
		at := w.runs("standby off")[0].at
		for _, look := range w.runs("main check") {
			if look.env["WATCHOVER_STEP"] == string(failover.StepMaintenanceOff) {
				t.Errorf("main was asked at %s, standby opened at %s", look.at, at)
			}
		}
	})
}

// A keeper whose hands hang on the old app has the new one wait for a probe's timeout, not for its own.
func TestKeeperThatHangsOnTheOldAppDoesNotHoldUpTheOther(t *testing.T) {
	play(t, func(g *failover.Group) {
		hook(g, failover.StepPromote, "after", "promoted")
		s := g.Steps[failover.StepMaintenanceOn]
		s.Timeout = 5 * time.Minute
		g.Steps[failover.StepMaintenanceOn] = s
	}, func(w *world) {
		defer w.lead()()
		w.onHook("promoted", func(ctx context.Context) (int, error) {
			w.app("main", func(a *fakeApp) { a.dead, a.slow["on"] = false, time.Hour })
			w.setUp("main", time.Now())
			waitFor(ctx, time.Second) // in which the keeper begins
			return 0, nil
		})
		w.kill()
		want(t, "result", w.ended().Result, failover.ResultDoneWithExceptions)
		if _, took := w.opened(); took > 2100*time.Millisecond {
			t.Errorf("standby was opened %s after the promotion", took)
		}
	})
}

// Without a database nothing else keeps the two steps apart.
func TestOldAppThatIsBeingClosedIsWaitedFor(t *testing.T) {
	play(t, withoutDatabase, func(w *world) {
		defer w.lead()()
		w.app("main", func(a *fakeApp) { a.slow["on"] = 300 * time.Millisecond })
		w.setUp("main", time.Now())
		w.see("main", failover.VerdictDown)
		want(t, "result", w.ended().Result, failover.ResultDone)
		if closed, opened := w.runs("main on")[0].at+300*time.Millisecond, w.runs("standby off")[0].at; opened < closed {
			t.Errorf("main was closed at %s, standby opened at %s", closed, opened)
		}
	})
}

// One that its keeper closes in a probe's timeout is waited for, and nothing is said.
func TestKeeperThatClosesTheOldAppInTimeIsNoException(t *testing.T) {
	play(t, func(g *failover.Group) { hook(g, failover.StepPromote, "after", "promoted") }, func(w *world) {
		defer w.lead()()
		w.onHook("promoted", func(ctx context.Context) (int, error) {
			w.app("main", func(a *fakeApp) { a.dead, a.slow["on"] = false, 800*time.Millisecond })
			w.setUp("main", time.Now())
			waitFor(ctx, 600*time.Millisecond) // in which the keeper begins
			return 0, nil
		})
		w.kill()
		o := w.ended()
		want(t, "result", o.Result, failover.ResultDone)
		want(t, "closed once", len(w.runs("main on")), 2) // with the step's first try, when it was dead
		if closed, opened := w.runs("main on")[1].at+800*time.Millisecond, w.runs("standby off")[0].at; opened < closed {
			t.Errorf("main was closed at %s, standby opened at %s", closed, opened)
		}
	})
}

// Without a check it is the keeper's word that counts.
func TestOldAppWithoutACheckThatItsKeeperHasClosedIsNotClosedAgain(t *testing.T) {
	play(t, func(g *failover.Group) {
		hook(g, failover.StepPromote, "after", "promoted")
		g.Apps[0].Maintenance.Check = nil
	}, func(w *world) {
		defer w.lead()()
		w.onHook("promoted", func(ctx context.Context) (int, error) {
			w.app("main", func(a *fakeApp) { a.dead = false })
			w.setUp("main", time.Now())
			waitFor(ctx, 2*time.Second)
			return 0, nil
		})
		w.kill()
		want(t, "result", w.ended().Result, failover.ResultDone)
		want(t, "turned on", len(w.runs("main on")), 2)
	})
}

// Whoever remembers keys must not take the second closing for a repetition of the first, which was done.
func TestSecondClosingHasAnotherKey(t *testing.T) {
	play(t, nil, func(w *world) {
		w.request()
		state := w.journal.State()
		p := newPerformer(w.runner, w.journal, group, time.Now(), state.Term)
		key := func() string { return newAttempt(p, state, state.Next(group)[0]).id.key }
		first := key()
		w.must(failover.Command{Journal: &failover.Journal{Start: &failover.Start{Task: state.Next(group)[0]}}})
		state = w.journal.State()
		want(t, "the next try's key", key(), first)
		state.Groups[group].Switchover.Step(failover.StepMaintenanceOn).Redo = true
		want(t, "the closing again has another", key() != first, true)
	})
}

// Nor is one that was closed as planned.
func TestOldAppWithoutACheckThatWasClosedIsNotClosedAgain(t *testing.T) {
	play(t, func(g *failover.Group) { g.Apps[0].Maintenance.Check = nil }, func(w *world) {
		defer w.lead()()
		w.setUp("main", time.Now())
		w.app("main", func(a *fakeApp) { a.slow["on"] = 300 * time.Millisecond }) // so that the keeper, to whom it is new, is at it
		w.request()
		o := w.ended()
		want(t, "result", o.Result, failover.ResultDone)
		want(t, "attempts", o.Step(failover.StepMaintenanceOn).Attempts, 1)
	})
}

// The leader dies as soon as it is settled that main is closed first, or in the middle of that: the next one goes on from there.
func TestTakeoverInTheMiddleOfTheSecondClosing(t *testing.T) {
	for name, at := range map[string]func(*failover.Step) bool{
		"before the act": func(on *failover.Step) bool { return on.Redo },
		"in the act":     func(on *failover.Step) bool { return on.Redo && on.Open != "" },
		"after the act":  func(on *failover.Step) bool { return on.Redo && on.State == failover.StepDone },
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(g *failover.Group) { hook(g, failover.StepPromote, "after", "promoted") }, func(w *world) {
				stop := w.lead()
				w.onHook("promoted", func(context.Context) (int, error) {
					w.app("main", func(a *fakeApp) { a.dead, a.slow["on"] = false, 500*time.Millisecond })
					w.setUp("main", time.Now())
					return 0, nil
				})
				w.kill()
				w.until(name, func(g *failover.GroupState) bool {
					return g.Switchover.Open() && at(g.Switchover.Step(failover.StepMaintenanceOn))
				})
				w.crash(stop)
				defer w.lead()()
				want(t, "result", w.ended().Result, failover.ResultDone)
				want(t, "main in maintenance", w.is("main").maintenance, true)
				on, off := w.runs("main on"), w.runs("standby off")
				if len(off) != 1 || off[0].at < on[1].at+500*time.Millisecond {
					t.Errorf("main was closed from %s on, standby opened %d times, at %s", on[1].at, len(off), off[0].at)
				}
				want(t, "hands on main at once", w.most["main"], 1)
			})
		})
	}
}
