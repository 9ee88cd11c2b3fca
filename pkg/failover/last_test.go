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
