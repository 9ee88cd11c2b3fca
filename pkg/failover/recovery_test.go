package failover

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// outage makes a world in the middle of a failover with a database, and plays the steps given.
func outage(t *testing.T, steps ...StepName) *world {
	t.Helper()
	p := defaultPlot()
	p.database, p.rules.ConfirmFor = true, 0
	w := begin(t, p)
	w.allUp()
	w.down("main")
	if len(steps) > 0 {
		w.failed(StepMaintenanceOn, "refused")
		w.failed(StepFreeze, "refused")
	}
	w.did(steps...)
	return w
}

// recovered goes on with what w1 has.
func (w *world) recovered(t *testing.T, open Open) {
	t.Helper()
	s, r := w.s.Recover(RecoverOrder{ID: "r1", Keep: []string{"w1"}, Open: open})
	if !r.Accepted {
		t.Fatalf("recover: %+v", r)
	}
	text, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if w.s, err = DecodeState(text); err != nil {
		t.Fatal(err)
	}
	w.fresh, w.quick = []string{"w1"}, true
	w.term++
	w.must(Command{Tick: &Tick{}})
}

func TestRecoverWantsItsRules(t *testing.T) {
	calm := begin(t, defaultPlot())
	five := defaultPlot()
	five.watchers = 5
	for _, c := range []struct {
		name, rule, says string
		w                *world
		o                RecoverOrder
	}{
		{"nothing to go on with", "not_initialised", "had not begun", newWorld(t), RecoverOrder{Keep: []string{"w1"}}},
		{"a stranger", "member", `"w9" is not a watcher`, calm, RecoverOrder{Keep: []string{"w9"}}},
		{"nobody", "member", "no watcher is kept", calm, RecoverOrder{}},
		{"a quorum", "quorum", "2 of 3 watchers are a quorum", calm, RecoverOrder{Keep: []string{"w1", "w2"}}},
		{"too many", "too_many_kept", "3 watchers are to go on", begin(t, five), RecoverOrder{Keep: []string{"w1", "w2", "w3"}}},
		{"two of five", "", "", begin(t, five), RecoverOrder{Keep: []string{"w1", "w4"}}},
		{"an open switchover", "open_switchovers", "is open", outage(t), RecoverOrder{Keep: []string{"w1"}}},
		{"an open switchover, undo", "", "", outage(t), RecoverOrder{Keep: []string{"w1"}, Open: OpenUndo}},
		{"an open switchover, nonsense", "open_switchovers", `"perhaps"`, outage(t), RecoverOrder{Keep: []string{"w1"}, Open: "perhaps"}},
		{"past no return, undo", "past_no_return", "standby is the writer", outage(t, StepStopReplication, StepPromote), RecoverOrder{Keep: []string{"w1"}, Open: OpenUndo}},
		{"past no return, keep", "", "", outage(t, StepStopReplication, StepPromote), RecoverOrder{Keep: []string{"w1"}, Open: OpenKeep}},
	} {
		before := c.w.s.Hash()
		c.o.ID = "r1"
		s, r := c.w.s.Recover(c.o)
		if r.Accepted != (c.rule == "") || r.Rule != c.rule || !strings.Contains(r.Detail, c.says) || (s != nil) != r.Accepted {
			t.Errorf("%s: %+v", c.name, r)
		}
		if c.w.s.Hash() != before {
			t.Errorf("%s: changed the state that it started from", c.name)
		}
	}
}

func TestNothingFallsWithARecovery(t *testing.T) {
	w := outage(t, StepStopReplication, StepPromote, StepMaintenanceOff)
	old := w.s
	w.recovered(t, OpenKeep)
	g := w.group("shop")
	if w.s.Generation != 1 || w.s.Token(1) <= old.Token(1<<generationBit-1) {
		t.Errorf("generation %d: token %d after %d", w.s.Generation, w.s.Token(1), old.Token(1<<generationBit-1))
	}
	if g.Epoch != epochsPerGeneration || w.s.Serial <= old.Serial || int64(w.s.Serial) < w.clock.Unix() {
		t.Errorf("epoch %d, serial %d after %d", g.Epoch, w.s.Serial, old.Serial)
	}
	if names := memberNames(w.s.Members); !slices.Equal(names, []string{"w1"}) || !slices.Equal(memberNames(w.s.Recovery.Left), []string{"w2", "w3"}) {
		t.Errorf("members %v, left %v", names, memberNames(w.s.Recovery.Left))
	}
	for name, a := range g.Apps {
		if a.Reports["w2"] != nil {
			t.Errorf("%s keeps the report of a watcher that is no member", name)
		}
	}
	if w.s.Recovery.Begun != w.index || g.Unconfirmed.Index != w.index || g.Unconfirmed.Since.IsZero() {
		t.Errorf("recovery %+v, hold %+v at entry %d", w.s.Recovery, g.Unconfirmed, w.index)
	}
	serial := w.s.Serial
	w.must(Command{Tick: &Tick{}})
	if w.s.Serial != serial || w.s.Recovery.Begun == w.index {
		t.Error("the second entry begins anew once more")
	}
	// Twice recovered: again above everything.
	again, r := w.s.Recover(RecoverOrder{ID: "r2", Keep: []string{"w1"}, Open: OpenKeep})
	if !r.Accepted || again.Generation != 2 || again.Groups["shop"].Epoch != 2*epochsPerGeneration {
		t.Errorf("a second recovery: %+v, %+v", again, r)
	}
}

// The same log gives the same beginning, whoever works it out and when.
func TestRecoverIsDeterministic(t *testing.T) {
	w := outage(t)
	o := RecoverOrder{ID: "r1", Keep: []string{"w1"}, Open: OpenUndo}
	a, _ := w.s.Recover(o)
	text, _ := w.s.Encode()
	read, err := DecodeState(text)
	if err != nil {
		t.Fatal(err)
	}
	b, _ := read.Recover(o)
	if a.Hash() != b.Hash() {
		t.Error("two watchers with the same log begin differently")
	}
}

// Until ack nothing acts: not the automation, not the plan, not a mark's keeper, and not what a person asks for.
func TestRecoveredGroupIsHeldUntilAck(t *testing.T) {
	w := outage(t, StepStopReplication, StepPromote)
	w.recovered(t, OpenKeep)
	g := w.group("shop")
	if w.s.Next("shop") != nil || w.s.Keep("shop") != nil {
		t.Errorf("next %v, keep %v", w.s.Next("shop"), w.s.Keep("shop"))
	}
	for _, timer := range w.s.Timers() {
		if strings.Contains(timer.Key, string(StepPromote)) || strings.HasPrefix(timer.Key, "held") {
			t.Errorf("waits for %s", timer.Key)
		}
	}
	if !slices.ContainsFunc(g.Blockers, func(b Blocker) bool {
		return b.Code == BlockPaused && strings.Contains(b.Detail, "watchover ack shop")
	}) {
		t.Errorf("blockers %+v", g.Blockers)
	}
	if r := w.apply(Command{By: "uid:0", Resume: &GroupOrder{Group: "shop"}}); r.Accepted || r.Rule != BlockPaused || !strings.Contains(r.Hint, "watchover ack shop") {
		t.Errorf("resume: %+v", r)
	}
	if r := w.apply(Command{By: "uid:0", Resume: &GroupOrder{}}); !r.Accepted || !strings.Contains(r.Note, "watchover ack") || w.group("shop").Unconfirmed == nil {
		t.Errorf("resume of all: %+v", r)
	}
	w.must(Command{By: "uid:0", Ack: &GroupOrder{Group: "shop"}})
	if w.group("shop").Unconfirmed != nil {
		t.Fatal("held after ack")
	}
	if next := w.s.Next("shop"); len(next) != 1 || next[0].Step != StepMaintenanceOff {
		t.Errorf("after ack next is %v", next)
	}
	if len(w.s.Keep("shop")) == 0 {
		t.Error("after ack the mark on main is not kept")
	}
}

// What needs no hands is held too: the verification neither ends nor runs out.
func TestRecoveredVerificationIsHeldUntilAck(t *testing.T) {
	w := outage(t, StepStopReplication, StepPromote, StepMaintenanceOff)
	if step := w.group("shop").Switchover.Step(StepVerify); step.State != StepRunning {
		t.Fatalf("verify is %s", step.State)
	}
	w.recovered(t, OpenKeep)
	if r := w.due("verify/"); r.Accepted {
		t.Error("the verification runs out while the group is held")
	}
	w.served("w1")
	w.say([]string{"w1"}, "standby", w.saw("shop", "standby", VerdictUp))
	if w.group("shop").Switchover == nil {
		t.Fatal("the switchover ended while the group was held")
	}
	w.must(Command{By: "uid:0", Ack: &GroupOrder{Group: "shop"}})
	if g := w.group("shop"); g.Switchover != nil || g.History[0].Result != ResultDone {
		t.Errorf("after ack: %+v", g.Switchover)
	}
}

func TestRequestsWaitForAckToo(t *testing.T) {
	w := begin(t, defaultPlot())
	w.allUp()
	w.must(Command{By: "uid:0", Pause: &PauseOrder{Group: "shop", Reason: "mine"}})
	w.recovered(t, OpenUnsaid)
	w.allUp()
	for _, signal := range []bool{false, true} {
		if r := w.apply(Command{By: "uid:0", Request: &Request{Group: "shop", Signal: signal}}); r.Accepted || r.Rule != BlockPaused {
			t.Errorf("signal %t: %+v", signal, r)
		}
	}
	r := w.must(Command{By: "uid:0", Ack: &GroupOrder{Group: "shop"}})
	if g := w.group("shop"); g.Pause == nil || g.Pause.Reason != "mine" || !strings.Contains(r.Note, "still paused") {
		t.Errorf("ack took a person's pause too: %+v, %+v", g.Pause, r)
	}
	r = w.must(Command{By: "uid:0", Request: &Request{Group: "shop"}})
	if id := w.group("shop").Switchover.ID; r.Switchover != id || id != w.s.Token(w.index) || w.group("shop").Epoch != epochsPerGeneration+1 {
		t.Errorf("after ack: switchover %d, epoch %d, %+v", id, w.group("shop").Epoch, r)
	}
}

func TestUndoneByARecoveryWaitsForAck(t *testing.T) {
	w := outage(t, StepStopReplication)
	w.recovered(t, OpenUndo)
	if w.s.Next("shop") != nil {
		t.Errorf("next is %v before ack", w.s.Next("shop"))
	}
	w.must(Command{By: "uid:0", Ack: &GroupOrder{Group: "shop"}})
	if next := w.s.Next("shop"); len(next) != 1 || next[0].Work != WorkUndo || next[0].Step != StepStopReplication {
		t.Errorf("after ack next is %v", next)
	}
}

// A term of the new history may have the number of an old one.
func TestHandsOfTheOldHistoryAreNobodys(t *testing.T) {
	w := outage(t)
	if r := w.start(StepMaintenanceOn, nil, nil); r.Token == 0 {
		t.Fatalf("%+v", r)
	}
	w.term-- // what follows raises it again
	w.recovered(t, OpenKeep)
	w.must(Command{By: "uid:0", Ack: &GroupOrder{Group: "shop"}})
	if r := w.start(StepMaintenanceOn, nil, nil); r.Token == 0 {
		t.Errorf("an attempt of the old history bars the step: %+v", r)
	}
}

func TestGenerationsEnd(t *testing.T) {
	w := begin(t, defaultPlot())
	if maxGeneration<<generationBit+(1<<generationBit-1) != 1<<53-1 {
		t.Errorf("the last token is %d", uint64(maxGeneration<<generationBit+(1<<generationBit-1)))
	}
	s := w.s.clone()
	s.Generation = maxGeneration
	if _, r := s.Recover(RecoverOrder{ID: "r", Keep: []string{"w1"}}); r.Accepted || r.Rule != "generation" {
		t.Errorf("recover: %+v", r)
	}
	if r := w.restoredFrom(t, s, OpenUnsaid); r.Accepted || r.Rule != "generation" || w.s.Generation != 0 {
		t.Errorf("restore: %+v", r)
	}
	s.Generation++
	if r := w.restoredFrom(t, s, OpenUnsaid); r.Accepted || r.Rule != "snapshot" {
		t.Errorf("restore of what cannot be: %+v", r)
	}
}

func TestDamagedRecoveryIsNotRead(t *testing.T) {
	w := begin(t, defaultPlot())
	w.recovered(t, OpenUnsaid)
	for name, change := range map[string]func(r *Recovery){
		"no id":           func(r *Recovery) { r.ID = "" },
		"no generation":   func(r *Recovery) { r.Generation = 0 },
		"from the future": func(r *Recovery) { r.Generation = 7 },
		"begins later":    func(r *Recovery) { r.Begun = w.index + 1 },
	} {
		s := w.s.clone()
		r := *s.Recovery
		change(&r)
		s.Recovery = &r
		text, err := s.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := DecodeState(text); err == nil || !strings.Contains(err.Error(), "recovery") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// restoredFrom proposes what another world has.
func (w *world) restoredFrom(t *testing.T, saved *State, open Open) Result {
	t.Helper()
	c, err := NewRestore(saved, open)
	if err != nil {
		t.Fatal(err)
	}
	w.quick = true // active may be another app without a switchover, which no other entry does
	return w.apply(Command{By: "uid:0", Restore: c})
}

func TestRestoreIntoAnEmptyCluster(t *testing.T) {
	old := outage(t, StepStopReplication, StepPromote, StepMaintenanceOff)
	old.served("w1", "w2", "w3")
	old.say(memberNames(old.s.Members), "standby", old.saw("shop", "standby", VerdictUp))
	if old.group("shop").Switchover != nil {
		t.Fatalf("still open: %+v", old.group("shop").Switchover)
	}
	old.must(Command{By: "uid:0", Reprotect: &ReprotectOrder{Group: "shop", Force: true}})
	for range 50 {
		old.must(Command{Tick: &Tick{}})
	}
	w := begin(t, defaultPlot())
	w.s.ClusterID = "c2"
	now := w.s.Serial
	if r := w.restoredFrom(t, old.s, OpenUnsaid); !r.Accepted {
		t.Fatalf("%+v", r)
	}
	g := w.group("shop")
	if g.Active != "standby" || g.Apps["main"].Mark == nil || len(g.History) != 1 || !g.Apps["main"].Mark.Database {
		t.Errorf("not what was saved: %+v", g)
	}
	if w.s.Generation != 1 || g.Epoch != epochsPerGeneration || w.s.Serial <= max(now, old.s.Serial) || w.s.ClusterID != "c2" || !slices.Equal(w.s.Former, []string{"c1"}) {
		t.Errorf("generation %d, epoch %d, serial %d, former %v", w.s.Generation, g.Epoch, w.s.Serial, w.s.Former)
	}
	if g.Switched.Index != w.index || g.Cooldown.Index != w.index || w.s.ZoneIndex() != w.index || w.s.PolicyRevision != w.index {
		t.Errorf("indexes of the other log: %+v, %+v", g.Switched, g.Cooldown)
	}
	if w.s.Keep("shop") != nil {
		t.Error("an old mark is kept before a person has looked")
	}
	if r := w.s.Apply; r == nil || len(w.s.Events) == 0 || w.s.Events[len(w.s.Events)-1].Seq != w.s.EventSeq || w.s.EventSeq <= old.s.EventSeq {
		t.Errorf("events end with %d, %d were there", w.s.EventSeq, old.s.EventSeq)
	}
	if order := g.Apps["main"].Mark.Reprotect; order.Open() || order.Error == "" {
		t.Errorf("an order to make a database a replica goes on in another history: %+v", order)
	}
	w.allUp()
	w.must(Command{By: "uid:0", Ack: &GroupOrder{Group: "shop"}})
	r := w.must(Command{By: "uid:0", Request: &Request{Group: "shop", To: "main", Force: true}})
	if r.Switchover <= g.History[0].ID || w.group("shop").Epoch != epochsPerGeneration+1 {
		t.Errorf("switchover %d after %d", r.Switchover, g.History[0].ID)
	}
	if r := w.restoredFrom(t, old.s, OpenUnsaid); r.Accepted || r.Rule != BlockOpen {
		t.Errorf("restored while a switchover is open: %+v", r)
	}
}

func TestRestoreIsRefused(t *testing.T) {
	w := begin(t, defaultPlot())
	hash := decidedText(w.s)
	other := begin(t, defaultPlot())
	other.s.Cluster = "test"
	if r := w.restoredFrom(t, other.s, OpenUnsaid); r.Accepted || r.Rule != "cluster" {
		t.Errorf("another cluster's: %+v", r)
	}
	if r := w.restoredFrom(t, outage(t).s, OpenUnsaid); r.Accepted || r.Rule != "open_switchovers" {
		t.Errorf("an open switchover: %+v", r)
	}
	if r := w.restoredFrom(t, outage(t, StepStopReplication, StepPromote).s, OpenUndo); r.Accepted || r.Rule != "past_no_return" {
		t.Errorf("past no return: %+v", r)
	}
	if r := w.restoredFrom(t, NewState(), OpenUnsaid); r.Accepted || r.Rule != "snapshot" {
		t.Errorf("an empty one: %+v", r)
	}
	if r := w.apply(Command{Restore: &Restore{State: []byte("no gzip")}}); r.Accepted || r.Rule != "snapshot" {
		t.Errorf("damaged: %+v", r)
	}
	n := *w.s
	n.Time, n.EventSeq, n.Events = time.Time{}, 0, nil
	if n.Policy == nil || hash == "" || len(w.s.Groups) != 1 || w.s.Generation != 0 || w.s.Former != nil {
		t.Error("a refused restore changed something")
	}
}

// An old snapshot in the cluster that it is of: nothing falls below what has been given since.
func TestRestoreOfAnOldSnapshot(t *testing.T) {
	w := begin(t, defaultPlot())
	w.allUp()
	saved := w.s
	w.must(Command{By: "uid:0", Request: &Request{Group: "shop"}})
	w.must(Command{By: "uid:0", Abort: &GroupOrder{Group: "shop"}})
	shorter := defaultPlot()
	shorter.ttl = time.Minute
	w.must(Command{By: "uid:0", SetPolicy: &SetPolicy{Revision: w.s.PolicyRevision, Policy: shorter.policy()}})
	given := w.s
	if given.Serial <= saved.Serial+1 {
		t.Fatalf("serial %d after %d", given.Serial, saved.Serial)
	}
	if given.Groups["shop"].Switchover.Open() || given.Groups["shop"].Epoch != 1 {
		t.Fatalf("%+v", given.Groups["shop"].Switchover)
	}
	w.clock = dawn.Add(-time.Hour) // a clock that is behind must not matter
	if r := w.restoredFrom(t, saved, OpenUnsaid); !r.Accepted {
		t.Fatalf("%+v", r)
	}
	g := w.group("shop")
	if w.s.Serial <= given.Serial || g.Epoch <= given.Groups["shop"].Epoch || g.Counts["planned/aborted"] != 1 || w.s.EventSeq <= given.EventSeq || len(w.s.Former) != 0 {
		t.Errorf("serial %d, epoch %d, counts %v", w.s.Serial, g.Epoch, g.Counts)
	}
	// A restored state is one like any other: a snapshot of it, read back, goes on alike.
	text, _ := w.s.Encode()
	back, err := DecodeState(text)
	if err != nil || back.Hash() != w.s.Hash() {
		t.Errorf("read back: %v", err)
	}
}
