package daemon

import (
	"testing"
	"time"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// What a rehearsal found for certain is reported until the next one finds it mended; what is only so just now is not.
func TestFaultsOfARehearsalAreReported(t *testing.T) {
	k := emptyDesk("/")
	s := k.d.stage
	found := []failover.Finding{
		{App: "standby", Check: "privileges", Detail: "may not promote", Certain: true},
		{App: "standby", Check: "database", Detail: "connection refused"},
		{App: "main", Check: "settings", OK: true, Detail: "fine", Certain: true},
		{Check: "files", Detail: "missing", Certain: true},
	}
	s.keep("shop", failover.Faults("shop", found))
	s.keep("blog", failover.Faults("blog", nil))
	_, about := k.collect()
	if len(about.Faults) != 1 || about.Faults[0] != (failover.Fault{Group: "shop", App: "standby", Detail: "privileges: may not promote"}) {
		t.Fatalf("reported %+v", about.Faults)
	}
	<-k.news // it was told
	s.keep("shop", failover.Faults("shop", found))
	select {
	case <-k.news:
		t.Error("the same again is no news")
	default:
	}
	s.keep("shop", nil)
	if _, about = k.collect(); about.Faults != nil {
		t.Errorf("mended, and still reported: %+v", about.Faults)
	}
}

// A group gets its turn soon after a start and after a change of its policy, then every rehearse_every; 0 is never.
func TestTurnsOfRehearsals(t *testing.T) {
	k := emptyDesk("/")
	group := func(name string, every time.Duration) failover.Group {
		return failover.Group{Name: name, Failover: failover.Rules{RehearseEvery: every}}
	}
	state := func(groups ...failover.Group) *failover.State {
		s := failover.NewState()
		s.Policy = &failover.Policy{Groups: groups}
		for _, g := range groups {
			s.Groups[g.Name] = &failover.GroupState{Name: g.Name, Writer: "main", Epoch: 3}
		}
		return s
	}
	turns := map[string]*turn{}
	k.d.stage.plan(state(group("shop", time.Hour), group("blog", 3*time.Second), group("wiki", 0)), turns, noon)
	for name, want := range map[string]time.Duration{"shop": rehearsalSoon, "blog": 3 * time.Second} {
		if got := turns[name].due.Sub(noon); got != want {
			t.Errorf("%s is due after %s, want %s", name, got, want)
		}
	}
	if name, _ := earliest(turns); len(turns) != 2 || name != "blog" {
		t.Errorf("%d turns, first %q", len(turns), name)
	}
	turns["shop"].due = noon.Add(time.Hour)
	k.d.stage.faults["blog"] = []failover.Fault{{Group: "blog"}}
	k.d.stage.plan(state(group("shop", time.Hour)), turns, noon.Add(time.Minute))
	if turns["shop"].due != noon.Add(time.Hour) || turns["blog"] != nil || k.d.stage.all() != nil {
		t.Errorf("unchanged: due %s; gone: %v, %v", turns["shop"].due, turns["blog"], k.d.stage.all())
	}
	k.d.stage.plan(state(group("shop", 2*time.Hour)), turns, noon.Add(time.Minute))
	if got := turns["shop"].due.Sub(noon); got != time.Minute+rehearsalSoon {
		t.Errorf("changed: due after %s", got)
	}
	turns["shop"].due = noon.Add(time.Hour)
	k.d.stage.faults["shop"] = []failover.Fault{{Group: "shop"}}
	switched := state(group("shop", 2*time.Hour))
	switched.Groups["shop"].Writer, switched.Groups["shop"].Epoch = "standby", 4
	k.d.stage.plan(switched, turns, noon)
	if got := turns["shop"].due.Sub(noon); got != rehearsalSoon || k.d.stage.all() != nil {
		t.Errorf("other roles: due after %s, %v", got, k.d.stage.all())
	}
}

// A rehearsal into which a switchover came does not count: what that had stopped or frozen is no fault.
func TestRehearsalBesideASwitchoverDoesNotCount(t *testing.T) {
	state := func(change func(*failover.GroupState)) *failover.State {
		s := failover.NewState()
		g := &failover.GroupState{Name: "shop", Active: "main", Writer: "main", Epoch: 3, Apps: map[string]*failover.AppState{"main": {Health: failover.HealthUp}, "standby": {}}}
		change(g)
		s.Policy = &failover.Policy{Groups: []failover.Group{{Name: "shop", Apps: []failover.App{{Name: "main"}, {Name: "standby"}}}}}
		s.Groups["shop"] = g
		return s
	}
	found := []failover.Finding{{App: "main", Check: "privileges", Detail: "none", Certain: true}}
	counts := func(before, now *failover.State) bool {
		k := emptyDesk("/")
		k.d.stage.note("shop", found, before, now)
		return len(k.d.stage.all()) > 0
	}
	rest := state(func(*failover.GroupState) {})
	if !counts(rest, rest) {
		t.Error("at rest it counts")
	}
	for name, other := range map[string]*failover.State{
		"a switchover is open": state(func(g *failover.GroupState) { g.Switchover = &failover.Switchover{Result: failover.ResultRunning} }),
		"another writer":       state(func(g *failover.GroupState) { g.Writer = "standby" }),
		"there and undone":     state(func(g *failover.GroupState) { g.Epoch = 4 }),
		"the group is gone":    failover.NewState(),
	} {
		if counts(rest, other) || counts(other, rest) {
			t.Errorf("%s: it counts", name)
		}
	}
}
