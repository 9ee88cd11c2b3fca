package failover

import (
	"strings"
	"testing"
)

func startWith(w *world, step StepName, found string) Result {
	for _, task := range w.s.Next("shop") {
		if task.Step == step {
			return w.apply(Command{Journal: &Journal{Start: &Start{Task: task, To: replica(), Found: found}}})
		}
	}
	return Result{Detail: "not next: " + string(step)}
}

func endAt(w *world, step StepName, outcome Outcome, position string) {
	e := w.ended(step, outcome, "")
	e.Position = position
	w.apply(Command{Journal: &Journal{Ended: []Ended{e}}})
}

// What a step found first is kept, whatever a later attempt finds of our own making; a position that is asked for again
// replaces the old one. Both are bounded.
func TestFoundIsKeptAndPositionReplaced(t *testing.T) {
	p := defaultPlot()
	p.database = true
	w := begin(t, p)
	w.allUp()
	w.must(Command{By: "uid:0", Request: &Request{Group: "shop"}})
	w.did(StepMaintenanceOn)
	startWith(w, StepFreeze, "")
	endAt(w, StepFreeze, OutcomeFailed, "")
	w.due("freeze/")
	startWith(w, StepFreeze, "off")
	endAt(w, StepFreeze, OutcomeFailed, "")
	w.due("freeze/")
	startWith(w, StepFreeze, "on, by ourselves")
	endAt(w, StepFreeze, OutcomeDone, "0/"+strings.Repeat("1", 2*MaxFound))
	step := w.group("shop").Switchover.Step(StepFreeze)
	if step.Found != "off" || len(step.Position) != MaxFound || step.State != StepDone {
		t.Errorf("found %q, a position of %d bytes, %s", step.Found, len(step.Position), step.State)
	}
	text, err := w.s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if s, err := DecodeState(text); err != nil || s.Hash() != w.s.Hash() {
		t.Errorf("not read back: %v", err)
	}
	bad := strings.Replace(string(text), `"found":"off"`, `"found":"`+strings.Repeat("x", MaxFound+1)+`"`, 1)
	if _, err := DecodeState([]byte(bad)); err == nil || !strings.Contains(err.Error(), "longer than") {
		t.Errorf("a longer one is read: %v", err)
	}
}

// An undo that could not be done leaves what it needs with the release; one done takes it away. Of two switchovers the
// first one's is nearer to how it was.
func TestReleaseKeepsWhatWasFound(t *testing.T) {
	p := defaultPlot()
	p.database = true
	p.tries = 1
	w := begin(t, p)
	w.allUp()
	for _, found := range []string{"first", "second"} {
		w.must(Command{By: "uid:0", Request: &Request{Group: "shop"}})
		w.did(StepMaintenanceOn)
		startWith(w, StepFreeze, found)
		endAt(w, StepFreeze, OutcomeDone, "0/1")
		w.must(Command{By: "uid:0", Abort: &GroupOrder{Group: "shop"}})
		w.failed(StepFreeze, "no route")
		w.did(StepMaintenanceOn)
		if got := w.group("shop").Apps["main"].Release.Found[PartDatabase]; got != "first" {
			t.Errorf("after the %s: %q", found, got)
		}
	}
	tasks := w.s.Keep("shop")
	r := w.must(Command{Journal: &Journal{Start: &Start{Task: tasks[0]}}})
	before := w.s
	w.must(Command{Journal: &Journal{Ended: []Ended{{Task: tasks[0], Token: r.Token, Outcome: OutcomeDone}}}})
	if w.group("shop").Apps["main"].Release != nil {
		t.Error("the release is still owed")
	}
	if before.Groups["shop"].Apps["main"].Release.Found[PartDatabase] != "first" {
		t.Error("the state before was changed")
	}
	long := *before.Groups["shop"].Apps["main"].Release
	long.Found = map[Part]string{PartDatabase: strings.Repeat("x", MaxFound+1)}
	bad := before.clone()
	bad.Groups["shop"].Apps["main"].Release = &long
	text, err := bad.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := DecodeState(text); err == nil || !strings.Contains(err.Error(), "put back") {
		t.Errorf("a longer one is read: %v", err)
	}
}
