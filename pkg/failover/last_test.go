package failover

import "testing"

// What a quorum last saw of an app outlives its silence, and not a change of its role or its probes. That its database
// tells its freeze outlives both, but not another database.
func TestLastSeenOfAnApp(t *testing.T) {
	p := defaultPlot()
	p.database = true
	w := begin(t, p)
	w.allUp()
	main := func() *AppState { return w.group("shop").Apps["main"] }
	check := func(when string, maintenance Switch, frozen, tells bool) {
		t.Helper()
		if a := main(); a.LastMaintenance != maintenance || a.LastFrozen != frozen || a.TellsFrozen != tells {
			t.Errorf("%s: maintenance %q, frozen %t, tells %t; want %q, %t, %t", when, a.LastMaintenance, a.LastFrozen, a.TellsFrozen, maintenance, frozen, tells)
		}
	}
	check("at first", SwitchOff, false, false)
	closed := w.saw("shop", "main", VerdictUp)
	closed.maintenance, closed.database.Frozen = SwitchOn, true
	w.say([]string{"w1"}, "main", closed)
	check("one watcher sees it closed", SwitchOff, false, true)
	w.say([]string{"w2"}, "main", closed)
	check("a quorum sees it closed", SwitchOn, true, true)
	w.down("main")
	check("silent", SwitchOn, true, true)
	p.probeURL = "live"
	w.must(Command{SetPolicy: &SetPolicy{Revision: w.s.PolicyRevision, Policy: p.policy()}})
	check("other probes", "", false, true)
	p.shared = true // which names another database here
	w.must(Command{SetPolicy: &SetPolicy{Revision: w.s.PolicyRevision, Policy: p.policy()}})
	check("another database", "", false, false)
}

// What the runner saw at a step counts as told, too.
func TestLookOfAStepTellsTheFreeze(t *testing.T) {
	p := defaultPlot()
	p.database = true
	w := begin(t, p)
	w.allUp()
	w.must(Command{By: "uid:0", Request: &Request{Group: "shop"}})
	w.did(StepMaintenanceOn, StepFreeze, StepCatchUp)
	w.start(StepStopReplication, &Observation{Role: RolePrimary, Frozen: true}, replica())
	if a := w.group("shop").Apps["main"]; !a.TellsFrozen {
		t.Errorf("%+v", a)
	}
}

// What watchers saw while a switchover had its hands on the app is no word on how it was before: once that is undone, it
// is as the undo left it, also if it fails before anybody has looked anew.
func TestAnUndoOutdatesWhatWasSeen(t *testing.T) {
	for _, prior := range []bool{false, true} {
		p := defaultPlot()
		p.database = true
		w := begin(t, p)
		w.allUp()
		closed := w.saw("shop", "main", VerdictUp)
		closed.maintenance, closed.database.Frozen = SwitchOn, true
		was, on, frozen := SwitchOff, "", ""
		if prior {
			was, on, frozen = SwitchOn, PriorOn, PriorFrozen
			w.say([]string{"w1", "w2", "w3"}, "main", closed)
		}
		w.must(Command{By: "uid:0", Request: &Request{Group: "shop"}})
		for _, step := range []StepName{StepMaintenanceOn, StepFreeze} {
			o := w.group("shop").Switchover
			seen := map[StepName]string{StepMaintenanceOn: on, StepFreeze: frozen}[step]
			w.must(Command{Journal: &Journal{Start: &Start{Task: o.task(o.Step(step), WorkAct), Prior: seen}}})
			w.end(step, OutcomeDone, "")
		}
		w.say([]string{"w1", "w2", "w3"}, "main", closed)
		w.must(Command{By: "uid:0", Abort: &GroupOrder{Group: "shop"}})
		w.did(StepFreeze, StepMaintenanceOn)
		check := func(when string) {
			t.Helper()
			if a := w.group("shop").Apps["main"]; a.LastMaintenance != was || a.LastFrozen != prior {
				t.Errorf("was %s before; %s: %s, frozen %t", was, when, a.LastMaintenance, a.LastFrozen)
			}
		}
		check("undone")
		w.say([]string{"w1"}, "standby", w.saw("shop", "standby", VerdictUp))
		check("another report")
		w.say([]string{"w1", "w2", "w3"}, "main", closed) // which they looked at before the undo
		check("old looks")
		w.down("main")
		check("down")
		closed.undone = w.group("shop").Apps["main"].Undone
		w.say([]string{"w1", "w2"}, "main", closed) // whoever closed it now
		if a := w.group("shop").Apps["main"]; a.LastMaintenance != SwitchOn || !a.LastFrozen {
			t.Errorf("new looks: %+v", a)
		}
	}
}

// An attempt to keep a mark has the time that the policy gave it when it began, whatever a later policy says: a new leader
// waits as long as the old one's hands may move.
func TestKeepingHasTheTimeThatItBeganWith(t *testing.T) {
	p := defaultPlot()
	w := begin(t, p)
	w.allUp()
	w.down("main")
	w.must(Command{By: "uid:0", Request: &Request{Group: "shop", Force: true}})
	w.failed(StepMaintenanceOn, "connection refused")
	w.did(StepMaintenanceOff)
	task := w.s.Keep("shop")
	if len(task) == 0 {
		t.Fatal("nothing is to be kept")
	}
	before := w.s.Timeout(task[0])
	w.must(Command{Journal: &Journal{Start: &Start{Task: task[0]}}})
	if open := w.group("shop").Apps["main"].Mark.Open; open == nil || open.Timeout != before || before == 0 {
		t.Errorf("%+v, want %s", open, before)
	}
}
