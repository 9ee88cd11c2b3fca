package sim

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// tally counts which of the rules were reached, seen from outside: in states, results and entries.
type tally map[string]int

func (t tally) add(kind, name string) { t[kind+"  "+name]++ }

func (t tally) merge(other tally) {
	for k, n := range other {
		t[k] += n
	}
}

func (t tally) refusal(r failover.Result) {
	if !r.Accepted && r.Rule != "" {
		t.add("refusal", r.Rule)
	}
}

func (t tally) entry(before *failover.State, e failover.Entry, after *failover.State, r failover.Result) {
	t.refusal(r)
	t.command(e.Command)
	g := after.Groups[group]
	if g == nil {
		return
	}
	old := before.Groups[group]
	for i := range after.Events {
		if v := &after.Events[i]; v.Seq > before.EventSeq {
			t.add("event", v.Type)
		}
	}
	for _, b := range g.Blockers {
		t.add("blocker", b.Code)
	}
	for _, a := range g.Apps {
		for _, b := range a.NotReady {
			t.add("not ready", b.Code)
		}
	}
	t.add("phase", string(after.Phase(group)))
	t.switchover(old, g)
	if d := e.Command.Due; d != nil && r.Accepted {
		kind, _, _ := strings.Cut(d.Key, "/")
		t.add("timer", kind)
	}
	if j := e.Command.Journal; j != nil {
		for _, x := range j.Ended {
			t.add("attempt", pointName(x.Task)+" "+string(x.Outcome))
		}
	}
}

// command counts what a command carries.
func (t tally) command(c failover.Command) {
	v := reflect.ValueOf(c)
	for i := range v.NumField() {
		if f := v.Field(i); f.Kind() == reflect.Pointer && !f.IsNil() {
			t.add("command", v.Type().Field(i).Name)
		}
	}
}

func (t tally) switchover(old, g *failover.GroupState) {
	w := g.Switchover
	if n := len(g.History); n > 0 && (old == nil || len(old.History) < n) {
		w = g.History[n-1]
		t.add("switchover", fmt.Sprintf("%s %s", w.Kind, w.Result))
	}
	if w == nil {
		return
	}
	for i := range w.Steps {
		t.add("step", fmt.Sprintf("%s %s", w.Steps[i].Name, w.Steps[i].State))
	}
	if w.Undoing != "" && (old == nil || old.Switchover == nil || old.Switchover.Undoing == "") {
		t.add("undo", undoPath(w))
	}
	if w.Result == failover.ResultHalted {
		t.add("switchover", string(w.Kind)+" halted")
	}
}

// undoPath is why a switchover is taken back, and how far it had come.
func undoPath(w *failover.Switchover) string {
	why := w.Undoing
	switch {
	case w.Aborted:
		why = "aborted"
	case w.Recovered:
		why = "main is healthy again"
	case strings.HasPrefix(why, failover.BlockOutOfReach):
		why = failover.BlockOutOfReach
	case strings.Contains(why, "does not find"):
		why = "no longer down by quorum"
	case strings.Contains(why, " failed"):
		why, _, _ = strings.Cut(why, " on ")
		why += " failed"
	}
	last := "nothing"
	for i := range w.Steps {
		if w.Steps[i].Acted {
			last = string(w.Steps[i].Name)
		}
	}
	return fmt.Sprintf("%s, after %s", why, last)
}

// table prints the counts, by kind, and then once more what was never reached.
func (t tally) table() string {
	never := tally{}
	for k, n := range t {
		if n == 0 {
			never[k] = 0
		}
	}
	return t.list() + fmt.Sprintf("\n%d of %d were never reached:\n", len(never), len(t)) + never.list()
}

func (t tally) list() string {
	var b strings.Builder
	last := ""
	for _, k := range sortedKeys(t) {
		kind, name, _ := strings.Cut(k, "  ")
		if kind != last {
			fmt.Fprintf(&b, "%s\n", kind)
			last = kind
		}
		fmt.Fprintf(&b, "%10d  %s\n", t[k], name)
	}
	return b.String()
}
